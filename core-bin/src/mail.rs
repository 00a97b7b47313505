//! Mail: codes and notices, through somebody's SMTP server.
//!
//! A flow reserves a place in the queue before it commits and hands the mail over after it, so a
//! full queue refuses a request before anything has happened, and no request waits for SMTP. One
//! task empties the queue; what it cannot deliver within some tries it logs, without the text.

mod message;
mod transport;

use core::fmt;
use core::time::Duration;
use std::sync::{Arc, PoisonError, RwLock};

use lettre::message::{Mailbox, MultiPart};
use lettre::{Address, AsyncTransport as _, Message};
use tokio::sync::{Semaphore, mpsc};
use zeroize::Zeroizing;

pub use message::{CodeMail, CodePurpose, notice, test_mail};
pub use transport::{SmtpError, Transport};

/// Mails that may wait. At one a second it is the work of some minutes, and a code is good for ten.
const QUEUE: usize = 256;
/// Mails under way at once.
const CONCURRENT: usize = 4;
/// Waits between tries; a code that comes later than this is of little use.
const PAUSES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(20)];

/// Why mail cannot be sent on this server, in words for everybody.
pub const NOT_SET_UP: &str = "e-mail is not set up on this server (no SMTP)";

/// One mail.
pub struct Mail {
    /// To whom.
    pub to: Address,
    /// What about; never a code.
    pub subject: String,
    /// For reading as text.
    pub text: Zeroizing<String>,
    /// For reading as HTML.
    pub html: Zeroizing<String>,
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail").field("subject", &self.subject).finish_non_exhaustive()
    }
}

/// Why a mail is not taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum MailError {
    /// There is no mail server.
    #[error("{NOT_SET_UP}")]
    NotSetUp,
    /// Too many mails wait.
    #[error("too many mails are waiting to be sent; try again in a minute")]
    Busy,
    /// A value that becomes a header has a line break or another control character.
    #[error("a mail's subject or address contains a control character")]
    ControlCharacter,
}

/// Where flows hand their mails in. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Mailer {
    queue: mpsc::Sender<Mail>,
    route: Arc<Route>,
}

/// How mail leaves. It can change while mails wait.
#[derive(Debug)]
pub struct Route {
    /// As the configuration file says.
    file: Option<Arc<Transport>>,
    /// As an administrator set it, which comes first.
    set: RwLock<Option<Arc<Transport>>>,
    /// Somebody else empties the queue.
    foreign: bool,
}

impl Route {
    fn new(file: Option<Arc<Transport>>, foreign: bool) -> Arc<Self> {
        Arc::new(Self { file, set: RwLock::default(), foreign })
    }

    /// Returns the way to the mail server; `None`: there is none.
    #[must_use]
    pub fn transport(&self) -> Option<Arc<Transport>> {
        let set = self.set.read().unwrap_or_else(PoisonError::into_inner);
        set.as_ref().or(self.file.as_ref()).map(Arc::clone)
    }
}

/// A place in the queue.
#[derive(Debug)]
pub struct Place(mpsc::OwnedPermit<Mail>);

impl Place {
    /// Hands the mail over. Call it after the commit.
    pub fn send(self, mail: Mail) {
        self.0.send(mail);
    }
}

impl Mailer {
    /// Sends nothing: mail is not set up.
    #[must_use]
    pub fn off() -> Self {
        Self { queue: mpsc::channel(1).0, route: Route::new(None, false) }
    }

    /// Starts a queue; who holds the other end delivers.
    #[must_use]
    pub fn queue() -> (Self, mpsc::Receiver<Mail>) {
        let (queue, mails) = mpsc::channel(QUEUE);
        (Self { queue, route: Route::new(None, true) }, mails)
    }

    /// Starts a queue for [`deliver`], with the way that the configuration file names.
    #[must_use]
    pub fn through(file: Option<Arc<Transport>>) -> (Self, mpsc::Receiver<Mail>) {
        let (queue, mails) = mpsc::channel(QUEUE);
        (Self { queue, route: Route::new(file, false) }, mails)
    }

    /// Returns the way that [`deliver`] takes.
    #[must_use]
    pub fn route(&self) -> Arc<Route> {
        Arc::clone(&self.route)
    }

    /// Sends mail another way from now on; `None`: as the configuration file says.
    pub fn set(&self, transport: Option<Arc<Transport>>) {
        *self.route.set.write().unwrap_or_else(PoisonError::into_inner) = transport;
    }

    /// Returns the way to the mail server, for a mail whose sender waits for its word.
    #[must_use]
    pub fn transport(&self) -> Option<Arc<Transport>> {
        self.route.transport()
    }

    /// Tells whether mail is sent at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.route.foreign || self.route.transport().is_some()
    }

    /// Takes a place in the queue.
    ///
    /// # Errors
    ///
    /// [`MailError::NotSetUp`] or [`MailError::Busy`].
    pub fn reserve(&self) -> Result<Place, MailError> {
        if !self.is_on() {
            return Err(MailError::NotSetUp);
        }
        self.queue.clone().try_reserve_owned().map(Place).map_err(|_| MailError::Busy)
    }
}

