//! What a change of a location will do to those who use it, in words, before it does.

use core::time::Duration;
use std::collections::BTreeSet;

use mfa_core::method::MethodSet;
use mfa_core::policy::Mfa;
use mfa_store::{Location, LocationSettings, Scope, Snapshot, StoreError};

use crate::text::count;

/// How often gateways report unless told otherwise.
const STATISTICS_PERIOD: Duration = Duration::from_secs(30);

/// Users named in one sentence; the rest are counted.
const NAMED: usize = 5;

/// Says what it means for users and their sessions that `location` gets the settings `after`.
/// `offered` are the methods that this server offers.
///
/// # Errors
///
/// What the database reports.
pub fn effects(
    view: &mut Snapshot,
    location: &Location,
    after: &LocationSettings,
    offered: MethodSet,
) -> Result<Vec<String>, StoreError> {
    let mut words = Vec::new();
    let (old, new) = (&location.settings.policy, &after.policy);
    let live = view.live_sessions(Scope::Location(location.id))?;
    match (old.mfa(), new.mfa()) {
        (Mfa::Off, Mfa::Required) => {
            let peers = view.desired_peers(location.id, None)?.len();
            if peers > 0 {
                let has = if peers == 1 { "has" } else { "have" };
                words.push(format!(
                    "{} {has} no session and will be disconnected; each must update its \
                     configuration and authenticate",
                    count(peers, "device")
                ));
            }
        }
        (Mfa::Required, Mfa::Off) => {
            words.push("from now on the device's key alone is enough to connect".to_owned());
            if !live.is_empty() {
                words.push(format!(
                    "{} will end; the devices must update their configuration",
                    count(live.len(), "session")
                ));
            }
        }
        (Mfa::Off, Mfa::Off) | (Mfa::Required, Mfa::Required) => {}
    }
    if new.mfa() == Mfa::Required {
        for method in old.methods().iter().filter(|method| !new.methods().contains(*method)) {
            let bought = live.iter().filter(|one| one.method == method).count();
            if old.mfa() == Mfa::Required && bought > 0 {
                let what = count(bought, "session");
                words.push(format!("{what} by {} will end", method.name()));
            }
        }
        let usable = new.methods().intersection(offered);
        if usable.is_empty() {
            words.push(
                "WARNING: nobody can connect: the only allowed method is the e-mail code, and \
                 e-mail is not set up on this server (no SMTP)"
                    .to_owned(),
            );
        }
        words.extend(without_method(view, location, usable)?);
        if let Err(warning) = new.idle().check_statistics_period(STATISTICS_PERIOD) {
            words.push(format!("WARNING: {warning}"));
        }
    }
    if old.idle() != new.idle() && new.mfa() == Mfa::Required && !live.is_empty() {
        words.push(format!(
            "the new threshold holds for {} at once",
            count(live.len(), "live session")
        ));
    }
    if location.settings.addresses != after.addresses {
        words.push(
            "every device gets another address, and every session ends; the devices must update \
             their configuration"
                .to_owned(),
        );
    }
    Ok(words)
}

/// Says who may use the location and has set up none of the methods that open it.
fn without_method(
    view: &mut Snapshot,
    location: &Location,
    usable: MethodSet,
) -> Result<Option<String>, StoreError> {
    let owners: BTreeSet<_> = view.devices()?.into_iter().map(|device| device.user).collect();
    let mut names = Vec::new();
    for user in view.users()? {
        let concerned =
            user.active && owners.contains(&user.id) && view.may_use(user.id, location.id)?;
        if concerned && view.enabled_methods(user.id)?.intersection(usable).is_empty() {
            names.push(user.details.login);
        }
    }
    if names.is_empty() {
        return Ok(None);
    }
    let number = names.len();
    names.truncate(NAMED);
    let more = if number > NAMED { ", …" } else { "" };
    let has = if number == 1 { "has" } else { "have" };
    Ok(Some(format!(
        "{} {has} set up none of the allowed methods and cannot connect before that: {}{more}",
        count(number, "user"),
        names.join(", ")
    )))
}
