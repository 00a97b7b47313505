//! Whether times tell what answers do not: how well one look at a time tells two kinds of request apart.

use std::hint::black_box;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use mfa_core::factor::CodeDigest;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Returns the area under the ROC curve of two sets of times: the chance that one of `second` is longer
/// than one of `first`. One half tells nothing, 0 and 1 tell everything.
#[must_use]
pub fn area(first: &[f64], second: &[f64]) -> f64 {
    let mut all: Vec<(f64, bool)> = first.iter().map(|time| (*time, false)).collect();
    all.extend(second.iter().map(|time| (*time, true)));
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut sum = 0.0;
    let mut at = 0;
    while let Some((time, _)) = all.get(at) {
        let equal = all.iter().skip(at).take_while(|(other, _)| other.total_cmp(time).is_eq());
        let (count, of_second) = equal
            .fold((0_usize, 0_usize), |(count, of), (_, is)| (count + 1, of + usize::from(*is)));
        // Equals share the middle of their ranks.
        sum += number(of_second) * (number(at) + f64::midpoint(1.0, number(count)));
        at += count;
    }
    let (n, m) = (number(first.len()), number(second.len()));
    if first.is_empty() || second.is_empty() { 0.5 } else { (sum - m * (m + 1.0) / 2.0) / (n * m) }
}

/// Returns Welch's t of two sets of times: beyond 4.5 they differ, says dudect (Reparaz, Balasch,
/// Verbauwhede 2017).
#[must_use]
pub fn welch(first: &[f64], second: &[f64]) -> f64 {
    let of = |times: &[f64]| {
        let n = number(times.len());
        let mean = times.iter().sum::<f64>() / n;
        let variance = times.iter().map(|time| (time - mean).powi(2)).sum::<f64>() / (n - 1.0);
        (mean, variance / n)
    };
    let ((mean, error), (other_mean, other_error)) = (of(first), of(second));
    let error = (error + other_error).sqrt();
    if error > 0.0 { (mean - other_mean) / error } else { 0.0 }
}

fn number(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::MAX, f64::from)
}

#[expect(clippy::disallowed_methods, reason = "time is what is measured")]
fn now() -> Instant {
    Instant::now()
}

/// What was measured of one pair of kinds.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Which.
    pub what: &'static str,
    /// Requests of each kind.
    pub each: usize,
    /// How far the area is from one half.
    pub distance: f64,
    /// Welch's t.
    pub t: f64,
    /// The answers' statuses and lengths: of each kind, how many different.
    pub answers: (usize, usize),
}

/// Asks a core without TLS, which believes this host as a proxy, in turn for what it knows and for what it
/// does not: passwords of `login` and of a login that nobody has, and links to reset them.
///
/// # Errors
///
/// When nothing listens there.
pub fn enumerate(to: SocketAddr, login: &str, each: usize) -> io::Result<Vec<Measured>> {
    let unknown: String = login.chars().rev().chain(['q']).collect();
    let password = |login: &str| ("/login", format!("login={login}&password=wrong+horse+battery"));
    let link = |login: &str| ("/forgot", format!("who={login}"));
    let token = |letter: &str| {
        ("/api/v1/enrollment/start", format!("{{\"token\":\"{}\"}}", letter.repeat(43)))
    };
    let pairs = [
        ("password of a login", password(login), password(&unknown)),
        ("link to reset a password", link(login), link(&unknown)),
        ("the same twice: the noise", token("A"), token("A")),
    ];
    let mut all = Vec::new();
    let mut random = StdRng::seed_from_u64(1);
    let mut source = 0_u32;
    for (what, known, unknown) in pairs {
        let mut times = [Vec::new(), Vec::new()];
        let mut answers = [Vec::new(), Vec::new()];
        while times.iter().any(|times| times.len() < each) {
            let kind = usize::from(random.random::<bool>());
            let ((path, body), Some(times), Some(answers)) = (
                if kind == 0 { &known } else { &unknown },
                times.get_mut(kind),
                answers.get_mut(kind),
            ) else {
                continue;
            };
            if times.len() >= each {
                continue;
            }
            source += 1;
            let (time, status, length) = ask(to, path, body, source)?;
            times.push(time);
            // Without what was sent, which pages repeat.
            let answer = (status, length);
            if !answers.contains(&answer) {
                answers.push(answer);
            }
        }
        let [first, second] = &times;
        all.push(Measured {
            what,
            each,
            distance: (area(first, second) - 0.5).abs(),
            t: welch(first, second),
            answers: (answers.first().map_or(0, Vec::len), answers.last().map_or(0, Vec::len)),
        });
    }
    Ok(all)
}

