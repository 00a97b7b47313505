//! A question under way: a factor to be proved or set up, and what came of it.
//!
//! ```text
//! working ──asks──▶ ask ──code──▶ working ──▶ done | codes | stale | failed
//!                    ▲              │
//!                    └──── refused ─┘
//! ```
//!
//! The journeys behind it are those of the command line, [`prepare`](crate::Client::prepare),
//! [`renew`](crate::Client::renew) and [`set_up`](crate::Client::set_up), each in a task of its own;
//! a task that is dropped half-way leaves nothing but a challenge that nobody answers.

use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};

use mfa_wire::http::{Code, Method, SecretText};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::words;
use crate::code::{Answer, AskCode, Asked, CodeError, CodeFrom};
use crate::error::ClientError;
use crate::event::Event;
use crate::mfa::SetupStep;

/// For a server to answer, before the page says that it still waits.
const PATIENCE: Duration = Duration::from_secs(15);

/// Where a question stands.
#[derive(Clone, Debug)]
pub(super) enum Stage {
    /// The server is asked.
    Working,
    /// A code is waited for.
    Ask(Question),
    /// Proved, or set up.
    Done,
    /// Set up, with recovery codes that are shown this once.
    Codes(Vec<SecretText>),
    /// An Instance Update is due first.
    Stale(Vec<String>),
    /// It will not go on.
    Failed(String),
}

/// What is asked for.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// What the code is to prove.
    pub(super) about: About,
    /// How it is had.
    pub(super) method: Method,
    /// Where it was mailed to, masked.
    pub(super) sent_to: Option<String>,
    /// Why the last one was not taken.
    pub(super) refused: Option<String>,
    /// For an authenticator app that is being set up.
    pub(super) secret: Option<AppSecret>,
}

/// What a code is to prove.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum About {
    /// Who connects.
    Person,
    /// Who changes a factor: a code of one that is there.
    Current,
    /// That the new factor works.
    First,
}

/// What an authenticator app makes its codes from.
#[derive(Clone, Debug)]
pub(super) struct AppSecret {
    /// Base32.
    pub(super) base32: SecretText,
    /// The same as an address, for a QR code.
    pub(super) otpauth: SecretText,
}

/// One question, from the page's side.
#[derive(Debug)]
pub(super) struct Attempt {
    stage: watch::Receiver<Stage>,
    counter: Arc<Counter>,
    codes: mpsc::Sender<Code>,
    task: AbortHandle,
}

impl Attempt {
    /// Begins one; `journey` runs until it is proved or failed.
    pub(super) fn begin<J>(journey: impl FnOnce(Arc<Counter>) -> J) -> Self
    where
        J: Future<Output = ()> + Send + 'static,
    {
        let (sender, stage) = watch::channel(Stage::Working);
        // One at a time: the next is typed after the last was answered.
        let (codes, answers) = mpsc::channel(1);
        let counter = Arc::new(Counter {
            stage: sender,
            answers: tokio::sync::Mutex::new(answers),
            told: Mutex::default(),
        });
        let task = tokio::spawn(journey(Arc::clone(&counter))).abort_handle();
        Self { stage, counter, codes, task }
    }

    /// Where it stands.
    pub(super) fn stage(&self) -> Stage {
        self.stage.borrow().clone()
    }

    /// Hands a code in. One that nobody waits for is dropped.
    pub(super) fn answer(&self, code: Code) {
        if matches!(*self.stage.borrow(), Stage::Ask(_)) && self.codes.try_send(code).is_ok() {
            self.counter.set(Stage::Working);
        }
    }

