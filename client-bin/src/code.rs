//! Where a code comes from: the command line, a program, a person.

use core::fmt;
use core::pin::Pin;
use core::time::Duration;
use std::io;
use std::process::Stdio;
use std::sync::Arc;
use std::time::SystemTime;

use mfa_wire::http::{Code, Method, Problem, SecretText};
use tokio::io::AsyncReadExt as _;
use tokio::process::Command;
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::api::Refusal;
use crate::life::unix;
use crate::person::Person;

/// For a program to print a code; a mail may have to arrive first.
const PATIENCE: Duration = Duration::from_secs(120);

/// The most bytes that are read of a program.
const MAX_OUTPUT: u64 = 4096;

/// How often a person may mistype.
const TRIES: u32 = 3;

/// A period of TOTP codes, seconds (RFC 6238 §5.2).
const TOTP_PERIOD: u64 = 30;

/// Where a code comes from.
#[derive(Clone)]
pub enum CodeFrom {
    /// It is known already.
    Given(Code),
    /// A shell command prints it.
    Command(String),
    /// A person types it, or another program pipes it in.
    Person,
    /// A window shows the question, and the answer comes when it comes.
    Window(Arc<dyn AskCode>),
}

/// Who asks for codes without holding a thread until one is there.
pub trait AskCode: Send + Sync + fmt::Debug {
    /// Shows the question and waits for the answer.
    fn ask<'a>(&'a self, asked: &'a Asked<'_>) -> Answer<'a>;
}

/// A code that will be there.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Code, CodeError>> + Send + 'a>>;

/// What a code is for.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The method.
    pub method: Method,
    /// Where it was mailed to, masked.
    pub sent_to: Option<&'a str>,
    /// The location, or what else it is for.
    pub purpose: &'a str,
    /// The secret that an authenticator app makes its codes from, while one is set up.
    pub secret: Option<&'a SecretText>,
}

/// Why there is no code.
#[derive(Debug, thiserror::Error)]
pub enum CodeError {
    /// Nobody can be asked.
    #[error(
        "a code is needed, and nobody is there to type it. Give --code-command, or pipe the code into standard input"
    )]
    Nobody,
    /// The program failed.
    #[error("the command of --code-command failed: {0}")]
    Command(String),
    /// The program printed nothing.
    #[error("the command of --code-command printed no code")]
    Silent,
    /// The program took too long.
    #[error("the command of --code-command printed no code within 120 s")]
    TimedOut,
    /// The terminal is gone.
    #[error("the code cannot be read: {0}")]
    Terminal(io::Error),
}

impl CodeFrom {
    /// Whether it is worth asking again after a refusal. `tries` counts those made.
    #[must_use]
    pub fn may_retry(&self, refusal: &Refusal, tries: u32, person: &dyn Person) -> bool {
        match (refusal.problem, self) {
            (Problem::CodeWrong | Problem::CodeMalformed | Problem::CodeUsed, Self::Person) => {
                person.is_there() && tries < TRIES
            }
            // How often is the server's to say.
            (Problem::CodeWrong | Problem::CodeMalformed | Problem::CodeUsed, Self::Window(_)) => {
                true
            }
            // The program prints another one as soon as the time has come.
            (Problem::CodeUsed, Self::Command(_)) => tries < 2,
            _ => false,
        }
    }

    /// How long to wait before asking again, and what to say of it.
    #[must_use]
    pub fn pause(&self, refusal: &Refusal, now: SystemTime) -> (Duration, String) {
        match self {
            Self::Command(_) => {
                let wait = until_next_code(now, refusal.retry_after);
                let seconds = wait.as_secs();
                (wait, format!("{refusal} The command is run again in {seconds} s."))
            }
            Self::Person | Self::Given(_) | Self::Window(_) => {
                (Duration::ZERO, refusal.text.clone())
            }
        }
    }

    /// Gets a code.
    ///
    /// # Errors
    ///
    /// [`CodeError`].
    pub async fn get(&self, person: &mut dyn Person, asked: &Asked<'_>) -> Result<Code, CodeError> {
        match self {
            Self::Given(code) => Ok(code.clone()),
            Self::Command(command) => run(command, asked).await,
            Self::Window(window) => window.ask(asked).await,
            Self::Person => {
                let question = match (asked.method, asked.sent_to) {
                    (Method::Email, Some(to)) => {
                        format!("Code from the e-mail to {to}: ")
                    }
                    (Method::Email, None) => "Code from the e-mail: ".to_owned(),
                    _ => "Code from your authenticator app: ".to_owned(),
                };
                match person.line(&question) {
                    Ok(line) => Ok(tidy(&line)),
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                        Err(CodeError::Nobody)
                    }
                    Err(error) => Err(CodeError::Terminal(error)),
                }
            }
        }
    }
}

