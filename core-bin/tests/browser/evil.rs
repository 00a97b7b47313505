//! Another site, which wants to act with a visitor's session.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::driver::Browser;

/// Pages of another site.
pub(crate) struct Evil {
    pub(crate) url: String,
}

impl Evil {
    /// Serves attacks on `victim` until the process ends.
    pub(crate) fn start(victim: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://127.0.0.1:{}", listener.local_addr().unwrap().port());
        let victim = victim.to_owned();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                answer(stream, &victim);
            }
        });
        Self { url }
    }

    /// Tells whether the frame of `/frame` holds the browser's own page about a refusal.
    pub(crate) fn is_refused(browser: &Browser) -> bool {
        browser.within_frame("return location.protocol") == "chrome-error:"
    }
}

fn answer(mut stream: TcpStream, victim: &str) {
    let mut line = String::new();
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    if lines.read_line(&mut line).is_err() {
        return;
    }
    let path = line.split(' ').nth(1).unwrap_or("/").to_owned();
    let mut header = String::from("x");
    while !header.trim().is_empty() {
        header.clear();
        if lines.read_line(&mut header).is_err() {
            return;
        }
    }
    let page = match path.as_str() {
        "/frame" => format!("<!doctype html><iframe src='{victim}/overview'></iframe>"),
        path => format!(
            "<!doctype html><form method=post action='{victim}{path}'>\
             <input name=login value=mallory><input name=email value=m@example.com></form>\
             <script>document.forms[0].submit()</script>"
        ),
    };
    let _ = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{page}",
        page.len()
    );
}
