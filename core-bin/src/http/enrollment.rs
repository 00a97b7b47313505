//! `enrollment/…`: a session by cookie, begun with an administrator's token.

use core::time::Duration;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::SET_COOKIE;
use axum::response::{IntoResponse, Response};
use mfa_wire::http::{self as wire, ENROLLMENT_COOKIE, SecretText};

use super::device::{codes, known};
use super::problem::Refusal;
use super::request::{Call, Enrolling};
use crate::app::App;
use crate::flows::device_config;
use crate::flows::enroll::{self, Begun};
use crate::flows::mfa::{self, Holder, Staged};

pub(super) async fn start(
    State(app): State<Arc<App>>,
    call: Call<wire::EnrollmentStartRequest>,
) -> Result<Response, Refusal> {
    let begun = enroll::start(&app, call.body.token.expose_secret()).await?;
    let life = begun.deadline.since(app.clock.now());
    let cookie = set_cookie(&app, begun.session.expose_text().as_str(), life)?;
    let body = Json(describe(&app, &begun));
    Ok(([(SET_COOKIE, cookie)], body).into_response())
}

pub(super) async fn activate_user(
    State(app): State<Arc<App>>,
    session: Enrolling,
    call: Call<wire::ActivateUserRequest>,
) -> Result<Response, Refusal> {
    let wire::ActivateUserRequest { phone_number, password } = call.body;
    enroll::activate_user(&app, session.0, phone_number, password).await?;
    let cookie = set_cookie(&app, "", Duration::ZERO)?;
    Ok(([(SET_COOKIE, cookie)], Json(serde_json::json!({}))).into_response())
}

pub(super) async fn create_device(
    State(app): State<Arc<App>>,
    session: Enrolling,
    call: Call<wire::CreateDeviceRequest>,
) -> Result<Json<wire::DeviceConfigResponse>, Refusal> {
    let wire::CreateDeviceRequest { name, pubkey } = call.body;
    let source = call.caller.source;
    Ok(Json(enroll::create_device(&app, session.0, &name, &pubkey, source).await?))
}

pub(super) async fn network_info(
    State(app): State<Arc<App>>,
    session: Enrolling,
    call: Call<wire::NetworkInfoRequest>,
) -> Result<Json<wire::DeviceConfigResponse>, Refusal> {
    Ok(Json(enroll::network_info(&app, session.0, &call.body.pubkey).await?))
}

pub(super) async fn mfa_start(
    State(app): State<Arc<App>>,
    session: Enrolling,
    call: Call<wire::RegisterMfaStartRequest>,
) -> Result<Json<wire::RegisterMfaStartResponse>, Refusal> {
    let holder = Holder::Enrollment(session.0);
    let mut answer =
        wire::RegisterMfaStartResponse { totp_secret: None, otpauth_uri: None, sent_to: None };
    match mfa::start(&app, holder, known(call.body.method)?, None).await? {
        Staged::Totp { base32, uri } => {
            answer.totp_secret = Some(SecretText::new(base32.as_str()));
            answer.otpauth_uri = Some(SecretText::new(uri.as_str()));
        }
        Staged::Email { sent_to } | Staged::CurrentCodeSent { sent_to } => {
            answer.sent_to = Some(sent_to);
        }
    }
    Ok(Json(answer))
}

pub(super) async fn mfa_finish(
    State(app): State<Arc<App>>,
    session: Enrolling,
    call: Call<wire::RegisterMfaFinishRequest>,
) -> Result<Json<wire::RecoveryCodes>, Refusal> {
    let wire::RegisterMfaFinishRequest { code, method } = call.body;
    let holder = Holder::Enrollment(session.0);
    let sheet = mfa::finish(&app, holder, known(method)?, code).await?;
    Ok(Json(codes(&sheet)))
}

fn describe(app: &App, begun: &Begun) -> wire::EnrollmentStartResponse {
    let details = &begun.user.details;
    let (first_name, last_name) = details.name.split_once(' ').unwrap_or((&details.name, ""));
    wire::EnrollmentStartResponse {
        admin: wire::AdminInfo {
            name: app.site.name.clone(),
            phone_number: None,
            email: app.site.contact.clone(),
        },
        user: wire::EnrollmentUser {
            first_name: first_name.to_owned(),
            last_name: last_name.to_owned(),
            login: details.login.clone(),
            email: details.email.clone(),
            phone_number: (!details.phone.is_empty()).then(|| details.phone.clone()),
            is_active: begun.user.active,
            device_names: begun.devices.iter().map(|device| device.name.clone()).collect(),
            enrolled: !begun.devices.is_empty() || begun.user.has_password,
            is_admin: details.admin,
        },
        deadline_timestamp: i64::try_from(begun.deadline.as_unix_secs()).unwrap_or(i64::MAX),
        final_page_content: "This device is enrolled. Connect to a location to go on.".to_owned(),
        vpn_setup_optional: false,
        instance: device_config::instance(&app.site, &begun.user),
        settings: wire::EnrollmentSettings {
            smtp_configured: app.mailer.is_on(),
            ..wire::EnrollmentSettings::default()
        },
    }
}

/// The name comes first, since clients in use look at how the header begins.
fn set_cookie(app: &App, value: &str, life: Duration) -> Result<HeaderValue, Refusal> {
    let secure = if app.site.url.scheme() == "https" { "; Secure" } else { "" };
    let life = life.as_secs();
    let text = format!(
        "{ENROLLMENT_COOKIE}={value}; Path=/; Max-Age={life}; HttpOnly; SameSite=Strict{secure}"
    );
    let mut cookie = HeaderValue::try_from(text).map_err(|error| Refusal::internal(&error))?;
    cookie.set_sensitive(true);
    Ok(cookie)
}
