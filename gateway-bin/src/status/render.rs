//! The status in words, in the manner of `wg show`, and as a table for programs.

use core::fmt::{self, Write as _};

use super::{CoreStatus, HoldStatus, InterfaceStatus, LeaseStatus, PeerStatus, Status};
use crate::control::LinkState;

/// Whether headings are coloured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Colour {
    /// As on a terminal.
    Ansi,
    /// As in a file.
    None,
}

impl Colour {
    fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Ansi => format!("\x1b[{code}m{text}\x1b[0m"),
            Self::None => text.to_owned(),
        }
    }
}

/// Tells a person.
#[must_use]
pub fn human(status: &Status, colour: Colour) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = interface(&mut text, &status.interface, colour);
    let _ = core_line(&mut text, status, colour);
    for peer in &status.interface.peers {
        let _ = one_peer(&mut text, peer, status.at_ms, colour);
    }
    text
}

/// Tells a program, as `wg show INTERFACE dump` does: a line for the interface, then one a peer,
/// separated by tabs. Times are seconds since 1970, zero: never. Secret keys are `(hidden)`.
#[must_use]
pub fn dump(status: &Status) -> String {
    let interface = &status.interface;
    let key = interface.public_key.as_deref().unwrap_or("(none)");
    let mark = match interface.fwmark {
        0 => "off".to_owned(),
        mark => format!("{mark:#x}"),
    };
    let mut text = format!("(hidden)\t{key}\t{}\t{mark}\n", interface.listen_port);
    for peer in &interface.peers {
        let keepalive = match peer.persistent_keepalive {
            0 => "off".to_owned(),
            seconds => seconds.to_string(),
        };
        let _ = writeln!(
            text,
            "{}\t{}\t{}\t{}\t{}\t{}\t{}\t{keepalive}",
            peer.public_key,
            if peer.preshared_key { "(hidden)" } else { "(none)" },
            peer.endpoint.as_deref().unwrap_or("(none)"),
            or_none(&peer.allowed_ips, ","),
            peer.latest_handshake_ms.unwrap_or_default() / 1000,
            peer.rx_bytes,
            peer.tx_bytes,
        );
    }
    text
}

fn interface(text: &mut String, interface: &InterfaceStatus, colour: Colour) -> fmt::Result {
    heading(text, colour, "32;1", "interface", &interface.name)?;
    if !interface.location.is_empty() {
        let mfa = if interface.mfa_required { "MFA required" } else { "no MFA" };
        line(text, colour, "location", format_args!("{} ({mfa})", interface.location))?;
    }
    line(text, colour, "backend", format_args!("{}", interface.backend))?;
    if let Some(error) = &interface.error {
        return line(text, colour, "error", format_args!("{error}"));
    }
    if let Some(key) = &interface.public_key {
        line(text, colour, "public key", format_args!("{key}"))?;
        line(text, colour, "private key", format_args!("(hidden)"))?;
    }
    if interface.listen_port != 0 {
        line(text, colour, "listening port", format_args!("{}", interface.listen_port))?;
    }
    if interface.fwmark != 0 {
        line(text, colour, "fwmark", format_args!("{:#x}", interface.fwmark))?;
    }
    Ok(())
}

fn core_line(text: &mut String, status: &Status, colour: Colour) -> fmt::Result {
    let core = &status.core;
    text.push('\n');
    heading(text, colour, "35;1", "core", &core.url)?;
    line(text, colour, "link", format_args!("{}", link(core, status.at_ms)))?;
    if let Some(error) = &core.error {
        line(text, colour, "last error", format_args!("{error}"))?;
    }
    match (status.wanted_revision, status.applied_revision) {
        (0, _) => line(text, colour, "revision", format_args!("(core has not said one yet)"))?,
        (wanted, applied) if wanted == applied => {
            line(text, colour, "revision", format_args!("{wanted}, verified"))?;
        }
        (wanted, applied) => {
            let both = format_args!("{wanted} is wanted, {applied} is verified");
            line(text, colour, "revision", both)?;
        }
    }
    if let Some(error) = &status.kernel_error {
        line(text, colour, "behind because", format_args!("{error}"))?;
    }
    match &status.lease {
        None => {}
        Some(LeaseStatus { unheld: Some(why), .. }) => {
            let unheld = format_args!("not held: {why}; without core, traffic goes on passing");
            line(text, colour, "lease", unheld)?;
        }
        Some(LeaseStatus { remaining_ms: 0, .. }) => {
            line(text, colour, "lease", format_args!("over: no traffic passes"))?;
        }
        Some(LeaseStatus { remaining_ms, .. }) => {
            let left = span(remaining_ms.div_ceil(1000));
            let without = if status.outage_hold.is_some() { "this gateway" } else { "core" };
            let passes = format_args!("without {without}, traffic passes for {left}");
            line(text, colour, "lease", passes)?;
        }
    }
    if let Some(hold) = &status.outage_hold {
        line(
            text,
            colour,
            "core outage hold",
            format_args!("{}", outage_hold(hold, status.at_ms)),
        )?;
    }
    let period = status.statistics_period_ms / 1000;
    line(text, colour, "statistics", format_args!("every {}", span(period)))?;
    let (strangers, healed) = (status.strangers_removed, status.peers_healed);
    let rebuilt = status.lease.as_ref().map_or(0, |lease| lease.rebuilt);
    let remade = status.interfaces_remade;
    if strangers > 0 || healed > 0 || rebuilt > 0 || remade > 0 {
        let drift = format_args!(
            "{strangers} strangers removed, {healed} peers set right, {rebuilt} gates rebuilt, \
             {remade} interfaces made anew"
        );
        line(text, colour, "drift", drift)?;
    }
    if let Some(ends) = core.certificate_ends_ms {
        let left = match ends.saturating_sub(status.at_ms) / 1000 {
            0 => "has ended".to_owned(),
            left => format!("ends in {}", about(left)),
        };
        line(text, colour, "certificate", format_args!("{left}"))?;
    }
    Ok(())
}

