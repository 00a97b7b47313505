//! Carries a command out: from the parsed line to the exit code.

use core::fmt::Write as _;
use std::io;
use std::path::PathBuf;
use std::process;
use std::sync::Arc;

use clap::{CommandFactory as _, Parser as _};
use jiff::Timestamp;
use mfa_wire::http::{Code, Method, SecretText};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

use crate::agent::Outcome;
use crate::cli::{
    Cli, Command, Connect, Enroll, LocationCommand, MfaCommand, Proof, Renew, Setup,
    Ui as UiArguments,
};
use crate::client::io_error;
use crate::code::{CodeFrom, tidy};
use crate::connect::{ConnectRequest, Plan};
use crate::console::Console;
use crate::detach::{Background, Upwards, take_over};
use crate::error::{ClientError, exit};
use crate::event::Event;
use crate::host::ThisMachine;
use crate::life::quoted;
use crate::listing::{factors_json, methods_at, state_name, table};
use crate::mfa::{SetupRequest, SetupStep};
use crate::person::{Person, Terminal};
use crate::state::{PickError, Store};
use crate::ui::{Closed, Keep, Ui, privilege};
use crate::update::Update;
use crate::{Client, clock, render};

/// Does what the process's arguments say, and returns the exit code.
#[must_use]
pub fn main() -> u8 {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too; clap knows where each goes.
            let _ = error.print();
            return if error.use_stderr() { exit::USAGE } else { exit::DONE };
        }
    };
    let client = Client::new(Store::new(cli.dir.clone().unwrap_or_else(default_dir)));
    let mut console = Console::standard(cli.json);
    let mut person = Terminal;
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            console.fail("system", &format!("cannot start: {error}"), exit::FAILED);
            return exit::FAILED;
        }
    };
    let code = runtime.block_on(run(&client, cli, &mut console, &mut person));
    // A resolver that hangs must not hold the process.
    runtime.shutdown_background();
    code
}

/// Carries a command out.
pub async fn run(client: &Client, cli: Cli, console: &mut Console, person: &mut dyn Person) -> u8 {
    let mut doing = Doing { client, instance: cli.instance, console, person };
    match doing.command(cli.command).await {
        Ok(code) => code,
        Err(error) => {
            let (code, exit_code) = (error.code(), error.exit_code());
            let mut message = error.to_string();
            if matches!(error, ClientError::Pick(PickError::NotEnrolled)) {
                let dir = client.store().dir().display();
                let _ = write!(message, ". (Looked in {dir}; --dir names another folder)");
            }
            console.fail(&code, &message, exit_code);
            exit_code
        }
    }
}

struct Doing<'a> {
    client: &'a Client,
    instance: Option<String>,
    console: &'a mut Console,
    person: &'a mut dyn Person,
}

type Done = Result<u8, ClientError>;

