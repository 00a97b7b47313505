//! `nf_tables` messages as bytes: pure.
//!
//! A message is `nlmsghdr`, `nfgenmsg`, attributes. Lengths are in host order and count the
//! header; attributes are padded to four bytes; numbers inside `nf_tables` attributes are big-endian.

use core::time::Duration;

const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFNL_MSG_BATCH_BEGIN: u16 = 0x10;
const NFNL_MSG_BATCH_END: u16 = 0x11;
const NFPROTO_UNSPEC: u8 = 0;
const NFPROTO_INET: u8 = 1;

const NLM_F_REQUEST: u16 = 0x1;
const NLM_F_ACK: u16 = 0x4;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;
const NLA_F_NESTED: u16 = 0x8000;
const NLA_TYPE_MASK: u16 = 0x3fff;

const NFT_MSG_NEWTABLE: u16 = 0;
const NFT_MSG_DELTABLE: u16 = 2;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_NEWRULE: u16 = 6;
const NFT_MSG_GETRULE: u16 = 7;
const NFT_MSG_DELRULE: u16 = 8;
const NFT_MSG_NEWSET: u16 = 9;
const NFT_MSG_NEWSETELEM: u16 = 12;
const NFT_MSG_GETSETELEM: u16 = 13;
const NFT_MSG_DELSETELEM: u16 = 14;

const NFTA_LIST_ELEM: u16 = 1;
const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
const NFTA_SET_ELEM_EXPIRATION: u16 = 5;
const NFT_SET_TIMEOUT: u32 = 0x10;
/// `TYPE_IFNAME` of the `nft` program, so that it prints names rather than bytes.
const TYPE_IFNAME: u32 = 41;
const IFNAMSIZ: usize = 16;
const NFT_REG_VERDICT: u32 = 0;
const NFT_REG_1: u32 = 1;
const NFT_META_IIFNAME: u32 = 6;
const NFT_META_OIFNAME: u32 = 7;
const NFT_LOOKUP_F_INV: u32 = 1;

/// Before the usual filter chains, so that what is dropped costs least.
const PRIORITY: i32 = -5;
const SET: &str = "open";
const HEADER: usize = 20;

/// Where a chain hangs.
#[derive(Clone, Copy, Debug)]
pub(super) enum Hook {
    Input,
    Forward,
    Output,
}

impl Hook {
    const fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Forward => "forward",
            Self::Output => "output",
        }
    }

    /// `NF_INET_LOCAL_IN`, `NF_INET_FORWARD`, `NF_INET_LOCAL_OUT`.
    const fn number(self) -> u32 {
        match self {
            Self::Input => 1,
            Self::Forward => 2,
            Self::Output => 3,
        }
    }
}

/// Which end of a packet's way a rule looks at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Match {
    Incoming,
    Outgoing,
}

/// Messages that take effect together or not at all.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    table: &'a str,
    bytes: Vec<u8>,
    messages: u32,
}

impl<'a> Batch<'a> {
    pub(super) fn new(table: &'a str) -> Self {
        let mut batch = Self { table, bytes: Vec::with_capacity(2048), messages: 0 };
        batch.mark(NFNL_MSG_BATCH_BEGIN);
        batch
    }

    /// Ends the batch. Returns its bytes and how many acknowledgements follow.
    pub(super) fn finish(mut self) -> (Vec<u8>, u32) {
        self.mark(NFNL_MSG_BATCH_END);
        (self.bytes, self.messages)
    }

    pub(super) fn table(&mut self) {
        self.message(NFT_MSG_NEWTABLE, NLM_F_CREATE, |out, table| string(out, 1, table));
    }

    pub(super) fn remove_table(&mut self) {
        self.message(NFT_MSG_DELTABLE, 0, |out, table| string(out, 1, table));
    }

    pub(super) fn chain(&mut self, hook: Hook) {
        self.message(NFT_MSG_NEWCHAIN, NLM_F_CREATE, |out, table| {
            string(out, 1, table);
            string(out, 3, hook.name());
            nested(out, 4, |out| {
                number(out, 1, hook.number());
                bytes(out, 2, &PRIORITY.to_be_bytes());
            });
            string(out, 7, "filter");
        });
    }

