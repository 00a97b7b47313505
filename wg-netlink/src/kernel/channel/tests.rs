use std::collections::VecDeque;

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use wg_types::{PeerConfig, PresharedKey, PrivateKey};

use super::super::abi::{
    GENL_ID_CTRL, NLA_F_NESTED, NLM_F_CAPPED, WGDEVICE_A_LISTEN_PORT, WGDEVICE_A_PEERS,
    WGPEER_A_ALLOWEDIPS, WGPEER_A_PUBLIC_KEY,
};
use super::*;

/// What the scripted kernel does with the next request. Out of steps it acknowledges.
#[derive(Debug)]
enum Step {
    /// `sendmsg` fails.
    SendFails(i32),
    /// The request is acknowledged with this errno.
    Answers(i32),
    /// `recvmsg` fails, then the acknowledgement with this errno is there.
    ReceiveFails(i32, i32),
    /// Nothing comes.
    Says(Vec<Datagram>),
}

/// Messages of one datagram: type, flags, payload.
type Datagram = Vec<(u16, u16, Vec<u8>)>;

#[derive(Debug, Default)]
struct Script {
    steps: VecDeque<Step>,
    sent: Vec<Vec<u8>>,
    ready: VecDeque<Result<Vec<u8>, i32>>,
}

impl Script {
    fn say(&mut self, sequence: &[u8], datagram: &Datagram) {
        let mut bytes = Vec::new();
        for (kind, flags, payload) in datagram {
            let len = u32::try_from(16 + payload.len()).unwrap();
            bytes.extend_from_slice(&len.to_ne_bytes());
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(&flags.to_ne_bytes());
            bytes.extend_from_slice(sequence);
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(payload);
        }
        self.ready.push_back(Ok(bytes));
    }
}

fn ack(errno: i32) -> Datagram {
    let mut payload = (-errno).to_ne_bytes().to_vec();
    payload.extend_from_slice(&[0; 16]);
    vec![(NLMSG_ERROR, NLM_F_CAPPED, payload)]
}

fn end() -> (u16, u16, Vec<u8>) {
    (NLMSG_DONE, 2, vec![0; 4])
}

impl Transport for Script {
    fn send(&mut self, request: &[u8]) -> io::Result<()> {
        self.sent.push(request.to_vec());
        let sequence = request[8..12].to_vec();
        match self.steps.pop_front().unwrap_or(Step::Answers(0)) {
            Step::SendFails(errno) => return Err(io::Error::from_raw_os_error(errno)),
            Step::Answers(errno) => self.say(&sequence, &ack(errno)),
            Step::ReceiveFails(errno, code) => {
                self.ready.push_back(Err(errno));
                self.say(&sequence, &ack(code));
            }
            Step::Says(datagrams) => {
                for datagram in &datagrams {
                    self.say(&sequence, datagram);
                }
            }
        }
        Ok(())
    }

    fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        match self.ready.pop_front() {
            Some(Ok(bytes)) => into.extend_from_slice(&bytes),
            Some(Err(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            None => return Err(io::ErrorKind::WouldBlock.into()),
        }
        Ok(())
    }
}

fn opened(steps: Vec<Step>) -> Channel<Script> {
    // CTRL_ATTR_FAMILY_ID: 6 bytes, padded
    let mut family = vec![1, 2, 0, 0];
    family.extend(attribute(1, &0x1c_u16.to_ne_bytes()));
    let mut all = VecDeque::from([Step::Says(vec![vec![(GENL_ID_CTRL, 0, family)]])]);
    all.extend(steps);
    let script = Script { steps: all, ..Script::default() };
    let mut channel = Channel::open(script, "wg0").unwrap();
    channel.transport.sent.clear();
    channel
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = u16::try_from(4 + value.len()).unwrap().to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn key(number: u16) -> PublicKey {
    let mut bytes = [1; 32];
    bytes[..2].copy_from_slice(&number.to_be_bytes());
    PublicKey::from_bytes(bytes)
}

fn psks(count: u16) -> Vec<PeerUpdate> {
    (0..count)
        .map(|number| PeerUpdate::set_psk(key(number), PresharedKey::from_bytes([7; 32])))
        .collect()
}

/// A dump's message with these peers, without allowed IPs.
fn dumped(keys: &[PublicKey]) -> Vec<u8> {
    let peers: Vec<u8> = keys
        .iter()
        .flat_map(|key| attribute(NLA_F_NESTED, &attribute(WGPEER_A_PUBLIC_KEY, key.as_bytes())))
        .collect();
    let mut bytes = vec![0, 1, 0, 0];
    bytes.extend(attribute(WGDEVICE_A_LISTEN_PORT, &9_u16.to_ne_bytes()));
    bytes.extend(attribute(WGDEVICE_A_PEERS | NLA_F_NESTED, &peers));
    bytes
}

fn unapplied(error: &ApplyError) -> Vec<usize> {
    error.unapplied().collect()
}

#[test]
fn a_kernel_without_wireguard_is_told_so() {
    let steps = VecDeque::from([Step::Answers(libc::ENOENT)]);
    let opened = Channel::open(Script { steps, ..Script::default() }, "wg0");
    assert_eq!(opened.unwrap_err(), Error::NoWireGuard);
}

#[test]
fn a_thousand_psks_take_two_messages() {
    let mut channel = opened(Vec::new());
    channel.apply(&psks(1000)).unwrap();
    assert_eq!(channel.transport.sent.len(), 2);
}

#[test]
fn no_keys_stay_in_the_buffers() {
    let mut channel = opened(Vec::new());
    channel.apply(&psks(1000)).unwrap();
    let config = InterfaceConfig {
        private_key: Some(PrivateKey::from_bytes([7; 32])),
        ..Default::default()
    };
    channel.configure(&config).unwrap();
    assert!(channel.request.0.is_empty() && channel.answer.0.capacity() > 0);
    // What is behind the length cannot be read safely; that all of it is written is zeroize's.
    assert_eq!(format!("{:?}", channel.request), "Wiped(..)");
    assert!(!format!("{channel:?}").contains("[7, 7"));
}

#[test]
fn a_gone_interface_stops_the_batch_where_it_was() {
    let mut channel = opened(vec![Step::Answers(0), Step::Answers(libc::ENODEV)]);
    let error = channel.apply(&psks(2000)).unwrap_err();
    let gone = Error::NoSuchInterface { name: "wg0".to_owned() };
    assert_eq!(error.cause(), Some(&gone));
    assert!(error.refused().is_empty());
    let first = unapplied(&error)[0];
    assert!((700..800).contains(&first), "{first}");
    assert_eq!(unapplied(&error).len(), 2000 - first);
    assert_eq!(channel.transport.sent.len(), 2, "nothing is sent after that");
}

#[test]
fn no_permission_stops_the_batch_at_once() {
    let mut channel = opened(vec![Step::Answers(libc::EPERM)]);
    let error = channel.apply(&psks(3)).unwrap_err();
    assert_eq!(error.cause(), Some(&Error::PermissionDenied { doing: "change peers" }));
    assert_eq!(unapplied(&error), [0, 1, 2]);
}

#[test]
fn a_refused_peer_is_found_and_the_others_are_applied() {
    let steps = vec![
        Step::Answers(libc::EINVAL), // all three
        Step::Answers(0),
        Step::Answers(libc::EINVAL), // the second alone
        Step::Answers(0),
    ];
    let mut channel = opened(steps);
    let error = channel.apply(&psks(3)).unwrap_err();
    assert_eq!(unapplied(&error), [1]);
    assert_eq!(error.refused()[0].public_key, key(1));
    let refused = Error::Refused { doing: "change a peer", said: String::new() };
    assert_eq!(error.cause(), Some(&refused));
}

#[test]
fn a_full_interface_refuses_what_is_new() {
    let steps = vec![Step::Answers(libc::E2BIG), Step::Answers(0), Step::Answers(libc::E2BIG)];
    let mut channel = opened(steps);
    let error = channel.apply(&psks(2)).unwrap_err();
    assert_eq!(error.cause(), Some(&Error::TooManyPeers));
    assert_eq!(unapplied(&error), [1]);
}

#[test]
fn out_of_buffers_smaller_messages_are_tried() {
    for fault in [
        Step::SendFails(libc::ENOBUFS),
        Step::Answers(libc::ENOMEM),
        Step::SendFails(libc::EMSGSIZE),
        Step::ReceiveFails(libc::ENOBUFS, 0),
    ] {
        let mut channel = opened(vec![fault]);
        channel.apply(&psks(3)).unwrap();
        assert_eq!(channel.transport.sent.len(), 1 + 3);
    }
}

#[test]
fn lasting_lack_of_buffers_ends_the_batch() {
    let steps =
        vec![Step::SendFails(libc::ENOBUFS), Step::Answers(0), Step::SendFails(libc::ENOBUFS)];
    let mut channel = opened(steps);
    let error = channel.apply(&psks(3)).unwrap_err();
    assert_eq!(error.cause(), Some(&Error::NoBuffers));
    assert_eq!(unapplied(&error), [1, 2]);
}

#[test]
fn a_peer_too_long_for_the_kernel_is_refused_alone() {
    let steps =
        vec![Step::SendFails(libc::EMSGSIZE), Step::SendFails(libc::EMSGSIZE), Step::Answers(0)];
    let mut channel = opened(steps);
    let error = channel.apply(&psks(2)).unwrap_err();
    assert_eq!(error.cause(), Some(&Error::TooLong));
    assert_eq!(unapplied(&error), [0]);
}

#[test]
fn an_interrupted_call_is_made_again() {
    let mut channel = opened(vec![Step::SendFails(libc::EINTR)]);
    channel.apply(&psks(3)).unwrap();
    let mut channel = opened(vec![Step::ReceiveFails(libc::EINTR, 0)]);
    channel.apply(&psks(3)).unwrap();
    assert_eq!(channel.transport.sent.len(), 1);
}

#[test]
fn a_busy_kernel_is_asked_again_but_not_for_ever() {
    let mut channel = opened(vec![Step::Answers(libc::EBUSY), Step::Answers(libc::EBUSY)]);
    channel.configure(&InterfaceConfig::default()).unwrap();

    let busy = || Step::Answers(libc::EBUSY);
    let mut channel = opened((0..20).map(|_| busy()).collect());
    assert_eq!(channel.interface().unwrap_err(), Error::Busy);
    assert_eq!(channel.transport.sent.len(), 4);
}

#[test]
fn silence_is_an_error_and_no_wait() {
    let mut channel = opened(vec![Step::Says(Vec::new())]);
    let error = channel.configure(&InterfaceConfig::default()).unwrap_err();
    assert_eq!(error, Error::NoAnswer { doing: "configure the interface" });
}

#[test]
fn an_answer_to_an_older_request_is_skipped() {
    let mut channel = opened(vec![Step::Says(Vec::new()), Step::Answers(0)]);
    channel.configure(&InterfaceConfig::default()).unwrap_err();
    channel.transport.say(&1_u32.to_ne_bytes(), &ack(libc::EINVAL));
    channel.configure(&InterfaceConfig::default()).unwrap();
}

#[test]
fn a_port_in_use_is_named() {
    let mut channel = opened(vec![Step::Answers(libc::EADDRINUSE)]);
    let config = InterfaceConfig { listen_port: Some(53), ..Default::default() };
    assert_eq!(channel.configure(&config), Err(Error::PortInUse { port: 53 }));
}

#[test]
fn an_interface_of_another_kind_is_named() {
    let mut channel = opened(vec![Step::Answers(libc::EOPNOTSUPP)]);
    assert_eq!(channel.interface().unwrap_err(), Error::NameTaken { name: "wg0".to_owned() });
}

#[test]
fn a_dump_over_several_datagrams_is_whole() {
    let says = vec![
        vec![(0x1c, 2, dumped(&[key(1)])), (0x1c, 2, dumped(&[key(2)]))],
        vec![(0x1c, 2, dumped(&[key(3)])), end()],
    ];
    let mut channel = opened(vec![Step::Says(says)]);
    let interface = channel.interface().unwrap();
    let keys: Vec<_> = interface.peers.iter().map(|peer| peer.config.public_key).collect();
    assert_eq!(keys, [key(1), key(2), key(3)]);
    assert_eq!(interface.listen_port, 9);
}

#[test]
fn peers_are_shown_one_by_one_and_the_last_one_too() {
    let says = || {
        vec![
            vec![(0x1c, 2, dumped(&[key(1)])), (0x1c, 2, dumped(&[key(2)]))],
            vec![(0x1c, 2, dumped(&[key(3)])), end()],
        ]
    };
    let torn = vec![vec![(0x1c, 2 | NLM_F_DUMP_INTR, dumped(&[key(9)])), end()]];
    let mut channel = opened(vec![Step::Says(torn), Step::Says(says())]);
    let mut keys = Vec::new();
    channel.peers(&mut |peer| keys.push(peer.config.public_key)).unwrap();
    assert_eq!(keys, [key(1), key(2), key(3)]);
}

#[test]
fn peers_are_replaced_by_a_request_of_its_own_before_them() {
    let new = || (0..1000).map(|n| PeerConfig::new(key(n))).collect::<Vec<_>>();
    let mut channel = opened(Vec::new());
    channel.replace_peers(&new()).unwrap();
    assert_eq!(channel.transport.sent.len(), 3);

    let mut channel = opened(vec![Step::Answers(libc::EPERM)]);
    let error = channel.replace_peers(&new()).unwrap_err();
    assert_eq!(error.cause(), Some(&Error::PermissionDenied { doing: "remove all peers" }));
    assert_eq!(unapplied(&error).len(), 1000);
    assert_eq!(channel.transport.sent.len(), 1, "nothing is sent after that");

    let mut channel = opened(vec![Step::Answers(0), Step::Answers(0), Step::Answers(libc::ENODEV)]);
    let error = channel.replace_peers(&new()).unwrap_err();
    assert!((400..1000).contains(&unapplied(&error)[0]), "{error:?}");
}

#[test]
fn a_dump_that_outgrows_the_buffers_of_the_socket_is_an_error_and_the_next_is_whole() {
    let says = vec![vec![(0x1c, 2, dumped(&[key(1)])), end()]];
    let steps = vec![Step::ReceiveFails(libc::ENOBUFS, 0), Step::Says(says)];
    let mut channel = opened(steps);
    assert_eq!(channel.interface().unwrap_err(), Error::NoBuffers);
    assert_eq!(channel.interface().unwrap().peers.len(), 1);
}

#[test]
fn who_may_not_read_or_has_nothing_to_read_is_told_so() {
    for (errno, expected) in [
        (libc::EPERM, Error::PermissionDenied { doing: "read the interface" }),
        (libc::ENODEV, Error::NoSuchInterface { name: "wg0".to_owned() }),
        (libc::EMSGSIZE, Error::TooLong),
        (libc::EINTR, Error::Busy),
    ] {
        let mut channel = opened((0..4).map(|_| Step::Answers(errno)).collect());
        assert_eq!(channel.stats(&mut |_| {}), Err(expected));
    }
}

#[test]
fn an_interrupted_dump_is_begun_anew() {
    let torn = vec![
        vec![(0x1c, 2, dumped(&[key(1)]))],
        vec![(0x1c, 2 | NLM_F_DUMP_INTR, dumped(&[key(2)])), end()],
    ];
    let whole = || vec![vec![(0x1c, 2, dumped(&[key(1), key(3)])), end()]];
    let mut channel = opened(vec![Step::Says(torn.clone()), Step::Says(whole())]);
    let peers = channel.interface().unwrap().peers;
    let keys: Vec<_> = peers.iter().map(|peer| peer.config.public_key).collect();
    assert_eq!(keys, [key(1), key(3)]);

    let mut channel = opened((0..9).map(|_| Step::Says(torn.clone())).collect());
    let interrupted = Error::Interrupted { name: "wg0".to_owned() };
    assert_eq!(channel.stats(&mut |_| {}), Err(interrupted));
    assert_eq!(channel.transport.sent.len(), 8);
}

#[test]
fn a_dump_that_breaks_off_is_an_error() {
    let says = vec![vec![(0x1c, 2, dumped(&[key(1)]))]];
    let mut channel = opened(vec![Step::Says(says)]);
    let error = channel.interface().unwrap_err();
    assert_eq!(error, Error::NoAnswer { doing: "read the interface" });
}

#[test]
fn a_dump_of_nonsense_leaves_the_channel_usable() {
    let says = vec![vec![(0x1c, 2, vec![0, 1, 0, 0, 99, 0])], vec![end()]];
    let mut channel = opened(vec![Step::Says(says)]);
    assert_eq!(channel.interface().unwrap_err(), Error::Answer(DecodeError::Length));
    channel.apply(&psks(1)).unwrap();
}

#[test]
fn without_removal_in_the_kernel_what_stays_is_put_in_place() {
    let net: IpNet = "10.0.0.1/32".parse().unwrap();
    let other: IpNet = "10.0.0.2/32".parse().unwrap();
    let removal = PeerUpdate::Update {
        public_key: key(1),
        psk: wg_types::PskChange::Keep,
        allowed_ips: AllowedIpsChange::Remove(vec![net]),
        endpoint: None,
        persistent_keepalive: None,
    };
    let ip = |octet: u8| {
        let mut bytes = attribute(1, &2_u16.to_ne_bytes());
        bytes.extend(attribute(2, &[10, 0, 0, octet]));
        bytes.extend(attribute(3, &[32]));
        attribute(NLA_F_NESTED, &bytes)
    };
    let mut peer = attribute(WGPEER_A_PUBLIC_KEY, key(1).as_bytes());
    peer.extend(attribute(WGPEER_A_ALLOWEDIPS | NLA_F_NESTED, &[ip(1), ip(2)].concat()));
    let mut dump = vec![0, 1, 0, 0];
    dump.extend(attribute(WGDEVICE_A_PEERS | NLA_F_NESTED, &attribute(NLA_F_NESTED, &peer)));
    let mut channel = opened(vec![
        Step::Answers(libc::EINVAL),
        Step::Answers(libc::EINVAL),
        Step::Says(vec![vec![(0x1c, 2, dump), end()]]),
        Step::Answers(0),
    ]);
    channel.apply(&[removal]).unwrap();
    let mut expected = Vec::new();
    let replacement = PeerUpdate::unlock(key(1), vec![other]);
    let target = Target { family: 0x1c, name: "wg0".to_owned() };
    let last = channel.transport.sent.last().unwrap();
    let sequence = u32::from_ne_bytes(last[8..12].try_into().unwrap());
    Packer::new(&target, &[replacement]).pack(&mut expected, sequence).unwrap();
    assert_eq!(last, &expected);
}

#[test]
fn a_peer_cut_over_messages_is_refused_once() {
    let allowed_ips = (0..5000_u32)
        .map(|host| IpNet::new(std::net::Ipv4Addr::from(host).into(), 32).unwrap())
        .collect();
    let big = PeerUpdate::Put(PeerConfig { allowed_ips, ..PeerConfig::new(key(1)) });
    let mut channel = opened((0..20).map(|_| Step::Answers(libc::EINVAL)).collect());
    let error = channel.apply(&[big]).unwrap_err();
    assert_eq!(error.refused().len(), 1);
}

/// Any kernel at all: it answers with bytes, with errors, or not.
#[derive(Debug)]
struct Chaos(VecDeque<Result<Vec<u8>, i32>>);

impl Transport for Chaos {
    fn send(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn receive(&mut self, into: &mut Vec<u8>) -> io::Result<()> {
        into.clear();
        match self.0.pop_front() {
            Some(Ok(bytes)) => into.extend_from_slice(&bytes),
            Some(Err(errno)) => return Err(io::Error::from_raw_os_error(errno)),
            None => return Err(io::ErrorKind::WouldBlock.into()),
        }
        Ok(())
    }
}

fn chaos() -> impl Strategy<Value = VecDeque<Result<Vec<u8>, i32>>> {
    // Headers that are right, with the number of one of the first requests, and anything else.
    let message = (0..40_u16, any::<u16>(), 0..6_u32, vec(any::<u8>(), 0..200)).prop_map(
        |(kind, flags, sequence, payload)| {
            let len = u32::try_from(16 + payload.len()).unwrap();
            let mut bytes = len.to_ne_bytes().to_vec();
            bytes.extend_from_slice(&kind.to_ne_bytes());
            bytes.extend_from_slice(&flags.to_ne_bytes());
            bytes.extend_from_slice(&sequence.to_ne_bytes());
            bytes.extend_from_slice(&[0; 4]);
            bytes.extend_from_slice(&payload);
            bytes
        },
    );
    let datagram = prop_oneof![
        4 => message.prop_map(Ok),
        1 => vec(any::<u8>(), 0..100).prop_map(Ok),
        1 => prop_oneof![Just(libc::ENOBUFS), Just(libc::EINTR), Just(libc::EBUSY)].prop_map(Err),
    ];
    vec(datagram, 0..30).prop_map(VecDeque::from)
}

proptest! {
    #[test]
    fn whatever_a_kernel_says_every_call_ends(answers in chaos()) {
        let mut channel = opened(Vec::new());
        let Channel { target, sequence, .. } = &mut channel;
        let (target, sequence) = (target.clone(), *sequence);
        let wiped = || Wiped(Vec::with_capacity(MESSAGE_MAX));
        let transport = Chaos(answers);
        let mut channel =
            Channel { transport, target, sequence, request: wiped(), answer: wiped() };
        let _ = channel.apply(&psks(3));
        let _ = channel.interface();
        let _ = channel.stats(&mut |_| {});
        let _ = channel.configure(&InterfaceConfig::default());
    }
}
