//! The console beside a real gateway: core, gateway and laptop are the shipped programs in network
//! namespaces, their WireGuard passes packets, and `wg` says whether a page tells the truth.

use anyhow::{Context as _, Result, ensure};
use demo::company::{Authenticator, Company, Gateway, Laptop, eventually, text};

use crate::driver::{Browser, until};

/// The address of the server behind the gateway.
const SERVER: &str = "10.99.0.1";
const URL: &str = "https://10.77.0.1:8443";
const PASSWORD: &str = "correct horse battery";

/// Makes the first administrator by the link that core prints, and signs in with a recovery code.
fn sign_in(browser: &Browser, company: &Company) -> Result<()> {
    let recovery = company.admin(&["admin", "recover"])?;
    browser.go(text(&recovery, "setup_link")?);
    browser.type_into("[name=login]", "grace");
    browser.type_into("[name=email]", "grace@example.org");
    browser.type_into("[name=password]", PASSWORD);
    browser.click("form button");
    browser.says("Your authenticator app");
    let key = browser.run("return document.querySelector('.key code').textContent");
    let key = key.as_str().context("a key to type")?.replace(' ', "");
    browser.type_into("[name=code]", &Authenticator::new(&key).code(0)?);
    browser.click("form button");
    browser.says("Your recovery codes");
    let codes = browser.codes();
    browser.go(&format!("{URL}/login"));
    browser.type_into("[name=login]", "grace");
    browser.type_into("[name=password]", PASSWORD);
    browser.click("form button");
    browser.says("Two-factor authentication");
    browser.type_into("[name=code]", codes.first().context("a recovery code")?);
    browser.click("form[action='/login/code'] button");
    browser.says("VPN Overview");
    Ok(())
}

#[test]
#[ignore = "needs Debian's chromium-driver; `cargo xtask test --only browser` runs it"]
fn what_the_console_shows_of_a_real_gateway_is_so() -> Result<()> {
    demo::lab::within("lab::what_the_console_shows_of_a_real_gateway_is_so", |lab| {
        let company = Company::found(lab)?;
        let endpoint = ["--endpoint", "10.77.0.2:51820", "--allowed-ips", "10.99.0.0/24"];
        let location = ["location", "add", "office", "--address", "10.1.0.1/24", "--mfa", "off"];
        company.admin(&[&location[..], &endpoint].concat())?;
        let gateway = Gateway::join(&company, lab, "office", "gw1", SERVER, "auto")?;
        company.admin(&["user", "add", "alice", "--email", "alice@example.org"])?;
        let laptop = Laptop::new(lab, "laptop", "auto")?;
        laptop.enroll(&company, "alice")?;
        let authenticator = laptop.set_up_totp()?;
        eventually("the device is a peer", || Ok(gateway.peers()?.len() == 1))?;
        laptop.connect("office", &[])?;
        ensure!(laptop.host().ping(SERVER)?, "a key alone is enough");

        let browser = Browser::start(&lab.directory().join("profile"));
        sign_in(&browser, &company)?;
        browser.says("This location asks for no second factor");
        browser.says("in sync");

        // Require MFA, switched on as the page says, and said before it is done.
        browser.click("a.button");
        browser.says("Location Configuration");
        browser.click("[name=mfa]");
        browser.click(".actions button");
        browser.says("1 device has no session and will be disconnected");
        ensure!(laptop.host().ping(SERVER)?, "it is said before it is done");
        browser.click("[name=sure]");
        browser.says("The changes are saved.");
        eventually("the device is cut", || Ok(gateway.peers()?.is_empty()))?;
        ensure!(!laptop.host().ping(SERVER)?, "no packet passes any more");

        // Who connects appears by itself, with the address and the handshake that are real.
        browser.says("Nobody is connected");
        laptop.client(&["disconnect", "office"])?;
        laptop.client(&["update"])?;
        let code = authenticator.code(0)?;
        laptop.connect("office", &["--method", "totp", "--code", &code])?;
        ensure!(laptop.host().ping(SERVER)?, "a session opens the way");
        browser.says("alice");
        let address = format!("{}:", laptop.host().address());
        until("the page shows where from, and a fresh handshake", || {
            browser.text().contains(&address)
                && browser.run("return document.querySelector('.people .badge.good') !== null")
                    == true
        });
        until("the page shows what was sent", || {
            browser.run("return document.querySelector('.people .spark') !== null") == true
        });
        browser.picture("lab-overview");

        // Revoked with one click; when the page says so, the kernel's list of peers says so, too.
        browser.click("[aria-label='Revoke: alice, laptop']");
        browser.says("every connected gateway confirmed that the peer is gone");
        ensure!(gateway.peers()?.is_empty(), "the page spoke too early");
        ensure!(!laptop.host().ping(SERVER)?, "no packet passes any more");
        browser.says("Nobody is connected");

        // How the end reached the gateway, step by step.
        browser.go(&format!("{URL}/sessions/1"));
        browser.says("How the end reached the gateways");
        browser.says("gw1");
        browser.says("ended by an administrator");
        browser.picture("lab-session");
        browser.finish();
        Ok(())
    })
}