impl fmt::Debug for CodeFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Given(_) => "Given(..)",
            Self::Command(_) => "Command(..)",
            Self::Person => "Person",
            Self::Window(_) => "Window(..)",
        })
    }
}

/// Takes out what people type or paste for the eye's sake: "012 345".
#[must_use]
pub fn tidy(typed: &str) -> Code {
    let trimmed = typed.trim();
    let digits = |c: char| c.is_ascii_digit() || c == ' ' || c == '-';
    if trimmed.chars().all(digits) {
        let kept: Zeroizing<String> =
            Zeroizing::new(trimmed.chars().filter(char::is_ascii_digit).collect());
        return Code::new(kept.as_str());
    }
    Code::new(trimmed)
}

/// How long until an authenticator app shows another code.
fn until_next_code(now: SystemTime, told: Option<u64>) -> Duration {
    let rest = TOTP_PERIOD.saturating_sub(unix(now) % TOTP_PERIOD);
    Duration::from_secs(told.unwrap_or(rest).min(TOTP_PERIOD))
}

async fn run(command: &str, asked: &Asked<'_>) -> Result<Code, CodeError> {
    let failed = |error: io::Error| CodeError::Command(error.to_string());
    let mut child = Command::new("sh")
        .args(["-c", command])
        .env("WGMFA_METHOD", asked.method.word())
        .env("WGMFA_PURPOSE", asked.purpose)
        .env("WGMFA_SENT_TO", asked.sent_to.unwrap_or(""))
        .envs(asked.secret.map(|secret| ("WGMFA_SECRET", secret.expose_secret())))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    let mut output = Zeroizing::new(Vec::new());
    let finished = async {
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MAX_OUTPUT).read_to_end(&mut output).await?;
        }
        child.wait().await
    };
    let status = timeout(PATIENCE, finished).await.map_err(|_| CodeError::TimedOut)?;
    let status = status.map_err(failed)?;
    if !status.success() {
        return Err(CodeError::Command(status.to_string()));
    }
    let text = core::str::from_utf8(&output).unwrap_or("");
    let line = text.lines().find(|line| !line.trim().is_empty()).ok_or(CodeError::Silent)?;
    Ok(tidy(line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::person::Nobody;
    use crate::person::tests::Scripted;

    const TOTP: Asked<'_> =
        Asked { method: Method::Totp, sent_to: None, purpose: "office", secret: None };

    fn shown(code: &Code) -> String {
        code.expose_padded(0).to_string()
    }

    #[test]
    fn a_code_is_tidied_and_keeps_its_zeros() {
        assert_eq!(shown(&tidy(" 012 345 ")), "012345");
        assert_eq!(shown(&tidy("0123-4567")), "01234567");
        assert_eq!(shown(&tidy("ABCD-EFGH-IJKL")), "ABCD-EFGH-IJKL");
    }

    #[test]
    fn the_next_code_comes_with_the_next_half_minute() {
        let at = |seconds| std::time::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(until_next_code(at(60), None), Duration::from_secs(30));
        assert_eq!(until_next_code(at(89), None), Duration::from_secs(1));
        assert_eq!(until_next_code(at(60), Some(7)), Duration::from_secs(7));
        assert_eq!(until_next_code(at(60), Some(900)), Duration::from_secs(30));
    }

    #[tokio::test]
    async fn a_program_prints_the_code_and_learns_what_it_is_for() {
        let command = CodeFrom::Command("echo; echo 004711 # \"$WGMFA_METHOD\"".to_owned());
        let code = command.get(&mut Nobody, &TOTP).await.unwrap();
        assert_eq!(shown(&code), "004711");
        let told = CodeFrom::Command("echo $WGMFA_METHOD/$WGMFA_PURPOSE".to_owned());
        assert_eq!(shown(&told.get(&mut Nobody, &TOTP).await.unwrap()), "totp/office");
    }

    #[tokio::test]
    async fn a_program_that_fails_or_is_silent_is_told_apart() {
        let failing = CodeFrom::Command("exit 3".to_owned());
        assert!(matches!(failing.get(&mut Nobody, &TOTP).await, Err(CodeError::Command(_))));
        let silent = CodeFrom::Command("true".to_owned());
        assert!(matches!(silent.get(&mut Nobody, &TOTP).await, Err(CodeError::Silent)));
    }

    #[tokio::test]
    async fn a_person_is_told_where_the_mail_went() {
        let mut person = Scripted::new(&["12345678"]);
        let asked = Asked { method: Method::Email, sent_to: Some("a…@example.org"), ..TOTP };
        CodeFrom::Person.get(&mut person, &asked).await.unwrap();
        assert_eq!(person.questions, ["Code from the e-mail to a…@example.org: "]);
    }

    #[tokio::test]
    async fn without_anybody_the_way_out_is_told() {
        let error = CodeFrom::Person.get(&mut Nobody, &TOTP).await.unwrap_err();
        assert!(error.to_string().contains("--code-command"), "{error}");
    }
}
