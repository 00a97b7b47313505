//! The first half of a connect: what is stale is told, the factor proven, the pre-shared key bought.
//!
//! What comes out is a [`Plan`]. The second half, [`Client::live`](Client::live), brings the
//! interface up and stays with it, in this process or in one in the background.

use core::time::Duration;
use std::time::{SystemTime, UNIX_EPOCH};

use mfa_wire::http::{
    Code, FinishRequest, FinishResponse, Method, MethodStatus, MfaList, RenewRequest, SecretText,
    SessionInfo, StartRequest, StartResponse,
};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use crate::api::{Api, ApiError, Refusal};
use crate::client::{Client, io_error};
use crate::clock;
use crate::code::{Asked, CodeFrom};
use crate::control::{self, Ask};
use crate::error::{ClientError, problem_name};
use crate::event::Event;
use crate::host::Backend;
use crate::life::age;
use crate::location::{Location, Mfa};
use crate::person::Person;
use crate::state::Instance;
use crate::tunnel::{TunnelError, Wanted};
use crate::update::Update;

/// How long an old connection may take to be gone after it was asked.
const ENDING: Duration = Duration::from_secs(10);

/// What to connect to, and how.
#[derive(Clone, Debug)]
pub struct ConnectRequest {
    /// The location's name or number.
    pub location: String,
    /// The instance's name; `None`: the only one that has the location.
    pub instance: Option<String>,
    /// `None`: the only method that opens the location, or the one chosen by the person.
    pub method: Option<Method>,
    /// Where the code comes from.
    pub code: CodeFrom,
    /// The interface's name; `None`: after the location.
    pub interface: Option<String>,
    /// Where packets are to be encrypted.
    pub backend: Backend,
    /// Set the location's name servers.
    pub dns: bool,
    /// Do an Instance Update where one is due, without asking.
    pub update: bool,
}

impl ConnectRequest {
    /// A request for a location that leaves the rest to be asked or found out.
    #[must_use]
    pub fn to(location: impl Into<String>) -> Self {
        Self {
            location: location.into(),
            instance: None,
            method: None,
            code: CodeFrom::Person,
            interface: None,
            backend: Backend::Auto,
            dns: true,
            update: false,
        }
    }
}

/// What a connection needs: the factor's price, and what to bring up.
///
/// It goes to another process through a pipe at most, never to a disk.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// The server's id.
    pub instance: String,
    /// The location's number.
    pub location: i64,
    /// The interface's name.
    pub interface: String,
    /// Where packets are to be encrypted.
    pub backend: Backend,
    /// Set the location's name servers.
    pub dns: bool,
    /// The session's pre-shared key; `None`: the location needs none.
    pub preshared_key: Option<SecretText>,
    /// The session; `None`: the location needs none, or the server does not tell.
    pub session: Option<SessionInfo>,
    /// When the code was submitted, or the command began; Unix milliseconds.
    pub began_millis: u64,
}

impl Plan {
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted { interface: self.interface.clone(), backend: self.backend, dns: self.dns }
    }

    pub(crate) fn began(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.began_millis)
    }
}

type Tell<'a> = &'a mut (dyn FnMut(Event) + Send);

impl Client {
    /// Does all of a connect that needs a person or the server.
    ///
    /// Nothing changes on the machine yet.
    ///
    /// # Errors
    ///
    /// [`ClientError`]: any kind but those of the interface's making.
    pub async fn prepare(
        &self,
        request: &ConnectRequest,
        person: &mut dyn Person,
        tell: Tell<'_>,
    ) -> Result<Plan, ClientError> {
        let began = clock::wall();
        let (instance, location) = self.location(request.instance.as_deref(), &request.location)?;
        let api = self.api(&instance)?;
        let (instance, location) =
            self.up_to_date(&api, instance, location, request, person, tell).await?;
        let interface =
            request.interface.clone().unwrap_or_else(|| location.interface(&instance.locations));
        self.make_way(&api, &instance, &location).await?;
        self.check_machine(&instance, &location, &interface)?;
        let mut plan = Plan {
            instance: instance.id.clone(),
            location: location.id,
            interface,
            backend: request.backend,
            dns: request.dns,
            preshared_key: None,
            session: None,
            began_millis: millis(began),
        };
        match location.mfa {
            Mfa::Off => {}
            Mfa::External => return Err(ClientError::External(location.name)),
            Mfa::Required => {
                let login = Login { api: &api, instance: &instance, location: &location, request };
                let (bought, submitted) = login.prove(person, tell).await?;
                tell(Event::Authenticated { session: bought.session });
                plan.preshared_key = Some(bought.preshared_key);
                plan.session = bought.session;
                plan.began_millis = millis(submitted);
            }
        }
        Ok(plan)
    }

