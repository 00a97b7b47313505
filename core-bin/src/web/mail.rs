//! Mail settings, and a mail to try them.

use std::sync::Arc;

use axum::Form;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use mfa_store::{MailSettings, MailTls};
use mfa_wire::http::SecretText;
use serde::Deserialize;

use super::fault::Fault;
use super::login::sentence;
use super::page::Frame;
use super::signed::Admin;
use super::ui::{self, Block, Field, Form as Fields, Kind};
use crate::app::App;
use crate::flows::mail::{self as flow, MailChange, SetMailError, TestMailError};

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Asked {
    done: String,
}

/// What protects the way, in words.
const TLS: [(MailTls, &str); 3] = [
    (MailTls::StartTls, "STARTTLS, required (usually port 587)"),
    (MailTls::Implicit, "TLS from the start (usually port 465)"),
    (MailTls::None, "None: only for a server on this host"),
];

fn words(tls: MailTls) -> &'static str {
    TLS.iter().find(|(one, _)| *one == tls).map_or("", |(_, words)| words)
}

/// The form as it is filled in.
#[derive(Clone, Deserialize)]
pub(super) struct Filled {
    host: String,
    port: String,
    tls: String,
    #[serde(default)]
    login: String,
    password: SecretText,
    sender: String,
}

impl Filled {
    fn of(settings: Option<&MailSettings>) -> Self {
        let password = SecretText::new("");
        let Some(settings) = settings else {
            return Self {
                host: String::new(),
                port: "587".to_owned(),
                tls: words(MailTls::StartTls).to_owned(),
                login: String::new(),
                password,
                sender: String::new(),
            };
        };
        Self {
            host: settings.host.clone(),
            port: settings.port.to_string(),
            tls: words(settings.tls).to_owned(),
            login: settings.login.clone(),
            password,
            sender: settings.sender.clone(),
        }
    }

    fn change(&self) -> Result<MailChange, String> {
        let port = self.port.trim().parse();
        let tls = TLS.iter().find(|(_, words)| *words == self.tls);
        Ok(MailChange {
            host: Some(self.host.clone()),
            port: Some(port.map_err(|_| "The port is a number from 1 to 65535.".to_owned())?),
            tls: Some(tls.ok_or_else(|| "Choose what protects the way.".to_owned())?.0),
            login: Some(self.login.clone()),
            password: Some(self.password.clone()),
            sender: Some(self.sender.clone()),
        })
    }
}

pub(super) async fn show(
    State(app): State<Arc<App>>,
    admin: Admin,
    Query(asked): Query<Asked>,
) -> Result<Response, Fault> {
    page(&app, &admin, &asked.done, None, None).await
}