/// Delivers until every [`Mailer`] is gone and the queue is empty.
pub async fn deliver(route: Arc<Route>, mut mails: mpsc::Receiver<Mail>) {
    let slots = Arc::new(Semaphore::new(CONCURRENT));
    while let Some(mail) = mails.recv().await {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let route = Arc::clone(&route);
        tokio::spawn(async move {
            deliver_one(&route, &mail).await;
            drop(slot);
        });
    }
    // The last ones are still under way: all slots free means that they are done.
    let _ = slots.acquire_many(u32::try_from(CONCURRENT).unwrap_or(1)).await;
}

async fn deliver_one(route: &Route, mail: &Mail) {
    for pause in PAUSES.into_iter().map(Some).chain([None]) {
        let Some(transport) = route.transport() else {
            tracing::error!("mail not sent: the mail settings were removed while it waited");
            return;
        };
        let Err(error) = transport.send(mail).await else {
            tracing::info!(subject = %mail.subject, "mail sent");
            return;
        };
        let Some(pause) = pause.filter(|_| error.may_pass()) else {
            tracing::error!(%error, "mail not sent; `core-bin mail test` helps to find out why");
            return;
        };
        tracing::warn!(%error, ?pause, "mail not sent; trying again");
        tokio::time::sleep(pause).await;
    }
}

/// Puts a mail into the form that SMTP carries.
///
/// # Errors
///
/// [`MailError::ControlCharacter`]: nothing with a line break gets near a header.
pub fn compose(from: &Mailbox, mail: &Mail) -> Result<Message, MailError> {
    if mail.subject.chars().any(char::is_control) {
        return Err(MailError::ControlCharacter);
    }
    let body = MultiPart::alternative_plain_html(mail.text.to_string(), mail.html.to_string());
    Message::builder()
        .from(from.clone())
        .to(Mailbox::new(None, mail.to.clone()))
        .subject(mail.subject.as_str())
        .header(AutoSubmitted)
        .message_id(None)
        .multipart(body)
        .map_err(|_| MailError::ControlCharacter)
}

/// RFC 3834: keeps out-of-office answers away.
#[derive(Clone)]
struct AutoSubmitted;

impl lettre::message::header::Header for AutoSubmitted {
    fn name() -> lettre::message::header::HeaderName {
        lettre::message::header::HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn core::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> lettre::message::header::HeaderValue {
        lettre::message::header::HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

impl Transport {
    /// Sends one mail, in one try.
    ///
    /// # Errors
    ///
    /// [`SmtpError`], with what the server said.
    pub async fn send(&self, mail: &Mail) -> Result<(), SmtpError> {
        let message = compose(self.from(), mail)?;
        self.smtp().send(message).await.map(drop).map_err(SmtpError::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail(subject: &str) -> Mail {
        Mail {
            to: "ada@example.com".parse().unwrap(),
            subject: subject.to_owned(),
            text: Zeroizing::new("code 12345678".to_owned()),
            html: Zeroizing::new("<p>code 12345678</p>".to_owned()),
        }
    }

    #[test]
    fn a_mail_has_both_forms_and_says_that_a_machine_sent_it() {
        let from: Mailbox = "VPN <vpn@example.com>".parse().unwrap();
        let text = String::from_utf8(compose(&from, &mail("Code")).unwrap().formatted()).unwrap();
        for part in ["text/plain", "text/html", "Auto-Submitted: auto-generated", "Message-ID: <"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn nothing_with_a_line_break_gets_near_a_header() {
        let from: Mailbox = "VPN <vpn@example.com>".parse().unwrap();
        for subject in ["a\r\nBcc: x@y", "a\nb", "a\0b"] {
            assert_eq!(
                compose(&from, &mail(subject)).unwrap_err(),
                MailError::ControlCharacter,
                "{subject:?}"
            );
        }
        for address in ["a@b\r\nBcc: x@y", "a\n@b.c", "a@b.c\0"] {
            assert!(address.parse::<Address>().is_err(), "{address:?}");
        }
    }

    #[test]
    fn a_full_queue_refuses_before_anything_happens() {
        let (mailer, _mails) = Mailer::queue();
        let places: Vec<Place> = (0..QUEUE).map(|_| mailer.reserve().unwrap()).collect();
        assert_eq!(mailer.reserve().unwrap_err(), MailError::Busy);
        drop(places);
        assert!(mailer.reserve().is_ok());
    }

    #[test]
    fn without_smtp_nothing_is_taken() {
        assert_eq!(Mailer::off().reserve().unwrap_err(), MailError::NotSetUp);
    }

    #[test]
    fn debug_shows_no_text() {
        assert!(!format!("{:?}", mail("Code")).contains("12345678"));
    }
}