    /// What to wait on until the server has answered.
    pub(super) fn watch(&self) -> watch::Receiver<Stage> {
        self.stage.clone()
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until there is something to show other than that one waits.
pub(super) async fn settled(mut stage: watch::Receiver<Stage>) {
    let settled = stage.wait_for(|stage| !matches!(stage, Stage::Working));
    // Too long, or given up: the page shows how it stands.
    let _ = timeout(PATIENCE, settled).await;
}

/// One question, from the journey's side: where it asks, and says what came of it.
#[derive(Debug)]
pub(super) struct Counter {
    stage: watch::Sender<Stage>,
    answers: tokio::sync::Mutex<mpsc::Receiver<Code>>,
    told: Mutex<Told>,
}

/// What the journey told since the last question.
#[derive(Debug, Default)]
struct Told {
    refused: Option<String>,
    secret: Option<AppSecret>,
}

impl Counter {
    /// A source of codes for a journey.
    pub(super) fn code(self: &Arc<Self>, about: About) -> CodeFrom {
        CodeFrom::Window(Arc::new(Asker { counter: Arc::clone(self), about }))
    }

    pub(super) fn set(&self, stage: Stage) {
        self.stage.send_replace(stage);
    }

    /// Says how a journey ended.
    pub(super) fn end<T>(&self, outcome: Result<T, ClientError>, done: impl FnOnce(T) -> Stage) {
        self.set(match outcome {
            Ok(value) => done(value),
            Err(ClientError::Stale { changes, .. }) => Stage::Stale(changes),
            Err(error) => Stage::Failed(words::error(&error)),
        });
    }

    /// Hears what happens in a connect or a renewal.
    pub(super) fn hear(&self, event: &Event) {
        if let Event::CodeRefused { message, .. } = event {
            self.told().refused = Some(message.clone());
        }
    }

    /// Hears what happens in a setup.
    pub(super) fn hear_step(&self, step: &SetupStep<'_>) {
        match step {
            SetupStep::Begun(begun) => {
                let pair = begun.secret.clone().zip(begun.otpauth.clone());
                self.told().secret = pair.map(|(base32, otpauth)| AppSecret { base32, otpauth });
            }
            SetupStep::Refused { message, .. } => self.told().refused = Some(message.clone()),
            SetupStep::CurrentMailed { .. } => {}
        }
    }

    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks at the window.
#[derive(Debug)]
struct Asker {
    counter: Arc<Counter>,
    about: About,
}

impl AskCode for Asker {
    fn ask<'a>(&'a self, asked: &'a Asked<'_>) -> Answer<'a> {
        Box::pin(async {
            let (refused, secret) = {
                let mut told = self.counter.told();
                (told.refused.take(), told.secret.clone())
            };
            let mut answers = self.counter.answers.lock().await;
            self.counter.set(Stage::Ask(Question {
                about: self.about,
                method: asked.method,
                sent_to: asked.sent_to.map(str::to_owned),
                refused,
                secret: secret.filter(|_| self.about == About::First),
            }));
            answers.recv().await.ok_or(CodeError::Nobody)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked() -> Asked<'static> {
        Asked { method: Method::Totp, sent_to: None, purpose: "office", secret: None }
    }

    fn attempt() -> Attempt {
        Attempt::begin(|counter| async move {
            let source = counter.code(About::Person);
            let mut nobody = crate::person::Nobody;
            for refused in [true, false] {
                let code = source.get(&mut nobody, &asked()).await.unwrap();
                assert_eq!(code.expose_padded(0).as_str(), "012345");
                if refused {
                    let (code, message) = ("code-wrong".to_owned(), "No.".to_owned());
                    counter.hear(&Event::CodeRefused { code, message });
                }
            }
            counter.end(Ok(()), |()| Stage::Done);
        })
    }

    #[tokio::test]
    async fn a_refused_code_is_told_with_the_next_question() {
        let attempt = attempt();
        settled(attempt.watch()).await;
        let Stage::Ask(first) = attempt.stage() else { panic!("{:?}", attempt.stage()) };
        assert_eq!(first.refused, None);

        attempt.answer(Code::new("012345"));
        settled(attempt.watch()).await;
        let Stage::Ask(again) = attempt.stage() else { panic!("{:?}", attempt.stage()) };
        assert_eq!(again.refused.as_deref(), Some("No."));

        attempt.answer(Code::new("012345"));
        settled(attempt.watch()).await;
        assert!(matches!(attempt.stage(), Stage::Done));
        // Nobody waits for this one.
        attempt.answer(Code::new("999999"));
        assert!(matches!(attempt.stage(), Stage::Done));
    }

    #[tokio::test]
    async fn what_is_given_up_ends_its_journey() {
        let attempt = attempt();
        let mut watch = attempt.watch();
        settled(watch.clone()).await;
        drop(attempt);
        // The journey held the sender.
        while watch.changed().await.is_ok() {}
    }
}
