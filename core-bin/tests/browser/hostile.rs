//! Names that try to be more than names, in every place that keeps one.

use core::time::Duration;

use core_bin::flows::location::{self, LocationChange, LocationError};
use core_bin::serve::Core;
use ipnet::IpNet;
use mfa_core::challenge::Subject;
use mfa_core::connect::{Session, SessionParts, SessionState};
use mfa_core::id::{LocationId, UserId};
use mfa_core::method::Method;
use mfa_core::policy::Mfa;
use mfa_core::rotate::PskGeneration;
use mfa_core::token::Token;
use mfa_store::{
    By, LocationSettings, MailSettings, MailTls, NewApiToken, NewDevice, NewPasskey, StoreError,
    Tx, UserDetails,
};
use wg_types::{PresharedKey, PrivateKey};

use crate::driver::{Browser, until};
use crate::key;

/// Counts what a name has smuggled into a page. The one script is the last thing in a page's body.
const INERT: &str = "return (window.evil ? 1 : 0) + \
    document.querySelectorAll(\"script:not(body > script:last-child), \
    iframe, object, embed, main img, main style, [onerror], [onload], [onclick], [onfocus], \
    [ontoggle], a[href^='javascript'], form:not([action^='/']):not([method=get])\").length";

const HOSTILE: [&str; 14] = [
    "<script>window.evil=1</script>",
    "<img src=x onerror=window.evil=1>",
    "\"><svg onload=window.evil=1>",
    "'><iframe src=javascript:window.evil=1>",
    "</td></tr></table><script>window.evil=1</script>",
    "</title><script>window.evil=1</script>",
    "<a href=javascript:window.evil=1>x</a>",
    "\" onfocus=window.evil=1 autofocus=\"",
    "' onclick=window.evil=1 x='",
    "{{ 7*7 }}{% raw %}<b>",
    "&lt;script&gt;window.evil=1&lt;/script&gt;",
    "<details open ontoggle=window.evil=1>",
    "<style>*{display:none}</style>",
    "--><!--<script>window.evil=1</script>",
];

/// Puts them wherever a name is kept: past the checks that forms make, as an import could.
pub(crate) async fn seed(core: &Core, by: By) {
    let store = &core.app().store;
    let secret = PrivateKey::from_bytes([98; 32]);
    let change = LocationChange {
        endpoint: Some("vpn.example.com:51821".to_owned()),
        networks: Some(vec!["10.2.0.0/24".parse().unwrap()]),
        mfa: Some(Mfa::Required),
        ..LocationChange::default()
    };
    let added: Result<_, LocationError> =
        store.write(move |tx| location::add(tx, by, "hostile", &change, &secret)).await;
    let usual = added.unwrap().settings;
    for (number, name) in (100_u8..).zip(HOSTILE) {
        let usual = usual.clone();
        let done: Result<_, StoreError> =
            store.write(move |tx| everywhere(tx, by, number, name, &usual)).await;
        done.unwrap();
    }
    let settings = MailSettings {
        host: HOSTILE[1].to_owned(),
        port: 25,
        tls: MailTls::None,
        login: HOSTILE[2].to_owned(),
        password: None,
        sender: format!("{} <vpn@example.com>", HOSTILE[0]),
    };
    let done: Result<_, StoreError> =
        store.write(move |tx| tx.set_mail_settings(by, Some(&settings))).await;
    done.unwrap();
}

fn network(number: u8) -> IpNet {
    format!("10.3.{number}.1/24").parse().unwrap()
}

