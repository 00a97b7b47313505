//! The pages in a real browser: Debian's Chromium, a whole core over TLS, and the gateway that we
//! ship with a modelled kernel. Pictures of every page are left in `target/browser`.

#![cfg(test)]

mod client;
mod driver;
mod evil;
mod hostile;
mod lab;
mod sink;

use core::time::Duration;

use core_bin::clock::Clock;
use core_bin::config::Config;
use core_bin::dir::StateDir;
use core_bin::flows::location::{self, LocationChange, LocationError};
use core_bin::flows::setup;
use core_bin::flows::user::{self, NewUser, UserError};
use core_bin::rng::Rng;
use core_bin::serve::{Core, Setup};
use gateway_bin::Gateway;
use gateway_bin::config::{Backend, Config as GatewayConfig, Overrides};
use gateway_bin::enroll::{Enrollment, enroll};
use mfa_core::challenge::Subject;
use mfa_core::connect::{Session, SessionParts, SessionState};
use mfa_core::factor::totp::TotpSecret;
use mfa_core::method::Method;
use mfa_core::policy::Mfa;
use mfa_core::rotate::PskGeneration;
use mfa_core::token::Token;
use mfa_store::{Actor, By, NewDevice, StoreError};
use wg_netlink::WireGuard as _;
use wg_netlink::fake::FakeKernel;
use wg_types::{PresharedKey, PrivateKey, PublicKey};

use driver::{Browser, until};
use evil::Evil;
use sink::Sink;

const PEOPLE: [&str; 8] =
    ["ada", "alan", "barbara", "dennis", "edsger", "frances", "katherine", "linus"];

async fn start(dir: &std::path::Path, clock: &Clock) -> Core {
    // Passkeys are made for the address that core knows itself by, so the port must be known.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let config = format!(
        "[public]\nlisten = \"127.0.0.1:{port}\"\nurl = \"https://localhost:{port}/\"\n\
         name = \"Example Ltd\"\n[gateways]\nlisten = \"127.0.0.1:0\"\n"
    );
    let config: Config = toml::from_str(&config).unwrap();
    let setup = Setup { dir: StateDir::new(dir), config, clock: clock.clone(), rng: Rng::system() };
    std::fs::create_dir(dir).unwrap();
    setup.dir.write_master_key(&[7; 32]).unwrap();
    Core::start(setup).await.unwrap()
}

fn key(number: usize) -> PublicKey {
    PrivateKey::from_bytes([u8::try_from(number).unwrap() + 1; 32]).public_key()
}

/// A location with people who are connected.
async fn company(core: &Core, by: By) {
    let app = core.app();
    let secret = PrivateKey::from_bytes([99; 32]);
    let change = LocationChange {
        endpoint: Some("vpn.example.com:51820".to_owned()),
        networks: Some(vec!["10.1.0.0/24".parse().unwrap()]),
        mfa: Some(Mfa::Required),
        ..LocationChange::default()
    };
    let added: Result<_, LocationError> =
        app.store.write(move |tx| location::add(tx, by, "paris", &change, &secret)).await;
    let paris = added.unwrap().id;
    for (number, login) in PEOPLE.into_iter().enumerate() {
        let new = NewUser {
            login: login.to_owned(),
            name: format!("{}{} Example", login[..1].to_uppercase(), &login[1..]),
            email: format!("{login}@example.com"),
            groups: vec!["staff".to_owned()],
            ..NewUser::default()
        };
        let done: Result<_, UserError> = app
            .store
            .write(move |tx| {
                let user = user::add(tx, by, &new)?;
                let device = tx.add_device(
                    by,
                    &NewDevice {
                        user: user.id,
                        name: "laptop".to_owned(),
                        public_key: key(number),
                        polling_token: Token::from_random([u8::try_from(number).unwrap(); 32])
                            .digest(),
                        source: None,
                    },
                )?;
                let session = Session::from_parts(SessionParts {
                    subject: Subject { user: user.id, device: device.id, location: paris },
                    method: Method::Totp,
                    authorized: by.now,
                    lifetime_ends: by.now.saturating_add(Duration::from_secs(12 * 3600)),
                    generation: PskGeneration::FIRST,
                    state: SessionState::Authorized { psk: PresharedKey::from_bytes([9; 32]) },
                });
                Ok(tx.begin_session(by, &session)?)
            })
            .await;
        done.unwrap();
    }
}

