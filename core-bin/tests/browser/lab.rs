//! The steps of the specification, clicked beside a real gateway: core, gateway and laptop are the
//! shipped programs in network namespaces, their WireGuard passes packets, and `wg` and `ping` say
//! whether a page tells the truth.

use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use demo::company::{Authenticator, Company, Gateway, Laptop, eventually, text};
use demo::lab::Lab;

use crate::driver::{Browser, until};

/// The address of the server behind the gateway.
const SERVER: &str = "10.99.0.1";
const URL: &str = "https://10.77.0.1:8443";
const PASSWORD: &str = "correct horse battery";

/// A company, its gateway, a laptop, and the browser of whoever sits before it.
struct Rig {
    _company: Company,
    gateway: Gateway,
    laptop: Laptop,
    browser: Browser,
    /// Alice's, once she has set up her methods.
    codes: Vec<String>,
}

/// Waits until the addresses here are the final ones. Those of IPv6 change once more when nobody else was
/// found to have them (RFC 4862 §5.4), and Chromium gives up what it loads then.
fn settle() -> Result<()> {
    eventually("the addresses are final", || {
        let mut ip = Command::new("ip");
        let tentative = ip.args(["-6", "-oneline", "address", "show", "tentative"]).output()?;
        ensure!(tentative.status.success(), "{}", String::from_utf8_lossy(&tentative.stderr));
        Ok(tentative.stdout.is_empty())
    })
}

/// Takes a user from a link that sets a password to their recovery codes.
fn take_link(browser: &Browser, link: &str, fields: &[(&str, &str)]) -> Result<Authenticator> {
    browser.go(link);
    for (name, text) in fields {
        browser.type_into(&format!("[name={name}]"), text);
    }
    browser.click("form button");
    browser.says("Your authenticator app");
    let key = browser.run("return document.querySelector('.key code').textContent");
    let key = key.as_str().context("a key to type")?.replace(' ', "");
    let authenticator = Authenticator::new(&key);
    browser.type_into("[name=code]", &authenticator.code(0)?);
    browser.click("form button");
    browser.says("Your recovery codes");
    Ok(authenticator)
}

fn sign_in(browser: &Browser, login: &str, code: &str) {
    crate::sign_in(browser, URL, (login, PASSWORD), code);
    until("the code lets in", || {
        browser.run("return document.querySelector('body.console') !== null") == true
    });
}

fn sign_out(browser: &Browser) {
    browser.click("form[action='/logout'] button");
    browser.says("You are signed out.");
}

/// What the page shows to be copied, the last of it.
fn shown(browser: &Browser) -> Result<String> {
    let shown = browser.run("return [...document.querySelectorAll('pre')].pop().textContent");
    Ok(shown.as_str().context("something to copy")?.to_owned())
}

/// The word after `flag` in a command.
fn after<'a>(command: &'a str, flag: &str) -> Result<&'a str> {
    let mut words = command.split_whitespace().skip_while(|word| *word != flag);
    words.nth(1).with_context(|| format!("no {flag} in {command}"))
}

/// Chooses *office* in the drop-down list of the overview, and *Edit Location* at the top right.
fn edit_location(browser: &Browser) {
    browser.go(&format!("{URL}/overview?location=branch"));
    browser.says("VPN Overview");
    browser.choose("#location", "office");
    until("the list leads to the location", || {
        browser.run("return new URLSearchParams(location.search).get('location')") == "office"
    });
    let corner = browser.run(
        "const edit = document.querySelector('a.button').getBoundingClientRect(); \
         const main = document.querySelector('main').getBoundingClientRect(); \
         return edit.top - main.top < 80 && main.right - edit.right < 80",
    );
    assert_eq!(corner, true, "Edit Location is at the top right");
    browser.click("a.button");
    browser.says("Location Configuration");
}

