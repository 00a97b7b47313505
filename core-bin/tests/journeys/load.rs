//! The pages of an installation with ten thousand devices that are all connected.

#![expect(
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "people read what it measures"
)]

use core::time::Duration;
use std::time::Instant;

use core_bin::flows::location::LocationChange;
use mfa_core::challenge::Subject;
use mfa_core::connect::{Session, SessionParts, SessionState};
use mfa_core::method::Method;
use mfa_core::rotate::PskGeneration;
use mfa_core::token::Token;
use mfa_store::{NewDevice, StoreError, Tx, UserDetails};
use serde_json::Value;
use wg_types::{PresharedKey, PublicKey};

use crate::api::Program;
use crate::console::Browser;
use crate::rig::{Answer, Rig};

const DEVICES: u32 = 10_000;
const AT_ONCE: u32 = 500;
/// What a page may weigh.
const BYTES: usize = 150_000;

/// 32 bytes that no other number gives.
fn bytes(number: u32) -> [u8; 32] {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes
}

#[tokio::test]
#[ignore = "takes a minute; prints the figures of docs/measured.md"]
async fn ten_thousand_connected_devices_make_no_page_heavy() {
    let rig = Rig::new().await;
    // Room for everybody, and nobody in the small one that is there.
    let few = LocationChange { groups: Some(vec!["few".to_owned()]), ..LocationChange::default() };
    rig.set_location("paris", few).await;
    let place = rig.add_location("campus", "10.64.0.0/14", &[]).await;
    for first in (0..DEVICES).step_by(usize::try_from(AT_ONCE).unwrap()) {
        let by = rig.by();
        let seed = move |tx: &mut Tx| {
            for number in first..first + AT_ONCE {
                let details = UserDetails {
                    login: format!("user{number:05}"),
                    name: format!("Person {number}"),
                    email: format!("user{number:05}@example.com"),
                    ..UserDetails::default()
                };
                let user = tx.add_user(by, &details)?;
                tx.set_user_groups(by, user, &["everybody"])?;
                let device = tx.add_device(
                    by,
                    &NewDevice {
                        user,
                        name: format!("laptop-{number:05}"),
                        public_key: PublicKey::from_bytes(bytes(number)),
                        polling_token: Token::from_random(bytes(number)).digest(),
                        source: None,
                    },
                )?;
                let session = Session::from_parts(SessionParts {
                    subject: Subject { user, device: device.id, location: place },
                    method: Method::Totp,
                    authorized: by.now,
                    lifetime_ends: by.now.saturating_add(Duration::from_secs(12 * 3600)),
                    generation: PskGeneration::FIRST,
                    state: SessionState::Authorized { psk: PresharedKey::from_bytes([9; 32]) },
                });
                tx.begin_session(by, &session)?;
            }
            Ok::<_, StoreError>(())
        };
        rig.app.store.write(seed).await.unwrap();
    }
    let mut grace = Browser::grace(&rig).await;
    grace.sign_in("grace").await;
    for path in [
        "/overview?location=campus",
        "/overview?location=campus&sort=-received&page=100",
        "/users?sort=-email&page=100",
        "/devices?sort=-added&page=100",
        "/devices?q=laptop-09",
        "/sessions",
        "/sessions?sort=-device&page=150",
        "/sessions?q=user0512",
        "/audit",
        "/audit?q=user05123",
        "/users/user05123",
        "/groups",
        "/groups/everybody?page=100",
        "/locations",
        "/gateways",
    ] {
        let weight = median_of_five(path, async || grace.get(path).await).await;
        assert!(weight < BYTES, "{path} weighs {weight} bytes");
    }
    let scopes = "users:read,devices:read,sessions:read";
    let program = Program::with(&rig, "load", scopes, None).await;
    for path in [
        "/users?sort=-email&offset=5000",
        "/users?group=everybody&search=user0512",
        "/devices?sort=-created_at&offset=5000",
        "/devices?search=laptop-09",
        "/sessions?sort=-device&offset=7500",
        "/sessions?location=campus&search=user0512",
        "/groups",
    ] {
        median_of_five(path, async || program.call("get", path, Value::Null).await).await;
    }
}

/// Prints how long an answer takes and what it weighs. Returns its weight in bytes.
async fn median_of_five(path: &str, ask: impl AsyncFn() -> Answer) -> usize {
    let mut times = Vec::new();
    let mut weight = 0;
    for _ in 0..5 {
        let start = Instant::now();
        let page = ask().await;
        times.push(start.elapsed());
        assert_eq!(page.status, 200, "{path}");
        weight = page.text.len();
    }
    times.sort();
    let median = times[2].as_millis();
    eprintln!("{path:<52} {median:>5} ms {:>4} KB", weight / 1000);
    weight
}
