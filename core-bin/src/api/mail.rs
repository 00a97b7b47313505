//! Mail.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::body::Body;
use super::operation::{Api, Operation};
use super::problem::Problem;
use crate::app::App;
use crate::flows::api_token::Scope::MailWrite;
use crate::mail::{NOT_SET_UP, test_mail};

pub(super) fn add(api: &mut Api) {
    let show = Operation::get("/mail", "getMail", MailWrite).says("Tell whether mail is set up.");
    api.add(show.answers::<Settings>(StatusCode::OK), show_mail);
    let test = Operation::post("/mail/test", "testMail", MailWrite)
        .says("Send a test mail now, and say what the mail server said.");
    api.add(test.takes::<Recipient>().answers::<Sent>(StatusCode::OK), send_test);
}

/// Whether mail is set up.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Mail)]
struct Settings {
    /// Whether there is a mail server, and so the e-mail method.
    set_up: bool,
    /// Why not.
    reason: Option<&'static str>,
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

async fn show_mail(State(app): State<Arc<App>>) -> Json<Settings> {
    let set_up = app.mailer.is_on();
    Json(Settings { set_up, reason: (!set_up).then_some(NOT_SET_UP) })
}

async fn send_test(
    State(app): State<Arc<App>>,
    Body(body): Body<Recipient>,
) -> Result<Json<Sent>, Problem> {
    let to = body.address.parse().map_err(|_| Problem::bad("this is no e-mail address"))?;
    let transport = app.mailer.transport().ok_or_else(|| Problem::conflict(NOT_SET_UP))?;
    let mail = test_mail(to, &app.site.name, app.clock.now());
    let refused = |error| {
        Problem::new(
            StatusCode::BAD_GATEWAY,
            "mail_refused",
            format!("the mail was not sent: {error}"),
        )
    };
    transport.send(&mail).await.map_err(refused)?;
    Ok(Json(Sent { sent: body.address, protection: transport.protection() }))
}