impl Rig {
    /// Everything by clicks, from the link that `init` printed to a laptop that its key alone lets
    /// in: a location, a gateway, a user, a device.
    fn new(lab: &mut Lab) -> Result<(Self, Vec<String>)> {
        let company = Company::found(lab)?;
        // Before the browser: it lets go of a page when its host's network changes.
        let (host, laptop) = (lab.host("gw1")?, Laptop::new(lab, "laptop", "auto")?);
        settle()?;
        let browser = Browser::start(&lab.directory().join("profile"));
        let recovery = company.admin(&["admin", "recover"])?;
        let mail = ("email", "grace@example.org");
        let fields = [("login", "grace"), mail, ("password", PASSWORD)];
        take_link(&browser, text(&recovery, "setup_link")?, &fields)?;
        let codes = browser.codes();
        sign_in(&browser, "grace", codes.first().context("a code")?);

        browser.says("A location is one tunnel network");
        for (name, endpoint, network) in [
            ("branch", "10.77.0.9:51820", "10.2.0.1/24"),
            ("office", "10.77.0.2:51820", "10.1.0.1/24"),
        ] {
            browser.go(&format!("{URL}/locations/new"));
            browser.type_into("#name", name);
            browser.type_into("#endpoint", endpoint);
            browser.type_into("#networks", network);
            browser.type_into("#allowed", "10.99.0.0/24");
            browser.click("[name=mfa]");
            browser.click(".actions button");
            browser.says("Added.");
        }
        browser.says("No gateway serves this location yet");

        browser.click("main a[href^='/gateways']");
        browser.type_into("[name=name]", "gw1");
        browser.click("section.form button");
        browser.says("gateway-bin enroll");
        let command = shown(&browser)?;
        let ticket = (after(&command, "--token")?, after(&command, "--ca-pin")?);
        let gateway = Gateway::join_by(&company, host, "gw1", SERVER, "auto", ticket)?;

        browser.go(&format!("{URL}/users"));
        browser.type_into("[name=login]", "alice");
        browser.type_into("[name=email]", "alice@example.org");
        browser.click("section.form button");
        browser.says("No device yet.");
        browser.click_labelled("Issue a link");
        browser.says("It is shown only now");
        let command = shown(&browser)?;
        let words: Vec<&str> = command.split_whitespace().skip(1).collect();
        laptop.client(&[&words[..], &["--name", "laptop"]].concat())?;
        eventually("the device is a peer", || Ok(gateway.peers()?.len() == 1))?;
        laptop.connect("office", &[])?;
        ensure!(laptop.host().ping(SERVER)?, "a key alone is enough");
        Ok((Self { _company: company, gateway, laptop, browser, codes: Vec::new() }, codes))
    }

    /// *Require MFA for this Location*, with what it does said before it is done.
    fn require_mfa(&self) -> Result<()> {
        let Self { browser, gateway, laptop, .. } = self;
        browser.go(&format!("{URL}/overview?location=office"));
        browser.says("This location asks for no second factor");
        browser.says("in sync");
        edit_location(browser);
        browser.says("Require MFA for this Location");
        browser.says("300 recommended");
        browser.click("[name=mfa]");
        browser.type_into("#threshold", "2");
        browser.click(".actions button");
        until("the threshold is refused in words", || {
            browser.run("return document.querySelector('[role=alert]') !== null") == true
        });
        browser.says("5 s");
        browser.type_into("#threshold", "300");
        browser.click(".actions button");
        browser.says("1 device has no session and will be disconnected");
        ensure!(laptop.host().ping(SERVER)?, "it is said before it is done");
        browser.click("[name=sure]");
        browser.says("The changes are saved.");
        eventually("the device is cut", || Ok(gateway.peers()?.is_empty()))?;
        ensure!(!laptop.host().ping(SERVER)?, "no packet passes any more");
        browser.says("Nobody is connected");
        Ok(())
    }

    /// Alice sets up her methods in a browser, connects, and sees and ends her own session.
    fn serve_yourself(&mut self) -> Result<()> {
        let Self { browser, gateway, laptop, .. } = &*self;
        // A client with the configuration of before is told in words, and so is who has no method.
        laptop.client(&["disconnect", "office"])?;
        let Err(stale) = laptop.connect("office", &[]) else { bail!("a stale client connects") };
        ensure!(format!("{stale:#}").contains("the configuration has changed"), "{stale:#}");
        laptop.client(&["update"])?;
        let Err(none) = laptop.connect("office", &["--method", "totp", "--code", "123456"]) else {
            bail!("a method that is not set up opens the location")
        };
        ensure!(
            format!("{none:#}").contains("has not been configured on your account"),
            "{none:#}"
        );

        browser.go(&format!("{URL}/users/alice"));
        browser.click_labelled("Issue a link");
        browser.says("It is shown only now");
        let link = browser.run("return document.querySelector('pre').textContent");
        sign_out(browser);
        let link = link.as_str().context("a link")?;
        let authenticator = take_link(browser, link, &[("password", PASSWORD)])?;
        let codes = browser.codes();
        sign_in(browser, "alice", codes.first().context("a code")?);
        browser.says("My devices");

        // The code of this step was used to set it up.
        let code = authenticator.code(1)?;
        laptop.connect("office", &["--method", "totp", "--code", &code])?;
        ensure!(laptop.host().ping(SERVER)?, "a session opens the way");
        browser.go(&format!("{URL}/account"));
        browser.picture("lab-account");
        browser.click("[aria-label='Disconnect: laptop']");
        browser.says("None of your devices is connected");
        eventually("the peer is gone", || Ok(gateway.peers()?.is_empty()))?;
        ensure!(!laptop.host().ping(SERVER)?, "no packet passes any more");
        sign_out(browser);
        self.codes = codes;
        Ok(())
    }

