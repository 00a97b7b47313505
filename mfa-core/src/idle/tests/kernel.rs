//! What a kernel was seen to count, line by line, and what becomes of each tunnel.
//!
//! Measured between two namespaces on kernel WireGuard: how a server's counters move while its peer
//! does nothing but keep alive, sends a little, or is locked out.

use super::*;

/// How long each tunnel is watched.
const HOUR: u64 = 3_600;

/// What happens at one moment to the server's counters.
#[derive(Clone, Copy, Debug)]
struct Moment {
    second: u64,
    rx: u64,
    tx: u64,
    /// Whether a handshake is completed.
    handshake: bool,
}

/// A tunnel's life, as moments in their order.
type Life = Vec<Moment>;

#[test]
fn a_client_that_only_keeps_alive_is_idle_by_transfer_and_never_by_handshake() {
    for period in PERIODS {
        for phase in 0..period {
            let end = watch(&kept_alive_by_client(), by_transfer(180), period, phase);
            assert_eq!(end, Some(180), "reports every {period} s from {phase} s on");
        }
        let policy = by_handshake(120 + 25 + 2 * period.max(30));
        assert_eq!(watch(&kept_alive_by_client(), policy, period, 0), None);
    }
}

#[test]
fn a_client_that_is_only_kept_alive_by_the_server_is_idle() {
    for period in PERIODS {
        let policy = by_transfer(180).with_gateway_keepalive(Duration::from_secs(25));
        assert_eq!(watch(&kept_alive_by_server(), policy, period, 3), Some(180));
        let end = watch(&kept_alive_by_server(), by_handshake(180), period, 3);
        assert_eq!(end, Some(180), "there is one handshake, the first");
    }
}

#[test]
fn a_tunnel_in_which_nothing_moves_is_idle_either_way() {
    let life = vec![handshake(0, 32, 0)];
    assert_eq!(watch(&life, by_transfer(300), 30, 5), Some(300));
    assert_eq!(watch(&life, by_handshake(300), 30, 5), Some(300));
    assert_eq!(watch(&vec![], by_transfer(300), 30, 5), Some(300));
    assert_eq!(watch(&vec![], by_handshake(300), 30, 5), Some(300));
}

#[test]
fn a_client_with_one_request_a_minute_is_never_ended() {
    for period in PERIODS {
        for phase in 0..period {
            let end = watch(&request_and_answer(), by_transfer(180), period, phase);
            assert_eq!(end, None, "reports every {period} s from {phase} s on");
        }
        assert_eq!(watch(&request_and_answer(), by_handshake(180), period, 7), None);
    }
}

#[test]
fn data_in_one_direction_keeps_the_session_whichever_it_is() {
    for period in PERIODS {
        for life in [one_way_from_client(), one_way_from_server()] {
            for phase in 0..period {
                assert_eq!(watch(&life, by_transfer(180), period, phase), None);
            }
            assert_eq!(watch(&life, by_handshake(180), period, 7), None);
        }
    }
}

#[test]
fn a_client_that_is_locked_out_is_idle_though_bytes_keep_growing() {
    for period in PERIODS {
        for phase in 0..period {
            assert_eq!(watch(&locked_out(), by_transfer(300), period, phase), Some(300));
        }
        assert_eq!(watch(&locked_out(), by_handshake(300), period, 0), Some(300));
    }
}

/// A session's keys worked, and then its client lost the PSK: its initiations are answered, and
/// nothing comes of it.
#[test]
fn a_client_that_is_locked_out_of_a_live_session_is_idle_soon_after_its_keys() {
    for period in PERIODS {
        let mut life = vec![handshake(0, 128, 128)];
        life.extend((5..HOUR).step_by(5).map(|second| step(second, 148, 92)));
        let end = watch(&life, by_transfer(300), period, 0).unwrap();
        assert!((300..=120 + 300 + period).contains(&end), "ended at {end}");
    }
}

/// What a userspace implementation counts: data without its padding, keepalives of the peer as
/// nothing, and a handshake as soon as the initiation is answered.
#[test]
fn userspace_counters_are_judged_alike() {
    let mut keepalive = vec![];
    for second in (0..HOUR).step_by(120) {
        keepalive.push(handshake(second, 0, 0));
    }
    assert_eq!(watch(&keepalive, by_transfer(180), 30, 7), Some(180));

    let mut ping = vec![];
    for second in (0..HOUR).step_by(60) {
        let renew =
            if second % 120 == 0 { handshake(second, 84, 116) } else { step(second, 84, 116) };
        ping.push(renew);
    }
    assert_eq!(watch(&ping, by_transfer(180), 30, 7), None);
}

