//! Enrollment: a one-use token makes this device known to a server.

use std::path::Path;

use mfa_wire::http::{ActivateUserRequest, CreateDeviceRequest, SecretText};
use serde::Serialize;
use url::{Host, Url};

use crate::api::{Api, ApiError};
use crate::client::{Client, io_error};
use crate::error::ClientError;
use crate::location::{BadLocation, Location};
use crate::pin::CaPin;
use crate::state::{EnrollmentSession, Instance};
use crate::update::Update;
use crate::{clock, life, rng};

/// The longest name of a device.
const MAX_NAME: usize = 60;

/// What an enrollment made.
#[derive(Clone, Debug, Serialize)]
pub struct Enrolled {
    /// The server's id.
    pub instance_id: String,
    /// The server's name.
    pub instance: String,
    /// The user's login.
    pub user: String,
    /// The device's name.
    pub device: String,
    /// The device's public key.
    pub public_key: String,
    /// Until when factors can be set up without a code of another one, Unix seconds.
    pub setup_deadline: i64,
    /// Some location asks for a code.
    pub mfa_needed: bool,
    /// The device's locations.
    pub locations: Vec<Location>,
    /// What cannot be used of them, in words.
    pub warnings: Vec<String>,
    /// An earlier enrollment at the same server was replaced.
    pub replaced: bool,
}

impl Client {
    /// Spends a token: makes a key pair, has the server take the public half, and remembers both.
    ///
    /// `name` is the device's; `None`: the machine's own, made unique.
    ///
    /// # Errors
    ///
    /// [`ClientError`]: a bad address or token, the server's refusal, a state that cannot be
    /// written.
    pub async fn enroll(
        &self,
        url: &str,
        token: &str,
        name: Option<&str>,
    ) -> Result<Enrolled, ClientError> {
        let url = parse_url(url)?;
        let (token, pin) = CaPin::split_token(token.trim())?;
        // A folder that cannot be written must not cost the token.
        self.store.change(|_| ())?;
        let api = Api::new(&url, pin)?;
        let (start, cookie) = api.enrollment_start(SecretText::new(token)).await?;
        let cookie = cookie.ok_or_else(|| ApiError::NotOffered { server: api.server() })?;
        let key = rng::private_key().map_err(io_error("cannot make a key"))?;
        let device =
            name.map_or_else(|| unique(&hostname(), &start.user.device_names), str::to_owned);
        let body = CreateDeviceRequest { name: device, pubkey: key.public_key().to_string() };
        let created = api.create_device(&cookie, &body).await?;

        let update = Update::from(&created);
        let instance = Instance {
            id: created.instance.id.clone(),
            name: created.instance.name.clone(),
            url,
            ca_pin: pin,
            user: start.user.login.clone(),
            device: created.device.name.clone(),
            private_key: key,
            polling_token: created.token.clone(),
            enrollment: Some(EnrollmentSession { cookie, deadline: start.deadline_timestamp }),
            pending_setup: None,
            config_version: update.version.clone(),
            locations: update.locations.clone(),
        };
        let mut enrolled = Enrolled {
            instance_id: instance.id.clone(),
            instance: instance.name.clone(),
            user: instance.user.clone(),
            device: instance.device.clone(),
            public_key: body.pubkey,
            setup_deadline: start.deadline_timestamp,
            mfa_needed: update.locations.iter().any(|location| location.mfa.required()),
            locations: update.locations,
            warnings: update.unusable.iter().map(BadLocation::to_string).collect(),
            replaced: false,
        };
        enrolled.replaced = self.store.change(|state| {
            let before = state.instances.len();
            state.instances.retain(|other| other.id != instance.id);
            let replaced = state.instances.len() < before;
            state.instances.push(instance);
            replaced
        })?;
        Ok(enrolled)
    }

    /// Sets the user's password for the server's web pages, and ends the enrollment.
    ///
    /// # Errors
    ///
    /// [`ClientError`]: the enrollment is over, or the password is refused.
    pub async fn activate(&self, instance: &str, password: SecretText) -> Result<(), ClientError> {
        let instance = self.instance(Some(instance))?;
        let cookie = live_enrollment(&instance).ok_or(ClientError::Setup(
            "the enrollment is over, so no password can be set. Ask your administrator for a new enrollment token",
        ))?;
        let body = ActivateUserRequest { phone_number: None, password };
        self.api(&instance)?.activate_user(&cookie, &body).await?;
        self.store.change(|state| {
            if let Some(instance) = state.instance_mut(&instance.id) {
                instance.enrollment = None;
            }
        })?;
        Ok(())
    }
}

/// The enrollment's cookie while it is good.
pub(crate) fn live_enrollment(instance: &Instance) -> Option<SecretText> {
    let now = i64::try_from(life::unix(clock::wall())).unwrap_or(i64::MAX);
    let session = instance.enrollment.as_ref()?;
    (session.deadline > now).then(|| session.cookie.clone())
}

/// Reads the address of a server; one without a scheme is taken for https.
fn parse_url(text: &str) -> Result<Url, ClientError> {
    let refuse = |why| ClientError::Url { url: text.to_owned(), why };
    let spelled = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let mut url: Url = spelled.parse().map_err(|_| refuse("it cannot be read"))?;
    match (url.scheme(), url.host()) {
        (_, None) => return Err(refuse("it names no host")),
        ("https", _) => {}
        ("http", Some(host)) if is_loopback(&host) => {}
        ("http", _) => {
            return Err(refuse("http:// would show every secret on the way; https:// is needed"));
        }
        _ => return Err(refuse("it does not begin with https://")),
    }
    url.set_query(None);
    url.set_fragment(None);
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    Ok(url)
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

fn hostname() -> String {
    let name = std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default();
    let name: String = name.trim().chars().take(MAX_NAME).collect();
    if name.is_empty() { "device".to_owned() } else { name }
}

/// Appends the first number that makes the name a new one.
fn unique(name: &str, taken: &[String]) -> String {
    let numbered = (2..).map(|number: u32| format!("{name}-{number}"));
    core::iter::once(name.to_owned())
        .chain(numbered)
        .find(|candidate| !taken.contains(candidate))
        .unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_get_their_slash_and_their_scheme() {
        let read = |text| parse_url(text).map(|url| url.to_string()).unwrap_or_default();
        assert_eq!(read("https://vpn.example.org:8443"), "https://vpn.example.org:8443/");
        assert_eq!(read("vpn.example.org"), "https://vpn.example.org/");
        assert_eq!(read("https://example.org/vpn?x#y"), "https://example.org/vpn/");
        assert_eq!(read("http://127.0.0.1:8080/"), "http://127.0.0.1:8080/");
    }

    #[test]
    fn secrets_are_not_sent_in_the_clear() {
        for text in ["http://vpn.example.org/", "http://192.0.2.1/", "ftp://x/", "https://", ""] {
            assert!(matches!(parse_url(text), Err(ClientError::Url { .. })), "{text}");
        }
    }

    #[test]
    fn a_device_gets_a_name_of_its_own() {
        let taken = ["laptop".to_owned(), "laptop-2".to_owned()];
        assert_eq!(unique("laptop", &taken), "laptop-3");
        assert_eq!(unique("phone", &taken), "phone");
    }
}
