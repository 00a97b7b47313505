//! A tunnel that takes everything.

use super::*;

#[test]
fn a_dead_tunnel_does_not_hold_back_the_news_of_its_end() -> Result<()> {
    demo::lab::within("everything::a_dead_tunnel_does_not_hold_back_the_news_of_its_end", |lab| {
        let office = Office::open(lab)?;
        let (company, laptop) = (&office.company, &office.laptop);
        company.admin(&["location", "set", "office", "--allowed-ips", "0.0.0.0/0", "--yes"])?;
        laptop.client(&["update"])?;
        // The laptop reaches core and gateway through its router alone, so by no better route than
        // the default one, which the tunnel will be.
        demo::lab::run("sysctl", ["-qw", "net.ipv4.ip_forward=1"])?;
        let (host, address) = (laptop.host(), format!("{}/32", laptop.host().address()));
        host.run("ip", ["-4", "address", "flush", "dev", "eth0"])?;
        host.run("ip", ["address", "add", &address, "dev", "eth0"])?;
        let router = demo::lab::CORE;
        host.run("ip", ["route", "add", "default", "via", router, "dev", "eth0", "onlink"])?;

        office.connect_with_totp(0)?;
        ensure!(host.ping(SERVER)?);
        ensure!(host.run("ip", ["route", "get", router])?.contains("wg-office"));

        let sessions = company.admin(&["session", "list"])?;
        let id = sessions.pointer("/0/id").map(ToString::to_string).unwrap_or_default();
        company.admin(&["session", "end", &id])?;
        within(Duration::from_secs(40), "the client hears of it and leaves the tunnel", || {
            Ok(host.run("ip", ["link", "show", "wg-office"]).is_err())
        })?;
        ensure!(host.ping(router)?, "the machine is on its network again");
        Ok(())
    })
}
