//! What lies before the person: how every location stands, the question that is asked, and what
//! went wrong.
//!
//! How a location stands is looked up each time, at its interface and at the server
//! ([`status`](crate::status)); nothing here remembers that something *was* connected.

use core::future::pending;
use core::time::Duration;
use std::collections::BTreeMap;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use mfa_wire::http::{Code, Method};
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Keep;
use super::dialog::{About, Attempt, Stage, settled};
use super::words;
use crate::api::ApiError;
use crate::client::{Client, io_error};
use crate::clock;
use crate::connect::{ConnectRequest, Plan, obstacle};
use crate::error::ClientError;
use crate::event::Event;
use crate::location::{Location, Mfa};
use crate::mfa::{SetupRequest, SetupStep};
use crate::person::Nobody;
use crate::render;
use crate::state::Instance;
use crate::status::{self, LocationView, Look, Told};
use crate::update::Update;

/// How long the server's word is used; connections ask as often.
const WORD: Duration = Duration::from_secs(10);
/// How long a page waits for the server's first word.
const FIRST_WORD: Duration = Duration::from_millis(1500);

/// An instance's id and a location's number.
pub(super) type Place = (String, i64);

/// Everything that the pages show and change.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) client: Client,
    keep: Keep,
    heard: Mutex<BTreeMap<String, Heard>>,
    table: Mutex<Table>,
    /// Counts what was changed from here, so that pages are made anew at once.
    news: watch::Sender<u64>,
}

/// What a server said last.
#[derive(Debug)]
struct Heard {
    /// `None`: not asked since something changed.
    told: Option<Told>,
    asked: Instant,
    asking: bool,
    /// Which interfaces there were; another picture needs another word.
    links: Vec<bool>,
}

/// What is on the table.
#[derive(Debug, Default)]
struct Table {
    dialog: Option<Dialog>,
    notes: BTreeMap<Place, Note>,
    said: Option<Said>,
}

/// What is said once, on the next page.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) words: String,
    /// Something went wrong.
    pub(super) is_bad: bool,
}

/// A remark beside a location.
#[derive(Clone, Debug)]
pub(super) enum Note {
    /// The code was right, and the connection comes up.
    Rising,
    /// It did not come up.
    Failed(String),
    /// It is up, with a remark.
    Hint(String),
}

/// One instance as it stands.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) instance: Instance,
    pub(super) views: Vec<LocationView>,
    /// The server has another configuration than this device.
    pub(super) update_due: bool,
}

/// A question that is asked.
#[derive(Debug)]
pub(super) struct Dialog {
    pub(super) what: What,
    pub(super) instance: String,
    pub(super) instance_name: String,
    /// The location; for a setup none.
    pub(super) location: Option<(i64, String)>,
    pub(super) choices: Vec<Choice>,
    pub(super) method: Method,
    pub(super) attempt: Attempt,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum What {
    /// A session.
    Connect,
    /// More time.
    Renew,
    /// A new factor.
    SetUp,
}

/// A method to choose.
#[derive(Clone, Debug)]
pub(super) struct Choice {
    pub(super) method: Method,
    /// Why it does not serve; `None`: it does.
    pub(super) why: Option<String>,
    /// It may be tried all the same; the server says why not.
    pub(super) may_try: bool,
}

impl Desk {
    pub(super) fn new(client: Client, keep: Keep) -> Self {
        Self {
            client,
            keep,
            heard: Mutex::default(),
            table: Mutex::default(),
            news: watch::Sender::new(0),
        }
    }