    pub(super) fn timeout_set(&mut self) {
        self.message(NFT_MSG_NEWSET, NLM_F_CREATE, |out, table| {
            string(out, 1, table);
            string(out, 2, SET);
            number(out, 3, NFT_SET_TIMEOUT);
            number(out, 4, TYPE_IFNAME);
            bytes(out, 5, &16_u32.to_be_bytes());
            number(out, 10, 1);
            // For the `nft` program's display: NFTNL_UDATA_SET_KEYBYTEORDER, four bytes, host order.
            bytes(out, 13, &[&[0, 4][..], &1_u32.to_ne_bytes()].concat());
        });
    }

    /// Removes all rules of a chain.
    pub(super) fn flush(&mut self, hook: Hook) {
        self.message(NFT_MSG_DELRULE, 0, |out, table| {
            string(out, 1, table);
            string(out, 2, hook.name());
        });
    }

    /// `iifname "wg0" iifname != @open counter drop`, or the same of `oifname`.
    pub(super) fn drop_unless_open(&mut self, hook: Hook, which: Match, interface: &str) {
        let key = match which {
            Match::Incoming => NFT_META_IIFNAME,
            Match::Outgoing => NFT_META_OIFNAME,
        };
        self.message(NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_APPEND, |out, table| {
            string(out, 1, table);
            string(out, 2, hook.name());
            nested(out, 4, |out| {
                expression(out, "meta", |out| {
                    number(out, 1, NFT_REG_1);
                    number(out, 2, key);
                });
                expression(out, "cmp", |out| {
                    number(out, 1, NFT_REG_1);
                    number(out, 2, 0); // NFT_CMP_EQ
                    nested(out, 3, |out| bytes(out, 1, &padded(interface)));
                });
                expression(out, "lookup", |out| {
                    string(out, 1, SET);
                    number(out, 2, NFT_REG_1);
                    number(out, 5, NFT_LOOKUP_F_INV);
                });
                expression(out, "counter", |_| {});
                expression(out, "immediate", |out| {
                    number(out, 1, NFT_REG_VERDICT);
                    // NF_DROP
                    nested(out, 2, |out| nested(out, 2, |out| number(out, 1, 0)));
                });
            });
        });
    }

    pub(super) fn add_element(&mut self, interface: &str, millis: u64) {
        self.message(NFT_MSG_NEWSETELEM, NLM_F_CREATE, |out, table| {
            element(out, table, interface, |out| bytes(out, 4, &millis.to_be_bytes()));
        });
    }

    pub(super) fn remove_element(&mut self, interface: &str) {
        self.message(NFT_MSG_DELSETELEM, 0, |out, table| element(out, table, interface, |_| {}));
    }

    fn message(&mut self, kind: u16, flags: u16, body: impl FnOnce(&mut Vec<u8>, &str)) {
        self.messages += 1;
        let (table, number) = (self.table, self.messages);
        message(
            &mut self.bytes,
            subsystem(kind),
            NLM_F_REQUEST | NLM_F_ACK | flags,
            number,
            |out| {
                out.extend([NFPROTO_INET, 0, 0, 0]);
                body(out, table);
            },
        );
    }

    fn mark(&mut self, kind: u16) {
        message(&mut self.bytes, kind, NLM_F_REQUEST, 0, |out| {
            out.extend([NFPROTO_UNSPEC, 0]);
            out.extend(NFNL_SUBSYS_NFTABLES.to_be_bytes());
        });
    }
}

/// Asks for all elements of the set.
pub(super) fn dump_elements(table: &str) -> Vec<u8> {
    dump(NFT_MSG_GETSETELEM, |out| {
        string(out, 1, table);
        string(out, 2, SET);
    })
}

/// Asks for all rules of the table.
pub(super) fn dump_rules(table: &str) -> Vec<u8> {
    dump(NFT_MSG_GETRULE, |out| string(out, 1, table))
}

fn dump(kind: u16, body: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut request = Vec::new();
    message(&mut request, subsystem(kind), NLM_F_REQUEST | NLM_F_DUMP, 1, |out| {
        out.extend([NFPROTO_INET, 0, 0, 0]);
        body(out);
    });
    request
}

/// Finds when the first element of a dumped message expires. Any bytes give a value or `None`.
pub(super) fn expiration(payload: &[u8]) -> Option<Duration> {
    let elements = find(payload.get(4..)?, NFTA_SET_ELEM_LIST_ELEMENTS)?;
    let element = find(elements, NFTA_LIST_ELEM)?;
    let millis = find(element, NFTA_SET_ELEM_EXPIRATION)?;
    Some(Duration::from_millis(u64::from_be_bytes(millis.try_into().ok()?)))
}