    /// Compares with the server's configuration of today. A stale one is never used silently.
    async fn up_to_date(
        &self,
        api: &Api,
        instance: Instance,
        location: Location,
        request: &ConnectRequest,
        person: &mut dyn Person,
        tell: Tell<'_>,
    ) -> Result<(Instance, Location), ClientError> {
        let update = match Update::fetch(api, &instance).await {
            Ok(update) => update,
            // Without a factor the tunnel needs no server, only its gateway.
            Err(error @ (ApiError::Unreachable(_) | ApiError::NotOffered { .. }))
                if !location.mfa.required() =>
            {
                tell(Event::UpdateSkipped { message: error.to_string() });
                return Ok((instance, location));
            }
            // Not every server of this API gives a polling token.
            Err(ApiError::NotOffered { .. }) => return Ok((instance, location)),
            Err(error) => return Err(error.into()),
        };
        let changes = update.against(&instance);
        let today = update.locations.iter().find(|today| today.id == location.id);
        let ours = today != Some(&location);
        if ours && !request.update {
            let question = format!(
                "The configuration has changed at the server: {}. Update and connect?",
                changes.join("; ")
            );
            let agreed =
                person.is_there() && person.yes(&question).map_err(io_error("cannot ask"))?;
            if !agreed {
                return Err(ClientError::Stale { location: location.name, changes });
            }
        }
        if !changes.is_empty() || update.version != instance.config_version {
            update.store(&self.store, &instance.id)?;
        }
        if !changes.is_empty() {
            tell(Event::Updated { changes });
        }
        self.location_by_id(&instance.id, location.id)
    }

    /// Ends a connection that lives on here while its session is over at the server. One that is
    /// in use stays: who wants another says so.
    async fn make_way(
        &self,
        api: &Api,
        instance: &Instance,
        location: &Location,
    ) -> Result<(), ClientError> {
        let running = self.running();
        let claim = running
            .claim(&instance.id, location.id)
            .map_err(io_error("cannot write to the client's folder"))?;
        if claim.is_some() {
            return Ok(());
        }
        let in_use = || ClientError::AlreadyConnected(location.name.clone());
        let status = api.status(&instance.private_key).await?;
        let here = status.locations.iter().find(|here| here.location_id == location.id);
        if !here.is_some_and(|here| here.mfa_required && here.session.is_none()) {
            return Err(in_use());
        }
        let socket = running.socket(&instance.id, location.id);
        // No answer: it learned by itself that its session is over, and ends in this very moment.
        let answer = control::ask(&socket, Ask::Disconnect).await;
        answer.map_err(io_error("cannot end the old connection"))?;
        let freed = running.freed(&instance.id, location.id, ENDING).await;
        if freed.map_err(io_error("cannot write to the client's folder"))? {
            Ok(())
        } else {
            Err(in_use())
        }
    }

    /// Finds out before a code is spent what would fail after it.
    fn check_machine(
        &self,
        instance: &Instance,
        location: &Location,
        interface: &str,
    ) -> Result<(), ClientError> {
        self.host.may_create().map_err(TunnelError::from)?;
        let running = self.running();
        let left = running.record(&instance.id, location.id);
        let ours = left.is_some_and(|record| record.interface == interface);
        if self.host.exists(interface) && !ours {
            return Err(TunnelError::Taken(interface.to_owned()).into());
        }
        Ok(())
    }
}

