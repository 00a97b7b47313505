//! The public API of a server, call by call.
//!
//! Bodies and paths are `mfa-wire`'s. Calls that our own core knows carry a proof of the device's
//! key; a server that does not know them is recognized by its 404 and served without.

use core::fmt;
use core::num::NonZeroU32;
use core::time::Duration;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use http::header::{COOKIE, LOCATION, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use mfa_wire::http::{
    ActivateUserRequest, CreateDeviceRequest, DeviceConfigResponse, DeviceStatus,
    DisconnectRequest, DisconnectResponse, EnrollmentStartRequest, EnrollmentStartResponse,
    FinishRequest, FinishResponse, MfaFinishRequest, MfaList, MfaStartRequest, MfaStartResponse,
    NonceResponse, PROOF_HEADER, PollRequest, PollResponse, Problem, RecoveryCodes,
    RegisterMfaFinishRequest, RegisterMfaStartRequest, RegisterMfaStartResponse, RenewRequest,
    RenewResponse, RotateRequest, RotateResponse, SecretText, StartRequest, StartResponse, path,
};
use mfa_wire::proof::{Nonce, Proof};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;
use wg_types::{PrivateKey, PublicKey};
use zeroize::Zeroizing;

mod refusal;
mod transport;
mod unreachable;

pub use refusal::Refusal;
pub use unreachable::Unreachable;

use crate::clock;
use crate::pin::CaPin;
pub(crate) use refusal::Call;
use transport::{Answer, Transport};

/// How long a nonce is used for. Core takes it for 60 s.
const NONCE_REUSE: Duration = Duration::from_secs(40);

/// One server, and the device that talks to it.
pub struct Api {
    transport: Transport,
    nonce: Mutex<Nonces>,
}

/// What is known of the server's nonces.
#[derive(Clone, Copy, Default)]
enum Nonces {
    /// Nothing yet.
    #[default]
    Unasked,
    /// It has none: it is not of our kind.
    NotOffered,
    /// One that was fetched.
    Fetched(CachedNonce),
}

/// A nonce and the key to prove with.
#[derive(Clone, Copy)]
struct CachedNonce {
    nonce: Nonce,
    proof_pubkey: PublicKey,
    fetched: Instant,
}

/// Who asks.
#[derive(Clone, Copy)]
enum Who<'a> {
    /// Anybody: the body says it.
    Anybody,
    /// Who holds an enrollment's cookie.
    Enrolling(&'a SecretText),
    /// The owner of a device's key.
    Device(&'a PrivateKey),
}

/// Why a call has no result.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The server was not reached.
    #[error(transparent)]
    Unreachable(#[from] Unreachable),
    /// The server refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The server does not know the call.
    #[error(
        "{server} does not offer this. It may be another product or an older version; ask your administrator"
    )]
    NotOffered {
        /// Host and port.
        server: String,
    },
    /// The server points elsewhere; secrets are not carried there.
    #[error("{server} has moved to {to}. If you trust that address, enroll there")]
    Moved {
        /// Host and port.
        server: String,
        /// Where to.
        to: String,
    },
    /// The answer is not of the API.
    #[error(
        "the answer of {server} is not understood ({source}). Check the address; update the client"
    )]
    Answer {
        /// Host and port.
        server: String,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// TLS cannot be set up on this machine.
    #[error("cannot set up TLS: {0}. Install the system's root certificates (ca-certificates)")]
    Tls(rustls::Error),
    /// The request cannot be said.
    #[error("a value cannot be sent: {0}")]
    Unsayable(&'static str),
}

impl ApiError {
    /// What was refused, if the server was reached and refused.
    #[must_use]
    pub const fn problem(&self) -> Option<Problem> {
        match self {
            Self::Refused(refusal) => Some(refusal.problem),
            _ => None,
        }
    }
}

impl Api {
    /// Names the server; nothing is sent yet.
    ///
    /// # Errors
    ///
    /// [`ApiError::Tls`] if there is no pin and the system's roots cannot be read.
    pub fn new(url: &Url, pin: Option<CaPin>) -> Result<Self, ApiError> {
        let transport = Transport::new(url, pin).map_err(ApiError::Tls)?;
        Ok(Self { transport, nonce: Mutex::default() })
    }

    /// Host and port, as people write them.
    #[must_use]
    pub fn server(&self) -> String {
        self.transport.server()
    }

    /// Finds the server's addresses before a tunnel takes the way to the resolver.
    pub async fn resolve_ahead(&self) {
        self.transport.resolve_ahead().await;
    }

    /// Marks the packets to the server, so that they do not go into a tunnel that takes everything.
    pub async fn set_mark(&self, mark: Option<NonZeroU32>) {
        self.transport.set_mark(mark).await;
    }

    /// Spends an enrollment token; returns also the session's cookie.
    ///
    /// # Errors
    ///
    /// [`ApiError`], as all calls.
    pub async fn enrollment_start(
        &self,
        token: SecretText,
    ) -> Result<(EnrollmentStartResponse, Option<SecretText>), ApiError> {
        let body = EnrollmentStartRequest { token };
        let (path, call) = (path::ENROLLMENT_START, Call::Enrollment);
        let answer = self.send(path, call, &body, HeaderMap::new()).await?;
        let cookie = cookie(&answer.headers);
        Ok((self.parse(&answer)?, cookie))
    }

    /// Adds this device.
    ///
    /// # Errors
    ///
    /// [`ApiError`], as all calls.
    pub async fn create_device(
        &self,
        cookie: &SecretText,
        body: &CreateDeviceRequest,
    ) -> Result<DeviceConfigResponse, ApiError> {
        let who = Who::Enrolling(cookie);
        self.call(path::ENROLLMENT_CREATE_DEVICE, Call::Enrollment, body, who).await
    }

    /// Sets the user's password and ends the enrollment.
    ///
    /// # Errors
    ///
    /// [`ApiError`], as all calls.
    pub async fn activate_user(
        &self,
        cookie: &SecretText,
        body: &ActivateUserRequest,
    ) -> Result<(), ApiError> {
        let who = self.headers(path::ENROLLMENT_ACTIVATE_USER, &[], Who::Enrolling(cookie)).await?;
        self.send(path::ENROLLMENT_ACTIVATE_USER, Call::Enrollment, body, who).await.map(drop)
    }

    /// Begins to set up a factor within an enrollment.
    ///
    /// # Errors
    ///
    /// [`ApiError`], as all calls.
    pub async fn register_mfa_start(
        &self,
        cookie: &SecretText,
        body: &RegisterMfaStartRequest,
    ) -> Result<RegisterMfaStartResponse, ApiError> {
        let who = Who::Enrolling(cookie);
        self.call(path::ENROLLMENT_MFA_START, Call::Enrollment, body, who).await
    }

    /// Confirms a factor within an enrollment.
    ///
    /// # Errors
    ///
    /// [`ApiError`], as all calls.
    pub async fn register_mfa_finish(
        &self,
        cookie: &SecretText,
        body: &RegisterMfaFinishRequest,
    ) -> Result<RecoveryCodes, ApiError> {
        let who = Who::Enrolling(cookie);
        self.call(path::ENROLLMENT_MFA_FINISH, Call::Setup, body, who).await
    }

    /// Fetches an Instance Update.
    ///
    /// # Errors
    ///
    /// [`ApiError`], as all calls.
    pub async fn poll(&self, token: SecretText) -> Result<DeviceConfigResponse, ApiError> {
        let body = PollRequest { token };
        let answer: PollResponse = self.call(path::POLL, Call::Poll, &body, Who::Anybody).await?;
        Ok(answer.device_config)
    }

    /// Asks for a challenge.
    ///
    /// # Errors
    ///
    /// [`ApiError`], as all calls.
    pub async fn start(
        &self,
        device: &PrivateKey,
        body: &StartRequest,
    ) -> Result<StartResponse, ApiError> {
        self.call(path::MFA_START, Call::Connect, body, Who::Device(device)).await
    }

    /// Answers a challenge.
    ///
    /// # Errors
    ///
    /// [`ApiError`], as all calls.
    pub async fn finish(
        &self,
        device: &PrivateKey,
        body: &FinishRequest,
    ) -> Result<FinishResponse, ApiError> {
        self.call(path::MFA_FINISH, Call::Connect, body, Who::Device(device)).await
    }

    /// Asks how the device stands.
    ///
    /// # Errors
    ///
    /// [`ApiError`], as all calls.
    pub async fn status(&self, device: &PrivateKey) -> Result<DeviceStatus, ApiError> {
        self.call(path::DEVICE_STATUS, Call::Device, &Empty {}, Who::Device(device)).await
    }

    /// Ends the device's session at a location.
    ///
    /// # Errors
    ///
    /// [`ApiError`], as all calls.
    pub async fn disconnect(
        &self,
        device: &PrivateKey,
        body: &DisconnectRequest,
    ) -> Result<DisconnectResponse, ApiError> {
        self.call(path::DEVICE_DISCONNECT, Call::Device, body, Who::Device(device)).await
    }

    /// Extends a session.
    ///
    /// # Errors
    ///
    /// [`ApiError`], as all calls.
    pub async fn renew(
        &self,
        device: &PrivateKey,
        body: &RenewRequest,
    ) -> Result<RenewResponse, ApiError> {
        self.call(path::DEVICE_RENEW, Call::Connect, body, Who::Device(device)).await
    }

    /// Takes part in the rotation of a session's pre-shared key.
    ///
    /// # Errors
    ///
    /// [`ApiError`], as all calls.
    pub async fn rotate(
        &self,
        device: &PrivateKey,
        body: &RotateRequest,
    ) -> Result<RotateResponse, ApiError> {
        self.call(path::DEVICE_ROTATE, Call::Device, body, Who::Device(device)).await
    }

    /// Lists the user's factors.
    ///
    /// # Errors
    ///
    /// [`ApiError`], as all calls.
    pub async fn mfa(&self, device: &PrivateKey) -> Result<MfaList, ApiError> {
        self.call(path::DEVICE_MFA, Call::Device, &Empty {}, Who::Device(device)).await
    }

    /// Begins to set up a factor with a code of another.
    ///
    /// # Errors
    ///
    /// [`ApiError`], as all calls.
    pub async fn mfa_start(
        &self,
        device: &PrivateKey,
        body: &MfaStartRequest,
    ) -> Result<MfaStartResponse, ApiError> {
        self.call(path::DEVICE_MFA_START, Call::Device, body, Who::Device(device)).await
    }

    /// Confirms it.
    ///
    /// # Errors
    ///
    /// [`ApiError`], as all calls.
    pub async fn mfa_finish(
        &self,
        device: &PrivateKey,
        body: &MfaFinishRequest,
    ) -> Result<RecoveryCodes, ApiError> {
        self.call(path::DEVICE_MFA_FINISH, Call::Setup, body, Who::Device(device)).await
    }

    async fn call<A: DeserializeOwned>(
        &self,
        path: &str,
        call: Call,
        body: &impl Serialize,
        who: Who<'_>,
    ) -> Result<A, ApiError> {
        let by_device = matches!(who, Who::Device(_));
        let bytes = encode(body)?;
        let headers = self.headers(path, &bytes, who).await?;
        let outcome = self.send_bytes(path, call, bytes, headers).await;
        // A nonce dies early when core's clock or key changes: once, a fresh one may help.
        let answer = match outcome {
            Err(error) if by_device && error.problem() == Some(Problem::ProofInvalid) => {
                self.remember(Nonces::Unasked);
                let bytes = encode(body)?;
                let headers = self.headers(path, &bytes, who).await?;
                self.send_bytes(path, call, bytes, headers).await?
            }
            outcome => outcome?,
        };
        self.parse(&answer)
    }

    async fn send(
        &self,
        path: &str,
        call: Call,
        body: &impl Serialize,
        headers: HeaderMap,
    ) -> Result<Answer, ApiError> {
        self.send_bytes(path, call, encode(body)?, headers).await
    }

    async fn send_bytes(
        &self,
        path: &str,
        call: Call,
        body: Zeroizing<Vec<u8>>,
        headers: HeaderMap,
    ) -> Result<Answer, ApiError> {
        let answer = self.transport.post(path, headers, body).await?;
        let server = || self.server();
        match answer.status {
            status if status.is_success() => Ok(answer),
            status if status.is_redirection() => {
                let to = answer.headers.get(LOCATION).and_then(|to| to.to_str().ok());
                Err(ApiError::Moved { server: server(), to: to.unwrap_or("nowhere").to_owned() })
            }
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED
                if serde_json::from_slice::<mfa_wire::http::ErrorBody>(&answer.body).is_err() =>
            {
                Err(ApiError::NotOffered { server: server() })
            }
            status => Err(Refusal::read(call, status, &answer.body).into()),
        }
    }

    async fn headers(&self, path: &str, body: &[u8], who: Who<'_>) -> Result<HeaderMap, ApiError> {
        let (name, mut value) = match who {
            Who::Anybody => return Ok(HeaderMap::new()),
            Who::Enrolling(cookie) => (COOKIE, HeaderValue::from_str(cookie.expose_secret())),
            Who::Device(key) => {
                let Some(nonce) = self.nonce().await? else { return Ok(HeaderMap::new()) };
                let proof = Proof::make(key, &nonce.proof_pubkey, nonce.nonce, "POST", path, body)
                    .ok_or(ApiError::Unsayable("the server's proof key is of low order"))?;
                (HeaderName::from_static(PROOF_HEADER), HeaderValue::from_str(&proof.to_string()))
            }
        };
        let value =
            value.as_mut().map_err(|_| ApiError::Unsayable("a header has a character too many"))?;
        value.set_sensitive(true);
        Ok(HeaderMap::from_iter([(name, value.clone())]))
    }

    /// Fetches a nonce, or takes the last one while it is good; `None`: the server has none.
    async fn nonce(&self) -> Result<Option<CachedNonce>, ApiError> {
        let now = clock::monotonic();
        let cached = *self.nonce.lock().unwrap_or_else(PoisonError::into_inner);
        match cached {
            Nonces::Fetched(cached) if now.duration_since(cached.fetched) < NONCE_REUSE => {
                return Ok(Some(cached));
            }
            Nonces::NotOffered => return Ok(None),
            Nonces::Fetched(_) | Nonces::Unasked => {}
        }
        let path = path::DEVICE_NONCE;
        let answer = match self.send(path, Call::Device, &Empty {}, HeaderMap::new()).await {
            Ok(answer) => self.parse::<NonceResponse>(&answer)?,
            Err(ApiError::NotOffered { .. }) => {
                self.remember(Nonces::NotOffered);
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let malformed = |_| ApiError::Unsayable("the server's nonce is malformed");
        let fresh = CachedNonce {
            nonce: answer.nonce.parse().map_err(malformed)?,
            proof_pubkey: answer
                .proof_pubkey
                .parse()
                .map_err(|_| ApiError::Unsayable("the server's proof key is malformed"))?,
            fetched: now,
        };
        self.remember(Nonces::Fetched(fresh));
        Ok(Some(fresh))
    }

    fn remember(&self, nonces: Nonces) {
        *self.nonce.lock().unwrap_or_else(PoisonError::into_inner) = nonces;
    }

    fn parse<A: DeserializeOwned>(&self, answer: &Answer) -> Result<A, ApiError> {
        serde_json::from_slice(&answer.body)
            .map_err(|source| ApiError::Answer { server: self.server(), source })
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api").field("server", &self.server()).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Empty {}

fn encode(body: &impl Serialize) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    // Sized so that no half-grown copy of a secret stays behind in freed memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(4 << 10));
    serde_json::to_writer(&mut *bytes, body)
        .map_err(|_| ApiError::Unsayable("a body has no JSON"))?;
    Ok(bytes)
}

/// Puts together what the `Cookie` header of later requests says.
fn cookie(headers: &HeaderMap) -> Option<SecretText> {
    let pairs: Vec<_> = headers
        .get_all(SET_COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok()?.split(';').next())
        .map(str::trim)
        .collect();
    (!pairs.is_empty()).then(|| SecretText::new(pairs.join("; ")))
}