impl Doing<'_> {
    async fn command(&mut self, command: Command) -> Done {
        match command {
            Command::Enroll(arguments) => self.enroll(arguments).await,
            Command::Mfa { command: MfaCommand::Setup(setup) } => self.set_up(setup).await,
            Command::Mfa { command: MfaCommand::List } => self.factors().await,
            Command::Location { command: LocationCommand::List } => self.locations().await,
            Command::Connect(arguments) => self.connect(arguments).await,
            Command::Renew(arguments) => self.renew(arguments).await,
            Command::Status => self.status().await,
            Command::Disconnect { location } => self.disconnect(location).await,
            Command::Update => self.update().await,
            Command::Ui(arguments) => self.ui(&arguments).await,
            Command::Agent => self.agent().await,
            Command::Completions { shell } => {
                let mut text = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "client-bin", &mut text);
                self.console.raw(&text)?;
                Ok(exit::DONE)
            }
            Command::Man { dir } => self.man(dir),
        }
    }

    async fn enroll(&mut self, arguments: Enroll) -> Done {
        let token = match arguments.token.as_str() {
            "-" => self.person.hidden("Token: ").map_err(io_error("cannot read the token"))?,
            token => token.to_owned().into(),
        };
        let password = if arguments.password_stdin {
            let line = self.person.hidden("New password: ");
            Some(line.map_err(io_error("cannot read the password"))?)
        } else {
            None
        };
        let client = self.client;
        let enrolled = client.enroll(&arguments.url, &token, arguments.name.as_deref()).await?;
        self.console.answer(&enrolled);
        self.console.say(&format!(
            "This device is enrolled at {} as {} of {}.",
            enrolled.instance, enrolled.device, enrolled.user
        ));
        if enrolled.replaced {
            self.console.note("An earlier enrollment of this device there was replaced.");
        }
        for warning in &enrolled.warnings {
            self.console.note(warning);
        }
        let names: Vec<_> = enrolled.locations.iter().map(|l| quoted(&l.name)).collect();
        self.console.say(&match names.as_slice() {
            [] => "It has no location yet. Ask your administrator.".to_owned(),
            names => format!("Locations: {}.", names.join(", ")),
        });
        // Programs set factors up by commands of their own.
        let here = self.person.is_there() && !self.console.is_json();
        if here && self.person.yes("Set up an authenticator app now?").unwrap_or(false) {
            let request = SetupRequest {
                instance: Some(enrolled.instance_id.clone()),
                method: Method::Totp,
                code: CodeFrom::Person,
                current: CodeFrom::Person,
            };
            self.set_up_in_one(&request).await?;
        } else if enrolled.mfa_needed {
            self.console.say(
                "Next: `client-bin mfa setup totp` (or email), soon: the enrollment is short.",
            );
        }
        if let Some(password) = password {
            let password = SecretText::new(password.as_str());
            client.activate(&enrolled.instance_id, password).await?;
            self.console.say("The password is set.");
        }
        if let Some(first) = names.first() {
            self.console.say(&format!("To connect: `client-bin connect {first}`"));
        }
        Ok(exit::DONE)
    }

    async fn set_up(&mut self, arguments: Setup) -> Done {
        let method = Method::from(arguments.method);
        if let Some(code) = &arguments.code {
            let code = self.typed(code)?;
            let codes = self.client.confirm_setup(self.instance.as_deref(), method, code).await?;
            self.confirmed(method, &codes);
            return Ok(exit::DONE);
        }
        let request = SetupRequest {
            instance: self.instance.clone(),
            method,
            code: arguments.code_command.map_or(CodeFrom::Person, CodeFrom::Command),
            current: match &arguments.current_code {
                Some(code) => CodeFrom::Given(self.typed(code)?),
                None => CodeFrom::Person,
            },
        };
        if arguments.begin {
            let (client, console) = (self.client, &mut *self.console);
            let mut show = |step: SetupStep<'_>| show_step(console, &step);
            let begun = client.begin_setup(&request, self.person, &mut show).await?;
            self.console.answer(&begun);
            show_step(self.console, &SetupStep::Begun(&begun));
            self.console.say(&format!("Next: `client-bin mfa setup {method} --code CODE`"));
            return Ok(exit::DONE);
        }
        self.set_up_in_one(&request).await?;
        Ok(exit::DONE)
    }

    async fn set_up_in_one(&mut self, request: &SetupRequest) -> Result<(), ClientError> {
        let (client, console) = (self.client, &mut *self.console);
        let mut show = |step: SetupStep<'_>| show_step(console, &step);
        let codes = client.set_up(request, self.person, &mut show).await?;
        self.confirmed(request.method, &codes);
        Ok(())
    }

    fn confirmed(&mut self, method: Method, codes: &[SecretText]) {
        self.console.answer(&json!({ "method": method.word(), "recovery_codes": codes }));
        self.console.say(match method {
            Method::Totp => "The authenticator app is set up.",
            _ => "E-mail is set up: codes go to the address of your account.",
        });
        if codes.is_empty() {
            return;
        }
        self.console.say(
            "\nRecovery codes: each opens a location once, in place of a code. They are not shown again; keep them apart from this device.",
        );
        for code in codes {
            self.console.say(&format!("  {}", code.expose_secret()));
        }
    }

    async fn factors(&mut self) -> Done {
        let instance = self.client.instance(self.instance.as_deref())?;
        let list = self.client.factors(&instance).await?;
        self.console.answer(&factors_json(&list));
        let text = render::factors(self.console, &list);
        self.console.say(&text);
        Ok(exit::DONE)
    }

    async fn locations(&mut self) -> Done {
        let views = self.client.status(self.instance.as_deref()).await?;
        let mut rows = Vec::new();
        for instance in self.client.instances(self.instance.as_deref())? {
            // Without the server the methods are not known, and the list is still worth it.
            let list = self.client.factors(&instance).await.ok();
            for location in &instance.locations {
                let view = views
                    .iter()
                    .find(|v| v.location_id == location.id && v.instance == instance.name);
                rows.push(json!({
                    "id": location.id,
                    "name": location.name,
                    "instance": instance.name,
                    "mfa": location.mfa.required(),
                    "methods": list.as_ref().map(|list| methods_at(list, location.id)),
                    "endpoint": location.endpoint.to_string(),
                    "addresses": location.addresses,
                    "allowed_ips": location.allowed_ips,
                    "state": view.map(state_name),
                }));
            }
        }
        self.console.answer(&json!({ "locations": rows }));
        self.console.say(&table(&rows));
        Ok(exit::DONE)
    }

    /// Where a code comes from.
    fn code_from(&mut self, proof: Proof) -> Result<CodeFrom, ClientError> {
        Ok(match (proof.code, proof.code_command) {
            (Some(code), _) => CodeFrom::Given(self.typed(&code)?),
            (None, Some(command)) => CodeFrom::Command(command),
            (None, None) => CodeFrom::Person,
        })
    }

    async fn renew(&mut self, arguments: Renew) -> Done {
        let method = arguments.proof.method.map(Method::from);
        let code = self.code_from(arguments.proof)?;
        let request = ConnectRequest {
            instance: self.instance.clone(),
            method,
            code,
            ..ConnectRequest::to(arguments.location)
        };
        let (client, console) = (self.client, &mut *self.console);
        let mut tell = |event: Event| show_event(console, &event, false);
        let session = client.renew(&request, self.person, &mut tell).await?;
        self.console.answer(&json!({ "session": session }));
        let text = render::event(&Event::Renewed { until: session.expires });
        self.console.say(&text.unwrap_or_default());
        Ok(exit::DONE)
    }

    async fn connect(&mut self, arguments: Connect) -> Done {
        let method = arguments.proof.method.map(Method::from);
        let code = self.code_from(arguments.proof)?;
        let request = ConnectRequest {
            location: arguments.location,
            instance: self.instance.clone(),
            method,
            code,
            interface: arguments.interface,
            backend: arguments.backend,
            dns: !arguments.no_dns,
            update: arguments.update,
        };
        let mut events = Vec::new();
        let (client, console) = (self.client, &mut *self.console);
        let lines = !arguments.detach;
        let mut tell = |event: Event| {
            show_event(console, &event, lines);
            events.push(event);
        };
        let plan = client.prepare(&request, self.person, &mut tell).await?;
        if arguments.detach {
            let background = client.detach(&plan, &mut tell).await?;
            return Ok(self.detached(&plan, &background, &events));
        }
        let stop = stop()?;
        let outcome = client.live(plan, &mut tell, stop).await?;
        Ok(exit_of(&outcome))
    }

    fn detached(&mut self, plan: &Plan, background: &Background, events: &[Event]) -> u8 {
        let mut answer = json!({
            "location_id": plan.location,
            "interface": plan.interface,
            "connected": matches!(background.last, Event::Connected { .. }),
            "session": plan.session,
            "pid": background.pid,
            "log": background.log,
        });
        for event in events {
            if let (Event::Up { .. } | Event::Connected { .. }, Ok(Value::Object(fields))) =
                (event, serde_json::to_value(event))
                && let Value::Object(answer) = &mut answer
            {
                answer.extend(fields.into_iter().filter(|(name, _)| name != "event"));
            }
        }
        match &background.last {
            Event::Failed { code, message, exit_code } => {
                self.console.fail(code, message, *exit_code);
                *exit_code
            }
            Event::Ended { reason, message } => {
                self.console.fail(reason, message, exit::ENDED);
                exit::ENDED
            }
            last => {
                self.console.answer(&answer);
                self.console.say(&format!(
                    "Running in the background (process {}, log {}). `client-bin disconnect` ends it.",
                    background.pid,
                    background.log.display()
                ));
                if matches!(last, Event::NoAnswer { .. }) { exit::NO_ANSWER } else { exit::DONE }
            }
        }
    }

    /// Serves the page until a signal, or until nobody comes.
    async fn ui(&mut self, arguments: &UiArguments) -> Done {
        let machine = ThisMachine::before_dropping_privileges();
        privilege::drop_all().map_err(io_error("cannot give up privileges"))?;
        let client = Client::on(self.client.store().clone(), Arc::new(machine));
        let ui = Ui::bind(client, arguments.port, Keep::Background).await?;
        self.console.answer_line(&json!({ "event": "listening", "link": ui.link() }));
        self.console.say(&format!(
            "Open this in your browser; it is good once, for ten minutes:\n\n  {}\n",
            ui.link()
        ));
        let opened = !arguments.no_open && open_browser(ui.link());
        self.console.say(if opened {
            "Your browser was asked to. Press Ctrl-C to close; connections stay."
        } else {
            "Press Ctrl-C to close; connections stay."
        });
        if ui.serve(stop()?).await == Closed::Deserted {
            self.console.say("Closed: no browser came for half an hour. Connections stay.");
        }
        Ok(exit::DONE)
    }

    /// Stays with a connection; standard output leads to who started us, standard error to the log.
    async fn agent(&mut self) -> Done {
        let plan = take_over()?;
        let mut upwards = Upwards::default();
        let mut tell = |event: Event| {
            if let Some(text) = render::event(&event) {
                let now = Timestamp::try_from(clock::wall()).unwrap_or(Timestamp::UNIX_EPOCH);
                // A full disk must not end a connection.
                let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("{now:.0} {text}\n"));
            }
            upwards.tell(&event);
        };
        let stop = stop()?;
        match self.client.live(plan, &mut tell, stop).await {
            Ok(outcome) => Ok(exit_of(&outcome)),
            Err(error) => {
                let (code, message) = (error.code(), error.to_string());
                tell(Event::Failed { code, message, exit_code: error.exit_code() });
                Ok(error.exit_code())
            }
        }
    }

    async fn status(&mut self) -> Done {
        let views = self.client.status(self.instance.as_deref()).await?;
        self.console.answer(&json!({ "locations": views }));
        let now = clock::wall();
        for view in &views {
            let text = render::view(self.console, view, now);
            self.console.say(text.trim_end());
        }
        if views.is_empty() {
            self.console.say("This device has no location. Ask your administrator.");
        }
        let mut told = Vec::new();
        for error in views.iter().filter_map(|view| view.server_error.as_ref()) {
            if !told.contains(&error) {
                told.push(error);
                self.console.note(&format!("The server's word is missing: {error}"));
            }
        }
        Ok(exit::DONE)
    }

    async fn disconnect(&mut self, location: Option<String>) -> Done {
        let ended = self.client.disconnect(self.instance.as_deref(), location.as_deref()).await?;
        self.console.answer(&json!({ "disconnected": ended }));
        if ended.is_empty() {
            self.console.say("Nothing was connected.");
        }
        for one in &ended {
            let what = if one.was_connected { "disconnected" } else { "was not connected" };
            let server = match (&one.server_error, one.server_told) {
                (_, true) => "",
                (Some(_), false) => "; the server could not be told and ends the session by itself",
                (None, false) => "; the server does not know yet and ends the session by itself",
            };
            self.console.say(&format!("{}: {what}{server}.", one.location));
        }
        Ok(exit::DONE)
    }

    async fn update(&mut self) -> Done {
        let mut told = Vec::new();
        for instance in self.client.instances(self.instance.as_deref())? {
            let api = self.client.api(&instance)?;
            let update = Update::fetch(&api, &instance).await?;
            let changes = update.against(&instance);
            update.store(self.client.store(), &instance.id)?;
            self.console.say(&match changes.as_slice() {
                [] => format!("{}: nothing has changed.", update.name),
                changes => format!("{}: {}.", update.name, changes.join("; ")),
            });
            let unusable: Vec<_> = update.unusable.iter().map(ToString::to_string).collect();
            for warning in &unusable {
                self.console.note(warning);
            }
            told.push(json!({
                "instance": update.name, "changes": changes, "warnings": unusable,
            }));
        }
        self.console.answer(&json!({ "instances": told }));
        Ok(exit::DONE)
    }

    fn man(&mut self, dir: Option<PathBuf>) -> Done {
        let failed = io_error("cannot write the manual page");
        if let Some(dir) = dir {
            std::fs::create_dir_all(&dir).map_err(io_error("cannot make the folder"))?;
            clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
        } else {
            let mut page = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(failed)?;
            self.console.raw(&page)?;
        }
        Ok(exit::DONE)
    }

    /// A code from the command line; `-` stands for standard input.
    fn typed(&mut self, code: &str) -> Result<Code, ClientError> {
        if code == "-" {
            let line = self.person.line("Code: ").map_err(io_error("cannot read the code"))?;
            return Ok(tidy(&line));
        }
        Ok(tidy(code))
    }
}

