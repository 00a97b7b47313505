//! The user's factors: which there are, and how one is set up.
//!
//! A setup has two steps: it is begun, then confirmed by a first code. Programs may take them in
//! two commands; what is pending between them is remembered, but never the secret.

use mfa_wire::http::{
    Code, CurrentFactor, Method, MethodStatus, MfaFinishRequest, MfaList, MfaStartRequest,
    MfaStartResponse, Problem, RegisterMfaFinishRequest, RegisterMfaStartRequest, SecretText,
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::api::{Api, ApiError};
use crate::client::Client;
use crate::clock;
use crate::code::{Asked, CodeFrom};
use crate::enroll::live_enrollment;
use crate::error::{ClientError, problem_name};
use crate::person::Person;
use crate::state::Instance;

/// Digits of a mailed code, which tell it from an authenticator app's.
const EMAIL_DIGITS: usize = 8;

/// What is to be set up, and how it is proven.
#[derive(Clone, Debug)]
pub struct SetupRequest {
    /// The instance's name; `None`: the only one.
    pub instance: Option<String>,
    /// TOTP or e-mail.
    pub method: Method,
    /// Where the new factor's first code comes from.
    pub code: CodeFrom,
    /// Where a code of a factor that is set up already comes from.
    pub current: CodeFrom,
}

/// A setup that waits for its first code.
#[derive(Clone, Debug, Serialize)]
pub struct Begun {
    /// Which factor.
    pub method: String,
    /// For the authenticator app, base32; absent for e-mail.
    pub secret: Option<SecretText>,
    /// The same as an address, for a QR code.
    pub otpauth: Option<SecretText>,
    /// Where a code was mailed to, masked.
    pub sent_to: Option<String>,
}

/// By which way a setup was begun; it is confirmed by the same.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Door {
    /// The enrollment.
    Enrollment,
    /// A proof of the device's key, with a code of another factor.
    Device,
}

/// What is pending of a setup between two commands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Pending {
    /// Which factor.
    pub method: Method,
    /// How it was begun.
    pub door: Door,
}

/// What happens during a setup, for the one who shows it.
#[derive(Debug)]
pub enum SetupStep<'a> {
    /// The factor waits for its first code.
    Begun(&'a Begun),
    /// A code of a factor that is set up already was mailed.
    CurrentMailed {
        /// Where to, masked.
        to: &'a str,
    },
    /// The code was not taken, and another one is asked for.
    Refused {
        /// The stable name of the refusal.
        code: String,
        /// Why, and what to do.
        message: String,
    },
}

