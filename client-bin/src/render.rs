//! How things read for people, in the manner of `wg show`.

use core::fmt::Write as _;
use std::time::SystemTime;

use mfa_wire::http::{MethodStatus, MfaList, SessionInfo};

use crate::clock;
use crate::connect::describe;
use crate::console::{Console, Paint};
use crate::event::Event;
use crate::life::unix;
use crate::mfa::Begun;
use crate::qr;
use crate::status::{LocationView, State, left};

/// Says an event in a sentence; `None`: it is not worth one.
#[must_use]
pub fn event(event: &Event) -> Option<String> {
    Some(match event {
        Event::UpdateSkipped { message } => {
            format!("The server could not be asked for changes: {message}")
        }
        Event::Challenge { sent_to: Some(to), .. } => format!("A code was sent to {to}."),
        Event::Challenge { method, .. } if method == "email" => "A code was sent to you.".to_owned(),
        Event::Authenticated { session: Some(session) } if session.gateways_connected == 0 => {
            "The code was right, but no gateway of this location is connected to the server. The tunnel works as soon as one is.".to_owned()
        }
        Event::Challenge { .. } | Event::Authenticated { .. } => return None,
        Event::Up { interface, backend, addresses, routes, dns, .. } => {
            let mut text = format!("{interface} ({backend}): address {}", addresses.join(", "));
            if !routes.is_empty() {
                let _ = write!(text, "; routes {}", routes.join(", "));
            }
            if let Some(dns) = dns {
                let _ = write!(text, "; name servers {dns}");
            }
            text
        }
        Event::DnsNotSet { message } => {
            format!("The location's name servers could not be set, the tunnel works without: {message}")
        }
        Event::Connected { location, took_millis, handshake_millis, .. } => format!(
            "Connected to {location} in {} (of these, WireGuard's handshake {}).",
            millis(*took_millis),
            millis(*handshake_millis)
        ),
        Event::NoAnswer { .. } => "The gateway does not answer. WireGuard keeps trying; if it stays so, check the network connection and ask your administrator whether the gateway runs.".to_owned(),
        Event::AnswersAgain => "The gateway answers again.".to_owned(),
        Event::EndsSoon { left, location, .. } => format!(
            "The session ends in {}. `client-bin renew {location}` extends it without an interruption.",
            span(*left)
        ),
        Event::Renewed { until } => {
            format!("The session was extended: it ends in {} at the latest.", span(until.saturating_sub(unix(clock::wall()))))
        }
        Event::Updated { changes } => format!("Instance Update: {}.", changes.join("; ")),
        Event::ServerUnreachable { message } => {
            format!("The server cannot be asked now; the tunnel stays as it is: {message}")
        }
        Event::ServerBack => "The server answers again.".to_owned(),
        Event::CodeRefused { message, .. }
        | Event::Ended { message, .. }
        | Event::Failed { message, .. } => message.clone(),
        Event::Disconnected { server_told, rx_bytes, tx_bytes, seconds } => {
            let mut text = format!(
                "Disconnected after {}: {} received, {} sent.",
                span(*seconds),
                bytes(*rx_bytes),
                bytes(*tx_bytes)
            );
            if !server_told {
                text.push_str(" The server could not be told; it ends the session by itself.");
            }
            text
        }
    })
}

/// Says what a session promises.
#[must_use]
pub fn session(session: &SessionInfo) -> String {
    let lasts = span(session.expires.saturating_sub(session.since));
    match session.idle_threshold {
        0 => format!("The session lasts {lasts} at most."),
        idle => {
            format!("The session lasts {lasts} at most, and ends after {idle} s without activity.")
        }
    }
}

/// Shows one location as `wg show` shows an interface.
#[must_use]
pub fn view(console: &Console, view: &LocationView, now: SystemTime) -> String {
    let (paint, mut told) = match &view.state {
        State::NotConnected => (Paint::Bold, "not connected".to_owned()),
        State::Connecting => (Paint::Pending, "connecting".to_owned()),
        State::Connected => (Paint::Good, "connected".to_owned()),
        State::Quiet => (
            Paint::Pending,
            "connected, but nothing was sent for minutes, so the gateway has not been heard either"
                .to_owned(),
        ),
        State::NoAnswer { since } => {
            let ago = span(unix(now).saturating_sub(*since));
            (Paint::Bad, format!("no answer from the gateway for {ago}"))
        }
        State::Ended { message, .. } => (Paint::Bad, format!("ended: {message}")),
    };
    if let (State::Ended { .. }, Some(end)) = (&view.state, &view.last_end) {
        let ago = span(unix(now).saturating_sub(end.at));
        let _ = write!(told, " ({ago} ago)");
    }
    let name = console.paint(Paint::Bold, &view.name);
    let mut text = format!("{name}: {}\n", console.paint(paint, &told));
    if let Some(link) = &view.link {
        let _ = writeln!(text, "  interface: {} ({})", link.interface, link.backend);
        if let Some(endpoint) = &link.endpoint {
            let _ = writeln!(text, "  endpoint: {endpoint}");
        }
        if let Some(age) = link.handshake_age {
            let _ = writeln!(text, "  latest handshake: {} ago", span(age));
        }
        let (rx, tx) = (bytes(link.rx_bytes), bytes(link.tx_bytes));
        let _ = writeln!(text, "  transfer: {rx} received, {tx} sent");
    }
    if let Some(session) = &view.session {
        let _ = writeln!(text, "  session: {} left", span(left(session, now)));
    }
    if view.link.is_some() && view.gateways_connected == Some(0) {
        text.push_str("  gateways: none is connected to the server\n");
    }
    if view.orphaned {
        text.push_str(
            "  the process of this connection was killed; `client-bin disconnect` cleans up\n",
        );
    }
    text
}

