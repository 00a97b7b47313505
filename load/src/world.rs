//! An installation with one location and many people, each with a device and an authenticator app.

use core::time::Duration;
use std::path::Path;

use anyhow::{Context as _, Result};
use mfa_core::factor::totp::{TotpSecret, TotpStep};
use mfa_core::id::{DeviceId, GatewayId, LocationId, UserId};
use mfa_core::policy::LocationPolicy;
use mfa_core::token::Token;
use mfa_store::{
    Actor, By, LocationSettings, MasterKey, NewDevice, Store, StoreError, TokenPurpose, UserDetails,
};
use rand::TryRng as _;
use rand::rngs::SysRng;
use wg_types::{PrivateKey, PublicKey};

use crate::clock;
use crate::core::Place;

/// People that are added in one transaction.
const AT_ONCE: usize = 250;

/// One person.
#[derive(Clone, Debug)]
pub struct Person {
    /// The person.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// The device's key.
    pub key: PrivateKey,
    /// Its public half.
    pub public_key: PublicKey,
    /// What the authenticator app knows.
    pub secret: TotpSecret,
}

/// An installation.
#[derive(Debug)]
pub struct World {
    /// How its database is sealed.
    master: [u8; 32],
    /// Its database.
    pub url: String,
    /// The location.
    pub location: LocationId,
    /// The location's gateway.
    pub gateway: GatewayId,
    /// What the gateway enrolls with, once, within a quarter of an hour.
    pub token: String,
    /// The people.
    pub people: Vec<Person>,
}

impl World {
    /// Fills the installation at `place`, whose core does not run yet.
    ///
    /// # Errors
    ///
    /// What `core-bin init` or the database reports.
    pub async fn make(place: &Place, people: usize) -> Result<Self> {
        place.init()?;
        let master = master_key(&place.dir)?;
        let store = Store::open(&place.url, &MasterKey::from_bytes(master))?;
        let by = By::new(Actor::Cli, clock::now());
        let (key, token) = (PrivateKey::from_bytes(random()?), Token::from_random(random()?));
        let settings = settings()?;
        let (digest, key) = (token.digest(), key);
        let made: Result<_, StoreError> = store
            .write(move |tx| {
                let location = tx.add_location(by, &settings, &key)?.id;
                let gateway = tx.add_gateway(by, location, "gw")?;
                let expires = by.now.saturating_add(Duration::from_secs(900));
                tx.add_token(by, TokenPurpose::Gateway(gateway), &digest, expires)?;
                Ok((location, gateway))
            })
            .await;
        let (location, gateway) = made?;
        let mut all = Vec::new();
        while all.len() < people {
            let first = all.len();
            let last = people.min(first.saturating_add(AT_ONCE));
            let some: Vec<_> = (first..last)
                .map(|number| Ok((number, random()?, random()?, random()?)))
                .collect::<Result<_>>()?;
            let added: Result<Vec<Person>, StoreError> = store
                .write(move |tx| {
                    some.iter()
                        .map(|(number, key, secret, token)| {
                            add(tx, by, *number, *key, *secret, *token)
                        })
                        .collect()
                })
                .await;
            all.extend(added?);
        }
        let token = token.expose_text().to_string();
        Ok(Self { master, url: place.url.clone(), location, gateway, token, people: all })
    }

    /// Opens the database, as another process beside core.
    ///
    /// # Errors
    ///
    /// What it reports.
    pub fn store(&self) -> Result<Store> {
        Ok(Store::open(&self.url, &self.key())?)
    }

    /// What the audit log is chained by.
    #[must_use]
    pub fn key(&self) -> MasterKey {
        MasterKey::from_bytes(self.master)
    }
}

fn add(
    tx: &mut mfa_store::Tx,
    by: By,
    number: usize,
    key: [u8; 32],
    secret: [u8; 20],
    token: [u8; 32],
) -> Result<Person, StoreError> {
    let details = UserDetails { login: format!("person-{number}"), ..UserDetails::default() };
    let user = tx.add_user(by, &details)?;
    let (key, secret) = (PrivateKey::from_bytes(key), TotpSecret::from_bytes(secret));
    let public_key = key.public_key();
    let device = tx.add_device(
        by,
        &NewDevice {
            user,
            name: "laptop".to_owned(),
            public_key,
            polling_token: Token::from_random(token).digest(),
            source: None,
        },
    )?;
    tx.stage_totp(by, user, &secret)?;
    // Confirmed an hour ago, so that every code of today is unused.
    let step = TotpStep::at(by.now.saturating_sub(Duration::from_secs(3600)));
    tx.confirm_totp(by, user, step)?;
    Ok(Person { user, device: device.id, key, public_key, secret })
}

fn settings() -> Result<LocationSettings> {
    Ok(LocationSettings {
        name: "office".to_owned(),
        endpoint: "vpn.example.com:51820".to_owned(),
        listen_port: 51820,
        addresses: vec!["10.64.0.1/12".parse()?],
        allowed_ips: vec!["10.0.0.0/8".parse()?],
        dns: Vec::new(),
        keepalive: None,
        mtu: None,
        policy: LocationPolicy::recommended(),
    })
}

fn master_key(dir: &Path) -> Result<[u8; 32]> {
    let text = std::fs::read_to_string(dir.join("master.key")).context("cannot read master.key")?;
    let bytes = data_encoding::HEXLOWER.decode(text.trim().as_bytes())?;
    bytes.try_into().ok().context("a master key has 32 bytes")
}

pub(crate) fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes)?;
    Ok(bytes)
}
