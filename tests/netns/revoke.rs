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

#[test]
fn a_stranger_in_the_kernel_is_removed() -> Result<()> {
    demo::lab::within("revoke::a_stranger_in_the_kernel_is_removed", |lab| {
        let office = Office::open(lab)?;
        office.connect_with_totp(0)?;
        let stranger = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
        let interface = office.gateway.interface();
        let add = ["set", interface, "peer", stranger, "allowed-ips", "10.1.0.99/32"];
        office.gateway.host().run("wg", add)?;
        eventually("the stranger is gone", || {
            Ok(!office.gateway.peers()?.iter().any(|peer| peer == stranger))
        })?;
        ensure!(office.laptop.host().ping(SERVER)?, "whoever has a session stays");
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
