//! The console and the own account, form by form, without a browser.

use core::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::http::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use core_bin::flows::{login, setup};
use mfa_core::factor::totp::TotpSecret;
use mfa_core::token::Token;
use mfa_store::StoreError;

use crate::rig::{Answer, HOME, Rig};

const PASSWORD: &str = "correct horse battery";

/// A browser: it keeps the cookie and says where its forms come from.
pub(crate) struct Browser<'a> {
    rig: &'a Rig,
    cookie: String,
    secret: TotpSecret,
}

impl<'a> Browser<'a> {
    /// An administrator who has just been set up, and is not signed in.
    pub(crate) async fn grace(rig: &'a Rig) -> Self {
        let (by, token) = (rig.by(), Token::from_random(*rig.app.rng.bytes()));
        let digest = token.digest();
        let issued: Result<_, StoreError> =
            rig.app.store.write(move |tx| setup::issue(tx, by, &digest)).await;
        issued.unwrap();
        let secret = TotpSecret::from_bytes([1; 20]);
        let mut browser = Self { rig, cookie: String::new(), secret };
        let token = token.expose_text();
        let form = [
            ("token", token.as_str()),
            ("login", "grace"),
            ("email", "grace@example.com"),
            ("password", PASSWORD),
        ];
        let page = browser.post("/setup", &form).await;
        browser.confirm(&page).await;
        browser
    }

    /// Confirms the secret that a page shows.
    async fn confirm(&mut self, page: &Answer) {
        let key = page.text.split("<code>").nth(1).unwrap().split('<').next().unwrap();
        self.secret = TotpSecret::from_base32(key).unwrap();
        let code = self.code();
        let done = self.post("/setup-confirm", &[("code", &code)]).await;
        assert_eq!(done.status, 200, "{}", done.text);
        self.cookie.clear();
        self.rig.clock.advance(Duration::from_secs(30));
    }

    fn code(&self) -> String {
        self.secret.code_at(self.rig.clock.now()).expose_text().to_string()
    }

    pub(crate) async fn sign_in(&mut self, login: &str) {
        let to = self.post("/login", &[("login", login), ("password", PASSWORD)]).await;
        assert_eq!(to.status, 303, "{}", to.text);
        let half = self.cookie.clone();
        let code = self.code();
        let to = self.post("/login/code", &[("method", "totp"), ("code", &code)]).await;
        assert_eq!((to.status.as_u16(), place(&to)), (303, "/"), "{}", to.text);
        assert_ne!(half, self.cookie, "a new token with the proof");
        self.rig.clock.advance(Duration::from_secs(30));
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        let request = Request::get(path).header(COOKIE, &self.cookie);
        self.rig.send(HOME, request.body(Body::empty()).unwrap()).await
    }

    async fn post(&mut self, path: &str, form: &[(&str, &str)]) -> Answer {
        let answer = self.post_from("same-origin", path, form).await;
        if let Some(cookie) = answer.headers.get(SET_COOKIE) {
            let cookie = cookie.to_str().unwrap();
            for part in ["__Host-wgmfa", "; Secure", "; HttpOnly", "; SameSite=Strict", "; Path=/"]
            {
                assert!(cookie.contains(part), "{part} in {cookie}");
            }
            self.cookie = cookie.split(';').next().unwrap().to_owned();
        }
        answer
    }

    async fn post_from(&self, site: &str, path: &str, form: &[(&str, &str)]) -> Answer {
        let body = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = Request::post(path)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header("sec-fetch-site", site)
            .header(COOKIE, &self.cookie);
        self.rig.send(HOME, request.body(Body::from(body)).unwrap()).await
    }
}

fn place(answer: &Answer) -> &str {
    answer.headers[LOCATION].to_str().unwrap()
}

