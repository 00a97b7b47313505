//! Statistics as what happened since the last look. Pure, but for [`Watch::look`].

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::SystemTime;

use wg_types::{PeerStats, PublicKey};

use crate::{Error, WireGuard};

/// What became of one peer between two looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Delta {
    /// Whom.
    pub public_key: PublicKey,
    /// Bytes that came from the peer, handshakes and keepalives among them.
    pub rx_bytes: u64,
    /// Bytes that went to the peer, handshakes and keepalives among them.
    pub tx_bytes: u64,
    /// A handshake that was completed since; `None`: there was none.
    pub handshake: Option<SystemTime>,
    /// Where it moved to; `None`: it is where it was.
    pub moved_to: Option<SocketAddr>,
    /// It was not there at the last look, or was made anew since: its counters began at zero.
    pub is_new: bool,
}

/// Remembers what each peer's statistics were.
///
/// ```
/// use wg_netlink::watch::Watch;
/// # use wg_netlink::WireGuard as _;
/// # let wg0 = wg_netlink::fake::FakeKernel::new().interface("wg0");
/// let mut watch = Watch::new();
/// let gone = watch.look(&wg0, &mut |delta| {
///     println!("{}: {} bytes received", delta.public_key, delta.rx_bytes);
/// })?;
/// assert!(gone.is_empty());
/// # Ok::<(), wg_netlink::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Watch {
    known: HashMap<PublicKey, (u64, PeerStats)>,
    look: u64,
}

impl Watch {
    /// Starts before the first look, to which every peer is new.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Looks at all peers: shows those of which something changed, and returns in ascending order
    /// those that are gone.
    ///
    /// # Errors
    ///
    /// Those of [`WireGuard::stats`]. What was shown until then counts as seen, and nobody as gone.
    pub fn look(
        &mut self,
        wg: &dyn WireGuard,
        show: &mut dyn FnMut(&Delta),
    ) -> Result<Vec<PublicKey>, Error> {
        self.look += 1;
        wg.stats(&mut |stats| {
            if let Some(delta) = self.see(stats) {
                show(&delta);
            }
        })?;
        Ok(self.forget_unseen())
    }

    /// Takes one peer's statistics; `None`: nothing changed.
    fn see(&mut self, stats: &PeerStats) -> Option<Delta> {
        let known = self.known.insert(stats.public_key, (self.look, *stats));
        let Some((_, before)) = known else { return Some(first(stats)) };
        if before == *stats {
            return None;
        }
        let (Some(rx_bytes), Some(tx_bytes)) = (
            stats.rx_bytes.checked_sub(before.rx_bytes),
            stats.tx_bytes.checked_sub(before.tx_bytes),
        ) else {
            return Some(first(stats));
        };
        Some(Delta {
            public_key: stats.public_key,
            rx_bytes,
            tx_bytes,
            handshake: stats
                .last_handshake
                .filter(|_| before.last_handshake != stats.last_handshake),
            moved_to: stats.endpoint.filter(|_| before.endpoint != stats.endpoint),
            is_new: false,
        })
    }

    fn forget_unseen(&mut self) -> Vec<PublicKey> {
        let look = self.look;
        let mut gone = Vec::new();
        self.known.retain(|key, (seen, _)| {
            let is_there = *seen == look;
            if !is_there {
                gone.push(*key);
            }
            is_there
        });
        gone.sort_unstable();
        gone
    }
}

const fn first(stats: &PeerStats) -> Delta {
    Delta {
        public_key: stats.public_key,
        rx_bytes: stats.rx_bytes,
        tx_bytes: stats.tx_bytes,
        handshake: stats.last_handshake,
        moved_to: stats.endpoint,
        is_new: true,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wg_types::{PeerConfig, PeerUpdate};

    use super::*;
    use crate::fake::{FakeInterface, FakeKernel};

    const ALICE: PublicKey = PublicKey::from_bytes([1; 32]);
    const BOB: PublicKey = PublicKey::from_bytes([2; 32]);

    fn look(watch: &mut Watch, wg0: &FakeInterface) -> (Vec<Delta>, Vec<PublicKey>) {
        let mut deltas = Vec::new();
        let gone = watch.look(wg0, &mut |delta| deltas.push(*delta)).unwrap();
        (deltas, gone)
    }

    fn wg0() -> FakeInterface {
        let wg0 = FakeKernel::new().interface("wg0");
        let put = |key| PeerUpdate::Put(PeerConfig::new(key));
        wg0.apply(&[put(ALICE), put(BOB)]).unwrap();
        wg0.hear(&ALICE, 100, 200);
        wg0
    }

    #[test]
    fn a_second_look_shows_only_what_changed() {
        let (wg0, mut watch) = (wg0(), Watch::new());
        let (deltas, gone) = look(&mut watch, &wg0);
        assert_eq!((deltas.len(), gone.len()), (2, 0));
        assert!(deltas.iter().all(|delta| delta.is_new));
        assert_eq!(look(&mut watch, &wg0), (vec![], vec![]));

        wg0.hear(&ALICE, 32, 0);
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(9);
        wg0.shake_hands(&ALICE, at, Some("192.0.2.1:9".parse().unwrap()));
        let expected = Delta {
            public_key: ALICE,
            rx_bytes: 32,
            tx_bytes: 0,
            handshake: Some(at),
            moved_to: Some("192.0.2.1:9".parse().unwrap()),
            is_new: false,
        };
        assert_eq!(look(&mut watch, &wg0), (vec![expected], vec![]));
    }

    #[test]
    fn a_peer_made_anew_begins_at_zero() {
        let (wg0, mut watch) = (wg0(), Watch::new());
        look(&mut watch, &wg0);
        wg0.apply(&[PeerUpdate::Remove(ALICE), PeerUpdate::Put(PeerConfig::new(ALICE))]).unwrap();
        wg0.hear(&ALICE, 7, 9);
        let (deltas, gone) = look(&mut watch, &wg0);
        assert_eq!((deltas[0].rx_bytes, deltas[0].tx_bytes, deltas[0].is_new), (7, 9, true));
        assert!(gone.is_empty());
    }

    #[test]
    fn who_is_gone_is_told_once() {
        let (wg0, mut watch) = (wg0(), Watch::new());
        look(&mut watch, &wg0);
        wg0.apply(&[PeerUpdate::Remove(BOB), PeerUpdate::Remove(ALICE)]).unwrap();
        assert_eq!(look(&mut watch, &wg0).1, [ALICE, BOB]);
        assert_eq!(look(&mut watch, &wg0).1, []);
    }

    #[test]
    fn a_look_that_fails_makes_nobody_gone() {
        let (wg0, mut watch) = (wg0(), Watch::new());
        look(&mut watch, &wg0);
        wg0.fail_next(Error::Busy);
        assert_eq!(watch.look(&wg0, &mut |_| {}), Err(Error::Busy));
        assert_eq!(look(&mut watch, &wg0), (vec![], vec![]));
    }
}
