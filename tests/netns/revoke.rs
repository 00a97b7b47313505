//! What ends must end, and what lives must not notice.

use demo::company::Stop;

use super::*;

#[test]
fn an_administrator_ends_a_session_at_once() -> Result<()> {
    demo::lab::within("revoke::an_administrator_ends_a_session_at_once", |lab| {
        let office = Office::open(lab)?;
        office.connect_with_totp(0)?;
        let sessions = office.company.admin(&["session", "list"])?;
        let id = sessions.pointer("/0/id").map(ToString::to_string).unwrap_or_default();
        office.company.admin(&["session", "end", &id])?;
        eventually("the peer is gone", || Ok(office.gateway.peers()?.is_empty()))?;
        ensure!(!office.laptop.host().ping(SERVER)?);

        office.connect_with_totp(1)?;
        ensure!(office.laptop.host().ping(SERVER)?);
        office.company.admin(&["user", "disable", "alice"])?;
        eventually("the peer is gone", || Ok(office.gateway.peers()?.is_empty()))?;
        refused(office.laptop.connect("office", &["--code", "123456"]), "")?;
        Ok(())
    })
}

/// A peer that core has never heard of.
const STRANGER: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";

#[test]
fn what_others_do_to_the_kernel_is_set_right() -> Result<()> {
    demo::lab::within("revoke::what_others_do_to_the_kernel_is_set_right", |lab| {
        let office = Office::open(lab)?;
        office.connect_with_totp(0)?;
        let interface = office.gateway.interface();
        let peer = office.gateway.peers()?.pop().unwrap_or_default();
        let shell = |text: &str| {
            let text = text.replace("$I", interface).replace("$P", &peer).replace("$S", STRANGER);
            office.gateway.host().run("sh", ["-c", &text])
        };
        let look = || {
            shell(
                "wg show $I allowed-ips && wg show $I preshared-keys && \
                 nft list table inet wg-mfa-$I | grep -v elements",
            )
        };
        let right = look()?;
        let mut deeds = vec![
            "wg set $I peer $S allowed-ips 10.1.0.99/32",
            "nft flush chain inet wg-mfa-$I forward",
            "nft delete table inet wg-mfa-$I",
        ];
        // In userspace `wg` cannot change a peer that is there, and the device is the gateway's own.
        let backend = office.gateway.status()?.get("backend").cloned();
        let in_kernel = backend.is_some_and(|backend| backend == "kernel");
        if in_kernel {
            deeds.extend([
                "wg set $I peer $P allowed-ips 0.0.0.0/0",
                "wg set $I peer $P preshared-key /dev/null",
                "ip link delete $I",
            ]);
        }
        for deed in deeds {
            shell(deed)?;
            eventually(&format!("all is as before `{deed}`"), || {
                Ok(look().is_ok_and(|found| found == right))
            })?;
            within(Duration::from_secs(60), "the session passes again", || {
                office.laptop.host().ping(SERVER)
            })?;
        }
        let status = office.gateway.status()?;
        let count = |at: &str| status.pointer(at).and_then(Value::as_u64).unwrap_or_default();
        ensure!(count("/strangers_removed") == 1, "{status}");
        ensure!(count("/lease/rebuilt") == 2, "{status}");
        ensure!(count("/peers_healed") >= if in_kernel { 3 } else { 0 }, "{status}");
        Ok(())
    })
}

#[test]
fn restarts_of_core_leave_sessions_alone() -> Result<()> {
    demo::lab::within("revoke::restarts_of_core_leave_sessions_alone", |lab| {
        let mut office = Office::open(lab)?;
        office.connect_with_totp(0)?;
        for how in [Stop::Politely, Stop::Killed] {
            office.company.stop(how)?;
            ensure!(office.laptop.host().ping(SERVER)?, "core is away");
            office.company.start()?;
            ensure!(office.laptop.host().ping(SERVER)?, "core is back");
        }
        let sessions = office.company.admin(&["session", "list"])?;
        let id = sessions.pointer("/0/id").map(ToString::to_string).unwrap_or_default();
        office.company.admin(&["session", "end", &id])?;
        within(Duration::from_secs(40), "the gateway is back and the peer gone", || {
            Ok(office.gateway.peers()?.is_empty())
        })
    })
}