/// Finds an attribute among attributes.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?) & NLA_TYPE_MASK;
        let value = attributes.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        attributes = attributes.get(length.next_multiple_of(4)..)?;
    }
}

const fn subsystem(kind: u16) -> u16 {
    NFNL_SUBSYS_NFTABLES << 8 | kind
}

fn message(out: &mut Vec<u8>, kind: u16, flags: u16, number: u32, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; 4]);
    out.extend(kind.to_ne_bytes());
    out.extend(flags.to_ne_bytes());
    out.extend(number.to_ne_bytes());
    out.extend([0; 4]);
    body(out);
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out.splice(start..start + 4, length.to_ne_bytes());
}

fn element(out: &mut Vec<u8>, table: &str, interface: &str, more: impl FnOnce(&mut Vec<u8>)) {
    string(out, 1, table);
    string(out, 2, SET);
    nested(out, NFTA_SET_ELEM_LIST_ELEMENTS, |out| {
        nested(out, NFTA_LIST_ELEM, |out| {
            nested(out, 1, |out| bytes(out, 1, &padded(interface)));
            more(out);
        });
    });
}

fn expression(out: &mut Vec<u8>, name: &str, data: impl FnOnce(&mut Vec<u8>)) {
    nested(out, NFTA_LIST_ELEM, |out| {
        string(out, 1, name);
        nested(out, 2, data);
    });
}

fn padded(interface: &str) -> [u8; IFNAMSIZ] {
    let mut name = [0; IFNAMSIZ];
    for (to, from) in name.iter_mut().zip(interface.bytes()) {
        *to = from;
    }
    name
}

fn string(out: &mut Vec<u8>, kind: u16, text: &str) {
    let mut value = text.as_bytes().to_vec();
    value.push(0);
    bytes(out, kind, &value);
}

fn number(out: &mut Vec<u8>, kind: u16, value: u32) {
    bytes(out, kind, &value.to_be_bytes());
}

fn bytes(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    attribute(out, kind, |out| out.extend(value));
}

fn nested(out: &mut Vec<u8>, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
    attribute(out, kind | NLA_F_NESTED, body);
}

fn attribute(out: &mut Vec<u8>, kind: u16, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; 2]);
    out.extend(kind.to_ne_bytes());
    body(out);
    let length = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
    out.splice(start..start + 2, length.to_ne_bytes());
    out.resize(out.len().next_multiple_of(4), 0);
}

/// Splits received bytes into messages: kind, sequence number, payload. Stops at what is cut short.
pub(super) fn messages(mut received: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    core::iter::from_fn(move || {
        let length = u32::from_ne_bytes(received.get(..4)?.try_into().ok()?);
        let length = usize::try_from(length).ok()?;
        let kind = u16::from_ne_bytes(received.get(4..6)?.try_into().ok()?);
        let number = u32::from_ne_bytes(received.get(8..12)?.try_into().ok()?);
        let payload = received.get(HEADER - 4..length)?;
        received = received.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, number, payload))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_these_bytes() {
        let mut batch = Batch::new("t");
        batch.table();
        let (bytes, messages) = batch.finish();
        assert_eq!(messages, 1);
        let expected = [
            // begin: length 20, type 0x10, REQUEST, sequence 0, port 0; unspec, version 0, nf_tables
            &[20, 0, 0, 0, 0x10, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10][..],
            // NEWTABLE: length 28, type 10 << 8, REQUEST | ACK | CREATE, sequence 1; inet
            &[28, 0, 0, 0, 0, 10, 5, 4, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
            // NFTA_TABLE_NAME: length 6, "t\0", two bytes of padding
            &[6, 0, 1, 0, b't', 0, 0, 0],
            &[20, 0, 0, 0, 0x11, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10],
        ]
        .concat();
        assert_eq!(bytes, expected);
    }

    #[test]
    fn any_bytes_give_an_answer() {
        for length in 0..64 {
            for byte in [0, 1, 4, 5, 20, 255] {
                let bytes = vec![byte; length];
                assert_eq!(expiration(&bytes), None);
                assert!(messages(&bytes).count() <= length);
            }
        }
    }
}