/// Waits for what ends a program politely. Nothing is missed from the call on.
fn stop() -> Result<impl Future<Output = ()>, ClientError> {
    let on = |kind| signal(kind).map_err(io_error("cannot listen for signals"));
    let (mut interrupt, mut terminate, mut hang_up) =
        (on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hang_up.recv() => {}
        }
    })
}

/// Asks the desktop to open a link, where there is one. Root has no business in a browser.
fn open_browser(link: &str) -> bool {
    let is_set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let has_desktop = is_set("DISPLAY") || is_set("WAYLAND_DISPLAY");
    if !has_desktop || rustix::process::geteuid().is_root() {
        return false;
    }
    // It ends by itself when it has handed the link on.
    let started = process::Command::new("xdg-open")
        .arg(link)
        .stdin(process::Stdio::null())
        .stdout(process::Stdio::null())
        .stderr(process::Stdio::null())
        .spawn();
    started.is_ok()
}

const fn exit_of(outcome: &Outcome) -> u8 {
    match outcome {
        Outcome::Disconnected => exit::DONE,
        Outcome::Ended(_) => exit::ENDED,
    }
}

fn show_event(console: &mut Console, event: &Event, lines: bool) {
    if lines {
        console.answer_line(event);
    }
    if let Event::Authenticated { session: Some(session) } = event
        && session.gateways_connected > 0
    {
        console.say(&render::session(session));
    }
    let Some(text) = render::event(event) else { return };
    match event {
        Event::Failed { .. } => {}
        Event::Ended { .. } if !lines => {}
        Event::Connected { .. } => {
            console.say(&text);
            if lines {
                console.say("Press Ctrl-C to disconnect.");
            }
        }
        Event::UpdateSkipped { .. }
        | Event::CodeRefused { .. }
        | Event::DnsNotSet { .. }
        | Event::Authenticated { .. }
        | Event::NoAnswer { .. }
        | Event::ServerUnreachable { .. } => console.note(&text),
        _ => console.say(&text),
    }
}

fn show_step(console: &mut Console, step: &SetupStep<'_>) {
    match step {
        SetupStep::Begun(begun) => {
            let text = render::begun(console, begun);
            console.say(&text);
        }
        SetupStep::CurrentMailed { to } => {
            console.say(&format!("To prove who you are, a code was sent to {to}."));
        }
        SetupStep::Refused { message, .. } => console.note(message),
    }
}

fn default_dir() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return "/etc/wg-mfa-client".into();
    }
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config"));
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).or_else(home);
    config.unwrap_or_default().join("wg-mfa")
}
