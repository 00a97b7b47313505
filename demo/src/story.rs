//! The demonstration's story: what is done, in order, and what must be seen each time.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::company::{Authenticator, Company, within};
use crate::mail::Mailbox;

/// The idle threshold of the demonstration's location: short, so that a person can wait for it.
pub const THRESHOLD: Duration = Duration::from_secs(10);

/// Where the story takes place: the parts that differ between the back ends.
pub trait World {
    /// Connects the laptop to the office with a code.
    ///
    /// # Errors
    ///
    /// The client's refusal, in its words.
    fn connect(&self, method: &str, code: &mut dyn FnMut() -> Result<String>) -> Result<Value>;

    /// Ends the connection from the laptop's side.
    ///
    /// # Errors
    ///
    /// What the client said.
    fn disconnect(&self) -> Result<()>;

    /// Sends one ICMP echo from the laptop to the server behind the gateway.
    ///
    /// # Errors
    ///
    /// If it cannot be sent at all.
    fn ping(&self) -> Result<bool>;

    /// How many peers the gateway's WireGuard has.
    ///
    /// # Errors
    ///
    /// If it cannot be asked.
    fn peers(&self) -> Result<usize>;

    /// What `client-bin status` answers.
    ///
    /// # Errors
    ///
    /// If it cannot be asked.
    fn status(&self) -> Result<Value>;

    /// The gateway's WireGuard in the style of `wg show`.
    ///
    /// # Errors
    ///
    /// If it cannot be asked.
    fn wg_show(&self) -> Result<String>;
}

/// Tells the story and keeps the score.
#[derive(Debug)]
pub struct Teller {
    start: Instant,
    checks: Vec<(String, bool)>,
}

impl Teller {
    /// Starts the clock.
    #[must_use]
    pub fn new() -> Self {
        Self { start: now(), checks: Vec::new() }
    }

    /// Says what is being done.
    pub fn say(&self, who: &str, what: &str) {
        let seconds = now().duration_since(self.start).as_secs_f64();
        line(&format!("{seconds:6.1} s  {who:<8} {what}"));
    }

    /// Notes whether something that must be seen was seen.
    pub fn check(&mut self, what: &str, seen: bool) {
        self.say(if seen { "ok" } else { "FAILED" }, what);
        self.checks.push((what.to_owned(), seen));
    }

    /// Prints one line a check. Whether all passed.
    #[must_use]
    pub fn finish(&self) -> bool {
        line("");
        for (what, passed) in &self.checks {
            line(&format!("{} {what}", if *passed { "ok    " } else { "FAILED" }));
        }
        let failed = self.checks.iter().filter(|(_, passed)| !passed).count();
        line(&format!("{} passed, {failed} failed", self.checks.len().saturating_sub(failed)));
        failed == 0 && !self.checks.is_empty()
    }
}

impl Default for Teller {
    fn default() -> Self {
        Self::new()
    }
}

/// The state that a client's status gives its first location.
#[must_use]
pub fn state(status: &Value) -> Option<&str> {
    status.pointer("/locations/0/state").and_then(Value::as_str)
}

/// The administrator adds the location that the story is about.
///
/// # Errors
///
/// What core said.
pub fn add_office(teller: &Teller, company: &Company, endpoint: &str) -> Result<()> {
    let threshold = THRESHOLD.as_secs().to_string();
    teller.say("admin", "adds the location \u{201c}office\u{201d}: MFA required, TOTP or e-mail");
    let mut command = vec!["location", "add", "office", "--endpoint", endpoint];
    command.extend(["--address", "10.1.0.1/24", "--allowed-ips", "10.99.0.0/24"]);
    command.extend(["--mfa", "on", "--mfa-methods", "totp,email"]);
    command.extend(["--peer-disconnect-threshold", &threshold]);
    company.admin(&command).map(drop)
}

/// The administrator adds the person that the story is about.
///
/// # Errors
///
/// What core said.
pub fn add_alice(teller: &Teller, company: &Company) -> Result<()> {
    teller.say("admin", "adds the user alice and gives her an enrollment token");
    company.admin(&["user", "add", "alice", "--email", "alice@example.org"]).map(drop)
}