/// Shows the user's factors.
#[must_use]
pub fn factors(console: &Console, list: &MfaList) -> String {
    let mut text = String::new();
    for status in &list.methods {
        let name = console.paint(Paint::Bold, describe(status.method));
        let _ = writeln!(text, "{name}: {}", factor(status));
        for at in &status.locations {
            match &at.refused {
                Some(why) => {
                    let _ = writeln!(text, "  {}: no, {why}", at.name);
                }
                None => {
                    let _ = writeln!(text, "  {}: yes", at.name);
                }
            }
        }
    }
    let _ = write!(text, "recovery codes left: {}", list.recovery_codes_left);
    text
}

fn factor(status: &MethodStatus) -> String {
    match (&status.unavailable, status.set_up, &status.sent_to) {
        (Some(why), _, _) => format!("not offered, {why}"),
        (None, true, Some(to)) => format!("set up, codes go to {to}"),
        (None, true, None) => "set up".to_owned(),
        (None, false, _) => {
            format!("not set up. Run `client-bin mfa setup {}`", status.method.word())
        }
    }
}

/// Shows what an authenticator app needs.
#[must_use]
pub fn begun(console: &Console, begun: &Begun) -> String {
    let (Some(secret), Some(uri)) = (&begun.secret, &begun.otpauth) else {
        return match &begun.sent_to {
            Some(to) => format!("A code was sent to {to}."),
            None => "A code was sent to you.".to_owned(),
        };
    };
    let (secret, uri) = (secret.expose_secret(), uri.expose_secret());
    let mut text = String::from("Scan this with an authenticator app:\n\n");
    for line in qr::render(uri).unwrap_or_default().lines() {
        let _ = writeln!(text, "{}", console.paint(Paint::Code, line));
    }
    let groups: Vec<String> = secret
        .as_bytes()
        .chunks(4)
        .map(|four| String::from_utf8_lossy(four).into_owned())
        .collect();
    let _ = write!(text, "\nor type the secret: {}\nor open: {uri}\n", groups.join(" "));
    text
}

/// A length of time in its two largest units.
#[must_use]
pub fn span(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, rest) = (seconds / 60 % 60, seconds % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{rest} s"),
        (0, 0, _) if rest == 0 => format!("{minutes} min"),
        (0, 0, _) => format!("{minutes} min {rest} s"),
        (0, _, 0) => format!("{hours} h"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, 0, _) => format!("{days} d"),
        _ => format!("{days} d {hours} h"),
    }
}

/// A number of bytes as `wg show` prints it.
#[must_use]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let (mut hundredths, mut unit) = (u128::from(count) * 100 / 1024, UNITS.iter());
    let mut name = unit.next().copied().unwrap_or_default();
    while hundredths >= 102_400 {
        let Some(larger) = unit.next() else { break };
        hundredths /= 1024;
        name = larger;
    }
    format!("{}.{:02} {name}", hundredths / 100, hundredths % 100)
}

fn millis(millis: u64) -> String {
    if millis < 1000 {
        format!("{millis} ms")
    } else {
        format!("{}.{:02} s", millis / 1000, millis % 1000 / 10)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_wg_prints_them() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.00 KiB");
        assert_eq!(bytes(1_288_490), "1.22 MiB");
        assert_eq!(bytes(u64::MAX), "16777215.99 TiB");
    }

    #[test]
    fn spans_have_two_units() {
        let told: Vec<_> = [0, 59, 60, 61, 3_600, 3_660, 86_399, 86_400, 90_000].map(span).into();
        let want = [
            "0 s",
            "59 s",
            "1 min",
            "1 min 1 s",
            "1 h",
            "1 h 1 min",
            "23 h 59 min",
            "1 d",
            "1 d 1 h",
        ];
        assert_eq!(told, want);
    }

    #[test]
    fn milliseconds_become_seconds_when_there_are_many() {
        assert_eq!((millis(47), millis(1_234)), ("47 ms".to_owned(), "1.23 s".to_owned()));
    }
}