    /// Connects the laptop by a recovery code.
    fn connect(&mut self) -> Result<()> {
        let code = self.codes.pop().context("a recovery code")?;
        // The agent of the connection before may still be at it.
        self.laptop.client(&["disconnect", "office"]).ok();
        self.laptop.connect("office", &["--method", "totp", "--code", &code])?;
        ensure!(self.laptop.host().ping(SERVER)?, "a session opens the way");
        Ok(())
    }

    /// Who connects appears by itself, with what is real; one click revokes, and the page says so
    /// when the kernel has confirmed.
    fn revoke(&mut self) -> Result<()> {
        self.browser.go(&format!("{URL}/overview?location=office"));
        self.browser.says("Nobody is connected");
        self.connect()?;
        let Self { browser, gateway, laptop, .. } = &*self;
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
        browser.click("[aria-label='Revoke: alice, laptop']");
        browser.says("every connected gateway confirmed that the peer is gone");
        ensure!(gateway.peers()?.is_empty(), "the page spoke too early");
        ensure!(!laptop.host().ping(SERVER)?, "no packet passes any more");
        browser.says("Nobody is connected");

        // How the end reached the gateway, step by step.
        browser.go(&format!("{URL}/users/alice"));
        browser.says("by an administrator");
        browser.click("td a[href^='/sessions/']");
        browser.says("How the end reached the gateways");
        browser.says("ended by an administrator");
        let steps = browser
            .run("return [...document.querySelectorAll('tbody td')].map((cell) => cell.innerText)");
        let steps: Vec<&str> =
            steps.as_array().context("a trail")?.iter().filter_map(|step| step.as_str()).collect();
        ensure!(steps.first() == Some(&"gw1"), "{steps:?}");
        ensure!(steps.iter().filter(|step| step.starts_with('+')).count() == 4, "{steps:?}");
        ensure!(steps.last().is_some_and(|last| last.contains('B')), "last counters: {steps:?}");
        browser.picture("lab-session");
        Ok(())
    }

    /// All of a device at once, from the list of devices.
    fn disconnect_device(&mut self) -> Result<()> {
        self.connect()?;
        let Self { browser, gateway, .. } = &*self;
        browser.go(&format!("{URL}/devices"));
        browser.click("[aria-label='Disconnect: laptop of alice']");
        browser.says("every connected gateway confirmed that the peer is gone");
        ensure!(gateway.peers()?.is_empty(), "the page spoke too early");
        browser.picture("lab-devices");
        Ok(())
    }

    /// *Peer disconnect threshold*: who is idle for so long is disconnected, and the overview says
    /// why.
    fn idle(&mut self) -> Result<()> {
        edit_location(&self.browser);
        self.browser.type_into("#threshold", "5");
        self.browser.click(".actions button");
        self.browser.says("What this will do");
        self.browser.click("[name=sure]");
        self.browser.says("The changes are saved.");
        self.connect()?;
        let Self { browser, gateway, laptop, .. } = &*self;
        browser.says("alice");
        until("the page shows the idle end by itself", || {
            browser.text().contains("Nobody is connected") && browser.text().contains("\tidle")
        });
        ensure!(gateway.peers()?.is_empty(), "the page spoke too early");
        ensure!(!laptop.host().ping(SERVER)?, "no packet passes any more");
        Ok(())
    }

    /// The gateway's own page, and how fast ends reached its kernel.
    fn gateway_health(&self) {
        let browser = &self.browser;
        browser.go(&format!("{URL}/overview?location=office"));
        browser.click("a[href='/gateways/gw1']");
        browser.says("What its kernel took of late");
        browser.says("in sync");
        browser.says("wg-gw1");
        browser.picture("lab-gateway");
        browser.go(&format!("{URL}/gateways"));
        browser.says("half were verified within");
        browser.picture("lab-gateways");
    }
}

#[test]
#[ignore = "needs Debian's chromium-driver; `cargo xtask test --only browser` runs it"]
fn the_steps_of_the_specification_are_clicked_beside_a_real_gateway() -> Result<()> {
    let name = "lab::the_steps_of_the_specification_are_clicked_beside_a_real_gateway";
    demo::lab::within(name, |lab| {
        let (mut rig, codes) = Rig::new(lab)?;
        rig.require_mfa()?;
        rig.serve_yourself()?;
        sign_in(&rig.browser, "grace", codes.get(1).context("a code")?);
        rig.revoke()?;
        rig.disconnect_device()?;
        rig.idle()?;
        rig.gateway_health();
        rig.browser.finish();
        Ok(())
    })
}