impl Client {
    /// Extends the live session at a location by a fresh factor. The tunnel is not touched.
    ///
    /// # Errors
    ///
    /// [`ClientError`]; [`ClientError::NotConnected`] if there is no session to extend.
    pub async fn renew(
        &self,
        request: &ConnectRequest,
        person: &mut dyn Person,
        tell: Tell<'_>,
    ) -> Result<SessionInfo, ClientError> {
        let (instance, location) = self.location(request.instance.as_deref(), &request.location)?;
        let api = self.api(&instance)?;
        let status = api.status(&instance.private_key).await?;
        let here = status.locations.iter().find(|here| here.location_id == location.id);
        let session = here.and_then(|here| here.session);
        let session = session.ok_or_else(|| ClientError::NotConnected(location.name.clone()))?;
        let login = Login { api: &api, instance: &instance, location: &location, request };
        login.extend(&session, person, tell).await
    }
}

/// A challenge that waits for its code.
struct Challenge {
    method: Method,
    token: SecretText,
    sent_to: Option<String>,
}

/// One proof of a factor for one location.
struct Login<'a> {
    api: &'a Api,
    instance: &'a Instance,
    location: &'a Location,
    request: &'a ConnectRequest,
}

impl Login<'_> {
    /// Returns what the code bought, and when it was submitted.
    async fn prove(
        &self,
        person: &mut dyn Person,
        tell: Tell<'_>,
    ) -> Result<(FinishResponse, SystemTime), ClientError> {
        let challenge = self.start(person, tell).await?;
        let mut tries = 0;
        loop {
            let code = self.code(&challenge, person).await?;
            tries += 1;
            let submitted = clock::wall();
            let finish = FinishRequest { token: challenge.token.clone(), code: Some(code) };
            match self.api.finish(&self.instance.private_key, &finish).await {
                Ok(bought) => return Ok((bought, submitted)),
                Err(error) => self.once_more(error, tries, person, tell).await?,
            }
        }
    }

    /// Returns the session, extended.
    async fn extend(
        &self,
        session: &SessionInfo,
        person: &mut dyn Person,
        tell: Tell<'_>,
    ) -> Result<SessionInfo, ClientError> {
        let challenge = self.start(person, tell).await?;
        let mut tries = 0;
        loop {
            let code = self.code(&challenge, person).await?;
            tries += 1;
            let token = challenge.token.clone();
            let renew = RenewRequest { session_id: session.id, token, code };
            match self.api.renew(&self.instance.private_key, &renew).await {
                Ok(answer) => return Ok(answer.session),
                Err(error) => self.once_more(error, tries, person, tell).await?,
            }
        }
    }

    /// Asks for a challenge.
    async fn start(
        &self,
        person: &mut dyn Person,
        tell: Tell<'_>,
    ) -> Result<Challenge, ClientError> {
        let key = &self.instance.private_key;
        let method = match self.request.method {
            Some(method) => method,
            None => self.choose(person).await?,
        };
        let start = StartRequest {
            location_id: self.location.id,
            pubkey: key.public_key().to_string(),
            method,
            config_version: self.instance.config_version.clone(),
        };
        let StartResponse { token, sent_to, .. } = self.api.start(key, &start).await?;
        tell(Event::Challenge { method: method.word().to_owned(), sent_to: sent_to.clone() });
        Ok(Challenge { method, token, sent_to })
    }

    async fn code(
        &self,
        challenge: &Challenge,
        person: &mut dyn Person,
    ) -> Result<Code, ClientError> {
        let asked = Asked {
            method: challenge.method,
            sent_to: challenge.sent_to.as_deref(),
            purpose: &self.location.name,
            secret: None,
        };
        Ok(self.request.code.get(person, &asked).await?)
    }

    /// Waits until it is worth trying again; the error, if it is not.
    async fn once_more(
        &self,
        error: ApiError,
        tries: u32,
        person: &mut dyn Person,
        tell: Tell<'_>,
    ) -> Result<(), ClientError> {
        match error {
            ApiError::Refused(refusal) if self.request.code.may_retry(&refusal, tries, person) => {
                self.refused(refusal, tell).await;
                Ok(())
            }
            error => Err(error.into()),
        }
    }

    /// Finds the method where none was asked for.
    async fn choose(&self, person: &mut dyn Person) -> Result<Method, ClientError> {
        let possible = match self.api.mfa(&self.instance.private_key).await {
            Ok(list) => self.possible(&list)?,
            // Another server: it will say if the method does not fit.
            Err(ApiError::NotOffered { .. }) => vec![Method::Totp, Method::Email],
            Err(error) => return Err(error.into()),
        };
        let first = *possible.first().unwrap_or(&Method::Totp);
        if possible.len() < 2 || !person.is_there() {
            return Ok(first);
        }
        let names: Vec<_> = possible.iter().map(|method| describe(*method).to_owned()).collect();
        let question = format!("{} asks for a code. By which method?", self.location.name);
        let chosen = person.choose(&question, &names).map_err(io_error("cannot ask"))?;
        Ok(possible.get(chosen).copied().unwrap_or(first))
    }

    /// The methods that open the location, TOTP first.
    fn possible(&self, list: &MfaList) -> Result<Vec<Method>, ClientError> {
        let (mut possible, mut reasons) = (Vec::new(), Vec::new());
        for status in &list.methods {
            match (obstacle(status, self.location.id), status.method) {
                (None, method @ (Method::Totp | Method::Email)) => possible.push(method),
                (None, _) => {}
                (Some(why), method) => reasons.push(format!("{method}: {why}")),
            }
        }
        possible.sort();
        if possible.is_empty() {
            let location = self.location.name.clone();
            return Err(ClientError::NoMethod { location, reasons: reasons.join("; ") });
        }
        Ok(possible)
    }

    async fn refused(&self, refusal: Refusal, tell: Tell<'_>) {
        let code = problem_name(refusal.problem);
        let (wait, message) = self.request.code.pause(&refusal, clock::wall());
        tell(Event::CodeRefused { code, message });
        sleep(wait).await;
    }
}