    /// What to wait on for changes that were made here.
    pub(super) fn news(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    fn changed(&self) {
        self.news.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Looks at every location of every instance.
    pub(super) async fn look(self: &Arc<Self>) -> Result<Vec<Seen>, ClientError> {
        let mut seen = Vec::new();
        for instance in self.client.store().load()?.instances {
            let looks = self.client.looks(&instance).await;
            let told = self.word(&instance, &looks).await;
            let theirs = told.as_ref().and_then(|told| told.as_ref().ok());
            let update_due = theirs.is_some_and(|theirs| {
                instance.config_version.as_ref().is_some_and(|ours| *ours != theirs.config_version)
            });
            let views = status::views(&instance, looks, told.as_ref());
            seen.push(Seen { instance, views, update_due });
        }
        Ok(seen)
    }

    /// The server's word, asked for anew where it is old. A server that is slow holds no page up.
    async fn word(self: &Arc<Self>, instance: &Instance, looks: &[Look]) -> Option<Told> {
        let links: Vec<_> = looks.iter().map(|look| look.link.is_some()).collect();
        let now = clock::monotonic();
        let ask = {
            let mut heard = self.heard();
            let here = heard.entry(instance.id.clone()).or_insert_with(|| Heard {
                told: None,
                asked: now,
                asking: false,
                links: links.clone(),
            });
            if here.links != links {
                here.links.clone_from(&links);
                here.told = None;
            }
            let due = here.told.is_none() || now.duration_since(here.asked) >= WORD;
            let ask = due && !here.asking;
            here.asking |= ask;
            ask
        };
        if ask {
            let (desk, asked, mark) = (Arc::clone(self), instance.clone(), status::mark(looks));
            let asking = tokio::spawn(async move {
                let told = desk.client.ask_server(&asked, mark).await;
                if let Some(here) = desk.heard().get_mut(&asked.id) {
                    here.asking = false;
                    here.asked = clock::monotonic();
                    // Of another picture, it would be wrong of this one.
                    here.told = (here.links == links).then_some(told);
                }
                desk.changed();
            });
            // Who has nothing yet may wait a moment; who has an old word is shown that.
            if self.told(instance).is_none() {
                let _ = timeout(FIRST_WORD, asking).await;
            }
        }
        self.told(instance)
    }

    fn told(&self, instance: &Instance) -> Option<Told> {
        self.heard().get(&instance.id).and_then(|here| here.told.clone())
    }

    /// Forgets the server's word: it is about what was before.
    fn forget(&self, instance: &str) {
        self.heard().remove(instance);
        self.changed();
    }

    fn heard(&self) -> MutexGuard<'_, BTreeMap<String, Heard>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The remark beside a location.
    pub(super) fn note(&self, place: &Place) -> Option<Note> {
        self.table().notes.get(place).cloned()
    }

    fn set_note(&self, place: Place, note: Option<Note>) {
        match note {
            Some(note) => self.table().notes.insert(place, note),
            None => self.table().notes.remove(&place),
        };
        self.changed();
    }

    /// Says something once, on the next page.
    pub(super) fn say(&self, said: impl Into<String>) {
        self.table().said = Some(Said { words: said.into(), is_bad: false });
    }

    /// Says once what went wrong.
    pub(super) fn complain(&self, error: &ClientError) {
        self.table().said = Some(Said { words: words::error(error), is_bad: true });
    }

    pub(super) fn said(&self) -> Option<Said> {
        self.table().said.take()
    }

    /// Lends the question that is asked.
    pub(super) fn with_dialog<T>(&self, read: impl FnOnce(&Dialog) -> T) -> Option<T> {
        self.table().dialog.as_ref().map(read)
    }

    /// Takes the question away; its journey ends, if it has not.
    pub(super) fn close(&self) {
        let closed = self.table().dialog.take();
        drop(closed);
        self.changed();
    }

    /// Hands a code in and waits for what the server says.
    pub(super) async fn answer(&self, code: Code) {
        let watch = self.with_dialog(|dialog| {
            dialog.attempt.answer(code);
            dialog.attempt.watch()
        });
        if let Some(watch) = watch {
            settled(watch).await;
        }
    }

    /// Begins a connect or a renewal; without a method by the one that fits.
    pub(super) async fn ask(
        self: &Arc<Self>,
        what: What,
        place: Place,
        method: Option<Method>,
        update: bool,
    ) -> Result<(), ClientError> {
        let (instance, location) = self.client.location_by_id(&place.0, place.1)?;
        let choices = match location.mfa {
            Mfa::Required => self.choices(&instance, &location).await?,
            Mfa::Off | Mfa::External => Vec::new(),
        };
        let fitting = choices.iter().find(|choice| choice.why.is_none()).map(|c| c.method);
        let method = method.or(fitting);
        let request = |counter: &Arc<super::dialog::Counter>| ConnectRequest {
            instance: Some(instance.id.clone()),
            method: Some(method.unwrap_or(Method::Totp)),
            code: counter.code(About::Person),
            update,
            ..ConnectRequest::to(location.name.clone())
        };
        self.table().notes.remove(&place);
        let desk = Arc::clone(self);
        let none_fits = (location.mfa == Mfa::Required && method.is_none()).then(|| {
            let reasons: Vec<_> = choices
                .iter()
                .filter_map(|choice| {
                    Some(format!("{}: {}", words::method(choice.method), choice.why.as_ref()?))
                })
                .collect();
            let location = location.name.clone();
            ClientError::NoMethod { location, reasons: reasons.join("; ") }
        });
        let attempt = Attempt::begin(|counter| {
            let request = request(&counter);
            async move {
                if let Some(error) = none_fits {
                    return counter.end(Err(error), |()| Stage::Done);
                }
                let mut tell = |event: Event| counter.hear(&event);
                match what {
                    What::Connect => {
                        let plan = desk.client.prepare(&request, &mut Nobody, &mut tell).await;
                        counter.end(plan, |plan| {
                            desk.hold(place, plan);
                            Stage::Done
                        });
                    }
                    What::Renew | What::SetUp => {
                        let renewed = desk.client.renew(&request, &mut Nobody, &mut tell).await;
                        counter.end(renewed, |_| {
                            desk.forget(&place.0);
                            Stage::Done
                        });
                    }
                }
            }
        });
        self.show(Dialog {
            what,
            instance: instance.id,
            instance_name: instance.name,
            location: Some((location.id, location.name)),
            choices,
            method: method.unwrap_or(Method::Totp),
            attempt,
        })
        .await;
        Ok(())
    }

    /// Begins the setup of a factor.
    pub(super) async fn set_up(
        self: &Arc<Self>,
        instance: &str,
        method: Method,
    ) -> Result<(), ClientError> {
        let instance = self.client.instance(Some(instance))?;
        let (desk, id) = (Arc::clone(self), instance.id.clone());
        let attempt =
            Attempt::begin(|counter| async move {
                let request = SetupRequest {
                    instance: Some(id),
                    method,
                    code: counter.code(About::First),
                    current: counter.code(About::Current),
                };
                let mut show = |step: SetupStep<'_>| counter.hear_step(&step);
                let codes = desk.client.set_up(&request, &mut Nobody, &mut show).await;
                counter.end(codes, |codes| {
                    if codes.is_empty() { Stage::Done } else { Stage::Codes(codes) }
                });
            });
        self.show(Dialog {
            what: What::SetUp,
            instance: instance.id,
            instance_name: instance.name,
            location: None,
            choices: Vec::new(),
            method,
            attempt,
        })
        .await;
        Ok(())
    }

    /// Asks a question in place of the one before, and waits until it stands there.
    async fn show(&self, dialog: Dialog) {
        let watch = dialog.attempt.watch();
        let before = self.table().dialog.replace(dialog);
        drop(before);
        settled(watch).await;
    }

    /// The methods as they stand to a location.
    async fn choices(
        &self,
        instance: &Instance,
        location: &Location,
    ) -> Result<Vec<Choice>, ClientError> {
        let list = match self.client.factors(instance).await {
            Ok(list) => list,
            // Another server: it will say if the method does not fit.
            Err(ClientError::Api(ApiError::NotOffered { .. })) => {
                let all = [Method::Totp, Method::Email];
                return Ok(all.map(|method| Choice { method, why: None, may_try: true }).into());
            }
            Err(error) => return Err(error),
        };
        let ours = |method| matches!(method, Method::Totp | Method::Email);
        let mut choices: Vec<_> = list
            .methods
            .iter()
            .filter(|status| ours(status.method))
            .map(|status| Choice {
                method: status.method,
                why: obstacle(status, location.id),
                may_try: status.unavailable.is_none() && !status.set_up,
            })
            .collect();
        choices.sort_by_key(|choice| choice.method);
        Ok(choices)
    }

    /// Brings a connection up; how it goes is seen at its interface.
    fn hold(self: &Arc<Self>, place: Place, plan: Plan) {
        self.set_note(place.clone(), Some(Note::Rising));
        let desk = Arc::clone(self);
        tokio::spawn(async move {
            let mut tell = |event: Event| desk.hear(&place, &event);
            let held = match desk.keep {
                Keep::Background => desk.client.detach(&plan, &mut tell).await.map(drop),
                Keep::Here => desk.client.live(plan, &mut tell, pending()).await.map(drop),
            };
            if let Err(error) = held {
                desk.set_note(place, Some(Note::Failed(words::error(&error))));
            }
        });
    }

    fn hear(&self, place: &Place, event: &Event) {
        let rising = matches!(self.note(place), Some(Note::Rising));
        let note = match event {
            Event::DnsNotSet { .. } => render::event(event).map(Note::Hint),
            Event::Failed { message, .. } => Some(Note::Failed(message.clone())),
            Event::Connected { .. }
            | Event::NoAnswer { .. }
            | Event::Ended { .. }
            | Event::Disconnected { .. }
                if rising =>
            {
                None
            }
            _ => return,
        };
        self.set_note(place.clone(), note);
    }

    /// Ends a connection.
    pub(super) async fn disconnect(&self, place: &Place) -> Result<(), ClientError> {
        let (instance, location) = self.client.location_by_id(&place.0, place.1)?;
        self.set_note(place.clone(), None);
        let looks = self.client.looks(&instance).await;
        let at = instance.locations.iter().position(|here| here.id == location.id);
        let is_orphan = at.and_then(|at| looks.get(at)).is_some_and(|look| look.orphaned);
        if is_orphan && matches!(self.keep, Keep::Background) {
            // Its process is dead; to take its interface away needs what this one gave up.
            self.clean_up(&instance, &location).await?;
        } else {
            let ended = self.client.disconnect(Some(&instance.id), Some(&location.name)).await?;
            if ended.iter().any(|one| !one.server_told) {
                self.say(
                    "Disconnected. The server could not be told; it ends the session by itself.",
                );
            }
        }
        self.forget(&instance.id);
        Ok(())
    }

    /// Has the same program, with its own privileges, clean up.
    async fn clean_up(&self, instance: &Instance, location: &Location) -> Result<(), ClientError> {
        let failed = || io_error("cannot clean up");
        let dir = std::path::absolute(self.client.store().dir()).map_err(failed())?;
        let output = Command::new(std::env::current_exe().map_err(failed())?)
            .arg("--dir")
            .arg(dir)
            .args(["--instance", &instance.id, "disconnect", "--", &location.name])
            .stdin(Stdio::null())
            .output()
            .await
            .map_err(failed())?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(io_error("cannot clean up")(std::io::Error::other(said)))
    }

    /// Does an Instance Update. Returns what is new, in words.
    pub(super) async fn update(&self, instance: &str) -> Result<Vec<String>, ClientError> {
        let instance = self.client.instance(Some(instance))?;
        let update = Update::fetch(&self.client.api(&instance)?, &instance).await?;
        let mut told = update.against(&instance);
        update.store(self.client.store(), &instance.id)?;
        told.extend(update.unusable.iter().map(ToString::to_string));
        self.forget(&instance.id);
        Ok(told)
    }
}