#[tokio::test]
async fn signing_in_takes_the_password_and_a_factor() {
    let rig = Rig::new().await;
    let mut grace = Browser::grace(&rig).await;
    for path in ["/overview", "/users", "/account", "/audit"] {
        let away = grace.get(path).await;
        assert!(place(&away).starts_with("/login?next="), "{path}");
    }
    for (login, password) in [("grace", "wrong horse"), ("nobody", PASSWORD)] {
        let no = grace.post("/login", &[("login", login), ("password", password)]).await;
        assert_eq!(no.status, 401);
        assert!(no.text.contains("The login or the password is wrong."), "{}", no.text);
    }
    grace.post("/login", &[("login", "grace"), ("password", PASSWORD)]).await;
    let half = grace.get("/overview").await;
    assert!(place(&half).starts_with("/login"), "the password alone opens nothing");
    let wrong = grace.post("/login/code", &[("method", "totp"), ("code", "000000")]).await;
    assert_eq!(wrong.status, 400, "{}", wrong.text);

    grace.sign_in("grace").await;
    let page = grace.get("/overview").await;
    assert_eq!(page.status, 200);
    for words in ["VPN Overview", "Edit Location", "<option selected>paris</option>"] {
        assert!(page.text.contains(words), "{words} in {}", page.text);
    }
    assert!(page.text.len() < 150_000);
}

#[tokio::test]
async fn a_token_is_worth_nothing_after_signing_out_silence_or_its_lifetime() {
    let rig = Rig::new().await;
    let mut grace = Browser::grace(&rig).await;
    grace.sign_in("grace").await;
    let held = grace.cookie.clone();
    grace.post("/logout", &[]).await;
    grace.cookie = held;
    assert_eq!(grace.get("/account").await.status, 303, "signed out");

    grace.sign_in("grace").await;
    rig.clock.advance(login::IDLE + Duration::from_secs(1));
    assert_eq!(grace.get("/account").await.status, 303, "silent");

    grace.sign_in("grace").await;
    for _ in 0..24 {
        assert_eq!(grace.get("/account").await.status, 200);
        rig.clock.advance(login::IDLE.saturating_sub(Duration::from_secs(61)));
    }
    rig.clock.advance(Duration::from_secs(25 * 61));
    assert_eq!(grace.get("/account").await.status, 303, "twelve hours");
}

#[tokio::test]
async fn wrong_codes_here_and_at_a_tunnel_are_counted_together() {
    let rig = Rig::new().await;
    let mut grace = Browser::grace(&rig).await;
    grace.post("/login", &[("login", "grace"), ("password", PASSWORD)]).await;
    for _ in 0..7 {
        let no = grace.post("/login/code", &[("method", "totp"), ("code", "123456")]).await;
        assert!(no.text.contains("Wrong code"), "{}", no.text);
    }
    let code = grace.code();
    let no = grace.post("/login/code", &[("method", "totp"), ("code", &code)]).await;
    assert!(no.text.contains("Too many wrong codes"), "{}", no.text);
}

#[tokio::test]
async fn other_sites_cannot_post_anything() {
    let rig = Rig::new().await;
    let mut grace = Browser::grace(&rig).await;
    grace.sign_in("grace").await;
    let paths = [
        "/logout",
        "/users",
        "/users/ada",
        "/gateways",
        "/gateways/remove",
        "/groups",
        "/groups/staff",
        "/locations/import",
        "/tokens",
        "/tokens/remove",
        "/audit/verify",
        "/audit/export",
        "/sessions/end",
        "/sessions/end-many",
        "/devices/disconnect",
        "/devices/remove",
        "/mail",
        "/account",
        "/locations/new",
        "/locations/paris/edit",
        "/locations/paris/remove",
        "/login",
        "/login/code",
        "/forgot",
        "/reset",
        "/join",
    ];
    for path in paths {
        for site in ["cross-site", "same-site"] {
            let no = grace.post_from(site, path, &[("login", "x"), ("sure", "on")]).await;
            assert_eq!(no.status, 400, "{site} {path}");
        }
    }
    assert!(rig.read(|view| view.location_by_name("paris")).await.is_some());
    assert_eq!(grace.get("/account").await.status, 200, "still signed in");
}

