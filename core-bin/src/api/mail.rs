//! Mail.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use mfa_store::{MailSettings, MailTls};
use mfa_wire::http::SecretText;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::actor::Caller;
use super::body::Body;
use super::operation::{Api, Operation};
use super::problem::Problem;
use crate::app::App;
use crate::flows::api_token::Scope::MailWrite;
use crate::flows::mail::{self as flow, MailChange, SetMailError, TestMailError};
use crate::mail::NOT_SET_UP;

pub(super) fn add(api: &mut Api) {
    let show = Operation::get("/mail", "getMail", MailWrite)
        .says("Tell whether mail is set up, and how it was set here. The password is never shown.");
    api.add(show.answers::<Settings>(StatusCode::OK), show_mail);
    let set = Operation::patch("/mail", "setMail", MailWrite).says(
        "Set how mail leaves, at once; what is absent stays. Another server needs the password \
         again.",
    );
    api.add(set.takes::<Change>().answers::<Settings>(StatusCode::OK), set_mail);
    let unset = Operation::delete("/mail", "unsetMail", MailWrite)
        .says("Remove what was set; mail leaves as the configuration file says, if it does.");
    api.add(unset, unset_mail);
    let test = Operation::post("/mail/test", "testMail", MailWrite)
        .says("Send a test mail now, and say what the mail server said.");
    api.add(test.takes::<Recipient>().answers::<Sent>(StatusCode::OK), send_test);
}

/// Whether mail is set up, and how.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Mail)]
struct Settings {
    /// Whether there is a mail server, and so the e-mail method.
    set_up: bool,
    /// Why not.
    reason: Option<&'static str>,
    /// How it was set; `null`: as the configuration file says.
    server: Option<Server>,
}

/// A mail server.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = MailServer)]
struct Server {
    /// A host name or an address.
    host: String,
    /// A TCP port.
    port: u16,
    /// `implicit`, `starttls`, or `none`.
    tls: &'static str,
    /// Empty: the server asks for none.
    login: String,
    /// Whether a password is kept.
    has_password: bool,
    /// Who mails come from.
    sender: String,
}

/// What to change.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = SetMail)]
#[serde(deny_unknown_fields)]
struct Change {
    /// A host name or an address.
    host: Option<String>,
    /// A TCP port; absent: 465 or 587 by the protection.
    port: Option<u16>,
    /// `implicit`: TLS from the start; `starttls`: required; `none`: only to this host.
    tls: Option<String>,
    /// Empty: the server asks for none.
    login: Option<String>,
    /// Kept sealed.
    #[schema(value_type = Option<String>, format = Password)]
    password: Option<SecretText>,
    /// An address, or as in `VPN <vpn@example.com>`.
    sender: Option<String>,
}

/// To whom.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[schema(as = TestMail)]
#[serde(deny_unknown_fields)]
struct Recipient {
    /// An address.
    address: String,
}

/// A mail was taken by the server.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = SentMail)]
struct Sent {
    /// To whom.
    sent: String,
    /// What protected it on its way.
    protection: &'static str,
}

async fn shown(app: &Arc<App>) -> Result<Json<Settings>, Problem> {
    let set_up = app.mailer.is_on();
    let server = flow::show(app).await?.map(|settings: MailSettings| Server {
        has_password: settings.password.is_some(),
        host: settings.host,
        port: settings.port,
        tls: settings.tls.code(),
        login: settings.login,
        sender: settings.sender,
    });
    Ok(Json(Settings { set_up, reason: (!set_up).then_some(NOT_SET_UP), server }))
}

async fn show_mail(State(app): State<Arc<App>>) -> Result<Json<Settings>, Problem> {
    shown(&app).await
}

async fn set_mail(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<Change>,
) -> Result<Json<Settings>, Problem> {
    let tls = body.tls.as_deref().map(|code| {
        MailTls::from_code(code)
            .ok_or_else(|| Problem::bad("tls is one of implicit, starttls and none"))
    });
    let change = MailChange {
        host: body.host,
        port: body.port,
        tls: tls.transpose()?,
        login: body.login,
        password: body.password,
        sender: body.sender,
    };
    let by = caller.by(app.clock.now());
    match flow::set(&app, by, change).await {
        Ok(()) => shown(&app).await,
        Err(SetMailError::Store(error)) => Err(error.into()),
        Err(refused) => Err(Problem::bad(refused.to_string())),
    }
}

async fn unset_mail(State(app): State<Arc<App>>, caller: Caller) -> Result<StatusCode, Problem> {
    flow::unset(&app, caller.by(app.clock.now())).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn send_test(
    State(app): State<Arc<App>>,
    caller: Caller,
    Body(body): Body<Recipient>,
) -> Result<Json<Sent>, Problem> {
    let by = caller.by(app.clock.now());
    match flow::test(&app, by, &body.address).await {
        Ok(protection) => Ok(Json(Sent { sent: body.address, protection })),
        Err(TestMailError::Store(error)) => Err(error.into()),
        Err(refused @ TestMailError::Address) => Err(Problem::bad(refused.to_string())),
        Err(TestMailError::Mail(_)) => Err(Problem::conflict(NOT_SET_UP)),
        Err(refused @ TestMailError::Refused(_)) => {
            Err(Problem::new(StatusCode::BAD_GATEWAY, "mail_refused", refused.to_string()))
        }
    }
}
