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

/// Where axe-core is.
const AXE: &str = "WGMFA_AXE_CORE";

/// Runs every rule of axe-core that is not an experiment, WCAG 2.2's target size with them.
const LOOK_OVER: &str = "return axe.run(document, { rules: { 'target-size': { enabled: true } } }) \
    .then((said) => said.violations.flatMap((rule) => rule.nodes.map((node) => \
      `${rule.id}: ${node.html.slice(0, 120)}: ${node.failureSummary}`)))";

/// What axe-core does not look for: a page that is wider than its window, ids that are not unique.
const BESIDE: &str = "const found = []; \
    if (document.documentElement.scrollWidth > window.innerWidth + 1) \
      found.push('wider than its window: ' + document.documentElement.scrollWidth); \
    const ids = [...document.querySelectorAll('[id]')].map((node) => node.id); \
    for (const id of new Set(ids.filter((id, at) => ids.indexOf(id) !== at))) \
      found.push('twice: #' + id); \
    return found";

pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    /// The source of axe-core.
    axe: String,
    /// What [`check`](Self::check) found so far.
    found: RefCell<Vec<String>>,
}

impl Browser {
    /// Starts Chromium without a window.
    pub(crate) fn start(profile: &Path) -> Self {
        let axe = std::env::var_os(AXE).unwrap_or_else(|| {
            panic!("{AXE} is not set: the path of axe.min.js; `cargo xtask test --only browser` fetches it")
        });
        let axe = std::fs::read_to_string(axe).expect("axe-core");
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
        let found = RefCell::default();
        let mut browser = Self { driver, port, session: String::new(), axe, found };
        until("chromedriver listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        let profile = format!("--user-data-dir={}", profile.display());
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--window-size=1360,900",
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
        let start = Instant::now();
        loop {
            self.here("POST", "/url", &json!({ "url": url }));
            // The browser gives up what it loads when its host gets an interface, as a lab's does.
            if !self.text().contains("ERR_NETWORK_CHANGED") {
                return;
            }
            assert!(start.elapsed() < SOON, "the network never stays");
        }
    }

    /// Runs a script and returns what it returns.
    pub(crate) fn run(&self, script: &str) -> Value {
        self.here("POST", "/execute/sync", &json!({ "script": script, "args": [] }))
    }

    /// Runs a script in the page's first frame.
    pub(crate) fn within_frame(&self, script: &str) -> Value {
        self.here("POST", "/frame", &json!({ "id": 0 }));
        let said = self.run(script);
        self.here("POST", "/frame", &json!({ "id": null }));
        said
    }

    /// Tells the browser something of its own protocol. Returns what it answers.
    pub(crate) fn tell(&self, command: &str, params: &Value) -> Value {
        let body = json!({ "cmd": command, "params": params });
        self.here("POST", "/goog/cdp/execute", &body)
    }

    /// Gives the browser a security key that is touched as soon as it is asked for.
    pub(crate) fn plug_in_a_key(&self) {
        let key = json!({
            "protocol": "ctap2", "transport": "usb", "hasResidentKey": false,
            "hasUserVerification": false, "isUserConsenting": true,
        });
        self.here("POST", "/webauthn/authenticator", &key);
    }

    /// Presses the tabulator.
    fn tab(&self) {
        let keys = json!([
            { "type": "keyDown", "value": "\u{e004}" }, { "type": "keyUp", "value": "\u{e004}" },
        ]);
        let actions = json!({ "actions": [{ "type": "key", "id": "keys", "actions": keys }] });
        self.here("POST", "/actions", &actions);
    }

    /// Goes through a page by the keyboard alone: every control is reached, and seen to be.
    pub(crate) fn walk(&self, name: &str) {
        let start = Instant::now();
        // A live page may put another in its place meanwhile; what was seen is gone with it then.
        while !self.walk_once(name) {
            assert!(start.elapsed() < SOON, "{name} never stays");
        }
    }

    /// Returns whether the page stayed what it was.
    fn walk_once(&self, name: &str) -> bool {
        const CONTROLS: &str = "[...document.querySelectorAll('a[href], button, select, \
            input:not([type=hidden]), [tabindex=\"0\"]')].filter((one) => !one.disabled && \
            one.getClientRects().length)";
        let count = self.run(&format!(
            "window.walked = document.querySelector('#live > *') ?? document.body; \
             document.activeElement.blur(); window.getSelection().removeAllRanges(); \
             const all = {CONTROLS}; all.forEach((one) => delete one.dataset.seen); \
             return all.length"
        ));
        let count = count.as_u64().unwrap();
        let mut found = Vec::new();
        for _ in 0..count + 8 {
            self.tab();
            let hidden = self.run(
                "const one = document.activeElement; one.dataset.seen = '1'; \
                 if (one === document.body) return null; const style = getComputedStyle(one); \
                 return style.outlineStyle === 'none' || parseFloat(style.outlineWidth) < 2 \
                   ? one.outerHTML.slice(0, 90) : null",
            );
            if let Some(control) = hidden.as_str() {
                found.push(format!("{name}: focus is not seen: {control}"));
            }
        }
        let missed = self.run(&format!(
            "return {CONTROLS}.filter((one) => !one.dataset.seen && !(one.type === 'radio')) \
               .map((one) => one.outerHTML.slice(0, 90))"
        ));
        for control in missed.as_array().unwrap().iter().filter_map(Value::as_str) {
            found.push(format!("{name}: no key leads to {control}"));
        }
        let stayed = self.run("return document.contains(window.walked)") == true;
        if stayed {
            self.found.borrow_mut().append(&mut found);
        }
        stayed
    }

    /// Finds an element; waits for it, because the page may be on its way.
    fn find(&self, css: &str) -> String {
        let body = json!({ "using": "css selector", "value": css });
        let start = Instant::now();
        loop {
            let path = format!("/session/{}/element", self.session);
            let found = self.try_call("POST", &path, &body);
            if found["error"].is_null() {
                let id = found.as_object().and_then(|all| all.values().next()?.as_str());
                return id.unwrap_or_else(|| panic!("no {css}")).to_owned();
            }
            assert_eq!(found["error"], "no such element", "{css}: {found}");
            assert!(start.elapsed() < SOON, "no {css} on the page:\n{}", self.text());
            std::thread::sleep(Duration::from_millis(20));
        }
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
            let words = said["message"].as_str().unwrap_or_default();
            // The driver says it in one way or the other.
            let is_of_the_page_before = said["error"] == "stale element reference"
                || words.contains("does not belong to the document");
            assert!(said["error"].is_null() || is_of_the_page_before, "{path}: {said}");
            if !is_of_the_page_before {
                return;
            }
            assert!(start.elapsed() < SOON, "{css} never stays");
        }
    }