#[tokio::test]
async fn a_user_who_does_not_administer_sees_only_the_own_account() {
    let mut rig = Rig::new().await;
    let ticket = rig.ticket("ada").await;
    let mut ada =
        Browser { rig: &rig, cookie: String::new(), secret: TotpSecret::from_bytes([1; 20]) };
    let short = ada.post("/join", &[("token", &ticket), ("password", "short")]).await;
    assert_eq!(short.status, 400, "and the link is as good as before");
    let page = ada.post("/join", &[("token", &ticket), ("password", PASSWORD)]).await;
    ada.confirm(&page).await;
    ada.sign_in("ada").await;
    let own = ada.get("/account").await;
    assert!(own.text.contains("My methods") && !own.text.contains("/audit"), "{}", own.text);
    for path in [
        "/overview",
        "/users",
        "/users/ada",
        "/gateways",
        "/groups",
        "/groups/staff",
        "/tokens",
        "/locations",
        "/locations/import",
        "/audit",
        "/mail",
        "/sessions",
        "/sessions/1",
    ] {
        assert_eq!(ada.get(path).await.status, 403, "{path}");
    }
    let added = ada.post("/account", &[("act", "add-device")]).await;
    assert!(added.text.contains("client-bin enroll https://vpn.example.com/"), "{}", added.text);
    rig.clock.advance(login::FRESH);
    let stale = ada.post("/account", &[("act", "codes")]).await;
    assert!(place(&stale).starts_with("/login/code"), "a fresh factor is asked for");
    let code = ada.code();
    ada.post("/login/code", &[("method", "totp"), ("code", &code), ("next", "/account")]).await;
    let codes = ada.post("/account", &[("act", "codes")]).await;
    assert_eq!(codes.text.matches("<li><code>").count(), 10, "{}", codes.text);
    ada.post("/account", &[("act", "email"), ("value", "ada@new.example")]).await;
    drop(ada);
    let told = rig.mail();
    assert!(told.to.to_string() == "ada@example.com", "the old address is told: {}", told.to);
}

#[tokio::test]
async fn a_mailed_link_sets_a_password_once() {
    let mut rig = Rig::new().await;
    {
        let mut grace = Browser::grace(&rig).await;
        let sent = grace.post("/forgot", &[("who", "grace@example.com")]).await;
        let none = grace.post("/forgot", &[("who", "nobody@example.com")]).await;
        assert_eq!(place(&sent), place(&none), "nobody is told who exists");
    }
    let mut link = None;
    for _ in 0..500 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        link = rig.try_mail().filter(|mail| mail.text.contains("reset?token="));
        if link.is_some() {
            break;
        }
    }
    let text = link.expect("a mail").text.to_string();
    let token = text.split("reset?token=").nth(1).unwrap().get(..64).unwrap().to_owned();
    let mut browser =
        Browser { rig: &rig, cookie: String::new(), secret: TotpSecret::from_bytes([1; 20]) };
    let form = [("token", token.as_str()), ("password", "another horse battery")];
    assert_eq!(place(&browser.post("/reset", &form).await), "/login?done=reset");
    assert_eq!(browser.post("/reset", &form).await.status, 400, "used up");
    let old = browser.post("/login", &[("login", "grace"), ("password", PASSWORD)]).await;
    assert_eq!(old.status, 401);
    let new = [("login", "grace"), ("password", "another horse battery")];
    assert_eq!(
        place(&browser.post("/login", &new).await),
        "/login/code?next=",
        "a factor is asked"
    );
}

#[tokio::test]
async fn editing_a_location_says_first_what_it_will_do() {
    let rig = Rig::new().await;
    let mut grace = Browser::grace(&rig).await;
    rig.enroll_with_totp("ada").await;
    grace.sign_in("grace").await;
    let page = grace.get("/locations/paris/edit").await;
    for words in [
        "Location Configuration",
        "Require MFA for this Location",
        "Peer disconnect threshold",
        "300 recommended",
        "Save changes",
    ] {
        assert!(page.text.contains(words), "{words}");
    }
    let form = |mfa, threshold| {
        vec![
            ("name", "paris"),
            ("endpoint", "vpn.example.com:51820"),
            ("networks", "10.1.0.1/24"),
            ("allowed", "10.1.0.0/24"),
            ("keepalive", "25"),
            ("mfa", mfa),
            ("totp", "on"),
            ("email", "on"),
            ("threshold", threshold),
            ("mode", "transfer"),
            ("lifetime", "720"),
            ("rotation", "10"),
        ]
    };
    let edit = "/locations/paris/edit";
    let short = grace.post(edit, &form("on", "2")).await;
    assert_eq!(short.status, 400);
    assert!(short.text.contains("role=\"alert\""), "{}", short.text);
    let off = grace.post(edit, &form("", "300")).await;
    assert!(off.text.contains("What this will do"), "{}", off.text);
    assert!(rig.read(|v| v.location_by_name("paris")).await.unwrap().asks_mfa(), "not done yet");
    let mut sure = form("", "300");
    sure.push(("sure", "on"));
    assert_eq!(grace.post(edit, &sure).await.status, 303);
    assert!(!rig.read(|v| v.location_by_name("paris")).await.unwrap().asks_mfa());
    let on = grace.post(edit, &form("on", "300")).await;
    let words = "1 device has no session and will be disconnected";
    assert!(on.text.contains(words), "{}", on.text);
}

