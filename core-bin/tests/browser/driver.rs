//! A few words of `WebDriver` (W3C), spoken to Debian's chromedriver over loopback.

#![expect(clippy::disallowed_methods, reason = "another process is waited for")]

use core::cell::RefCell;
use core::time::Duration;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Longer than anything here takes; a test that waits for it fails.
const SOON: Duration = Duration::from_secs(60);

pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// What [`check`](Self::check) found so far.
    found: RefCell<Vec<String>>,
}

impl Browser {
    /// Starts Chromium without a window.
    pub(crate) fn start(profile: &Path) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver; `cargo xtask setup` installs it");
        let mut browser = Self { driver, port, session: String::new(), found: RefCell::default() };
        until("chromedriver listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let profile = format!("--user-data-dir={}", profile.display());
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            &profile,
        ];
        let options = json!({ "args": args });
        let always = json!({ "acceptInsecureCerts": true, "goog:chromeOptions": options });
        let answer =
            browser.call("POST", "/session", &json!({ "capabilities": { "alwaysMatch": always } }));
        answer["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        browser
    }

    fn try_call(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        let body = if method == "POST" { body.to_string() } else { String::new() };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let (mut reader, mut length) = (BufReader::new(stream), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
        }
        let mut text = vec![0; length];
        reader.read_exact(&mut text).unwrap();
        let mut answer: Value = serde_json::from_slice(&text).unwrap();
        answer["value"].take()
    }

    /// As [`try_call`](Self::try_call), of what must not be refused.
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let value = self.try_call(method, path, body);
        assert!(value["error"].is_null(), "{method} {path}: {value}");
        value
    }

    fn here(&self, method: &str, path: &str, body: &Value) -> Value {
        self.call(method, &format!("/session/{}{path}", self.session), body)
    }

    pub(crate) fn go(&self, url: &str) {
        self.here("POST", "/url", &json!({ "url": url }));
    }

    /// Runs a script and returns what it returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.here("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Tells the browser something of its own protocol.
    fn tell(&self, command: &str, params: &Value) {
        let body = json!({ "cmd": command, "params": params });
        self.here("POST", "/goog/cdp/execute", &body);
    }

    fn find(&self, css: &str) -> String {
        let body = json!({ "using": "css selector", "value": css });
        let found = self.here("POST", "/element", &body);
        let id = found.as_object().and_then(|all| all.values().next()?.as_str());
        id.unwrap_or_else(|| panic!("no {css}")).to_owned()
    }

    pub(crate) fn click(&self, css: &str) {
        self.act_on(css, "click", &json!({}));
    }

    pub(crate) fn type_into(&self, css: &str, text: &str) {
        self.act_on(css, "clear", &json!({}));
        self.act_on(css, "value", &json!({ "text": text }));
    }

    /// Does something to an element; to the one of the next page if it came in between.
    fn act_on(&self, css: &str, act: &str, body: &Value) {
        let start = Instant::now();
        loop {
            let path = format!("/session/{}/element/{}/{act}", self.session, self.find(css));
            let said = self.try_call("POST", &path, body);
            let is_of_the_page_before = said["error"] == "stale element reference";
            assert!(said["error"].is_null() || is_of_the_page_before, "{path}: {said}");
            if !is_of_the_page_before {
                return;
            }
            assert!(start.elapsed() < SOON, "{css} never stays");
        }
    }

    pub(crate) fn text(&self) -> String {
        self.run("return document.body.innerText").as_str().unwrap_or_default().to_owned()
    }

    /// Waits until the page says this.
    #[track_caller]
    pub(crate) fn says(&self, words: &str) {
        let start = Instant::now();
        while !self.text().contains(words) {
            assert!(start.elapsed() < SOON, "{words:?} is not on the page:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Keeps pictures of the page: light and dark, wide and phone.
    pub(crate) fn picture(&self, name: &str) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/browser");
        std::fs::create_dir_all(&folder).unwrap();
        for (form, width, height) in [("wide", 1360, 900), ("phone", 390, 844)] {
            let size = json!({
                "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false
            });
            self.tell("Emulation.setDeviceMetricsOverride", &size);
            for scheme in ["light", "dark"] {
                let media =
                    json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
                self.tell("Emulation.setEmulatedMedia", &media);
                let picture = self.here("GET", "/screenshot", &Value::Null);
                let picture = STANDARD.decode(picture.as_str().unwrap()).unwrap();
                let path = folder.join(format!("{name}-{form}-{scheme}.png"));
                std::fs::write(path, picture).unwrap();
                self.check(&format!("{name}, {form}, {scheme}"));
            }
        }
        let size = json!({ "width": 1360, "height": 900, "deviceScaleFactor": 1, "mobile": false });
        self.tell("Emulation.setDeviceMetricsOverride", &size);
    }

    /// Fails if a page was one that some people could not use.
    pub(crate) fn finish(self) {
        let found = self.found.take();
        assert!(found.is_empty(), "{found:#?}");
    }

    /// Looks for what keeps some people from using a page.
    fn check(&self, what: &str) {
        let found = self.run(include_str!("access.js"));
        let found: Vec<&str> = found.as_array().unwrap().iter().filter_map(Value::as_str).collect();
        self.found.borrow_mut().extend(found.iter().map(|one| format!("{what}: {one}")));
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.here("DELETE", "", &Value::Null);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < SOON, "{what} did not happen in time");
        std::thread::sleep(Duration::from_millis(20));
    }
}
