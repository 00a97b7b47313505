//! What mails say.

use askama::Template;
use lettre::Address;
use mfa_core::time::Timestamp;
use zeroize::Zeroizing;

use super::Mail;
use crate::text::utc;

/// What a code is for.
#[derive(Clone, Debug)]
pub enum CodePurpose {
    /// To connect.
    Connect {
        /// Where to.
        location: String,
    },
    /// To confirm that mail arrives, when e-mail codes are set up.
    SetUp,
    /// To sign in to the pages.
    SignIn,
    /// To allow a change of the user's factors.
    ChangeFactors,
}

impl CodePurpose {
    fn words(&self) -> String {
        match self {
            Self::Connect { location } => format!("to connect to {location}"),
            Self::SetUp => "to set up e-mail codes".to_owned(),
            Self::SignIn => "to sign in".to_owned(),
            Self::ChangeFactors => "to change how you sign in".to_owned(),
        }
    }
}

/// A code on its way to its owner.
#[derive(Debug)]
pub struct CodeMail<'a> {
    /// The installation's name.
    pub instance: &'a str,
    /// What the code is for.
    pub purpose: &'a CodePurpose,
    /// The device that asked; `None`: a browser.
    pub device: Option<&'a str>,
    /// When it asked.
    pub asked: Timestamp,
    /// For how many minutes the code is good.
    pub minutes: u64,
    /// Whom to tell if it was somebody else; may be empty.
    pub contact: &'a str,
}

#[derive(Template)]
#[template(path = "mail_code.txt")]
struct CodeText<'a> {
    code: &'a str,
    words: String,
    when: String,
    mail: &'a CodeMail<'a>,
}

#[derive(Template)]
#[template(path = "mail_code.html")]
struct CodeHtml<'a> {
    code: &'a str,
    words: String,
    when: String,
    mail: &'a CodeMail<'a>,
}

#[derive(Template)]
#[template(path = "mail_notice.txt")]
struct NoticeText<'a> {
    instance: &'a str,
    what: &'a str,
    when: &'a str,
    contact: &'a str,
}

#[derive(Template)]
#[template(path = "mail_notice.html")]
struct NoticeHtml<'a> {
    instance: &'a str,
    what: &'a str,
    when: &'a str,
    contact: &'a str,
}

impl CodeMail<'_> {
    /// Writes the mail.
    #[must_use]
    pub fn write(&self, to: Address, code: &str) -> Mail {
        let (words, when) = (self.purpose.words(), utc(self.asked));
        let text = CodeText { code, words: words.clone(), when: when.clone(), mail: self };
        let html = CodeHtml { code, words, when, mail: self };
        Mail {
            to,
            subject: format!("{}: your code", self.instance),
            text: render(&text),
            html: render(&html),
        }
    }
}

/// Tells a user that something about the account changed.
#[must_use]
pub fn notice(to: Address, instance: &str, what: &str, at: Timestamp, contact: &str) -> Mail {
    let when = &utc(at);
    Mail {
        to,
        subject: format!("{instance}: your account"),
        text: render(&NoticeText { instance, what, when, contact }),
        html: render(&NoticeHtml { instance, what, when, contact }),
    }
}

/// The mail of `core-bin mail test`.
#[must_use]
pub fn test_mail(to: Address, instance: &str, at: Timestamp) -> Mail {
    notice(to, instance, "This is a test mail: codes sent by e-mail will arrive here.", at, "")
}

fn render(template: &impl Template) -> Zeroizing<String> {
    // Rendering into a String fails only if a template says so, and none does.
    Zeroizing::new(template.render().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(device: &str, location: &str) -> Mail {
        let purpose = CodePurpose::Connect { location: location.to_owned() };
        CodeMail {
            instance: "Example",
            purpose: &purpose,
            device: Some(device),
            asked: Timestamp::from_unix_millis(1_700_000_000_000),
            minutes: 10,
            contact: "helpdesk@example.com",
        }
        .write("ada@example.com".parse().unwrap(), "01234567")
    }

    #[test]
    fn a_code_mail_says_what_for_from_where_and_when() {
        let mail = write("laptop", "Paris");
        for text in [&mail.text, &mail.html] {
            for part in
                ["01234567", "laptop", "Paris", "2023-11-14 22:13 UTC", "helpdesk@", "not you?"]
            {
                assert!(text.contains(part), "{part} in {}", **text);
            }
        }
        assert!(!mail.subject.contains("01234567"));
    }

    #[test]
    fn names_cannot_smuggle_html() {
        let mail = write("<a href=\"//evil\">x</a>", "<script>");
        assert!(!mail.html.contains("<a href=\"//evil") && !mail.html.contains("<script>"));
    }
}