#[tokio::test]
async fn a_revoked_session_is_gone_once_the_gateway_confirmed() {
    let rig = Rig::new().await;
    let mut grace = Browser::grace(&rig).await;
    let device = rig.enroll_with_totp("ada").await;
    rig.connect(&device).await;
    grace.sign_in("grace").await;
    let page = grace.get("/overview?location=paris").await;
    assert!(page.text.contains("Revoke: ada, laptop"), "{}", page.text);
    let id = page.text.split("name=\"session\" value=\"").nth(1).unwrap();
    let id = id.split('"').next().unwrap().to_owned();
    let done = grace.post("/sessions/end", &[("session", &id), ("location", "paris")]).await;
    assert_eq!(place(&done), "/overview?location=paris&done=ended");
    let page = grace.get("/overview?location=paris&done=ended").await;
    assert!(page.text.contains("Nobody is connected") && page.text.contains("confirmed"));
    let again = grace.post("/sessions/end", &[("session", &id)]).await;
    assert_eq!(place(&again), "/sessions?done=gone");
    let stay = grace.post("/sessions/end", &[("session", &id), ("stay", "on")]).await;
    assert_eq!(place(&stay), format!("/sessions/{id}?done=gone"));
}

#[tokio::test]
async fn all_sessions_of_a_device_end_by_one_click() {
    let rig = Rig::new().await;
    let mut grace = Browser::grace(&rig).await;
    let ada = rig.enroll_with_totp("ada").await;
    rig.add_user("bob", &[]).await;
    let bob = rig.enroll_with_totp("bob").await;
    rig.connect(&ada).await;
    rig.connect(&bob).await;
    grace.sign_in("grace").await;
    let page = grace.get("/users/ada").await;
    assert!(page.text.contains("Disconnect: laptop of ada") && page.text.contains("live"));
    let id = page.text.split("name=\"device\" value=\"").nth(1).unwrap();
    let id = id.split('"').next().unwrap().to_owned();
    let done = grace.post("/devices/disconnect", &[("device", &id), ("back", "ada")]).await;
    assert_eq!(place(&done), "/users/ada?done=ended");
    assert_eq!(rig.live_sessions().await, 1, "the other one goes on");
    let page = grace.get("/users/ada").await;
    assert!(!page.text.contains("Disconnect: laptop"), "{}", page.text);
    assert!(page.text.contains("by an administrator"), "{}", page.text);
    let list = grace.get("/devices").await;
    assert!(list.text.contains("Disconnect: laptop of bob"), "{}", list.text);
    assert!(!list.text.contains("Disconnect: laptop of ada"), "{}", list.text);
    let again = grace.post("/devices/disconnect", &[("device", &id)]).await;
    assert_eq!(place(&again), "/devices?done=gone");
}

