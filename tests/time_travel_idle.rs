//! The idle journey with its real threshold, 300 s, and everybody's real periods: on a kernel in
//! which waiting takes no time.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use demo::company::{Company, Gateway, Laptop, Site};
use demo::lab::{self, Host};

#[test]
#[ignore = "waits for a quarter of an hour; runs where time travels"]
fn one_ping_a_minute_keeps_a_session_and_300_s_of_silence_end_it() -> Result<()> {
    lab::within("one_ping_a_minute_keeps_a_session_and_300_s_of_silence_end_it", |lab| {
        let mut site = Site::in_lab(lab);
        site.check_period = "60s".into();
        site.statistics_period = "30s".into();
        let company = Company::found_at(site)?;
        let office = ["location", "add", "office", "--address", "10.1.0.1/24"];
        let more = ["--endpoint", "10.77.0.2:51820", "--allowed-ips", "10.99.0.0/24"];
        let policy = ["--mfa", "on", "--peer-disconnect-threshold", "300"];
        company.admin(&[&office[..], &more, &policy].concat())?;
        let gateway = Gateway::join(&company, lab, "office", "gateway", "10.99.0.1", "kernel")?;
        company.admin(&["user", "add", "alice"])?;
        let laptop = Laptop::new(lab, "laptop", "kernel")?;
        laptop.enroll(&company, "alice")?;
        let authenticator = laptop.set_up_totp()?;
        let code = authenticator.code(0)?;
        laptop.connect("office", &["--method", "totp", "--code", &code])?;

        for minute in 0..12 {
            ensure!(laptop.host().ping("10.99.0.1")?, "after {minute} minutes in use");
            wait(laptop.host(), "60")?;
        }
        ensure!(gateway.peers()?.len() == 1, "a session in use lives on");

        // The keepalive goes on, every 25 s, and handshakes with it: silence all the same.
        ensure!(laptop.host().ping("10.99.0.1")?);
        let silent = now();
        while !gateway.peers()?.is_empty() {
            ensure!(now() < silent + Duration::from_secs(600), "it never ends");
            wait(laptop.host(), "5")?;
        }
        let took = now().duration_since(silent);
        // The threshold; then at most a report's period, a check's, and our own look.
        ensure!(took >= Duration::from_secs(295), "too early: {took:?}");
        ensure!(took <= Duration::from_secs(300 + 30 + 60 + 10), "too late: {took:?}");
        ensure!(!laptop.host().ping("10.99.0.1")?);
        wait(laptop.host(), "40")?;
        let status = laptop.client(&["status"])?.to_string();
        ensure!(status.contains("no activity for 300 seconds"), "{status}");
        Ok(())
    })
}

fn wait(host: &Host, seconds: &str) -> Result<()> {
    host.run("sleep", [seconds]).map(drop)
}

#[expect(clippy::disallowed_methods, reason = "the kernel's own clock, which travels")]
fn now() -> Instant {
    Instant::now()
}
