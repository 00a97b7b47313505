//! Sends damaged requests to a running core, and counts what it answers.

use std::collections::BTreeMap;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use mfa_wire::http::path;

use crate::mutate::Mutator;
use crate::target::all;

/// What is asked for.
const PATHS: &[&str] = &[
    path::ENROLLMENT_START,
    path::ENROLLMENT_CREATE_DEVICE,
    path::ENROLLMENT_MFA_START,
    path::ENROLLMENT_MFA_FINISH,
    path::MFA_START,
    path::MFA_FINISH,
    path::POLL,
    path::DEVICE_NONCE,
    path::DEVICE_STATUS,
    path::DEVICE_MFA,
    "/setup?token=x",
    "/",
    "/%00/../x",
];

/// Requests on one connection; the next number begins another.
const ON_ONE: usize = 32;

/// How often each status was answered; 0: the connection was closed without one.
pub type Answers = BTreeMap<u16, u64>;

/// Sends the requests of the numbers `seeds` to a core at `to` that serves without TLS.
///
/// # Errors
///
/// When nothing listens there.
pub fn run(to: SocketAddr, seeds: core::ops::Range<u64>) -> io::Result<Answers> {
    let mut answers = Answers::new();
    let bodies: Vec<&[u8]> = all().iter().flat_map(|target| target.seeds.iter().copied()).collect();
    let (mut connection, mut sent) = (None, 0);
    for seed in seeds {
        if sent >= ON_ONE {
            connection = None;
        }
        let stream = if let Some(stream) = connection.take() {
            stream
        } else {
            sent = 0;
            TcpStream::connect(to)?
        };
        let status = ask(stream, &request(seed, &bodies), &mut connection);
        sent += 1;
        let count = answers.entry(status).or_default();
        *count = count.saturating_add(1);
    }
    Ok(answers)
}

/// A request: nine of ten are well formed around a damaged body, one is damaged as a whole.
fn request(seed: u64, bodies: &[&[u8]]) -> Vec<u8> {
    let mut mutator = Mutator::new(seed);
    let body = mutator.make(bodies);
    let index = usize::try_from(seed).unwrap_or_default() % PATHS.len();
    let path = PATHS.get(index).copied().unwrap_or("/");
    let method = if seed.is_multiple_of(7) { "GET" } else { "POST" };
    // Believed by a core that trusts the flood's address as a proxy; else all is one source's.
    let [.., a, b, c] = (seed / 32).to_be_bytes();
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: core\r\nContent-Type: application/json\r\n\
         Cookie: defguard_proxy=x\r\nX-Forwarded-For: 10.{a}.{b}.{c}\r\nwgmfa-proof: {seed}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend(body);
    if seed.is_multiple_of(10) { mutator.make(&[&request]) } else { request }
}

/// Asks once; puts the connection back if it can be asked again.
fn ask(mut stream: TcpStream, request: &[u8], keep: &mut Option<TcpStream>) -> u16 {
    let patience = Some(core::time::Duration::from_millis(100));
    let set = stream.set_read_timeout(patience).and_then(|()| stream.write_all(request));
    let mut answer = Vec::new();
    let mut part = [0; 4096];
    while set.is_ok() {
        match stream.read(&mut part) {
            Ok(0) | Err(_) => return status(&answer),
            Ok(length) => answer.extend(part.get(..length).unwrap_or_default()),
        }
        if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(answer.get(..end).unwrap_or_default());
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length = length.and_then(|length| length.trim().parse::<usize>().ok());
            if length.is_some_and(|length| answer.len() >= end + 4 + length) {
                if !head.contains("connection: close") {
                    *keep = Some(stream);
                }
                return status(&answer);
            }
        }
    }
    0
}

fn status(answer: &[u8]) -> u16 {
    let status = answer.get(9..12).and_then(|digits| core::str::from_utf8(digits).ok());
    status.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}