#[tokio::test]
async fn what_the_command_line_does_to_people_and_gateways_the_pages_do() {
    let rig = Rig::new().await;
    let mut grace = Browser::grace(&rig).await;
    grace.sign_in("grace").await;
    let form = [("login", "bob"), ("name", "Bob"), ("email", "bob@example.com"), ("groups", "ops")];
    assert_eq!(place(&grace.post("/users", &form).await), "/users/bob?done=added");
    let twice = grace.post("/users", &form).await;
    assert!(twice.text.contains("There is a user bob already."), "{}", twice.text);
    let link = grace.post("/users/bob", &[("act", "enroll")]).await;
    assert!(link.text.contains("/join?token=") && link.text.contains("<svg"), "{}", link.text);
    for (act, done) in [("disable", "disabled"), ("enable", "enabled"), ("unlock", "unlocked")] {
        let answer = grace.post("/users/bob", &[("act", act)]).await;
        assert_eq!(place(&answer), format!("/users/bob?done={done}"));
    }
    assert_eq!(grace.post("/users/grace", &[("act", "disable")]).await.status, 400, "oneself");
    assert_eq!(grace.post("/users/bob", &[("act", "remove")]).await.status, 400, "unconfirmed");
    grace.post("/users/bob", &[("act", "remove"), ("sure", "on")]).await;
    assert!(rig.read(|view| view.user_by_login("bob")).await.is_none());
    let token = grace.post("/gateways", &[("location", "paris"), ("name", "gw1")]).await;
    assert!(token.text.contains("gateway-bin enroll --core"), "{}", token.text);
    let one = grace.get("/gateways/gw1").await;
    assert!(one.text.contains("not enrolled"), "{}", one.text);
    assert!(one.text.contains("It has acknowledged nothing yet."), "{}", one.text);
    assert_eq!(grace.get("/gateways/nowhere").await.status, 404);
    let said = grace.post("/gateways/remove", &[("name", "gw1")]).await;
    assert!(said.text.contains("gw1 will be shut out"), "{}", said.text);
    assert!(rig.read(|view| view.gateway_by_name("gw1")).await.is_some(), "not done yet");
    grace.post("/gateways/remove", &[("name", "gw1"), ("sure", "on")]).await;
    assert!(rig.read(|view| view.gateway_by_name("gw1")).await.is_none());
    let audit = grace.get("/audit?q=user.remove").await;
    let named = "data-th=\"Who\" class=\"nowrap\">grace<";
    assert!(audit.text.contains(named), "the administrator is named: {}", audit.text);
    let hers = grace.get("/audit?q=grace").await;
    assert!(hers.text.contains("user.remove"), "found by name: {}", hers.text);
    let verified = grace.post("/audit/verify", &[]).await;
    assert!(verified.text.contains("The log is whole"), "{}", verified.text);
    let kept = grace.post("/audit/export", &[("after", "3")]).await;
    assert!(
        kept.text.starts_with("{\"seq\":4,") && kept.text.contains("\"hash\":"),
        "{}",
        kept.text
    );
    assert_eq!(kept.headers["content-disposition"], "attachment; filename=\"audit.jsonl\"");
    let other = [("location", "paris"), ("name", "gw2"), ("legacy", "on")];
    let token = grace.post("/gateways", &other).await;
    assert!(token.text.contains("Settings of the gateway"), "{}", token.text);
    for path in ["/groups", "/devices", "/sessions", "/mail", "/users/ada", "/tokens", "/locations"]
    {
        let page = grace.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        let weight = page.text.len();
        assert!(weight < 150_000, "{path}: {weight} bytes");
    }
}

#[tokio::test]
async fn groups_are_kept_on_their_pages() {
    let rig = Rig::new().await;
    let mut grace = Browser::grace(&rig).await;
    grace.sign_in("grace").await;
    assert_eq!(place(&grace.post("/groups", &[("name", "crew")]).await), "/groups/crew?done=added");
    let twice = grace.post("/groups", &[("name", "crew")]).await;
    assert!(twice.text.contains("There is a group crew already."), "{}", twice.text);
    let unknown = grace.post("/groups/crew", &[("act", "put-in"), ("logins", "ada, bob")]).await;
    assert!(unknown.text.contains("There is no user bob"), "{}", unknown.text);
    grace.post("/groups/crew", &[("act", "put-in"), ("logins", "ada, grace")]).await;
    let page = grace.get("/groups/crew").await;
    for words in ["Take out: ada", "Take out: grace", "No location is for this group."] {
        assert!(page.text.contains(words), "{words} in {}", page.text);
    }
    grace.post("/groups/crew", &[("act", "take-out"), ("logins", "grace")]).await;
    let moved = grace.post("/groups/crew", &[("act", "rename"), ("name", "sailors")]).await;
    assert_eq!(place(&moved), "/groups/sailors?done=renamed");
    assert_eq!(grace.get("/groups/crew").await.status, 404);
    let ada = rig.read(|view| view.user_by_login("ada")).await.unwrap().id;
    let groups = rig.read(move |view| view.groups_of_user(ada)).await;
    assert!(groups.contains(&"sailors".to_owned()), "{groups:?}");
    let unsure = grace.post("/groups/sailors", &[("act", "remove")]).await;
    assert_eq!(unsure.status, 400);
    grace.post("/groups/sailors", &[("act", "remove"), ("sure", "on")]).await;
    assert_eq!(grace.get("/groups/sailors").await.status, 404);
    let log = rig.read(|view| view.audit_entries(None, 100)).await;
    for action in ["group.add", "group.rename", "group.remove"] {
        let row = log.iter().find(|entry| entry.action == action);
        assert!(row.is_some_and(|row| row.actor.starts_with("admin:")), "{action}");
    }
}

