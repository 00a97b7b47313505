//! A company with a gateway and a connected laptop.

use anyhow::{Context as _, Result, ensure};
use demo::company::{Authenticator, Company, Gateway, Laptop, Site};
use demo::lab::Lab;
use serde_json::Value;

use super::ping::Ping;
use super::stream::Stream;
use super::{say, wait_until};

/// The server behind the gateway.
pub(super) const SERVER: &str = "10.99.0.1";
pub(super) const SERVER_SIX: &str = "fd99::1";

pub(super) struct Office {
    pub(super) company: Company,
    pub(super) gateway: Gateway,
    pub(super) laptop: Laptop,
    pub(super) authenticator: Authenticator,
}

impl Office {
    /// Founds it and connects the laptop; `policy` are options of `core-bin location add`.
    pub(super) fn open(lab: &mut Lab, policy: &[&str]) -> Result<Self> {
        let mut site = Site::in_lab(lab);
        site.check_period = "60s".into();
        site.statistics_period = "30s".into();
        // Its log says when keys are staged and promoted.
        let level = "info,core_bin::drivers::rotate=debug".into();
        site.environment.push(("WGMFA_LOG__LEVEL".into(), level));
        let company = Company::found_at(site)?;
        let office = ["location", "add", "office", "--address", "10.1.0.1/16,fd10::1/64"];
        let more = ["--endpoint", "10.77.0.2:51820", "--allowed-ips", "10.99.0.0/24,fd99::/64"];
        company.admin(&[&office[..], &more, &["--mfa", "on"], policy].concat())?;
        let gateway = Self::gateway(lab, &company, "gateway")?;
        company.admin(&["user", "add", "alice"])?;
        let laptop = Laptop::new(lab, "laptop", "kernel")?;
        laptop.enroll(&company, "alice")?;
        let authenticator = laptop.set_up_totp()?;
        let office = Self { company, gateway, laptop, authenticator };
        office.connect(0)?;
        Ok(office)
    }

    /// Adds a gateway.
    pub(super) fn gateway(lab: &mut Lab, company: &Company, name: &str) -> Result<Gateway> {
        let gateway = Gateway::join(company, lab, "office", name, SERVER, "kernel")?;
        let six = format!("{SERVER_SIX}/128");
        gateway.host().run("ip", ["address", "add", &six, "dev", "lo"])?;
        Ok(gateway)
    }

    /// Connects the laptop with the code of a step from now.
    pub(super) fn connect(&self, step: i64) -> Result<()> {
        let code = self.authenticator.code(step)?;
        self.laptop.connect("office", &["--method", "totp", "--code", &code])?;
        ensure!(self.laptop.host().ping(SERVER)?);
        Ok(())
    }

    /// Starts a ping ten times a second over each IPv4 and IPv6.
    pub(super) fn start_pings(&self) -> Result<(Ping, Ping)> {
        let host = self.laptop.host();
        let four = Ping::start(host, "four", SERVER, "0.1")?;
        Ok((four, Ping::start(host, "six", SERVER_SIX, "0.1")?))
    }

    /// Opens a TCP connection through the tunnel.
    pub(super) fn open_stream(&self) -> Result<Stream> {
        let gateway = &self.gateway;
        Stream::open(self.laptop.host(), gateway.host(), gateway.interface(), SERVER)
    }

    /// How often core's log says that this was done: `staged`, `promoted`.
    pub(super) fn done(&self, what: &str) -> u64 {
        let words = format!("{what}=1");
        let is = |line: &&str| line.contains("were rotated") && line.contains(&words);
        self.company.log().lines().filter(is).count().try_into().unwrap_or(u64::MAX)
    }

    /// Waits for so many rotations, and does something after each.
    pub(super) fn rotate(
        &self,
        count: u64,
        mut after: impl FnMut(u64) -> Result<()>,
    ) -> Result<()> {
        let (generation, done) = (self.generation()?, self.done("promoted"));
        for turn in 1..=count {
            let what = format!("rotation {turn} is done");
            wait_until(&what, 600, || Ok(self.done("promoted") >= done + turn))?;
            after(turn)?;
            if turn.is_multiple_of(100) {
                say(&format!("{turn} rotations"))?;
            }
        }
        ensure!(self.generation()? >= generation + count, "{}", self.session()?);
        Ok(())
    }

    pub(super) fn session(&self) -> Result<Value> {
        let all = self.company.admin(&["session", "list"])?;
        all.as_array().and_then(|all| all.first()).cloned().context("there is no session")
    }

    pub(super) fn generation(&self) -> Result<u64> {
        let session = self.session()?;
        session.get("generation").and_then(Value::as_u64).with_context(|| session.to_string())
    }

    /// How long after the decision a session's end was committed, sent to the gateway, applied and verified
    /// there, in milliseconds.
    pub(super) fn trail(&self, session: i64) -> Result<[u64; 4]> {
        let mut steps = [0; 4];
        wait_until("the trail is written down", 60, || {
            let shown = self.company.admin(&["session", "show", &session.to_string()])?;
            let Some(trail) = shown.pointer("/trail/0") else { return Ok(false) };
            let names = ["committed", "sent", "applied", "verified"];
            for (step, name) in steps.iter_mut().zip(names) {
                let after = trail.get(format!("{name}_after_millis")).and_then(Value::as_u64);
                *step = after.with_context(|| format!("{name}: {shown}"))?;
            }
            Ok(true)
        })?;
        Ok(steps)
    }

    /// Why the last session ended, as core's log has it.
    pub(super) fn ended(&self) -> Result<String> {
        let log = self.company.log();
        let line = log.lines().rev().find_map(|line| line.split_once("session ended"));
        let (_, fields) = line.with_context(|| log.clone())?;
        let reason = fields.split_once("reason=").map_or(fields, |(_, reason)| reason);
        Ok(reason.trim_matches('"').trim_end_matches('"').to_owned())
    }
}
