//! A mail server on loopback that keeps what it gets.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A mail server.
pub(crate) struct Sink {
    pub(crate) port: u16,
    mails: Arc<Mutex<String>>,
}

impl Sink {
    /// Listens until the process ends.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let mails = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&mails);
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let kept = Arc::clone(&kept);
                std::thread::spawn(move || talk(stream, &kept));
            }
        });
        Self { port, mails }
    }

    /// Returns what was mailed so far, lines that quoted-printable broke put together.
    pub(crate) fn text(&self) -> String {
        self.mails.lock().unwrap().replace("=\r\n", "").replace("=3D", "=")
    }
}

fn talk(mut stream: TcpStream, kept: &Mutex<String>) {
    let mut lines = BufReader::new(stream.try_clone().unwrap());
    let (mut line, mut data) = (String::new(), false);
    let _ = stream.write_all(b"220 sink\r\n");
    while lines.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
        let answer: &[u8] = match (data, line.split_whitespace().next().unwrap_or_default()) {
            (true, ".") => {
                data = false;
                b"250 taken\r\n"
            }
            (true, _) => {
                kept.lock().unwrap().push_str(&line);
                b""
            }
            (false, "DATA") => {
                data = true;
                b"354 go on\r\n"
            }
            (false, "QUIT") => return,
            (false, _) => b"250 ok\r\n",
        };
        if stream.write_all(answer).is_err() {
            return;
        }
        line.clear();
    }
}