    /// Chooses of a list by its words.
    pub(crate) fn choose(&self, css: &str, words: &str) {
        let chosen = self.run(&format!(
            "const list = document.querySelector({css:?}); \
             list.value = [...list.options].find((one) => one.text === {words:?}).value; \
             list.dispatchEvent(new Event('change')); return true"
        ));
        assert_eq!(chosen, true);
    }

    /// Clicks the button that says this.
    pub(crate) fn click_labelled(&self, words: &str) {
        let marked = self.run(&format!(
            "document.querySelectorAll('#wanted-button').forEach((one) => one.removeAttribute('id')); \
             const button = [...document.querySelectorAll('button')] \
               .find((one) => one.textContent.trim() === {words:?}); \
             if (button) button.id = 'wanted-button'; return button !== undefined"
        ));
        assert_eq!(marked, true, "no button {words:?}");
        self.click("#wanted-button");
    }

    /// Returns the recovery codes that the page shows.
    pub(crate) fn codes(&self) -> Vec<String> {
        let codes = self.run(
            "return [...document.querySelectorAll('.codes code')].map((code) => code.textContent)",
        );
        let codes = codes.as_array().unwrap().iter();
        codes.map(|code| code.as_str().unwrap().to_owned()).collect()
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
            let size = |height: u64| {
                json!({
                    "width": width, "height": height, "deviceScaleFactor": 1,
                    "mobile": form == "phone",
                })
            };
            self.tell("Emulation.setDeviceMetricsOverride", &size(height));
            // The whole page, unless it is very long.
            let whole = self.run("return document.documentElement.scrollHeight");
            let whole = whole.as_u64().unwrap().clamp(height, 3_200);
            self.tell("Emulation.setDeviceMetricsOverride", &size(whole));
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

    /// Returns what axe-core finds wrong with the page, and what we find beside it.
    pub(crate) fn look_over(&self) -> Vec<String> {
        if self.run("return window.axe === undefined") == true {
            self.run(&self.axe);
        }
        let mut all = Vec::new();
        for script in [LOOK_OVER, BESIDE] {
            let found = self.run(script);
            let found = found.as_array().unwrap().iter();
            all.extend(found.map(|one| one.as_str().unwrap().to_owned()));
        }
        all
    }

    /// Looks for what keeps some people from using a page.
    fn check(&self, what: &str) {
        let found = self.look_over().into_iter().map(|one| format!("{what}: {one}"));
        self.found.borrow_mut().extend(found);
        // What a screen reader is told.
        let tree = self.tell("Accessibility.getFullAXTree", &json!({}));
        for node in tree["nodes"].as_array().unwrap() {
            let role = node["role"]["value"].as_str().unwrap_or_default();
            let spoken = matches!(
                role,
                "button"
                    | "link"
                    | "textbox"
                    | "searchbox"
                    | "checkbox"
                    | "combobox"
                    | "spinbutton"
                    | "image"
                    | "region"
                    | "navigation"
                    | "heading"
            );
            let name = node["name"]["value"].as_str().unwrap_or_default();
            if spoken && node["ignored"] != true && name.trim().is_empty() {
                self.found.borrow_mut().push(format!("{what}: a {role} without a name: {node}"));
            }
        }
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
