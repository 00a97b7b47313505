//! A crowd: so many people with a device and a live session each, put into core's store past the
//! logins, for figures of many peers.

use anyhow::{Context as _, Result};
use core_bin::clock::Clock;
use core_bin::config::Loader;
use core_bin::dir::StateDir;
use core_bin::serve::open_store;
use mfa_core::challenge::Subject;
use mfa_core::connect::{Session, SessionParts, SessionState};
use mfa_core::id::LocationId;
use mfa_core::method::Method;
use mfa_core::rotate::PskGeneration;
use mfa_core::token::Token;
use mfa_store::{Actor, By, NewDevice, Store, StoreError, Tx, UserDetails};
use wg_types::{PresharedKey, PublicKey};

/// Sessions that begin in one transaction.
const AT_ONCE: u32 = 1_000;

/// Adds `count` people to `location`, in the store of the core whose files are in `dir`. It may be
/// running: then its gateways take the new peers at once.
///
/// # Errors
///
/// What the store says; also if the location has too few addresses.
pub(crate) async fn join(dir: &std::path::Path, location: &str, count: u32) -> Result<()> {
    let dir = StateDir::new(dir);
    let config = Loader::new().file(dir.config()).load()?;
    let store = open_store(&config, &dir).await?;
    let name = location.to_owned();
    let place = store.read(move |view| view.location_by_name(&name)).await?;
    let place = place.with_context(|| format!("there is no location {location}"))?;
    for first in (0..count).step_by(usize::try_from(AT_ONCE)?) {
        some(&store, place.id, first..count.min(first.saturating_add(AT_ONCE))).await?;
    }
    Ok(())
}

async fn some(store: &Store, at: LocationId, numbers: core::ops::Range<u32>) -> Result<()> {
    let by = By::new(Actor::System, Clock::system().now());
    let add = move |tx: &mut Tx| {
        let policy = tx.location(at)?.ok_or(StoreError::Missing { what: "location" })?;
        let lifetime_ends = policy.settings.policy.session_ends(by.now);
        for number in numbers.clone() {
            let login = format!("crowd{number:05}");
            let name = format!("Person {number}");
            let email = format!("{login}@example.org");
            let details = UserDetails { login, name, email, ..UserDetails::default() };
            let user = tx.add_user(by, &details)?;
            let device = NewDevice {
                user,
                name: format!("laptop-{number:05}"),
                public_key: PublicKey::from_bytes(bytes(number)),
                polling_token: Token::from_random(bytes(number)).digest(),
                source: None,
            };
            let device = tx.add_device(by, &device)?;
            let session = Session::from_parts(SessionParts {
                subject: Subject { user, device: device.id, location: at },
                method: Method::Totp,
                authorized: by.now,
                lifetime_ends,
                generation: PskGeneration::FIRST,
                state: SessionState::Authorized { psk: PresharedKey::from_bytes(bytes(number)) },
            });
            tx.begin_session(by, &session)?;
        }
        Ok::<_, StoreError>(())
    };
    Ok(store.write(add).await?)
}

/// 32 bytes that no other number gives. No private key goes with them: nobody of the crowd comes.
fn bytes(number: u32) -> [u8; 32] {
    let mut bytes = [7; 32];
    // In no order, as keys are.
    let scattered = number.wrapping_mul(0x9E37_79B1);
    for (byte, of) in bytes.iter_mut().zip(scattered.to_be_bytes()) {
        *byte = of;
    }
    bytes
}