#[tokio::test]
async fn a_token_is_made_with_a_fresh_factor_shown_once_and_removed() {
    let rig = Rig::new().await;
    let mut grace = Browser::grace(&rig).await;
    grace.sign_in("grace").await;
    let form =
        [("name", "grafana"), ("sessions:read", "on"), ("valid", "30 days"), ("user", "grace")];
    let none = grace.post("/tokens", &[("name", "grafana")]).await;
    assert!(none.text.contains("needs at least one scope"), "{}", none.text);
    let made = grace.post("/tokens", &form).await;
    let secret = made.text.split("shown only now\">").nth(1).unwrap().split('<').next().unwrap();
    assert!(secret.len() >= 43, "{}", made.text);
    let call = |path: &'static str| {
        let request = Request::get(path)
            .header(axum::http::header::AUTHORIZATION, format!("Bearer {secret}"))
            .body(Body::empty());
        rig.send(HOME, request.unwrap())
    };
    assert_eq!(call("/api/v1/sessions").await.status, 200);
    assert_eq!(call("/api/v1/users").await.status, 403, "its scopes and no more");
    let list = grace.get("/tokens").await;
    assert!(list.text.contains("grafana") && !list.text.contains(secret), "shown once");

    let said = grace.post("/tokens/remove", &[("name", "grafana")]).await;
    assert!(said.text.contains("is refused from now on"), "{}", said.text);
    assert_eq!(call("/api/v1/sessions").await.status, 200, "not done yet");
    grace.post("/tokens/remove", &[("name", "grafana"), ("sure", "on")]).await;
    assert_eq!(call("/api/v1/sessions").await.status, 401);

    rig.clock.advance(login::FRESH);
    let stale = grace.get("/tokens").await;
    assert!(stale.text.contains("/login/code?next=%2Ftokens"), "{}", stale.text);
    assert!(!stale.text.contains("action=\"/tokens\""), "no form that would be refused");
    assert_eq!(place(&grace.post("/tokens", &form).await), "/login/code?next=%2Ftokens");
    let tokens = rig.read(mfa_store::Snapshot::api_tokens).await;
    assert!(tokens.is_empty(), "{tokens:?}");
}

#[tokio::test]
async fn mail_is_set_with_a_fresh_factor_only() {
    let rig = Rig::new().await;
    let mut grace = Browser::grace(&rig).await;
    grace.sign_in("grace").await;
    rig.clock.advance(login::FRESH);
    let form = [
        ("host", "127.0.0.1"),
        ("port", "2525"),
        ("tls", "None: only for a server on this host"),
        ("password", ""),
        ("sender", "vpn@example.com"),
    ];
    let page = grace.get("/mail").await;
    assert!(page.text.contains("/login/code?next=%2Fmail"), "{}", page.text);
    assert!(!page.text.contains("name=\"host\""), "no form that would be refused");
    for (path, form) in [("/mail", &form[..]), ("/mail/remove", &[("sure", "on")])] {
        assert_eq!(place(&grace.post(path, form).await), "/login/code?next=%2Fmail", "{path}");
    }
    assert!(rig.read(mfa_store::Snapshot::mail_settings).await.is_none(), "nothing was set");
    let code = grace.code();
    let back =
        grace.post("/login/code", &[("method", "totp"), ("code", &code), ("next", "/mail")]).await;
    assert_eq!(place(&back), "/mail");
    assert_eq!(place(&grace.post("/mail", &form).await), "/mail?done=saved");
}