/// Gives one name to a location, a user, their group, a device, a gateway and a token, and to a
/// device and a passkey of the administrator who will look.
fn everywhere(
    tx: &mut Tx,
    by: By,
    number: u8,
    name: &str,
    usual: &LocationSettings,
) -> Result<(), StoreError> {
    let settings = LocationSettings {
        name: name.to_owned(),
        endpoint: name.to_owned(),
        addresses: vec![network(number)],
        ..usual.clone()
    };
    let secret = PrivateKey::from_bytes([number; 32]);
    let place = tx.add_location(by, &settings, &secret)?.id;
    let details = UserDetails {
        login: name.to_owned(),
        name: name.to_owned(),
        email: name.to_owned(),
        phone: name.to_owned(),
        ..UserDetails::default()
    };
    let user = tx.add_user(by, &details)?;
    tx.set_user_groups(by, user, &[name])?;
    connect(tx, by, (user, place), number, name)?;
    tx.add_gateway(by, place, name)?;
    let token = NewApiToken {
        name: name.to_owned(),
        digest: Token::from_random([number; 32]).digest(),
        user: Some(user),
        scopes: "users:read".to_owned(),
        expires: by.now.saturating_add(Duration::from_secs(3600)),
    };
    tx.add_api_token(by, &token)?;

    let grace = tx.user_by_login("grace")?.expect("the administrator").id;
    connect(tx, by, (grace, place), number + 40, name)?;
    let passkey = NewPasskey {
        credential: name.as_bytes().to_vec(),
        algorithm: -7,
        public_key: vec![4; 65],
        sign_count: 0,
        name: name.to_owned(),
    };
    tx.add_passkey(by, grace, &passkey)
}

/// Adds a device of this name, with a live session.
fn connect(
    tx: &mut Tx,
    by: By,
    (user, location): (UserId, LocationId),
    number: u8,
    name: &str,
) -> Result<(), StoreError> {
    let token = Token::from_random([number; 32]);
    let new = NewDevice {
        user,
        name: name.to_owned(),
        public_key: key(usize::from(number)),
        polling_token: token.digest(),
        source: None,
    };
    let device = tx.add_device(by, &new)?.id;
    let session = Session::from_parts(SessionParts {
        subject: Subject { user, device, location },
        method: Method::Totp,
        authorized: by.now,
        lifetime_ends: by.now.saturating_add(Duration::from_secs(3600)),
        generation: PskGeneration::FIRST,
        state: SessionState::Authorized { psk: PresharedKey::from_bytes([9; 32]) },
    });
    tx.begin_session(by, &session).map(drop)
}

/// Goes through every page that shows a name. The administrator has just proved a factor.
pub(crate) fn look(browser: &Browser, url: &str) {
    let inert = |page: &str| {
        browser.go(&format!("{url}/{page}"));
        assert_eq!(browser.run(INERT), 0, "{page}");
    };
    // Mail shows its form now, and its facts when the proof is old.
    inert("mail");
    assert_eq!(
        browser.run("return document.querySelector('[name=sender]').value.includes('<script>')"),
        true
    );
    for page in [
        "users",
        "groups",
        "devices",
        "gateways",
        "sessions",
        "tokens",
        "locations",
        "audit",
        "account",
    ] {
        inert(page);
        browser.says("window.evil");
    }
    for name in HOSTILE {
        let segment = url::form_urlencoded::byte_serialize(name.as_bytes()).collect::<String>();
        let segment = segment.replace('+', "%20");
        for page in ["users/", "groups/", "gateways/", "overview?location=", "gateways?location="] {
            inert(&format!("{page}{segment}"));
            assert!(browser.text().contains(name), "{page}{segment}:\n{}", browser.text());
        }
        inert(&format!("locations/{segment}/edit"));
        for page in ["users", "overview", "login"] {
            inert(&format!("{page}?q={segment}&sort={segment}&next={segment}&done={segment}"));
        }
    }
    // A session's page has the names of its user, device and location in it.
    browser.go(&format!("{url}/sessions?q=onerror"));
    browser.click("td a[href^='/sessions/']");
    until("the session's page", || browser.run("return location.pathname !== '/sessions'") == true);
    browser.says("onerror");
    assert_eq!(browser.run(INERT), 0, "a session");
    browser.go(&format!("{url}/users"));
    browser.picture("users-hostile");
}
