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
        let updates = self.updates.get(first..).unwrap_or_default();
        for (count, update) in updates.iter().enumerate() {
            // Only the first of a message may be cut: another one has a message before it.
            if let Some((public_key, psk)) = encode::psk_alone(update) {
                if count > 0 && out.len() + encode::PSK_LEN > self.limit {
                    break;
                }
                encode::peer_psk(out, public_key, psk);
                self.next += 1;
                continue;
            }
            let nets = encode::allowed_ips(update);
            if count > 0 && out.len() + encode::peer_len(nets.len()) > self.limit {
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
}

#[cfg(test)]
mod tests;
