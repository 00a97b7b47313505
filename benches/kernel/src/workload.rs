//! The peers, and what is done with them.

use std::net::Ipv4Addr;

use ipnet::IpNet;

/// What is measured.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Operation {
    /// Peers with a pre-shared key and one allowed IP come to an interface with a key.
    Add,
    /// Every peer gets a new pre-shared key.
    Psk,
    /// Every peer loses its allowed IPs.
    Lock,
    /// Every peer gets its allowed IP back.
    Unlock,
    /// Every peer is removed from an interface that is up.
    Remove,
    /// All peers are replaced: the old ones with their sessions go, the same come with new keys.
    Replace,
    /// Everything is read.
    Dump,
    /// Every peer's key, endpoint, handshake and counters are read.
    Statistics,
}

impl Operation {
    pub(crate) const ALL: [Self; 8] = [
        Self::Add,
        Self::Psk,
        Self::Lock,
        Self::Unlock,
        Self::Remove,
        Self::Replace,
        Self::Dump,
        Self::Statistics,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Psk => "psk",
            Self::Lock => "lock",
            Self::Unlock => "unlock",
            Self::Remove => "remove",
            Self::Replace => "replace",
            Self::Dump => "dump",
            Self::Statistics => "statistics",
        }
    }

    /// Whether it gives the peers new pre-shared keys.
    pub(crate) const fn changes_psks(self) -> bool {
        matches!(self, Self::Psk | Self::Replace)
    }

    pub(crate) const fn rounds(self, size: usize) -> u8 {
        match self {
            Self::Add => 1,
            _ if size > 10_000 => 2,
            _ => 3,
        }
    }
}

/// One peer's values.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    pub(crate) key: [u8; 32],
    pub(crate) psk: [u8; 32],
    pub(crate) ip: Ipv4Addr,
}

impl Subject {
    pub(crate) fn net(&self) -> IpNet {
        IpNet::from(std::net::IpAddr::V4(self.ip))
    }
}

/// How many peers a contender that needs a call for each is measured with, spread evenly over all: a
/// call costs the same whether it is one of 1,000 or one of 50,000, and all would take an hour.
pub(crate) const SAMPLE: usize = 1_000;

/// The peers of one run.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) peers: Vec<Subject>,
}

impl Workload {
    /// The same for everyone; `round` changes the pre-shared keys.
    pub(crate) fn new(size: usize, round: u8) -> Self {
        let peers = (0..size)
            .map(|index| {
                let number = u32::try_from(index).unwrap_or(u32::MAX).to_be_bytes();
                let spread = |salt: u8| {
                    let mut bytes = [salt; 32];
                    let mut state = u64::from(u32::from_be_bytes(number)) << 8 | u64::from(salt);
                    for chunk in bytes.chunks_mut(8) {
                        // SplitMix64: keys must not share prefixes, which a hash table would see.
                        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                        let mut word = state;
                        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                        chunk.copy_from_slice(&(word ^ (word >> 31)).to_be_bytes());
                    }
                    bytes
                };
                let [_, a, b, c] = number;
                Subject {
                    key: spread(1),
                    psk: spread(round.wrapping_add(10)),
                    ip: Ipv4Addr::new(10, a, b, c),
                }
            })
            .collect();
        Self { peers }
    }

    /// At most so many of the peers, spread evenly.
    pub(crate) fn sample(&self, count: usize) -> impl Iterator<Item = &Subject> + Clone {
        let step = (self.peers.len() / count).max(1);
        self.peers.iter().step_by(step).take(count)
    }

    /// Key, pre-shared key and allowed IP of one peer, as `wg` shows them.
    pub(crate) fn as_text(subject: &Subject) -> (String, String, String) {
        (base64(&subject.key), base64(&subject.psk), subject.net().to_string())
    }
}

pub(crate) fn base64(bytes: &[u8; 32]) -> String {
    wg_types::PublicKey::from_bytes(*bytes).to_string()
}
