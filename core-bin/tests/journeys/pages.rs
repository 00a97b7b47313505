//! The first administrator, in a browser.

use axum::body::Body;
use axum::http::Request;
use axum::http::header::{CONTENT_TYPE, COOKIE, SET_COOKIE};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use core_bin::flows::setup;
use mfa_core::factor::totp::TotpSecret;
use mfa_core::token::Token;
use mfa_store::StoreError;
use sha2::{Digest as _, Sha256};

use crate::rig::{Answer, HOME, Rig};

async fn link(rig: &Rig) -> String {
    let (by, token) = (rig.by(), Token::from_random(*rig.app.rng.bytes()));
    let digest = token.digest();
    let issued: Result<_, StoreError> =
        rig.app.store.write(move |tx| setup::issue(tx, by, &digest)).await;
    issued.unwrap();
    token.expose_text().to_string()
}

async fn get(rig: &Rig, path: &str) -> Answer {
    rig.send(HOME, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn post(rig: &Rig, path: &str, cookie: &str, form: &str) -> Answer {
    let request = Request::post(path)
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header("sec-fetch-site", "same-origin")
        .header(COOKIE, cookie);
    rig.send(HOME, request.body(Body::from(form.to_owned())).unwrap()).await
}

fn form(token: &str, login: &str) -> String {
    format!(
        "token={token}&login={login}&name=Grace&email=grace%40example.com&password=correct+horse+battery"
    )
}

#[tokio::test]
async fn a_link_makes_one_administrator_with_a_factor() {
    let rig = Rig::new().await;
    let token = link(&rig).await;
    let page = get(&rig, &format!("/setup?token={token}")).await;
    assert!(page.text.contains(&token) && page.text.contains("<form"), "{}", page.text);

    let step = post(&rig, "/setup", "", &form(&token, "grace")).await;
    assert_eq!(step.status, 200, "{}", step.text);
    assert!(step.text.contains("<svg"), "a QR code");
    let cookie = step.headers[SET_COOKIE].to_str().unwrap().to_owned();
    assert!(cookie.starts_with("__Host-wgmfa_setup=") && cookie.contains("Secure"), "{cookie}");
    let cookie = cookie.split(';').next().unwrap();
    let key = step.text.split("<code>").nth(1).unwrap().split('<').next().unwrap();
    let secret = TotpSecret::from_base32(key).unwrap();

    let wrong = post(&rig, "/setup-confirm", cookie, "code=12").await;
    assert_eq!(wrong.status, 400);
    assert!(wrong.text.contains(key), "the same secret is shown again");
    let code = secret.code_at(rig.clock.now()).expose_text().to_string();
    let done = post(&rig, "/setup-confirm", cookie, &format!("code={code}")).await;
    assert_eq!(done.status, 200, "{}", done.text);
    assert_eq!(done.text.matches("<li><code>").count(), 10, "the recovery codes");

    let grace = rig.read(|view| view.user_by_login("grace")).await.unwrap();
    assert!(grace.details.admin && grace.has_password);
    let methods = rig.read(move |view| view.enabled_methods(grace.id)).await;
    assert_eq!(methods.to_string(), "totp");
    let again = post(&rig, "/setup-confirm", cookie, &format!("code={code}")).await;
    assert_eq!(again.status, 401, "the set-up is over");
}

#[tokio::test]
async fn a_link_works_once_and_a_mistake_does_not_use_it_up() {
    let rig = Rig::new().await;
    let token = link(&rig).await;
    let weak = form(&token, "grace").replace("correct+horse+battery", "short");
    let weak = post(&rig, "/setup", "", &weak).await;
    assert_eq!(weak.status, 400);
    assert!(weak.text.contains("too short") && weak.text.contains("value=\"grace\""));
    assert_eq!(post(&rig, "/setup", "", &form(&token, "grace")).await.status, 200);
    let second = post(&rig, "/setup", "", &form(&token, "mallory")).await;
    assert_eq!(second.status, 400);
    assert!(rig.read(|view| view.user_by_login("mallory")).await.is_none());
}

#[tokio::test]
async fn pages_have_their_armour() {
    let rig = Rig::new().await;
    for path in ["/", "/setup?token=x"] {
        let page = get(&rig, path).await;
        let csp = page.headers["content-security-policy"].to_str().unwrap();
        assert!(csp.starts_with("default-src 'none'") && csp.contains("frame-ancestors 'none'"));
        assert!(!csp.contains("unsafe"), "{csp}");
        // What shows the page is in it, and it alone is allowed.
        for tag in ["style", "script"] {
            let (start, end) = (format!("<{tag}>"), format!("</{tag}>"));
            let inner = page.text.split(&start).nth(1).unwrap().split(&end).next().unwrap();
            let digest = STANDARD.encode(Sha256::digest(inner));
            assert!(
                csp.contains(&format!("{tag}-src 'sha256-{digest}';")),
                "{tag} of {path}: {csp}"
            );
        }
        assert!(!page.text.contains("stylesheet") && !page.text.contains(" src="), "{path}");
        for name in ["x-content-type-options", "referrer-policy", "strict-transport-security"] {
            assert!(page.headers.contains_key(name), "{name} of {path}");
        }
        assert_eq!(page.text.matches("<script").count(), 1, "the one that is ours: {path}");
        assert!(!page.text.contains("style="), "{path}");
        assert_eq!(page.headers["cache-control"], "no-store");
    }
    let escaped = get(&rig, "/setup?token=%22%3E%3Cscript%3E").await;
    assert_eq!(escaped.text.matches("<script").count(), 1, "{}", escaped.text);
}

#[tokio::test]
async fn another_sites_form_is_refused() {
    let rig = Rig::new().await;
    let token = link(&rig).await;
    // A browser says where a form comes from in one header or the other; who says neither is none.
    let own = "https://vpn.example.com";
    for (name, value) in [
        ("sec-fetch-site", "cross-site"),
        ("sec-fetch-site", "same-site"),
        ("origin", "https://evil.example"),
        ("origin", "null"),
        ("x-none", ""),
    ] {
        for path in
            ["/setup", "/login", "/login/code", "/login/passkey", "/forgot", "/reset", "/join"]
        {
            let request = Request::post(path)
                .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
                .header(name, value)
                .body(Body::from(form(&token, "grace")))
                .unwrap();
            assert_eq!(rig.send(HOME, request).await.status, 400, "{path}, {name}: {value}");
        }
    }
    assert!(rig.read(|view| view.user_by_login("grace")).await.is_none());
    let request = Request::post("/setup")
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
        .header("origin", own)
        .body(Body::from(form(&token, "grace")))
        .unwrap();
    assert_eq!(rig.send(HOME, request).await.status, 200);
}

#[tokio::test]
async fn health_is_told_without_details() {
    let rig = Rig::new().await;
    assert_eq!(get(&rig, "/healthz").await.text, "ok\n");
    assert_eq!(get(&rig, "/readyz").await.text, "ready\n");
    assert_eq!(get(&rig, "/nothing").await.status, 404);
    assert_eq!(get(&rig, "/api/v1/poll").await.status, 405);
}
