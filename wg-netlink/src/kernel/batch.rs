//! Packs many peer updates into few messages. Pure.
//!
//! A message takes as many whole peers as fit. A peer with more allowed IPs than one message holds
//! is continued in the next: its first part replaces, the others add.

use core::ops::Range;

use wg_types::PeerUpdate;

use super::abi::WGDEVICE_A_PEERS;
use super::encode::{self, Target};

/// The most bytes in a message. An attribute's length has 16 bits, so the nest of all peers is the
/// limit; the headers before it come on top of what would be possible.
pub(crate) const MESSAGE_MAX: usize = 65_532;

/// Hands out one message after the other until all updates are in one.
#[derive(Debug)]
pub struct Packer<'a> {
    target: &'a Target,
    updates: &'a [PeerUpdate],
    limit: usize,
    next: usize,
    /// Of the update `next`, the first allowed IP that is not in a message yet.
    next_allowed_ip: usize,
}

impl<'a> Packer<'a> {
    /// Starts before the first of `updates`.
    #[must_use]
    pub const fn new(target: &'a Target, updates: &'a [PeerUpdate]) -> Self {
        Self { target, updates, limit: MESSAGE_MAX, next: 0, next_allowed_ip: 0 }
    }

    /// Packs smaller messages.
    #[cfg(test)]
    const fn with_limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// Writes the next message into `out`, in place of what it held, and tells which updates are
    /// in it, be it in part. `None`: all are written, and `out` is as it was.
    pub fn pack(&mut self, out: &mut Vec<u8>, sequence: u32) -> Option<Range<usize>> {
        if self.next >= self.updates.len() {
            return None;
        }
        encode::begin_set(out, self.target, sequence);
        let nest = encode::open(out, WGDEVICE_A_PEERS);
        let range = self.fill(out);
        encode::close(out, nest);
        encode::end(out);
        Some(range)
    }

    fn fill(&mut self, out: &mut Vec<u8>) -> Range<usize> {
        let first = self.next;
        self.fill_with_psks(out);
        for update in self.updates.get(self.next..).unwrap_or_default() {
            let nets = encode::allowed_ips(update);
            // Only the first of a message may be cut: another one has a message before it.
            if self.next > first && out.len() + encode::peer_len(nets.len()) > self.limit {
                break;
            }
            let left = encode::peer(out, update, nets, self.next_allowed_ip, self.limit);
            self.next_allowed_ip = left.unwrap_or(0);
            if left.is_some() {
                return first..self.next + 1;
            }
            self.next += 1;
        }
        first..self.next
    }

    /// Writes the updates at the front that set a pre-shared key and do nothing else, each into a
    /// place of its own: a rotation consists of them, and their length is known.
    fn fill_with_psks(&mut self, out: &mut Vec<u8>) {
        let updates = self.updates.get(self.next..).unwrap_or_default();
        if updates.first().and_then(encode::psk_alone).is_none() {
            return;
        }
        let start = out.len();
        let room = self.limit.saturating_sub(start) / encode::PSK_LEN;
        out.resize(start + room.min(updates.len()) * encode::PSK_LEN, 0);
        let (places, _) = out.get_mut(start..).unwrap_or_default().as_chunks_mut();
        let mut written = 0;
        for (place, (public_key, psk)) in
            places.iter_mut().zip(updates.iter().map_while(encode::psk_alone))
        {
            encode::peer_psk(place, public_key, psk);
            written += 1;
        }
        out.truncate(start + written * encode::PSK_LEN);
        self.next += written;
    }
}

#[cfg(test)]
mod tests;
