//! Statistics end a session.

use super::*;

#[test]
fn silence_ends_the_session_and_the_client_says_why() -> Result<()> {
    demo::lab::within("idle::silence_ends_the_session_and_the_client_says_why", |lab| {
        let policy = ["--mfa", "on", "--peer-disconnect-threshold", "10"];
        let office = Office::with(lab, &policy)?;
        let laptop = &office.laptop;
        office.connect_with_totp(0)?;
        // In use, it lives on past the threshold.
        for _ in 0..15 {
            ensure!(laptop.host().ping(SERVER)?);
            let output = laptop.host().command("sleep").arg("1").status()?;
            ensure!(output.success());
        }
        ensure!(office.gateway.peers()?.len() == 1);

        within(Duration::from_secs(30), "silence ends it", || {
            Ok(office.gateway.peers()?.is_empty())
        })?;
        ensure!(!laptop.host().ping(SERVER)?);
        within(Duration::from_secs(40), "the client says why", || {
            let status = laptop.client(&["status"])?.to_string();
            Ok(status.contains("no activity") && status.contains("10 seconds"))
        })?;
        office.connect_with_totp(1)?;
        ensure!(laptop.host().ping(SERVER)?, "a new proof opens it again");
        Ok(())
    })
}