/// Statistics periods, in seconds; 30 is the recommended one.
const PERIODS: [u64; 4] = [5, 10, 30, 60];

/// Keepalive every 25 s: rx +32, and +212 with tx +92 every 128 s or so.
fn kept_alive_by_client() -> Life {
    let mut life = vec![handshake(0, 64, 0)];
    let mut renewed = 0;
    for second in (25..HOUR).step_by(25) {
        // The first keepalive after 120 s needs new keys.
        if second - renewed >= 120 {
            renewed = second;
            life.push(handshake(second, 64, 0));
        } else {
            life.push(step(second, 32, 0));
        }
    }
    life
}

/// The server keeps alive every 25 s; the client answers nothing.
fn kept_alive_by_server() -> Life {
    let mut life = vec![handshake(0, 32, 0)];
    life.extend((25..HOUR).step_by(25).map(|second| step(second, 0, 32)));
    life
}

/// 100 bytes there and back every 60 s: rx +308 with a handshake, +32 ten seconds later, then
/// +160, +32 …
fn request_and_answer() -> Life {
    let mut life = vec![];
    for second in (0..HOUR).step_by(60) {
        life.push(if second % 120 == 0 {
            handshake(second, 160, 160)
        } else {
            step(second, 160, 160)
        });
        life.push(step(second + 10, 32, 0));
    }
    life
}

/// 100 bytes from the client every 30 s, and the server's keepalive in answer.
fn one_way_from_client() -> Life {
    let mut life = vec![];
    for second in (0..HOUR).step_by(30) {
        life.push(if second % 120 == 0 { handshake(second, 160, 0) } else { step(second, 160, 0) });
        life.push(step(second + 10, 0, 32));
    }
    life
}

/// 100 bytes from the server every 30 s, and the client's keepalive in answer. The server began,
/// so it is the server that renews the keys.
fn one_way_from_server() -> Life {
    let mut life = vec![];
    for second in (0..HOUR).step_by(30) {
        let renew = second % 120 == 0;
        let (rx, tx) = if renew { (92, 148 + 160) } else { (0, 160) };
        life.push(Moment { second, rx, tx, handshake: renew });
        life.push(step(second + 10, 32, 0));
    }
    life
}

/// A client with a wrong PSK and a packet a second: rx +148 every 5 s, tx +92.
fn locked_out() -> Life {
    (0..HOUR).step_by(5).map(|second| step(second, 148, 92)).collect()
}

fn step(second: u64, rx: u64, tx: u64) -> Moment {
    Moment { second, rx, tx, handshake: false }
}

/// A handshake that the client began, and what came with it.
fn handshake(second: u64, rx: u64, tx: u64) -> Moment {
    Moment { second, rx: 148 + rx, tx: 92 + tx, handshake: true }
}

/// Lets one gateway report a tunnel's life every `period` seconds, the first time after `phase`;
/// returns the second at which the session is ended, if it is.
fn watch(life: &Life, policy: IdlePolicy, period: u64, phase: u64) -> Option<u64> {
    let mut tracker = IdleTracker::new();
    tracker.track(ALICE, policy, at(0));
    let mut moments = life.iter().peekable();
    let (mut counters, mut last_handshake) = (Counters::ZERO, None);
    for second in 0..HOUR {
        tracker.handle_timeout(at(second));
        if tracker.poll_event().is_some() {
            return Some(second);
        }
        while let Some(moment) = moments.next_if(|moment| moment.second <= second) {
            counters.rx_bytes += moment.rx;
            counters.tx_bytes += moment.tx;
            last_handshake = if moment.handshake { Some(moment.second) } else { last_handshake };
        }
        if second % period == phase % period {
            let handshake_age = last_handshake.map(|last| Duration::from_secs(second - last));
            let handshake_mark = last_handshake.and_then(NonZeroU64::new);
            let report =
                Report { session: ALICE, gateway: NORTH, counters, handshake_age, handshake_mark };
            tracker.handle_report(&report, at(second));
        }
    }
    None
}