/// Why a method does not open a location; `None`: it does.
pub(crate) fn obstacle(status: &MethodStatus, location: i64) -> Option<String> {
    if let Some(why) = &status.unavailable {
        return Some(why.clone());
    }
    if !status.set_up {
        return Some("not set up".to_owned());
    }
    let here = status.locations.iter().find(|at| at.location_id == location)?;
    here.refused.clone()
}

/// A method as people know it.
pub(crate) const fn describe(method: Method) -> &'static str {
    match method {
        Method::Totp => "authenticator app (totp)",
        Method::Email => "e-mail (email)",
        Method::Oidc => "browser (oidc)",
        Method::Biometric => "phone's fingerprint (biometric)",
        Method::MobileApprove => "mobile app (mobile-approve)",
    }
}

fn millis(time: SystemTime) -> u64 {
    u64::try_from(age(time, UNIX_EPOCH).as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mfa_wire::http::MethodAtLocation;

    fn status(method: Method, set_up: bool, refused: Option<&str>) -> MethodStatus {
        MethodStatus {
            method,
            set_up,
            unavailable: None,
            sent_to: None,
            locations: vec![MethodAtLocation {
                location_id: 1,
                name: "office".to_owned(),
                refused: refused.map(str::to_owned),
            }],
        }
    }

    #[test]
    fn a_method_opens_a_location_unless_something_is_in_its_way() {
        assert_eq!(obstacle(&status(Method::Totp, true, None), 1), None);
        assert_eq!(obstacle(&status(Method::Totp, true, None), 2), None);
        assert_eq!(obstacle(&status(Method::Totp, false, None), 1).unwrap(), "not set up");
        assert_eq!(
            obstacle(&status(Method::Email, true, Some("forbidden")), 1).unwrap(),
            "forbidden"
        );
        let mut off = status(Method::Email, true, None);
        off.unavailable = Some("no SMTP server is configured".to_owned());
        assert_eq!(obstacle(&off, 1).unwrap(), "no SMTP server is configured");
    }

    #[test]
    fn a_plan_shows_no_key() {
        let plan = Plan {
            instance: "acme".to_owned(),
            location: 1,
            interface: "wg-office".to_owned(),
            backend: Backend::Auto,
            dns: true,
            preshared_key: Some(SecretText::new("c2VjcmV0")),
            session: None,
            began_millis: 0,
        };
        assert!(!format!("{plan:?}").contains("c2VjcmV0"));
    }
}
