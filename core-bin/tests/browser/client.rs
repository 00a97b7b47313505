//! The client's window in a real browser: `client-bin ui` on a real core, with the gateway's and the
//! laptop's WireGuard in this process. The handshakes are real.

use core::time::Duration;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;

use client_bin::state::Store;
use client_bin::ui::{Keep, Ui};
use client_bin::{Client, Periods};
use demo::alone::{Machine, join};
use demo::company::{Authenticator, Company, Site, text};
use demo::in_process::Tunnel;
use tokio::runtime::Runtime;
use wg_netlink::WireGuard as _;

use crate::driver::{Browser, until};

/// A company with a gateway, and the window of a laptop that is not enrolled.
struct Rig {
    company: Company,
    gateway: Tunnel,
    browser: Browser,
    link: String,
    /// The tunnels', and the page's: who waits for a tunnel must not hold up what moves it.
    _runtimes: [Runtime; 2],
}

impl Rig {
    fn new(root: &std::path::Path) -> Self {
        let [runtime, page] = [Runtime::new().unwrap(), Runtime::new().unwrap()];
        let site = Site::on_loopback(root).unwrap();
        let gateways = site.gateways;
        let company = Company::found_at(site).unwrap();
        let free = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let endpoint = format!("127.0.0.1:{}", free.port());
        let location = ["location", "add", "office", "--endpoint", &endpoint];
        let networks = ["--address", "10.1.0.1/24", "--allowed-ips", "10.99.0.0/24"];
        let policy = ["--mfa", "on", "--mfa-methods", "totp,email"];
        company.admin(&[&location[..], &networks, &policy].concat()).unwrap();
        company.admin(&["user", "add", "alice", "--email", "alice@example.org"]).unwrap();
        let gateway = runtime.block_on(Tunnel::new("gateway")).unwrap();
        join(&runtime, &company, gateways, &root.join("gateway"), &gateway).unwrap();

        let soon = Duration::from_millis(300);
        let client = Client::on(Store::new(root.join("laptop")), Arc::new(Machine::new(&runtime)))
            .with_periods(Periods { status: soon, ..Periods::default() });
        let ui = page.block_on(Ui::bind(client, 0, Keep::Here)).unwrap();
        let link = ui.link().to_owned();
        page.spawn(ui.serve(core::future::pending()));
        let browser = Browser::start(&root.join("profile"));
        Self { company, gateway, browser, link, _runtimes: [runtime, page] }
    }

    fn peers(&self) -> usize {
        self.gateway.interface().unwrap().peers.len()
    }

    /// Waits for the mail after the first `seen`, and types its code.
    fn type_mailed_code(&self, seen: usize) {
        let (_, code) = self.company.mailbox().wait_for_code(seen, 8).unwrap();
        self.browser.type_into("#code", &code);
    }
}

#[test]
#[ignore = "needs Debian's chromium-driver; `cargo xtask test --only browser` runs it"]
fn a_person_without_a_terminal_goes_through_the_window() {
    let root = tempfile::tempdir().unwrap();
    let rig = Rig::new(root.path());
    let (company, browser) = (&rig.company, &rig.browser);

    // The link lets this browser in, and is used up.
    browser.go(&rig.link);
    browser.says("This device is not enrolled at a server yet");
    browser.picture("ui-welcome");
    browser.go(&rig.link);
    browser.says("This link was used");
    browser.picture("ui-shut");

    // Enrolled by what the administrator sends.
    let ticket = company.admin(&["user", "enroll", "alice"]).unwrap();
    let (url, token) = (text(&ticket, "url").unwrap(), text(&ticket, "token").unwrap());
    browser.go(rig.link.split("/open").next().unwrap());
    browser.click(".hello a");
    browser.picture("ui-enroll");
    browser.type_into("#invitation", &format!("{url} {token}"));
    browser.type_into("#name", "laptop");
    browser.click("form button");
    browser.says("This device is enrolled at");
    browser.picture("ui-methods");

    // The authenticator app by its QR code, confirmed by six digits that submit themselves.
    browser.click("section:nth-of-type(1) form button");
    browser.says("Scan this with your authenticator app");
    let key = browser.run("return document.querySelector('.key code').textContent");
    let authenticator = Authenticator::new(&key.as_str().unwrap().replace(' ', ""));
    browser.picture("ui-setup-app");
    browser.type_into("#code", &authenticator.code(-1).unwrap());
    browser.says("recovery codes");
    assert_eq!(browser.run("return document.querySelectorAll('.codes code').length"), 10);
    browser.picture("ui-recovery-codes");
    browser.click(".row button");
    browser.says("Recovery codes left");
    let seen = company.mailbox().len();
    browser.click("section:nth-of-type(2) form button");
    browser.says("A code of eight digits was sent");
    rig.type_mailed_code(seen);
    browser.says("The method is set up.");

    // Connect: a wrong code is told in place, the right one closes the dialog.
    browser.click(".brand");
    browser.says("Not connected");
    browser.picture("ui-home");
    browser.click(".place form button");
    browser.says("Two-factor authentication");
    browser.picture("ui-dialog");
    browser.type_into("#code", "000000");
    browser.says("The code is wrong.");
    assert_eq!(rig.peers(), 0);
    browser.picture("ui-dialog-wrong");
    browser.type_into("#code", &authenticator.code(0).unwrap());
    until("the tunnel is up by a handshake", || {
        browser.run("return document.querySelector('.place .badge.good') !== null") == true
    });
    assert_eq!(rig.peers(), 1);
    let seen_handshake = "return document.querySelector('.facts').innerText.includes(' ago')";
    assert_eq!(browser.run(seen_handshake), true);
    browser.picture("ui-connected");

    // The administrator ends the session: the window says so by itself.
    company.admin(&["session", "end", "--all", "--yes"]).unwrap();
    browser.says("administrator");
    browser.says("Ended");
    until("the peer is gone", || rig.peers() == 0);
    browser.picture("ui-ended");

    // By e-mail.
    let seen = company.mailbox().len();
    browser.click(".place form button");
    browser.says("Two-factor authentication");
    browser.click("[name=method][value=email]");
    browser.says("A code of eight digits was sent");
    browser.picture("ui-dialog-mail");
    rig.type_mailed_code(seen);
    until("the tunnel is up again", || {
        browser.run("return document.querySelector('.place .badge.good') !== null") == true
    });

    // More time, without an interruption.
    let seen = company.mailbox().len();
    browser.click("form[action='/renew'] button");
    browser.says("More time for office");
    browser.click("[name=method][value=email]");
    browser.says("A code of eight digits was sent");
    rig.type_mailed_code(seen);
    browser.says("The session was extended.");
    assert_eq!(rig.peers(), 1);

    // Disconnected by a click, and gone.
    browser.click(".place form button.danger");
    browser.says("Not connected");
    until("the peer is gone", || rig.peers() == 0);

    // What the administrator changes is told, and taken over by a click.
    company.admin(&["location", "set", "office", "--keepalive", "20", "--yes"]).unwrap();
    browser.says("Instance Update");
    browser.picture("ui-update");
    browser.click("form[action='/update'] button");
    browser.says("Instance Update:");
    rig.browser.finish();
}