#[tokio::test]
async fn a_configuration_is_tried_first_and_then_imported() {
    let rig = Rig::new().await;
    let mut grace = Browser::grace(&rig).await;
    grace.sign_in("grace").await;
    let [own, peer] = [[21; 32], [22; 32]].map(wg_types::PrivateKey::from_bytes);
    let own = own.expose_base64();
    let text = |address: &str| {
        format!(
            "[Interface]\nPrivateKey = {}\nAddress = 10.8.0.1/24\nPostUp = x\n\n# <b>tablet\n[Peer]\n\
             PublicKey = {}\nAllowedIPs = {address}\n{}",
            own.as_str(),
            peer.public_key(),
            "# more than other forms may carry\n".repeat(700)
        )
    };
    let (good, bad) = (text("10.8.0.2/32"), text("10.9.0.2/32"));
    let form = |text| {
        [
            ("name", "old"),
            ("user", "ada"),
            ("endpoint", "vpn.example.com:51820"),
            ("mfa", "on"),
            ("configuration", text),
        ]
    };
    let wrong = grace.post("/locations/import", &form(&bad)).await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.text.contains("Line 9: 10.9.0.2 is in none"), "{}", &wrong.text[..3000]);
    let tried = grace.post("/locations/import", &form(&good)).await;
    for words in [
        "The location old with 1 device of ada",
        "&#60;b&#62;tablet",
        "line 4: postup has no meaning here",
    ] {
        assert!(tried.text.contains(words), "{words} in {}", &tried.text[..4000]);
    }
    assert!(rig.read(|view| view.location_by_name("old")).await.is_none(), "only tried");
    let log = rig.read(|view| view.audit_entries(None, 100)).await;
    assert!(log.iter().all(|entry| !entry.detail.contains("\"old\"")), "a trial is no change");
    let mut sure = form(&good).to_vec();
    sure.push(("sure", "on"));
    let done = grace.post("/locations/import", &sure).await;
    assert_eq!(place(&done), "/overview?location=old&done=imported", "{}", done.text);
    let device = rig.read(move |view| view.device_by_key(&peer.public_key())).await.unwrap();
    assert_eq!(device.name, "<b>tablet");
    assert_unmarked(&grace.get("/devices").await, "<b>tablet");
    let list = grace.get("/locations").await;
    assert!(list.text.contains("Authenticator app") && list.text.contains("vpn.example.com:51820"));
}

#[tokio::test]
async fn what_takes_something_away_is_said_before() {
    let rig = Rig::new().await;
    let mut grace = Browser::grace(&rig).await;
    let device = rig.enroll_with_totp("ada").await;
    rig.connect(&device).await;
    grace.sign_in("grace").await;
    let session = grace.get("/sessions?state=live").await;
    let path = session.text.split("href=\"/sessions/").nth(1).unwrap().split('"').next().unwrap();
    let path = format!("/sessions/{path}");
    let one = grace.get(&path).await;
    for words in ["Tunnel address", "live", "Revoke"] {
        assert!(one.text.contains(words), "{words} in {}", one.text);
    }
    for place in ["paris", "Every location"] {
        let said = grace.post("/sessions/end-many", &[("location", place)]).await;
        assert!(said.text.contains("1 session at"), "{}", said.text);
    }
    let nowhere = grace.post("/sessions/end-many", &[("location", "rome")]).await;
    assert_eq!(nowhere.status, 400);
    assert_eq!(rig.live_sessions().await, 1, "not done yet");
    let devices = grace.get("/devices").await;
    let id = devices.text.split("name=\"device\" value=\"").nth(1).unwrap();
    let id = id.split('"').next().unwrap().to_owned();
    let said = grace.post("/devices/remove", &[("device", &id)]).await;
    assert!(said.text.contains("of ada will be removed, and 1 session will end"), "{}", said.text);
    assert_eq!(rig.live_sessions().await, 1, "not done yet");
    let done = grace.post("/sessions/end-many", &[("location", "paris"), ("sure", "on")]).await;
    assert_eq!(place(&done), "/sessions?done=many-ended");
    assert_eq!(rig.live_sessions().await, 0);
    let ended = grace.get(&path).await;
    assert!(ended.text.contains("How the end reached the gateways"), "{}", ended.text);
    let live = grace.get("/sessions?state=live").await;
    assert!(!live.text.contains("href=\"/sessions/1\""), "{}", live.text);
    grace.post("/devices/remove", &[("device", &id), ("sure", "on")]).await;
    assert!(rig.read(mfa_store::Snapshot::devices).await.is_empty());
}

