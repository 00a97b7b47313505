//! A fresh factor buys a session, and only a session passes packets.

use super::*;

#[test]
fn a_right_code_opens_the_tunnel_and_the_end_closes_it() -> Result<()> {
    demo::lab::within("connect::a_right_code_opens_the_tunnel_and_the_end_closes_it", |lab| {
        let office = Office::open(lab)?;
        let (gateway, laptop) = (&office.gateway, &office.laptop);
        ensure!(gateway.peers()?.is_empty(), "without a session there is no peer");
        ensure!(!laptop.host().ping(SERVER)?);

        office.connect_with_totp(0)?;
        ensure!(laptop.host().ping(SERVER)?, "the first ping passes");
        ensure!(gateway.peers()?.len() == 1);
        ensure!(gateway.wg_show()?.contains("preshared key: (hidden)"));
        ensure!(state(laptop, "office")? == "connected");

        laptop.client(&["disconnect", "office"])?;
        eventually("the peer is gone", || Ok(gateway.peers()?.is_empty()))?;
        ensure!(!laptop.host().ping(SERVER)?);
        ensure!(state(laptop, "office")? == "not connected");
        Ok(())
    })
}

#[test]
fn a_code_by_mail_opens_the_tunnel() -> Result<()> {
    demo::lab::within("connect::a_code_by_mail_opens_the_tunnel", |lab| {
        let office = Office::open(lab)?;
        let laptop = &office.laptop;
        refused(
            laptop.connect("office", &["--method", "email", "--code", "12345678"]),
            "has not been configured",
        )?;
        laptop.set_up_email(&office.company)?;

        let seen = office.company.mailbox().len();
        let mut sent = String::new();
        laptop.connect_with("office", "email", &mut || {
            let (mail, code) = office.company.mailbox().wait_for_code(seen, 8)?;
            ensure!(mail.contains("office"), "the mail names the location: {mail}");
            sent.clone_from(&code);
            Ok(code)
        })?;
        ensure!(laptop.host().ping(SERVER)?);
        ensure!(!office.company.log().contains(&sent), "no code in the log");
        Ok(())
    })
}

#[test]
fn each_refusal_has_its_own_words() -> Result<()> {
    demo::lab::within("connect::each_refusal_has_its_own_words", |lab| {
        let office = Office::open(lab)?;
        let laptop = &office.laptop;
        let totp = |code: &str| laptop.connect("office", &["--method", "totp", "--code", code]);

        refused(totp("000000"), "code")?;
        refused(totp("12345"), "6 digits")?;
        refused(laptop.connect("nowhere", &["--code", "000000"]), "nowhere")?;
        let code = office.authenticator.code(0)?;
        totp(&code)?;
        laptop.client(&["disconnect", "office"])?;
        refused(totp(&code), "code")?;
        ensure!(office.gateway.peers()?.is_empty(), "a code that was used opens nothing");
        office.connect_with_totp(1)?;

        let stranger = new_laptop(lab, "stranger")?;
        refused(stranger.connect("office", &["--code", "000000"]), "enroll")?;
        office.company.admin(&["device", "remove", "laptop", "--yes"])?;
        refused(totp("000000"), "device")?;
        Ok(())
    })
}

#[test]
fn two_locations_and_two_gateways_of_one() -> Result<()> {
    demo::lab::within("connect::two_locations_and_two_gateways_of_one", |lab| {
        let mut office = Office::open(lab)?;
        let second = join_gateway(&office.company, lab, "office", "gw2", SERVER)?;
        let endpoint = "10.77.0.5:51820";
        add_location(&office.company, "lab", "10.2.0.1/24", endpoint, &["--mfa", "on"])?;
        let other = join_gateway(&office.company, lab, "lab", "gw3", "10.99.0.3")?;
        ensure!(other.host().address() == "10.77.0.5", "the lab's gateway is where clients look");

        office.connect_with_totp(0)?;
        ensure!(office.laptop.host().ping(SERVER)?);
        ensure!(office.gateway.peers()? == second.peers()?, "both gateways have the peer");
        ensure!(other.peers()?.is_empty(), "another location does not");

        // The second gateway takes over the first one's address, and says so to its neighbours:
        // here by making the laptop forget the old one.
        office.gateway.stop(demo::company::Stop::Killed)?;
        let first = office.gateway.host();
        first.run("ip", ["link", "set", "eth0", "down"])?;
        second.host().run("ip", ["address", "add", "10.77.0.2/24", "dev", "eth0"])?;
        // A router that takes over an address announces it; here the neighbours are told by hand.
        office.laptop.host().run("ip", ["neighbour", "flush", "all"])?;
        within(Duration::from_secs(60), "the client reaches the second gateway", || {
            office.laptop.host().ping(SERVER)
        })?;

        let code = office.authenticator.code(1)?;
        office.laptop.client(&["disconnect", "office"])?;
        office.laptop.client(&["update"])?;
        office.laptop.connect("lab", &["--method", "totp", "--code", &code])?;
        ensure!(office.laptop.host().ping("10.99.0.3")?);
        eventually("the first location has no peer", || Ok(second.peers()?.is_empty()))
    })
}

#[test]
fn a_location_without_mfa_is_plain_wireguard_until_it_asks() -> Result<()> {
    demo::lab::within("connect::a_location_without_mfa_is_plain_wireguard_until_it_asks", |lab| {
        let office = Office::with(lab, &["--mfa", "off"])?;
        let (company, gateway, laptop) = (&office.company, &office.gateway, &office.laptop);
        eventually("the device is a peer", || Ok(gateway.peers()?.len() == 1))?;
        laptop.connect("office", &[])?;
        ensure!(laptop.host().ping(SERVER)?);

        company.admin(&["location", "set", "office", "--mfa", "on", "--yes"])?;
        eventually("the device is cut", || Ok(gateway.peers()?.is_empty()))?;
        ensure!(!laptop.host().ping(SERVER)?);
        within(Duration::from_secs(40), "the client learns of it by itself", || {
            Ok(state(laptop, "office")? != "connected")
        })?;
        laptop.client(&["update"])?;
        office.connect_with_totp(0)?;
        ensure!(laptop.host().ping(SERVER)?);
        Ok(())
    })
}