fn outage_hold(hold: &HoldStatus, at_ms: u64) -> String {
    let limit = span(hold.limit_ms / 1000);
    let left = |until: u64| span(until.saturating_sub(at_ms).div_ceil(1000));
    match (hold.until_ms, hold.holding) {
        (Some(until), true) => format!(
            "core is away; sessions are held for another {} (of {limit}), each until its own end",
            left(until)
        ),
        (Some(_), false) => format!("without core, sessions are held for {limit}"),
        (None, _) => format!("{limit} after core's last word; nothing is held now"),
    }
}

fn link(core: &CoreStatus, at_ms: u64) -> String {
    let state = match core.state {
        LinkState::Connecting => "connecting",
        LinkState::Connected => "connected",
        LinkState::Waiting => "waiting to dial again",
    };
    let since = span(at_ms.saturating_sub(core.since_ms) / 1000);
    let heard = core.last_heard_ms.map_or_else(
        || "core was never heard".to_owned(),
        |heard| format!("core was heard {}", ago(at_ms, heard)),
    );
    format!("{state} for {since}, {heard}")
}

fn one_peer(text: &mut String, peer: &PeerStatus, at_ms: u64, colour: Colour) -> fmt::Result {
    text.push('\n');
    heading(text, colour, "33;1", "peer", &peer.public_key)?;
    if peer.preshared_key {
        line(text, colour, "preshared key", format_args!("(hidden)"))?;
    }
    if let Some(endpoint) = &peer.endpoint {
        line(text, colour, "endpoint", format_args!("{endpoint}"))?;
    }
    line(text, colour, "allowed ips", format_args!("{}", or_none(&peer.allowed_ips, ", ")))?;
    if let Some(latest) = peer.latest_handshake_ms {
        line(text, colour, "latest handshake", format_args!("{}", ago(at_ms, latest)))?;
    }
    if peer.rx_bytes > 0 || peer.tx_bytes > 0 {
        let (received, sent) = (bytes(peer.rx_bytes), bytes(peer.tx_bytes));
        line(text, colour, "transfer", format_args!("{received} received, {sent} sent"))?;
    }
    if peer.persistent_keepalive > 0 {
        let every = span(peer.persistent_keepalive.into());
        line(text, colour, "persistent keepalive", format_args!("every {every}"))?;
    }
    Ok(())
}

fn heading(text: &mut String, colour: Colour, code: &str, what: &str, name: &str) -> fmt::Result {
    let what = colour.paint(code, what);
    writeln!(text, "{what}: {}", colour.paint(code, name))
}

fn line(text: &mut String, colour: Colour, what: &str, value: fmt::Arguments<'_>) -> fmt::Result {
    writeln!(text, "  {}: {value}", colour.paint("1", what))
}

fn or_none(list: &[String], separator: &str) -> String {
    if list.is_empty() { "(none)".to_owned() } else { list.join(separator) }
}

fn ago(at_ms: u64, then_ms: u64) -> String {
    match at_ms.saturating_sub(then_ms) / 1000 {
        0 => "just now".to_owned(),
        seconds => format!("{} ago", span(seconds)),
    }
}

/// "1 hour, 2 minutes, 3 seconds", as `wg` says it.
fn span(seconds: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (size, unit) in UNITS {
        let count = rest / size;
        rest %= size;
        if count > 0 {
            parts.push(format!("{count} {unit}{}", if count == 1 { "" } else { "s" }));
        }
    }
    if parts.is_empty() { "0 seconds".to_owned() } else { parts.join(", ") }
}

/// The span's largest unit alone.
fn about(seconds: u64) -> String {
    let exact = span(seconds);
    exact.split(',').next().unwrap_or(&exact).to_owned()
}