#[tokio::test]
async fn an_old_address_is_told_that_an_administrator_changed_it() {
    let mut rig = Rig::new().await;
    {
        let mut grace = Browser::grace(&rig).await;
        grace.sign_in("grace").await;
        for email in ["ada@example.com", "ada@new.example", "ada@new.example"] {
            let form = [("act", "set"), ("name", "Ada"), ("email", email)];
            assert_eq!(place(&grace.post("/users/ada", &form).await), "/users/ada?done=saved");
        }
    }
    let mut told = Vec::new();
    while let Ok(mail) = rig.mails.as_mut().unwrap().try_recv() {
        told.push((mail.to.to_string(), mail.text.to_string()));
    }
    told.retain(|(_, text)| text.contains("An administrator changed the e-mail address"));
    assert_eq!(told.len(), 1, "once, and only of a change: {told:?}");
    assert_eq!(told[0].0, "ada@example.com");
}

#[tokio::test]
async fn names_cannot_become_markup() {
    let rig = Rig::new().await;
    let mut grace = Browser::grace(&rig).await;
    grace.sign_in("grace").await;
    let corpus = [
        "<script>alert(1)</script>",
        "\"><img src=x onerror=alert(1)>",
        "'><svg onload=alert(1)>",
        "</title><script>alert(1)</script>",
        "javascript:alert(1)",
        "{{7*7}}",
        "&lt;b&gt;",
        "<a href=//evil.example>x</a>",
        "\u{202e}evil",
        "<!--",
        "]]>",
        "<iframe src=//evil>",
    ];
    for (number, text) in corpus.into_iter().enumerate() {
        let login = format!("xss{number}");
        grace.post("/users", &[("login", &login), ("name", text)]).await;
        for field in ["login", "groups", "email"] {
            let bad = [("login", login.as_str()), (field, text)];
            let page = grace.post("/users", &bad).await;
            assert_unmarked(&page, text);
        }
        for (path, field) in [("/groups", "name"), ("/tokens", "name"), ("/tokens", "user")] {
            let form = [("name", "fine"), ("users:read", "on"), (field, text)];
            assert_unmarked(&grace.post(path, &form).await, text);
        }
        let import = [("name", text), ("user", text), ("endpoint", text), ("configuration", text)];
        assert_unmarked(&grace.post("/locations/import", &import).await, text);
        let query = url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        for path in [
            format!("/users?q={query}"),
            format!("/overview?location=paris&q={query}&sort={query}"),
            format!("/overview?location={query}&period={query}&done={query}"),
            format!("/audit?q={query}"),
            format!("/devices?q={query}"),
            format!("/users/{login}"),
            format!("/groups?q={query}"),
            format!("/groups/{query}"),
            format!("/sessions?q={query}&state={query}"),
            format!("/login?next={query}&done={query}"),
            format!("/join?token={query}"),
            format!("/reset?token={query}"),
            "/users".to_owned(),
            "/audit".to_owned(),
        ] {
            assert_unmarked(&grace.get(&path).await, text);
        }
    }
}

#[track_caller]
fn assert_unmarked(page: &Answer, text: &str) {
    let html = page.text.to_lowercase();
    for mark in ["<img", "onerror=alert(1)>", "<svg onload", "<iframe", "<a href=//evil"] {
        assert!(!html.contains(mark), "{text}: {mark} in {html}");
    }
    // The one script is ours.
    let own = html.matches("<script>\"use strict\"").count();
    assert!(own <= 1 && html.matches("<script").count() == own, "{text}: {html}");
    assert!(!html.contains("style="), "{html}");
}
