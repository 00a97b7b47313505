use proptest::prelude::*;

use super::*;

const FRESH: Option<Duration> = Some(Duration::from_secs(20));
const OLD: Option<Duration> = Some(Duration::from_secs(300));

#[test]
fn nothing_is_no_data() {
    assert!(!window(0, 0).carries_data());
}

#[test]
fn keepalives_of_the_peer_are_no_data_at_any_interval() {
    for count in 1..=30 {
        assert!(!window(32 * count, 0).carries_data(), "{count} keepalives in 30 s");
    }
}

#[test]
fn a_handshake_of_the_peer_with_its_keepalives_is_no_data() {
    assert!(!window(148 + 32 + 32, 92).carries_data());
    assert!(!window(148, 92).carries_data());
    assert!(!window(148 + 148 + 32, 92).carries_data(), "the first answer was lost");
}

#[test]
fn a_response_without_an_initiation_does_not_exist() {
    assert!(window(32, 92).carries_data());
    assert!(window(148, 92 + 92).carries_data());
}

#[test]
fn a_handshake_of_the_gateway_is_no_data() {
    assert!(!window(92 + 32, 148 + 32).carries_data());
    assert!(!window(0, 148).carries_data(), "nobody answered");
    assert!(window(92 + 32, 148 + 32 + 32).carries_data(), "it answered something");
}

#[test]
fn initiations_that_fail_are_no_data_however_many() {
    for count in 1..=7 {
        assert!(!Window { handshake_age: OLD, ..window(148 * count, 92 * count) }.carries_data());
        assert!(!Window { handshake_age: None, ..window(148 * count, 92 * count) }.carries_data());
        assert!(!Window { handshake_age: OLD, ..window(0, 148 * count) }.carries_data());
    }
}

#[test]
fn a_peer_whose_keys_work_does_not_repeat_initiations() {
    assert!(window(4 * 148, 4 * 92).carries_data());
    assert!(window(32, 4 * 148).carries_data(), "592 bytes of data, pushed by the gateway");
}

#[test]
fn keys_work_until_they_are_due_to_be_renewed() {
    let failing = window(4 * 148, 4 * 92);
    let aged = |secs| Window { handshake_age: Some(Duration::from_secs(secs)), ..failing };
    assert!(aged(119).carries_data());
    assert!(!aged(120).carries_data());
}

/// A gateway that renewed the keys answered 128 bytes and received 352: the sums are those of three
/// initiations with their responses and a keepalive, which a peer whose keys work never sends.
#[test]
fn data_beside_a_handshake_is_not_taken_for_three_handshakes() {
    assert!(window(92 + 352, 148 + 128).carries_data());
}

#[test]
fn keys_are_renewed_once_in_half_a_minute_and_not_twice() {
    assert!(!window(92 + 32, 148 + 32).carries_data());
    assert!(window(2 * 92 + 32, 2 * (148 + 32)).carries_data());
    let minute = Window { length: Duration::from_secs(60), ..window(184 + 32, 2 * (148 + 32)) };
    assert!(!minute.carries_data());
}

#[test]
fn no_window_has_room_for_more_than_an_hour() {
    let keepalives = Window { added: counters(32 * 3_600, 0), ..window(0, 0) };
    assert!(!Window { length: Duration::from_secs(3_600), ..keepalives }.carries_data());
    let twice = Window { added: counters(32 * 7_200, 0), ..window(0, 0) };
    assert!(Window { length: Duration::from_secs(7_200), ..twice }.carries_data());
}

#[test]
fn whatever_a_gateway_sends_beyond_handshakes_is_a_sign_of_data() {
    assert!(window(160, 32).carries_data(), "it acknowledged what came one way");
    assert!(window(32, 64).carries_data(), "a bare TCP acknowledgement");
    assert!(window(148 + 160, 92 + 160).carries_data());
    assert!(window(148 + 32 + 32, 92 + 64).carries_data());
}

#[test]
fn more_than_keepalives_can_be_is_data_without_an_answer() {
    assert!(!window(32 * 91, 0).carries_data());
    assert!(window(32 * 94, 0).carries_data());
    assert!(window(80, 0).carries_data(), "no number of keepalives is 80 bytes");
}

#[test]
fn the_gateways_own_keepalive_is_no_data() {
    let own = Window { gateway_keepalive: Some(Duration::from_secs(25)), ..window(0, 64) };
    assert!(!own.carries_data());
    let with_handshake = Window { added: counters(148 + 64, 92 + 64), ..own };
    assert!(!with_handshake.carries_data());
    let data = Window { added: counters(128, 128), ..own };
    assert!(data.carries_data(), "128 bytes are four keepalives, and 30 s have room for two");
}

#[test]
fn an_interval_of_zero_is_taken_as_one_second() {
    let own = Window { gateway_keepalive: Some(Duration::ZERO), ..window(0, 36 * 32) };
    assert!(!own.carries_data());
    assert!(Window { added: counters(0, 37 * 32), ..own }.carries_data());
}