/// The first step of signing in.
fn type_password(browser: &Browser, login: &str, password: &str) {
    browser.type_into("[name=login]", login);
    browser.type_into("[name=password]", password);
    browser.click("form button");
}

/// Signs in with a recovery code.
fn sign_in(browser: &Browser, url: &str, (login, password): (&str, &str), code: &str) {
    browser.go(&format!("{url}/login"));
    type_password(browser, login, password);
    browser.says("Two-factor authentication");
    browser.type_into("[name=code]", code);
    browser.click("form[action='/login/code'] button");
}

/// Proves the passkey again, and goes on to `place`.
fn prove_again(browser: &Browser, url: &str, place: &str) {
    browser.go(&format!("{url}/login/code?next={place}"));
    browser.says("Use the passkey");
    browser.click("form[data-passkey] button");
    until("the proof leads on", || browser.run("return location.pathname") == place);
}

#[test]
#[ignore = "needs Debian's chromium-driver; `cargo xtask test --only browser` runs it"]
fn the_looks_at_a_page_find_what_is_wrong_with_it() {
    let root = tempfile::tempdir().unwrap();
    let browser = Browser::start(&root.path().join("profile"));
    browser.go("data:text/html,<title>x</title><main><h1>x</h1><p style='color:silver'>faint</p>\
         <button></button><i id=a></i><i id=a></i><div style='width:3000px'>x</div></main>");
    let found = browser.look_over();
    for wrong in
        ["html-has-lang", "color-contrast", "button-name", "twice: #a", "wider than its window"]
    {
        assert!(found.iter().any(|one| one.contains(wrong)), "{wrong} in {found:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
#[ignore = "needs Debian's chromium-driver; `cargo xtask test --only browser` runs it"]
async fn an_administrator_goes_through_the_console() {
    let root = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let core = start(&root.path().join("core"), &clock).await;
    let by = By::new(Actor::Cli, clock.now());
    company(&core, by).await;
    let token = Token::from_random([5; 32]);
    let digest = token.digest();
    let issued: Result<_, StoreError> =
        core.app().store.write(move |tx| setup::issue(tx, by, &digest)).await;
    issued.unwrap();

    let url = format!("https://localhost:{}", core.public_address().port());
    let browser = Browser::start(&root.path().join("profile"));

    // The first administrator, from the link that `init` prints.
    browser.go(&format!("{url}/setup?token={}", token.expose_text().as_str()));
    browser.picture("setup");
    for (field, text) in [("login", "grace"), ("name", "Grace Hopper"), ("email", "g@example.com")]
    {
        browser.type_into(&format!("[name={field}]"), text);
    }
    browser.type_into("[name=password]", "correct horse battery");
    browser.click("form button");
    browser.says("Your authenticator app");
    let shown = browser.run("return document.querySelector('.key code').textContent");
    let secret = TotpSecret::from_base32(shown.as_str().unwrap()).unwrap();
    browser.picture("setup-app");
    browser.type_into("[name=code]", &secret.code_at(clock.now()).expose_text());
    browser.click("form button");
    browser.says("Your recovery codes");
    let codes = browser.codes();
    browser.picture("setup-codes");

    // Signing in: the password, then a factor. The app's code was used, so a recovery code serves.
    browser.go(&format!("{url}/login"));
    browser.picture("login");
    type_password(&browser, "grace", "correct horse battery");
    browser.says("Two-factor authentication");
    browser.picture("login-code");
    browser.type_into("[name=code]", "123");
    browser.click("form button");
    browser.says("Signing in as grace");
    browser.type_into("[name=code]", &codes[0]);
    browser.click("form[action='/login/code'] button");
    browser.says("VPN Overview");
    browser.says("No gateway serves this location yet");

    // A passkey, while the factor is fresh: added, then used in the place of a code.
    browser.plug_in_a_key();
    browser.go(&format!("{url}/account"));
    browser.walk("account");
    browser.type_into("#passkey", "Blue security key");
    browser.click("form[data-passkey] button");
    browser.says("The passkey is added.");
    browser.says("Passkey: Blue security key");
    browser.picture("account-passkey");
    browser.click("form[action='/logout'] button");
    browser.says("You are signed out.");
    browser.walk("login");
    type_password(&browser, "grace", "correct horse battery");
    browser.says("Use the passkey");
    browser.picture("login-passkey");
    browser.click("form[data-passkey] button");
    browser.says("VPN Overview");

    // A gateway by the token that the page gives.
    browser.go(&format!("{url}/gateways"));
    browser.type_into("[name=name]", "gw1");
    browser.click("section.form button");
    browser.says("gateway-bin enroll");
    let command = browser.run("return document.querySelector('pre').textContent");
    browser.picture("gateway-token");
    let command = command.as_str().unwrap().to_owned();
    let token = command.split("--token ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let home = root.path().join("gateway");
    let enrollment = Enrollment {
        core: format!("https://127.0.0.1:{}", core.gateways_address().port()).parse().unwrap(),
        token: token.into(),
        ca_pin: core.pin().to_string().parse().unwrap(),
        dir: home.clone(),
        interface: "wg0".into(),
        backend: Backend::Auto,
    };
    enroll(enrollment).await.unwrap();
    let mut config = GatewayConfig::load(&home, Overrides::default()).unwrap();
    config.statistics_period = Duration::from_secs(1);
    let kernel = FakeKernel::new();
    let wg0 = kernel.interface("wg0");
    tokio::spawn(Gateway::run(config, Box::new(wg0.clone()), core::future::pending()));

    // VPN Overview, live: gateways in sync, people, traffic.
    browser.go(&format!("{url}/overview"));
    browser.says("in sync");
    until("the gateway has all peers", || {
        wg0.interface().is_ok_and(|interface| interface.peers.len() == PEOPLE.len())
    });
    for round in 1..6 {
        for number in 0..PEOPLE.len() {
            let bytes = u64::try_from((number + 2) * round).unwrap();
            wg0.hear(&key(number), bytes * 40_000, bytes * 210_000);
        }
        tokio::time::sleep(Duration::from_millis(1_100)).await;
    }
    until("the page shows traffic by itself", || {
        browser.run(
            "return document.querySelectorAll('.spark').length > 0 \
                     && document.querySelectorAll('svg.chart').length > 0",
        ) == true
    });
    browser.picture("overview");
    browser.walk("overview");

    // Revoked with one click, and gone from the kernel.
    browser.click("[aria-label='Revoke: ada, laptop']");
    browser.says("every connected gateway confirmed that the peer is gone");
    assert_eq!(wg0.interface().unwrap().peers.len(), PEOPLE.len() - 1);
    assert_eq!(
        browser.run("return document.querySelector(\"[aria-label^='Revoke: ada,']\")"),
        serde_json::Value::Null
    );

    // Edit Location: refused in words, then said before it is done, then done.
    browser.click("a.button");
    browser.says("Location Configuration");
    browser.says("Require MFA for this Location");
    browser.says("E-mail code");
    browser.says("no SMTP");
    assert_eq!(browser.run("return document.querySelector('[name=email]').disabled"), true);
    browser.picture("location");
    browser.walk("location");
    browser.type_into("#threshold", "2");
    browser.click(".actions button");
    browser.run("return 1");
    until("the threshold is refused", || {
        browser.run("return document.querySelector('[role=alert]') !== null") == true
    });
    browser.picture("location-refused");
    browser.type_into("#threshold", "600");
    browser.click("[name=mfa]");
    browser.click(".actions button");
    browser.says("What this will do");
    browser.says("7 sessions will end");
    browser.picture("location-effects");
    browser.click("section.notice a");
    browser.says("Save changes");

    for page in [
        "users",
        "users/ada",
        "groups",
        "groups/staff",
        "locations",
        "locations/import",
        "tokens",
        "devices",
        "gateways",
        "sessions",
        "mail",
        "audit",
        "account",
    ] {
        browser.go(&format!("{url}/{page}"));
        browser.says("Example Ltd");
        browser.picture(&page.replace('/', "-"));
    }

    // A token for a program, which takes a factor that was proved a moment ago.
    prove_again(&browser, &url, "/tokens");
    browser.says("API tokens");
    browser.walk("tokens");
    browser.type_into("[name=name]", "grafana");
    browser.click("[name='sessions:read']");
    browser.click("section.form button");
    browser.says("The token, shown only now");
    browser.picture("tokens-made");
    browser.click("[aria-label='Remove: grafana']");
    browser.says("is refused from now on");
    browser.picture("tokens-remove");
    browser.click("section.form button");
    browser.says("The token is removed");

    browser.go(&format!("{url}/api/docs"));
    browser.says("REST API");
    browser.picture("api-docs");

    // A group, and who is in it.
    browser.go(&format!("{url}/groups"));
    browser.type_into("[name=name]", "ops");
    browser.click("section.form button");
    browser.says("Nobody is in this group yet");
    browser.picture("groups-empty");
    browser.type_into("[name=logins]", "ada, linus");
    browser.click_labelled("Put in");
    browser.says("The group has its new members.");
    browser.click("[aria-label='Take out: linus']");
    browser.says("Taken out of the group.");

    // A configuration that is there already, tried and then imported.
    browser.go(&format!("{url}/locations/import"));
    browser.walk("import");
    browser.type_into("[name=name]", "lyon");
    browser.type_into("[name=endpoint]", "vpn.example.com:51822");
    let own = PrivateKey::from_bytes([97; 32]);
    let file = format!(
        "[Interface]\nPrivateKey = {}\nAddress = 10.3.0.1/24\n\n# tablet\n[Peer]\nPublicKey = {}\n\
         AllowedIPs = 10.3.0.2/32\n",
        own.expose_base64().as_str(),
        key(60)
    );
    browser.type_into("[name=configuration]", &file);
    browser.click("section.form button");
    browser.says("Nothing was imported yet.");
    browser.says("Devices: tablet.");
    browser.picture("import-tried");
    browser.click_labelled("Import it");
    browser.says("The location is imported with its devices.");
    browser.says("No gateway serves this location yet");

    // Sorted and searched by the server, the log verified.
    browser.go(&format!("{url}/devices?q=LINUS&sort=-added"));
    browser.says("linus");
    assert!(!browser.text().contains("katherine"));
    browser.go(&format!("{url}/audit"));
    browser.click("form[action='/audit/verify'] button");
    browser.says("The log is whole");

    // Mail: refused in words, set, tried, in force without a restart.
    let sink = Sink::start();
    prove_again(&browser, &url, "/mail");
    browser.says("no SMTP");
    browser.type_into("[name=host]", "mail.example.com");
    browser.type_into("[name=port]", &sink.port.to_string());
    browser.type_into("[name=sender]", "VPN <vpn@example.com>");
    browser.choose("[name=tls]", "None: only for a server on this host");
    browser.click("form[action='/mail'] button");
    browser.says("codes go no further than this host");
    browser.picture("mail-refused");
    browser.type_into("[name=host]", "127.0.0.1");
    browser.choose("[name=tls]", "None: only for a server on this host");
    browser.click("form[action='/mail'] button");
    browser.says("Mail leaves as set here");
    browser.type_into("[name=to]", "grace@example.com");
    browser.click("form[action='/mail/test'] button");
    browser.says("The mail server took the mail to grace@example.com");
    browser.picture("mail-set");
    browser.go(&format!("{url}/locations/paris/edit"));
    browser.says("The weaker method");
    assert_eq!(browser.run("return document.querySelector('[name=email]').disabled"), false);

    // Somebody's first minutes: the link, a password, the app, recovery codes as a file.
    browser.go(&format!("{url}/users/alan"));
    browser.click("section.form button");
    browser.says("It is shown only now");
    browser.picture("users-alan-link");
    let link = browser.run("return document.querySelector('pre').textContent");
    browser.click("form[action='/logout'] button");
    browser.says("You are signed out.");
    browser.go(link.as_str().unwrap());
    browser.says("choose a password");
    browser.picture("join");
    browser.type_into("[name=password]", "staple battery horse");
    browser.click("form button");
    browser.says("Your authenticator app");
    let shown = browser.run("return document.querySelector('.key code').textContent");
    let secret = TotpSecret::from_base32(shown.as_str().unwrap()).unwrap();
    browser.type_into("[name=code]", &secret.code_at(clock.now()).expose_text());
    browser.click("form button");
    browser.says("Your recovery codes");
    let codes = browser.codes();
    let folder = root.path().join("downloads");
    let to = serde_json::json!({ "behavior": "allow", "downloadPath": folder });
    browser.tell("Browser.setDownloadBehavior", &to);
    browser.click("[data-download]");
    let file = folder.join("recovery-codes.txt");
    until("the codes are a file", || {
        std::fs::read_to_string(&file).is_ok_and(|text| text.lines().count() == codes.len())
    });
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().collect::<Vec<_>>(), codes);
    sign_in(&browser, &url, ("alan", "staple battery horse"), &codes[0]);
    browser.says("My devices");
    assert!(!browser.text().contains("Audit log"), "the console is for administrators");
    browser.picture("account-alan");
    browser.click_labelled("Add a device");
    browser.says("client-bin enroll");
    assert_eq!(browser.run("return document.querySelectorAll('.qr svg').length"), 1);
    browser.picture("account-add-device");
    browser.click("[aria-label='Set up: E-mail code']");
    browser.says("A code is on its way");
    browser.picture("account-email");
    let mailed = |sink: &Sink| {
        let text = sink.text();
        let digits = |word: &str| word.len() == 8 && word.bytes().all(|b| b.is_ascii_digit());
        text.split_whitespace().rev().find(|word| digits(word)).map(str::to_owned)
    };
    until("the code is mailed", || mailed(&sink).is_some());
    browser.type_into("[name=code]", &mailed(&sink).unwrap());
    browser.click_labelled("Confirm");
    browser.says("The method is set up.");
    browser.click("[aria-label='New codes: Recovery codes']");
    browser.says("shown only now");
    browser.picture("account-codes");
    browser.go(&format!("{url}/users"));
    browser.says("This page is for administrators.");
    browser.picture("refused");
    browser.go(&format!("{url}/account"));
    browser.click("form[action='/logout'] button");
    browser.says("You are signed out.");

    // A forgotten password, by mail; the second factor stays.
    browser.click("a[href='/forgot']");
    browser.picture("forgot");
    browser.type_into("[name=who]", "alan");
    browser.click("form button");
    browser.says("a mail with a link is on its way");
    let reset = || {
        let text = sink.text();
        let start = text.find("/reset?token=")?;
        text[start..].split_whitespace().next().map(str::to_owned)
    };
    until("the link is mailed", || reset().is_some());
    browser.go(&format!("{url}{}", reset().unwrap()));
    browser.picture("reset");
    browser.type_into("[name=password]", "a third good password");
    browser.click("form button");
    browser.says("The new password is set.");

    // Wrong passwords are slowed down, in words.
    for _ in 0..12 {
        type_password(&browser, "linus", "wrong horse battery");
        browser.says("Sign in");
    }
    browser.says("Too many tries");
    browser.picture("login-refused");

    // Nothing of the pages runs what a name says, wherever it is shown.
    hostile::seed(&core, By::new(Actor::Cli, clock.now())).await;
    browser.go(&format!("{url}/login"));
    type_password(&browser, "grace", "correct horse battery");
    browser.says("Use the passkey");
    browser.click("form[data-passkey] button");
    browser.says("VPN Overview");
    hostile::look(&browser, &url);

    // Another site can neither act with this browser's session, nor show the pages in a frame.
    let evil = Evil::start(&url);
    for attack in ["/logout", "/users"] {
        browser.go(&format!("{}{attack}", evil.url));
        until("the attack ran", || browser.run("return location.pathname !== '/ready'") == true);
        browser.says("sent from another site");
    }
    browser.go(&format!("{}/frame", evil.url));
    until("the frame is refused", || Evil::is_refused(&browser));
    browser.go(&format!("{url}/users"));
    browser.says("grace");
    assert!(!browser.text().contains("mallory"), "a user was added by another site");

    // Signing out is final.
    browser.click("form[action='/logout'] button");
    browser.says("You are signed out.");
    browser.go(&format!("{url}/overview"));
    browser.says("Sign in");
    browser.finish();
    core.stop().await;
}