async fn page(
    app: &Arc<App>,
    admin: &Admin,
    done: &str,
    filled: Option<Filled>,
    notice: Option<(&'static str, String)>,
) -> Result<Response, Fault> {
    let settings = flow::show(app).await?;
    let bad = notice.as_ref().is_some_and(|(kind, _)| *kind == "bad");
    let mut blocks = Vec::new();
    if let Some((kind, words)) = notice {
        blocks.push(Block::Notice(kind, words));
    }
    let (kind, state) = match (&settings, app.mailer.is_on()) {
        (Some(_), _) => ("good", "Mail leaves as set here: e-mail codes and notices are sent."),
        (None, true) => (
            "good",
            "Mail leaves as core.toml says: e-mail codes and notices are sent. What is saved here \
             comes before it.",
        ),
        (None, false) => (
            "note",
            "E-mail is not set up on this server (no SMTP). E-mail codes are not offered, no \
             password can be reset by mail, and no notice of a change reaches anybody.",
        ),
    };
    blocks.push(Block::Notice(kind, state.to_owned()));
    let test = app.mailer.is_on().then(|| send_test(&admin.0.user.details.email));
    if !admin.is_fresh() {
        blocks.extend(settings.as_ref().map(|settings| Block::Facts(facts(settings))));
        blocks.extend(test);
        let why = "Whoever sets the mail server can read the codes that it sends.";
        blocks.extend(ui::prove("/mail", why));
        return Ok(answer(app, admin, done, blocks, bad));
    }
    let set = settings.is_some();
    let filled = filled.unwrap_or_else(|| Filled::of(settings.as_ref()));
    let mut password = Field::text("password", "Password", "").of(Kind::Password);
    password.autocomplete = "new-password";
    let kept = settings.as_ref().is_some_and(|settings| settings.password.is_some());
    let hint = if kept {
        "Kept, sealed. Leave it empty to keep it; another server needs it again."
    } else {
        "It is sealed under core's master key, and never shown."
    };
    blocks.push(Block::Form(Fields {
        title: "Mail server",
        hint: "In force at once, without a restart.".to_owned(),
        action: "/mail".to_owned(),
        fields: vec![
            Field::text("host", "SMTP server", &filled.host).required(),
            Field::choice(
                "tls",
                "Protection",
                TLS.iter().map(|(_, words)| (*words).to_owned()).collect(),
                &filled.tls,
            ),
            Field::text("port", "Port", &filled.port).of(Kind::Number).required(),
            Field::text("login", "User", &filled.login).hint("Empty: the server asks for none."),
            password.hint(hint),
            Field::text("sender", "Sender", &filled.sender)
                .required()
                .hint("An address, or as in: VPN <vpn@example.com>"),
        ],
        button: "Save changes",
        ..Fields::default()
    }));
    blocks.extend(test);
    if set {
        blocks.push(Block::Form(Fields {
            title: "Remove these settings",
            hint: "Mail then leaves as core.toml says; if it says nothing, no mail leaves and \
                   e-mail codes are not offered."
                .to_owned(),
            action: "/mail/remove".to_owned(),
            fields: vec![Field::consent("Remove the mail settings".to_owned())],
            button: "Remove",
            danger: true,
            ..Fields::default()
        }));
    }
    Ok(answer(app, admin, done, blocks, bad))
}

fn send_test(to: &str) -> Block {
    Block::Form(Fields {
        title: "Send test mail",
        hint: "It says that codes will arrive there. What the mail server says is shown here."
            .to_owned(),
        action: "/mail/test".to_owned(),
        fields: vec![Field::text("to", "Address", to).of(Kind::Email).required()],
        button: "Send test mail",
        ..Fields::default()
    })
}

fn facts(settings: &MailSettings) -> Vec<(&'static str, String)> {
    vec![
        ("SMTP server", settings.host.clone()),
        ("Protection", words(settings.tls).to_owned()),
        ("Port", settings.port.to_string()),
        ("User", settings.login.clone()),
        ("Password", if settings.password.is_some() { "kept, sealed" } else { "none" }.to_owned()),
        ("Sender", settings.sender.clone()),
    ]
}

fn answer(app: &App, admin: &Admin, done: &str, blocks: Vec<Block>, bad: bool) -> Response {
    let mut response = ui::show(Frame::new(app, &admin.0, "mail", done), "Mail", blocks);
    if bad {
        *response.status_mut() = StatusCode::BAD_REQUEST;
    }
    response
}

pub(super) async fn save(
    State(app): State<Arc<App>>,
    admin: Admin,
    Form(filled): Form<Filled>,
) -> Result<Response, Fault> {
    admin.fresh("/mail")?;
    let refused = match filled.change() {
        Ok(change) => match flow::set(&app, admin.by(&app), change).await {
            Ok(()) => return Ok(Redirect::to("/mail?done=saved").into_response()),
            Err(SetMailError::Store(error)) => return Err(error.into()),
            Err(refused) => sentence(&refused),
        },
        Err(words) => words,
    };
    page(&app, &admin, "", Some(filled), Some(("bad", refused))).await
}

#[derive(Deserialize)]
pub(super) struct Sure {
    #[serde(default)]
    sure: String,
}

pub(super) async fn remove(
    State(app): State<Arc<App>>,
    admin: Admin,
    Form(Sure { sure }): Form<Sure>,
) -> Result<Response, Fault> {
    admin.fresh("/mail")?;
    if sure.is_empty() {
        return Err(Fault::bad("Tick the box that says that the mail settings will be removed."));
    }
    flow::unset(&app, admin.by(&app)).await?;
    Ok(Redirect::to("/mail?done=mail-removed").into_response())
}

#[derive(Deserialize)]
pub(super) struct To {
    to: String,
}

pub(super) async fn test(
    State(app): State<Arc<App>>,
    admin: Admin,
    Form(To { to }): Form<To>,
) -> Result<Response, Fault> {
    let notice = match flow::test(&app, admin.by(&app), &to).await {
        Ok(protection) => (
            "good",
            format!(
                "The mail server took the mail to {} ({protection}). If it does not arrive, look \
                 into the mail server's log.",
                to.trim()
            ),
        ),
        Err(TestMailError::Store(error)) => return Err(error.into()),
        Err(refused) => ("bad", sentence(&refused)),
    };
    page(&app, &admin, "", None, Some(notice)).await
}
