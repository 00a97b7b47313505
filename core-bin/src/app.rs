//! What a flow works with: the state, the clock, the ways out.

use core::time::Duration;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use mfa_core::budget::Lane;
use mfa_core::id::UserId;
use mfa_core::method::{Method, MethodSet};
use mfa_core::time::Timestamp;
use mfa_core::token::Token;
use mfa_store::{Actor, By, Device, Snapshot, Store, StoreError, Tx, User};
use url::Url;
use wg_types::PublicKey;
use zeroize::Zeroizing;

use crate::clock::Clock;
use crate::flows::connect::login::Terms;
use crate::http::throttle::Throttle;
use crate::keys::Keys;
use crate::link::Registry;
use crate::live::Live;
use crate::mail::Mailer;
use crate::password::Passwords;
use crate::rng::Rng;

/// How long a device's last poll vouches for its address.
const POLL_VOUCHES: Duration = Duration::from_secs(24 * 3600);

/// One core. Shared by all its tasks.
#[derive(Debug)]
pub struct App {
    /// The state.
    pub store: Store,
    /// The time.
    pub clock: Clock,
    /// Random bytes.
    pub rng: Rng,
    /// Keys derived from the master key.
    pub keys: Keys,
    /// Mail.
    pub mailer: Mailer,
    /// Connected gateways.
    pub registry: Arc<Registry>,
    /// Password hashing.
    pub passwords: Passwords,
    /// What this installation is called.
    pub site: Site,
    /// Limits by source address.
    pub limits: Limits,
    /// What gateways said last, for people to look at.
    pub live: Live,
    /// Where gateways dial, and what they and clients know core by.
    pub addresses: Addresses,
    /// Proxies whose word about a source is believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// What an installation is called and where it is.
#[derive(Clone, Debug)]
pub struct Site {
    /// A UUID, the same for ever.
    pub id: String,
    /// For people.
    pub name: String,
    /// Whom users may ask; may be empty.
    pub contact: String,
    /// Where clients and browsers go; ends with a slash.
    pub url: Url,
}

/// Where gateways dial, and what is handed out with tokens.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    /// Core's URL for gateways, without a slash at the end.
    pub gateways: String,
    /// The pin of core's CA.
    pub pin: String,
    /// Whether clients need the pin, because the public certificate is our own CA's.
    pub clients_pin: bool,
}

impl Addresses {
    /// Writes an enrollment's token as clients take it.
    #[must_use]
    pub fn client_token(&self, token: &Token) -> Zeroizing<String> {
        let text = token.expose_text();
        if self.clients_pin {
            // Our client trusts core by its pin; others use what stands before the dot.
            return Zeroizing::new(format!("{}.{}", text.as_str(), self.pin));
        }
        text
    }
}

/// Limits by source address.
#[derive(Debug)]
pub struct Limits {
    /// Every request.
    pub all: Throttle,
    /// Passwords for one login from one source.
    pub passwords: Throttle,
    /// Calls of the REST API with one token, wherever from.
    pub tokens: Throttle,
    /// Log-in requests that come without a proof, from an address that nothing vouches for.
    pub strangers: Throttle,
}

impl Default for Limits {
    /// 1,000 requests at once and 100 a second; for a token 300 and 20; for strangers 30 a minute; for passwords ten at once
    /// and two a minute.
    fn default() -> Self {
        Self {
            all: Throttle::new(1_000, Duration::from_millis(10)),
            tokens: Throttle::new(300, Duration::from_millis(50)),
            passwords: Throttle::new(10, Duration::from_secs(30)),
            strangers: Throttle::new(30, Duration::from_secs(2)),
        }
    }
}

/// Who makes a request, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The address it came from.
    pub source: IpAddr,
    /// The device that proved itself.
    pub proven: Option<PublicKey>,
}

impl Caller {
    /// Decides how far the caller is trusted to be `device`.
    #[must_use]
    pub fn lane(&self, device: &Device, now: Timestamp) -> Lane {
        if self.proven == Some(device.public_key) {
            return Lane::Proven;
        }
        let vouched = device.last_poll.is_some_and(|poll| {
            poll.source == Some(self.source) && now.since(poll.at) <= POLL_VOUCHES
        });
        if vouched { Lane::Proven } else { Lane::Stranger }
    }
}

impl App {
    /// Returns the methods that this installation offers at all.
    #[must_use]
    pub fn offered(&self) -> MethodSet {
        if self.mailer.is_on() { MethodSet::ALL } else { MethodSet::ALL.without(Method::Email) }
    }

    /// Returns what the installation brings to a login.
    #[must_use]
    pub fn terms(&self) -> Terms<'_> {
        Terms { codes: &self.keys.codes, mail: self.mailer.is_on() }
    }

    /// Says why a method is not offered here, or not to this user; `None`: it is.
    #[must_use]
    pub fn unavailable(&self, method: Method, user: &User) -> Option<&'static str> {
        self.terms().unavailable(method, user)
    }

    /// Returns the methods that a user has set up and that can be used now.
    ///
    /// # Errors
    ///
    /// What the database reports.
    pub fn usable(&self, view: &mut Snapshot, user: &User) -> Result<MethodSet, StoreError> {
        self.terms().usable(view, user)
    }

    /// Says that a device acts now.
    #[must_use]
    pub fn by_device(device: &Device, now: Timestamp) -> By {
        By::new(Actor::Device(device.id), now)
    }

    /// Says that a user acts now.
    #[must_use]
    pub const fn by_user(user: UserId, now: Timestamp) -> By {
        By::new(Actor::User(user), now)
    }
}

/// The name under which the installation's UUID is kept.
const INSTANCE_ID: &str = "instance_id";

/// Returns the installation's UUID, and makes one at first.
///
/// # Errors
///
/// What the database reports.
pub fn instance_id(tx: &mut Tx, random: [u8; 16]) -> Result<String, StoreError> {
    if let Some(id) = tx.meta(INSTANCE_ID)? {
        return Ok(String::from_utf8_lossy(&id).into_owned());
    }
    let id = uuid::Builder::from_random_bytes(random).into_uuid().to_string();
    tx.set_meta(INSTANCE_ID, id.as_bytes())?;
    Ok(id)
}