#[test]
fn a_long_window_has_room_for_more() {
    let hour = Window { length: Duration::from_secs(3600), ..window(0, 0) };
    let keepalives = Window { added: counters(144 * 32 + 30 * 148, 30 * 92), ..hour };
    assert!(!Window { handshake_age: OLD, ..keepalives }.carries_data());
    let rekeyed = Window { added: counters(144 * 32 + 20 * 92, 20 * 180), ..hour };
    assert!(!Window { handshake_age: OLD, ..rekeyed }.carries_data());
}

#[test]
fn the_largest_numbers_are_judged_at_once() {
    for (rx, tx) in [(u64::MAX, u64::MAX), (u64::MAX, 0), (0, u64::MAX)] {
        let longest = Window { length: Duration::MAX, handshake_age: None, ..window(rx, tx) };
        assert!(longest.carries_data() || tx == 0);
    }
}

#[test]
fn counters_that_fell_were_restarted() {
    assert_eq!(counters(500, 900).since(counters(400, 700)), counters(100, 200));
    assert_eq!(counters(500, 900).since(counters(501, 0)), counters(500, 900));
    assert_eq!(counters(500, 900).since(counters(0, 901)), counters(500, 900));
}

/// What one window of an honest tunnel holds besides keepalives.
#[derive(Clone, Copy, Debug)]
enum Handshake {
    None,
    /// The peer renewed the keys; perhaps its first initiation was lost on the way back.
    Peer {
        retried: bool,
    },
    /// The gateway renewed the keys.
    Gateway,
}

impl Handshake {
    /// What it adds, without the keepalive that confirms it.
    fn bytes(self) -> Counters {
        match self {
            Self::None => counters(0, 0),
            Self::Peer { retried: false } => counters(148, 92),
            Self::Peer { retried: true } => counters(296, 184),
            Self::Gateway => counters(92, 148),
        }
    }
}

fn handshake() -> impl Strategy<Value = Handshake> {
    prop_oneof![
        Just(Handshake::None),
        any::<bool>().prop_map(|retried| Handshake::Peer { retried }),
        Just(Handshake::Gateway),
    ]
}

/// A data message: header and tag are 32 bytes, the packet in it is padded to 16.
fn message() -> impl Strategy<Value = u64> {
    (20_u64..1_420).prop_map(|packet| 32 + packet.next_multiple_of(16))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_096, ..ProptestConfig::default() })]

    /// Keepalives of any interval and handshakes are never taken for data.
    #[test]
    fn what_wireguard_sends_by_itself_is_never_data(
        handshake in handshake(),
        keepalives in 0_u64..=30,
    ) {
        let Counters { rx_bytes, tx_bytes } = handshake.bytes();
        let confirmed = match handshake {
            Handshake::Gateway => 32,
            Handshake::None | Handshake::Peer { .. } => 0,
        };
        let window = window(rx_bytes + 32 * keepalives, tx_bytes + confirmed);
        prop_assert!(!window.carries_data(), "{:?}", window);
    }

    /// As long as the gateway answered, be it by a keepalive, no data hides behind keepalives and
    /// handshakes, whatever its sizes.
    #[test]
    fn answered_data_never_hides(
        handshake in handshake(),
        keepalives in 0_u64..=30,
        received in prop::collection::vec(message(), 0..6),
        sent in prop::collection::vec(message(), 0..6),
        length in 5_u64..60,
    ) {
        let Counters { rx_bytes, tx_bytes } = handshake.bytes();
        // Who has data in hand confirms a handshake by it, who has none by a keepalive; and another
        // keepalive answers what was received, unless data does.
        let confirmed = if matches!(handshake, Handshake::Gateway) { 32 } else { 0 };
        let answer = match (sent.as_slice(), received.as_slice()) {
            ([], []) => 64 + confirmed,
            ([], _) => 32 + confirmed,
            (sent, _) => sent.iter().sum(),
        };
        let rx = rx_bytes + 32 * keepalives + received.iter().sum::<u64>();
        let window = Window { length: Duration::from_secs(length), ..window(rx, tx_bytes + answer) };
        prop_assert!(window.carries_data(), "{:?}", window);
    }

    /// No report makes it panic or dawdle.
    #[test]
    fn any_numbers_are_judged(
        rx: u64,
        tx: u64,
        length: u64,
        age: Option<u64>,
        keepalive: Option<u64>,
    ) {
        let window = Window {
            added: counters(rx, tx),
            length: Duration::from_millis(length),
            handshake_age: age.map(Duration::from_millis),
            gateway_keepalive: keepalive.map(Duration::from_millis),
        };
        let _ = window.carries_data();
    }
}

/// 30 s of a tunnel whose keys work.
fn window(rx_bytes: u64, tx_bytes: u64) -> Window {
    Window {
        added: counters(rx_bytes, tx_bytes),
        length: Duration::from_secs(30),
        handshake_age: FRESH,
        gateway_keepalive: None,
    }
}

fn counters(rx_bytes: u64, tx_bytes: u64) -> Counters {
    Counters { rx_bytes, tx_bytes }
}