/// Tells the whole story.
///
/// # Errors
///
/// If the stage itself breaks; what merely is not as it must be is noted and the story goes on.
pub fn tell(
    teller: &mut Teller,
    world: &dyn World,
    authenticator: &Authenticator,
    mailbox: &Mailbox,
) -> Result<()> {
    teller.say("laptop", "pings the server behind the gateway, without a second factor");
    teller.check("before the second factor the gateway has no peer", world.peers()? == 0);
    teller.check("before the second factor nothing passes", !world.ping()?);

    teller.say("laptop", "connects with a wrong TOTP code");
    let refusal = world.connect("totp", &mut || Ok("000000".into()));
    if let Err(error) = &refusal {
        teller.say("client", &format!("\u{201c}{}\u{201d}", words(error)));
    }
    teller.check("a wrong code is refused", refusal.is_err() && !world.ping()?);

    let code = authenticator.code(0)?;
    teller.say("laptop", "connects with the TOTP code that the authenticator shows");
    let before = now();
    let connected = world.connect("totp", &mut || Ok(code.clone()));
    teller.check("a right TOTP code opens the tunnel", connected.is_ok());
    connected?;
    let passes = world.ping()?;
    let took = now().duration_since(before).as_millis();
    teller.check(&format!("the first ping passes, {took} ms after the code"), passes);
    for text in world.wg_show()?.lines() {
        line(&format!("                      {text}"));
    }

    teller.say("laptop", "disconnects");
    world.disconnect()?;
    within(THRESHOLD, "the peer is gone", || Ok(world.peers()? == 0))?;
    teller.check("after the disconnect the peer is gone", world.peers()? == 0);
    teller.check("after the disconnect nothing passes", !world.ping()?);
    let again = world.connect("totp", &mut || Ok(code.clone()));
    teller.check("the same code again is refused", again.is_err() && world.peers()? == 0);

    teller.say("laptop", "connects with a code by e-mail");
    let seen = mailbox.len();
    world.connect("email", &mut || {
        let (mail, code) = mailbox.wait_for_code(seen, 8)?;
        let subject = mail.lines().find(|text| text.starts_with("Subject:")).unwrap_or_default();
        line(&format!("                      mail received: {subject}"));
        Ok(code)
    })?;
    teller.check("a code by e-mail opens the tunnel", world.ping()?);

    let seconds = THRESHOLD.as_secs();
    teller.say("laptop", &format!("sends nothing any more; the threshold is {seconds} s"));
    let silent = now();
    within(THRESHOLD * 4, "silence ends the session", || Ok(world.peers()? == 0))?;
    let took = now().duration_since(silent).as_secs();
    teller.check(&format!("silence ends the session, after {took} s"), took + 2 >= seconds);
    teller.check("after the end nothing passes", !world.ping()?);
    let mut status = String::new();
    let told = within(THRESHOLD * 4, "the client knows", || {
        let said = world.status()?;
        let end = said.pointer("/locations/0/last_end/detail").and_then(Value::as_str);
        end.unwrap_or("no word of an end").clone_into(&mut status);
        Ok(status.contains("no activity"))
    });
    teller.say("client", &format!("\u{201c}{status}\u{201d}"));
    teller.check("the client says why", told.is_ok());
    ensure!(teller.checks.len() > 10, "the story was cut short");
    Ok(())
}

/// The client's own words, out of its JSON.
fn words(error: &anyhow::Error) -> String {
    let said = error.root_cause().to_string();
    let from_line = |line: &str| {
        let json: Value = serde_json::from_str(line.get(line.find('{')?..)?).ok()?;
        json.get("error")?.as_str().map(str::to_owned)
    };
    said.lines().rev().find_map(from_line).unwrap_or(said)
}

#[expect(clippy::print_stdout, reason = "the demonstration's output")]
fn line(text: &str) {
    println!("{text}");
}

#[expect(clippy::disallowed_methods, reason = "the demonstration is about real time")]
fn now() -> Instant {
    Instant::now()
}