/// Who shows the steps.
pub type Show<'a> = &'a mut (dyn FnMut(SetupStep<'_>) + Send);

impl Client {
    /// Lists the user's factors and where they serve.
    ///
    /// # Errors
    ///
    /// [`ClientError`], as all that ask the server.
    pub async fn factors(&self, instance: &Instance) -> Result<MfaList, ClientError> {
        Ok(self.api(instance)?.mfa(&instance.private_key).await?)
    }

    /// Sets a factor up and confirms it by a first code. Returns the recovery codes, which are
    /// shown this once; none if the user has some from before.
    ///
    /// # Errors
    ///
    /// [`ClientError`]: the method is not offered, nothing allows a setup, the code is wrong, …
    pub async fn set_up(
        &self,
        request: &SetupRequest,
        person: &mut dyn Person,
        show: Show<'_>,
    ) -> Result<Vec<SecretText>, ClientError> {
        let begun = self.begin_setup(request, person, show).await?;
        show(SetupStep::Begun(&begun));
        let asked = Asked {
            method: request.method,
            sent_to: begun.sent_to.as_deref(),
            purpose: "setup",
            secret: begun.secret.as_ref(),
        };
        let mut tries = 0;
        loop {
            let code = request.code.get(person, &asked).await?;
            tries += 1;
            let confirmed =
                self.confirm_setup(request.instance.as_deref(), request.method, code).await;
            match confirmed {
                Err(ClientError::Api(ApiError::Refused(refusal)))
                    if request.code.may_retry(&refusal, tries, person) =>
                {
                    let code = problem_name(refusal.problem);
                    let (wait, message) = request.code.pause(&refusal, clock::wall());
                    show(SetupStep::Refused { code, message });
                    sleep(wait).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Begins a setup: through the enrollment while it is good, else with a code of another factor.
    ///
    /// # Errors
    ///
    /// As [`set_up`](Self::set_up).
    pub async fn begin_setup(
        &self,
        request: &SetupRequest,
        person: &mut dyn Person,
        show: Show<'_>,
    ) -> Result<Begun, ClientError> {
        let instance = self.instance(request.instance.as_deref())?;
        let api = self.api(&instance)?;
        let setup = Setup { api: &api, instance: &instance, request };
        let (door, answer) = match setup.by_enrollment().await? {
            Some(answer) => (Door::Enrollment, answer),
            None => (Door::Device, setup.by_device(person, show).await?),
        };
        let begun = setup.begun(answer)?;
        self.remember(&instance, Some(Pending { method: request.method, door }))?;
        Ok(begun)
    }

    /// Confirms what was begun, also by another command.
    ///
    /// # Errors
    ///
    /// [`ClientError::NothingPending`], and as [`set_up`](Self::set_up).
    pub async fn confirm_setup(
        &self,
        instance: Option<&str>,
        method: Method,
        code: Code,
    ) -> Result<Vec<SecretText>, ClientError> {
        let instance = self.instance(instance)?;
        let pending = instance.pending_setup.filter(|pending| pending.method == method);
        let door = pending.ok_or(ClientError::NothingPending(method))?.door;
        let api = self.api(&instance)?;
        let codes = match (door, live_enrollment(&instance)) {
            (Door::Enrollment, Some(cookie)) => {
                let body = RegisterMfaFinishRequest { code, method };
                api.register_mfa_finish(&cookie, &body).await?
            }
            (Door::Enrollment, None) => {
                return Err(ClientError::Setup(
                    "the enrollment is over. Ask your administrator for a new enrollment token",
                ));
            }
            (Door::Device, _) => {
                let body = MfaFinishRequest { method, code };
                api.mfa_finish(&instance.private_key, &body).await?
            }
        };
        self.remember(&instance, None)?;
        Ok(codes.recovery_codes)
    }

    fn remember(&self, instance: &Instance, pending: Option<Pending>) -> Result<(), ClientError> {
        self.store.change(|state| {
            if let Some(instance) = state.instance_mut(&instance.id) {
                instance.pending_setup = pending;
            }
        })?;
        Ok(())
    }
}

struct Setup<'a> {
    api: &'a Api,
    instance: &'a Instance,
    request: &'a SetupRequest,
}

impl Setup<'_> {
    /// `None`: the enrollment is over, perhaps early, by a password.
    async fn by_enrollment(&self) -> Result<Option<MfaStartResponse>, ClientError> {
        let Some(cookie) = live_enrollment(self.instance) else { return Ok(None) };
        let body = RegisterMfaStartRequest { method: self.request.method };
        match self.api.register_mfa_start(&cookie, &body).await {
            Ok(answer) => Ok(Some(MfaStartResponse {
                current_code_sent_to: None,
                totp_secret: answer.totp_secret,
                otpauth_uri: answer.otpauth_uri,
                sent_to: answer.sent_to,
            })),
            Err(ApiError::Refused(refusal)) if refusal.problem == Problem::EnrollmentInvalid => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn by_device(
        &self,
        person: &mut dyn Person,
        show: Show<'_>,
    ) -> Result<MfaStartResponse, ClientError> {
        let key = &self.instance.private_key;
        let method = self.request.method;
        let list = self.api.mfa(key).await?;
        let mut current = self.current(&list.methods, person).await?;
        loop {
            let body = MfaStartRequest { method, current: current.clone() };
            let answer = self.api.mfa_start(key, &body).await?;
            let Some(to) = &answer.current_code_sent_to else { return Ok(answer) };
            show(SetupStep::CurrentMailed { to });
            let asked = Asked {
                method: Method::Email,
                sent_to: Some(to),
                purpose: "current factor",
                secret: None,
            };
            let code = self.request.current.get(person, &asked).await?;
            current = Some(CurrentFactor { method: Method::Email, code: Some(code) });
        }
    }

    /// Proves a factor that is set up already. E-mail is proven in a second step, unless its code
    /// is here already.
    async fn current(
        &self,
        methods: &[MethodStatus],
        person: &mut dyn Person,
    ) -> Result<Option<CurrentFactor>, ClientError> {
        let has = |method| methods.iter().any(|m| m.method == method && m.set_up);
        let (totp, email) = (has(Method::Totp), has(Method::Email));
        let method = match &self.request.current {
            CodeFrom::Given(code) if email && (!totp || is_mailed(code)) => Method::Email,
            _ if totp => Method::Totp,
            _ if email => {
                return Ok(Some(CurrentFactor { method: Method::Email, code: None }));
            }
            _ => return Ok(None),
        };
        let asked = Asked { method, sent_to: None, purpose: "current factor", secret: None };
        let code = self.request.current.get(person, &asked).await?;
        Ok(Some(CurrentFactor { method, code: Some(code) }))
    }

    fn begun(&self, answer: MfaStartResponse) -> Result<Begun, ClientError> {
        let method = self.request.method.word().to_owned();
        if self.request.method == Method::Email {
            return Ok(Begun { method, secret: None, otpauth: None, sent_to: answer.sent_to });
        }
        let secret = answer.totp_secret.ok_or(ClientError::Setup("the server sent no secret"))?;
        let uri = answer.otpauth_uri.unwrap_or_else(|| otpauth(self.instance, &secret));
        Ok(Begun { method, secret: Some(secret), otpauth: Some(uri), sent_to: None })
    }
}

fn is_mailed(code: &Code) -> bool {
    let text = code.expose_padded(0);
    text.len() == EMAIL_DIGITS && text.chars().all(|c| c.is_ascii_digit())
}

/// Writes the address that authenticator apps read, for servers that do not.
fn otpauth(instance: &Instance, secret: &SecretText) -> SecretText {
    let encode = |text: &str| -> String {
        url::form_urlencoded::byte_serialize(text.as_bytes())
            .map(|part| part.replace('+', "%20"))
            .collect()
    };
    let (issuer, user) = (encode(&instance.name), encode(&instance.user));
    SecretText::new(format!(
        "otpauth://totp/{issuer}:{user}?secret={}&issuer={issuer}",
        secret.expose_secret()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::instance;

    #[test]
    fn an_address_for_apps_is_written_where_the_server_writes_none() {
        let uri = otpauth(&instance("Acme & Co"), &SecretText::new("JBSWY3DP"));
        assert_eq!(
            uri.expose_secret(),
            "otpauth://totp/Acme%20%26%20Co:alice?secret=JBSWY3DP&issuer=Acme%20%26%20Co"
        );
    }
}
