//! The pages in a real browser: Debian's Chromium, a whole core over TLS, and the gateway that we
//! ship with a modelled kernel. Pictures of every page are left in `target/browser`.

#![cfg(test)]

mod driver;

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

const PEOPLE: [&str; 8] =
    ["ada", "alan", "barbara", "dennis", "edsger", "frances", "katherine", "linus"];

async fn start(dir: &std::path::Path, clock: &Clock) -> Core {
    let config = "[public]\nlisten = \"127.0.0.1:0\"\nname = \"Example Ltd\"\n\
                  [gateways]\nlisten = \"127.0.0.1:0\"\n";
    let config: Config = toml::from_str(config).unwrap();
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

    let url = format!("https://127.0.0.1:{}", core.public_address().port());
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
    let codes = browser.run(
        "return [...document.querySelectorAll('.codes code')].map((code) => code.textContent)",
    );
    browser.picture("setup-codes");

    // Signing in: the password, then a factor. The app's code was used, so a recovery code serves.
    browser.go(&format!("{url}/login"));
    browser.picture("login");
    browser.type_into("[name=login]", "grace");
    browser.type_into("[name=password]", "correct horse battery");
    browser.click("form button");
    browser.says("Two-factor authentication");
    browser.picture("login-code");
    browser.type_into("[name=code]", "123");
    browser.click("form button");
    browser.says("Signing in as grace");
    browser.type_into("[name=code]", codes[0].as_str().unwrap());
    browser.click("form[action='/login/code'] button");
    browser.says("VPN Overview");
    browser.says("No gateway serves this location yet");

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

    // Nothing of the pages runs what a name says, and signing out is final.
    let search = "%3Cimg%20src%3Dx%20onerror%3D%22window.evil%3D1%22%3E";
    browser.go(&format!("{url}/users?q={search}"));
    assert_eq!(browser.run("return window.evil === undefined"), true);
    browser.click("form[action='/logout'] button");
    browser.says("You are signed out.");
    browser.go(&format!("{url}/overview"));
    browser.says("Sign in");
    browser.finish();
    core.stop().await;
}