/// Asks once, as another source each time; returns the time in ms, the status, the length.
fn ask(to: SocketAddr, path: &str, body: &str, source: u32) -> io::Result<(f64, u16, usize)> {
    let [_, a, b, c] = source.to_be_bytes();
    let kind = if body.starts_with('{') {
        "application/json"
    } else {
        "application/x-www-form-urlencoded"
    };
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: core\r\nConnection: close\r\nContent-Type: {kind}\r\n\
         sec-fetch-site: same-origin\r\nX-Forwarded-For: 10.{a}.{b}.{c}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(to)?;
    let mut answer = Vec::new();
    let begun = now();
    stream.write_all(request.as_bytes())?;
    stream.read_to_end(&mut answer)?;
    let time = begun.elapsed().as_secs_f64() * 1000.0;
    let status = answer.get(9..12).and_then(|digits| core::str::from_utf8(digits).ok());
    Ok((time, status.and_then(|digits| digits.parse().ok()).unwrap_or(0), answer.len()))
}

/// Compares a digest with one that differs in its first byte and with one that differs in its last, in
/// turn at random, and returns Welch's t of the two times, of the quicker nine tenths.
#[must_use]
pub fn compare(rounds: usize) -> f64 {
    const AT_ONCE: u32 = 64;
    let right = CodeDigest::from_bytes([0x5a; 32]);
    let wrong = |at: usize| {
        let mut bytes = [0x5a; 32];
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1;
        }
        CodeDigest::from_bytes(bytes)
    };
    let kinds = [wrong(0), wrong(31)];
    let mut times = [Vec::new(), Vec::new()];
    let mut random = StdRng::seed_from_u64(2);
    for _ in 0..rounds {
        let kind = usize::from(random.random::<bool>());
        let (Some(other), Some(times)) = (kinds.get(kind), times.get_mut(kind)) else { continue };
        let begun = now();
        for _ in 0..AT_ONCE {
            black_box(black_box(&right).same_as(black_box(other)));
        }
        times.push(begun.elapsed().as_secs_f64() * 1e9);
    }
    // What the scheduler adds is no compare's.
    let mut all: Vec<f64> = times.iter().flatten().copied().collect();
    all.sort_by(f64::total_cmp);
    let most = all.get(all.len() / 10 * 9).copied().unwrap_or(f64::MAX);
    let [first, second] =
        times.map(|times| times.into_iter().filter(|time| *time <= most).collect::<Vec<_>>());
    welch(&first, &second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_area_says_how_well_times_tell_kinds_apart() {
        let near = |seen: f64, expected: f64| assert!((seen - expected).abs() < 1e-9, "{seen}");
        near(area(&[1.0, 2.0], &[3.0, 4.0]), 1.0);
        near(area(&[3.0, 4.0], &[1.0, 2.0]), 0.0);
        near(area(&[1.0, 4.0], &[2.0, 3.0]), 0.5);
        near(area(&[1.0, 1.0], &[1.0]), 0.5);
        near(area(&[1.0, 2.0, 3.0], &[2.0]), 0.5);
        near(area(&[1.0, 2.0, 3.0, 4.0], &[3.5]), 0.75);
    }

    #[test]
    fn welchs_t_is_small_for_equals_and_large_for_others() {
        let noise: Vec<f64> = (0..1_000).map(|n| f64::from(n % 10)).collect();
        let later: Vec<f64> = noise.iter().map(|time| time + 2.0).collect();
        assert!(welch(&noise, &noise).abs() < 1e-9);
        assert!(welch(&noise, &later).abs() > 4.5);
    }
}