/// "1.21 MiB", as `wg` says it.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    // Hundredths of a unit, in whole numbers: there is no need for floating point.
    let mut unit_size = 1024_u64;
    let mut name = "KiB";
    for unit in UNITS {
        name = unit;
        if count / unit_size < 1024 || unit == "TiB" {
            break;
        }
        unit_size *= 1024;
    }
    let hundredths = u128::from(count) * 100 / u128::from(unit_size);
    format!("{}.{:02} {name}", hundredths / 100, hundredths % 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 1_700_000_100_000;

    fn status() -> Status {
        Status {
            version: "0.1.0".into(),
            at_ms: NOW_MS,
            interface: InterfaceStatus {
                name: "wg0".into(),
                backend: "kernel".into(),
                location: "Office".into(),
                mfa_required: true,
                error: None,
                public_key: Some("OWN=".into()),
                listen_port: 51820,
                fwmark: 0,
                peers: vec![PeerStatus {
                    public_key: "ALICE=".into(),
                    preshared_key: true,
                    endpoint: Some("192.0.2.1:4500".into()),
                    allowed_ips: vec!["10.1.0.7/32".into(), "fd00::7/128".into()],
                    latest_handshake_ms: Some(NOW_MS - 42_000),
                    rx_bytes: 1_268_800,
                    tx_bytes: 92,
                    persistent_keepalive: 25,
                }],
            },
            core: CoreStatus {
                url: "https://core.example.com:8444".into(),
                state: LinkState::Connected,
                since_ms: NOW_MS - 3_723_000,
                last_heard_ms: Some(NOW_MS - 4_000),
                error: None,
                certificate_ends_ms: Some(NOW_MS + 86_400_000),
            },
            connected: true,
            applied_revision: 7,
            wanted_revision: 7,
            kernel_error: None,
            lease: Some(LeaseStatus { remaining_ms: 85_500, unheld: None, rebuilt: 0 }),
            outage_hold: None,
            statistics_period_ms: 30_000,
            strangers_removed: 0,
            peers_healed: 0,
            interfaces_remade: 0,
        }
    }

    #[test]
    fn a_person_is_told_in_the_manner_of_wg_show() {
        let expected = "\
interface: wg0
  location: Office (MFA required)
  backend: kernel
  public key: OWN=
  private key: (hidden)
  listening port: 51820

core: https://core.example.com:8444
  link: connected for 1 hour, 2 minutes, 3 seconds, core was heard 4 seconds ago
  revision: 7, verified
  lease: without core, traffic passes for 1 minute, 26 seconds
  statistics: every 30 seconds
  certificate: ends in 1 day

peer: ALICE=
  preshared key: (hidden)
  endpoint: 192.0.2.1:4500
  allowed ips: 10.1.0.7/32, fd00::7/128
  latest handshake: 42 seconds ago
  transfer: 1.21 MiB received, 92 B sent
  persistent keepalive: every 25 seconds
";
        assert_eq!(human(&status(), Colour::None), expected);
    }

    #[test]
    fn a_program_gets_one_line_a_peer() {
        let expected = "(hidden)\tOWN=\t51820\toff\n\
            ALICE=\t(hidden)\t192.0.2.1:4500\t10.1.0.7/32,fd00::7/128\t1700000058\t1268800\t92\t25\n";
        assert_eq!(dump(&status()), expected);
    }

    #[test]
    fn what_is_wrong_is_said() {
        let mut status = status();
        status.core.state = LinkState::Waiting;
        status.core.last_heard_ms = None;
        status.core.error = Some("core was silent for 30s".into());
        status.kernel_error = Some("the kernel is busy".into());
        status.applied_revision = 6;
        status.lease = Some(LeaseStatus { remaining_ms: 0, unheld: None, rebuilt: 1 });
        status.strangers_removed = 2;
        status.interfaces_remade = 1;
        let said = human(&status, Colour::None);
        for part in [
            "waiting to dial again for 1 hour",
            "core was never heard",
            "last error: core was silent for 30s",
            "revision: 7 is wanted, 6 is verified",
            "behind because: the kernel is busy",
            "2 strangers removed",
            "no traffic passes",
            "1 gates rebuilt",
            "1 interfaces made anew",
        ] {
            assert!(said.contains(part), "{part} is missing in:\n{said}");
        }
    }

    #[test]
    fn a_hold_says_whether_core_is_away_and_how_long_sessions_go_on() {
        let hold = |holding, until_ms| HoldStatus { limit_ms: 14_400_000, holding, until_ms };
        let mut status = status();
        for (hold, said) in [
            (hold(false, Some(NOW_MS + 14_396_000)), "without core, sessions are held for 4 hours"),
            (
                hold(true, Some(NOW_MS + 3_723_000)),
                "core is away; sessions are held for another 1 hour, 2 minutes, 3 seconds (of 4 hours)",
            ),
            (hold(true, None), "4 hours after core's last word; nothing is held now"),
        ] {
            status.outage_hold = Some(hold);
            let human = human(&status, Colour::None);
            assert!(human.contains(&format!("  core outage hold: {said}")), "{human}");
            assert!(human.contains("lease: without this gateway, traffic passes for"), "{human}");
        }
    }

    #[test]
    fn sizes_and_spans_are_said_as_wg_says_them() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1024), "1.00 KiB");
        assert_eq!(bytes(5 * 1024 * 1024 * 1024 + 512 * 1024 * 1024), "5.50 GiB");
        assert_eq!(bytes(u64::MAX), "16777216.00 TiB".replace("16777216.00", "16777215.99"));
        assert_eq!(span(0), "0 seconds");
        assert_eq!(span(86_401), "1 day, 1 second");
    }
}
