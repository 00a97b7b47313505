//! A device joins; no gateway hears of it until it has a session.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

#[test]
fn a_token_enrolls_one_device_and_its_secrets_stay_private() -> Result<()> {
    demo::lab::within("enroll::a_token_enrolls_one_device_and_its_secrets_stay_private", |lab| {
        let office = Office::open(lab)?;
        ensure!(office.gateway.peers()?.is_empty());

        let ticket = office.company.admin(&["user", "enroll", "alice"])?;
        let (url, token) =
            (demo::company::text(&ticket, "url")?, demo::company::text(&ticket, "token")?);
        let second = new_laptop(lab, "second")?;
        second.client(&["enroll", url, token])?;
        let third = new_laptop(lab, "third")?;
        refused(third.client(&["enroll", url, token]), "token")?;

        for entry in std::fs::read_dir(second.directory())? {
            let entry = entry?;
            let mode = entry.metadata()?.permissions().mode();
            ensure!(mode.trailing_zeros() >= 6, "{} is {mode:o}", entry.path().display());
        }
        let devices = office.company.admin(&["device", "list"])?;
        ensure!(devices.as_array().is_some_and(|devices| devices.len() == 2), "{devices}");
        Ok(())
    })
}

#[test]
fn a_wrong_pin_is_refused_before_the_token_is_spent() -> Result<()> {
    demo::lab::within("enroll::a_wrong_pin_is_refused_before_the_token_is_spent", |lab| {
        let office = Office::open(lab)?;
        let ticket = office.company.admin(&["user", "enroll", "alice"])?;
        let (url, token) =
            (demo::company::text(&ticket, "url")?, demo::company::text(&ticket, "token")?);
        let (secret, pin) = token.split_once('.').unwrap_or((token, ""));
        let wrong = format!("{secret}.{}", pin.chars().rev().collect::<String>());
        let second = new_laptop(lab, "second")?;
        refused(second.client(&["enroll", url, &wrong]), "certificate")?;
        second.client(&["enroll", url, token])?;
        Ok(())
    })
}
