//! The journeys with real processes, each on a small internet of its own: core, gateways and
//! people's machines in network namespaces, with `wg`, `ping` and `oathtool` as witnesses.
//!
//! WireGuard is the kernel's where there is one (in the virtual machine, `WGMFA_BACKEND=kernel`), else
//! userspace WireGuard on TUN.

mod canary;
mod connect;
mod enroll;
mod everything;
mod foreign;
mod idle;
mod independent;
mod revoke;

use std::time::Duration;

use anyhow::{Result, ensure};
use demo::company::{Authenticator, Company, Gateway, Laptop, Site, eventually, within};
use demo::lab::Lab;
use serde_json::Value;

/// How WireGuard runs: `$WGMFA_BACKEND`, else the best that works.
fn backend() -> String {
    std::env::var("WGMFA_BACKEND").unwrap_or_else(|_| "auto".into())
}

fn join_gateway(
    company: &Company,
    lab: &mut Lab,
    location: &str,
    name: &str,
    server: &str,
) -> Result<Gateway> {
    Gateway::join(company, lab, location, name, server, &backend())
}

fn new_laptop(lab: &mut Lab, name: &str) -> Result<Laptop> {
    Laptop::new(lab, name, &backend())
}

/// The address of the server behind the gateways.
const SERVER: &str = "10.99.0.1";

/// A company with one MFA location `office`, one gateway, one user and the user's laptop.
struct Office {
    company: Company,
    gateway: Gateway,
    laptop: Laptop,
    authenticator: Authenticator,
}

impl Office {
    fn open(lab: &mut Lab) -> Result<Self> {
        Self::with(lab, &["--mfa", "on", "--peer-disconnect-threshold", "300"])
    }

    fn with(lab: &mut Lab, policy: &[&str]) -> Result<Self> {
        let site = Site::in_lab(lab);
        Self::at(lab, site, policy)
    }

    fn at(lab: &mut Lab, site: Site, policy: &[&str]) -> Result<Self> {
        let company = Company::found_at(site)?;
        add_location(&company, "office", "10.1.0.1/24,fd10::1/64", "10.77.0.2:51820", policy)?;
        let gateway = join_gateway(&company, lab, "office", "gw1", SERVER)?;
        company.admin(&["user", "add", "alice", "--email", "alice@example.org"])?;
        let laptop = new_laptop(lab, "laptop")?;
        laptop.enroll(&company, "alice")?;
        let authenticator = laptop.set_up_totp()?;
        Ok(Self { company, gateway, laptop, authenticator })
    }

    fn connect_with_totp(&self, step: i64) -> Result<Value> {
        let code = self.authenticator.code(step)?;
        self.laptop.connect("office", &["--method", "totp", "--code", &code])
    }
}

fn add_location(
    company: &Company,
    name: &str,
    addresses: &str,
    endpoint: &str,
    policy: &[&str],
) -> Result<()> {
    let mut command = vec!["location", "add", name, "--address", addresses];
    command.extend(["--endpoint", endpoint, "--allowed-ips", "10.99.0.0/24"]);
    command.extend(policy);
    company.admin(&command).map(drop)
}

/// The state that the client itself reports for a location.
fn state(laptop: &Laptop, location: &str) -> Result<String> {
    let status = laptop.client(&["status"])?;
    let locations = status.get("locations").and_then(Value::as_array).cloned().unwrap_or_default();
    let found = locations.iter().find(|entry| entry.get("name").is_some_and(|n| n == location));
    let state = found.and_then(|entry| entry.get("state")).and_then(Value::as_str);
    Ok(state.unwrap_or_default().to_owned())
}

/// Fails unless the command fails with these words.
fn refused(outcome: Result<Value>, words: &str) -> Result<()> {
    match outcome {
        Ok(answer) => anyhow::bail!("it should have been refused: {answer}"),
        Err(error) => {
            let said = format!("{error:#}");
            ensure!(
                said.to_lowercase().contains(&words.to_lowercase()),
                "{words:?} not in: {said}"
            );
            Ok(())
        }
    }
}
