//! The window over real HTTP: who comes in, and a whole connect by forms alone, as a browser without
//! JavaScript sends them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use client_bin::ui::{Keep, Ui};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{CODE, FakeMachine, World};

/// A browser that was let in, or not.
struct Visitor {
    at: SocketAddr,
    link: String,
    cookie: String,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

impl Visitor {
    async fn of(world: &World) -> Self {
        let ui = Ui::bind(world.client.clone(), 0, Keep::Here).await.unwrap();
        let link = ui.link().to_owned();
        let at = link.split('/').nth(2).unwrap().parse().unwrap();
        tokio::spawn(ui.serve(core::future::pending()));
        Self { at, link, cookie: String::new() }
    }

    async fn let_in(world: &World) -> Self {
        let mut visitor = Self::of(world).await;
        let path = visitor.link.split_once(&visitor.at.to_string()).unwrap().1.to_owned();
        let answer = visitor.ask("GET", &path, &[], "").await;
        assert_eq!(answer.status, 200);
        let cookie = answer.header("set-cookie").unwrap();
        assert!(cookie.ends_with("; HttpOnly; SameSite=Strict; Path=/"), "{}", answer.head);
        cookie.split(';').next().unwrap().clone_into(&mut visitor.cookie);
        visitor
    }

    /// Sends a request with this server's host, unless `fields` name another.
    async fn ask(&self, method: &str, path: &str, fields: &[(&str, &str)], body: &str) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !fields.iter().any(|(name, _)| *name == "Host") {
            write!(head, "Host: {}\r\n", self.at).unwrap();
        }
        for (name, value) in fields {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        if method == "POST" {
            head += "Content-Type: application/x-www-form-urlencoded\r\n";
            write!(head, "Content-Length: {}\r\n", body.len()).unwrap();
        }
        let mut stream = TcpStream::connect(self.at).await.unwrap();
        stream.write_all(format!("{head}\r\n{body}").as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    async fn read(&self, path: &str) -> Answer {
        self.ask("GET", path, &[("Cookie", &self.cookie)], "").await
    }

    /// Sends a form from one of our own pages, and follows where it leads.
    async fn send(&self, path: &str, body: &str) -> Answer {
        let origin = format!("http://{}", self.at);
        let answer =
            self.ask("POST", path, &[("Cookie", &self.cookie), ("Origin", &origin)], body).await;
        assert_eq!(answer.status, 303, "{path}: {}", answer.body);
        self.read(answer.header("location").unwrap()).await
    }

    /// Reads the connections until they say something.
    async fn until(&self, words: &str) -> Answer {
        for _ in 0..3000 {
            let page = self.read("/").await;
            if page.body.contains(words) {
                return page;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{words:?} never came: {}", self.read("/").await.body);
    }
}

/// The form that names the one location.
fn office(page: &Answer) -> String {
    let id = page.body.split("name=\"instance\" value=\"").nth(1).unwrap();
    format!("instance={}&location=1", id.split('"').next().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_lets_one_browser_in_and_no_second() {
    let world = World::enrolled().await;
    let visitor = Visitor::let_in(&world).await;
    let page = visitor.read("/").await;
    assert_eq!(page.status, 200);
    assert!(page.body.contains("office"), "{}", page.body);

    let path = visitor.link.split_once(&visitor.at.to_string()).unwrap().1;
    let again = visitor.ask("GET", path, &[], "").await;
    assert_eq!(again.status, 403);
    assert_eq!(again.header("set-cookie"), None);
    assert!(again.body.contains("was used"), "{}", again.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_no_cookie_learns_and_changes_nothing() {
    let world = World::enrolled().await;
    let visitor = Visitor::of(&world).await;
    let origin = format!("http://{}", visitor.at);
    for path in ["/", "/events", "/dialog", "/enroll", "/methods?instance=x"] {
        let answer = visitor.ask("GET", path, &[], "").await;
        assert_eq!(answer.status, 403, "{path}");
        assert!(!answer.body.contains("office") && !answer.body.contains("Acme"), "{path}");
    }
    for path in ["/connect", "/disconnect", "/code", "/enroll", "/update", "/setup"] {
        let answer = visitor.ask("POST", path, &[("Origin", &origin)], "instance=x").await;
        assert_eq!(answer.status, 403, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_leads_to_loopback_is_turned_away_with_its_cookie() {
    let world = World::enrolled().await;
    let visitor = Visitor::let_in(&world).await;
    let port = visitor.at.port();
    for host in [format!("evil.example:{port}"), format!("localhost:{port}")] {
        let fields = [("Host", host.as_str()), ("Cookie", visitor.cookie.as_str())];
        let answer = visitor.ask("GET", "/", &fields, "").await;
        assert_eq!(answer.status, 421, "{host}");
        assert!(!answer.body.contains("office"), "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_sites_form_does_nothing_even_with_the_cookie() {
    let world = World::enrolled().await;
    let visitor = Visitor::let_in(&world).await;
    let form = office(&visitor.read("/").await);
    for sign in [
        ("Origin", "http://evil.example"),
        ("Origin", "http://127.0.0.1:1"),
        ("Origin", "null"),
        ("Sec-Fetch-Site", "cross-site"),
        ("Sec-Fetch-Site", "same-site"),
        ("X-Nothing", "said"),
    ] {
        let fields = [("Cookie", visitor.cookie.as_str()), sign];
        let answer = visitor.ask("POST", "/connect", &fields, &form).await;
        assert_eq!(answer.status, 403, "{sign:?}");
    }
    assert!(world.server.bodies("/api/v1/client-mfa/start").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_its_armour() {
    let world = World::enrolled().await;
    let visitor = Visitor::let_in(&world).await;
    for answer in [
        visitor.read("/").await,
        visitor.read("/ui.js").await,
        visitor.read("/nowhere").await,
        visitor.ask("GET", "/", &[], "").await,
        visitor.ask("GET", "/open?key=x", &[], "").await,
    ] {
        let csp = answer.header("content-security-policy").unwrap();
        assert!(csp.starts_with("default-src 'none'") && csp.contains("frame-ancestors 'none'"));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert_eq!(answer.header("referrer-policy"), Some("same-origin"));
        assert_eq!(answer.header("cross-origin-opener-policy"), Some("same-origin"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_alone_connect_and_disconnect() {
    let world = World::enrolled().await;
    let visitor = Visitor::let_in(&world).await;
    let form = office(&visitor.until("Not connected").await);

    let asked = visitor.send("/connect", &form).await;
    assert!(asked.body.contains("Two-factor authentication"), "{}", asked.body);
    let wrong = visitor.send("/code", "code=000000").await;
    assert!(wrong.body.contains("The code is wrong."), "{}", wrong.body);
    assert!(wrong.body.contains("aria-invalid"), "{}", wrong.body);
    let right = visitor.send("/code", &format!("code={CODE}")).await;
    assert!(!right.body.contains("Two-factor authentication"), "{}", right.body);

    // The interface is up; connected it is only when somebody answered.
    visitor.until("Waiting for the gateway").await;
    world.machine.shake_hands();
    let up = visitor.until("badge good").await;
    assert!(up.body.contains("Latest handshake"), "{}", up.body);
    assert!(!up.body.contains(crate::support::PSK), "a key is on a page");

    visitor.send("/disconnect", &form).await;
    visitor.until("Not connected").await;
    assert!(world.machine.kernel.names().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_at_the_server_shows_its_reason() {
    let world = World::enrolled().await;
    let visitor = Visitor::let_in(&world).await;
    let form = office(&visitor.until("Not connected").await);
    visitor.send("/connect", &form).await;
    visitor.send("/code", &format!("code={CODE}")).await;
    visitor.until("Waiting for the gateway").await;
    world.machine.shake_hands();

    world.server.edit(|script| {
        script.session = None;
        script.ended = Some(serde_json::json!({
            "reason": "administrator", "detail": "ended by an administrator", "at": 1,
        }));
    });
    visitor.until("Ended by an administrator.").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_configuration_is_told_before_a_code_is_asked_for() {
    let world = World::enrolled().await;
    let visitor = Visitor::let_in(&world).await;
    let form = office(&visitor.until("Not connected").await);
    world.server.edit(|script| {
        script.configs = vec![crate::support::config(1, "office", true)];
        script.configs[0]["endpoint"] = "127.0.0.2:51820".into();
        script.config_version = "v2".to_owned();
    });

    let stale = visitor.send("/connect", &form).await;
    assert!(stale.body.contains("Instance Update"), "{}", stale.body);
    assert!(world.server.bodies("/api/v1/client-mfa/start").is_empty());
    let asked = visitor.send("/method", "update=yes").await;
    assert!(asked.body.contains("Two-factor authentication"), "{}", asked.body);
    assert!(asked.body.contains("name=\"code\""), "{}", asked.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_makes_no_interfaces_says_so_before_a_code() {
    let machine = FakeMachine { unprivileged: true, ..FakeMachine::default() };
    let world = World::on(machine).await;
    world.client.enroll(&world.server.url(), crate::support::TOKEN, None).await.unwrap();
    let visitor = Visitor::let_in(&world).await;
    let form = office(&visitor.until("Not connected").await);

    let told = visitor.send("/connect", &form).await;
    assert!(told.body.contains("setcap cap_net_admin"), "{}", told.body);
    assert!(world.server.bodies("/api/v1/client-mfa/start").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_enrollment_leads_to_the_methods() {
    let world = World::new().await;
    let visitor = Visitor::let_in(&world).await;
    visitor.until("not enrolled at a server yet").await;
    let form = url::form_urlencoded::Serializer::new(String::new())
        .append_pair("invitation", &format!("{} {}", world.server.url(), crate::support::TOKEN))
        .append_pair("name", "laptop")
        .finish();
    let page = visitor.send("/enroll", &form).await;
    assert!(page.body.contains("This device is enrolled at Acme as laptop of alice."));
    assert!(page.body.contains("My methods"), "{}", page.body);

    let wrong = visitor.send("/enroll", &form.replace(crate::support::TOKEN, "wr0ng")).await;
    assert!(wrong.body.contains("unknown, expired or used already"), "{}", wrong.body);
    assert!(!wrong.body.contains("wr0ng"), "a token is on a page");
}
