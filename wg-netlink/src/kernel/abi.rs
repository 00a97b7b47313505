//! The numbers of the kernel's interface.
//!
//! Sources: `include/uapi/linux/netlink.h`, `genetlink.h` and `wireguard.h`. Numbers and addresses
//! are in the host's byte order unless said otherwise; attributes begin at multiples of four.

pub(crate) const NLMSG_ERROR: u16 = 2;
pub(crate) const NLMSG_DONE: u16 = 3;

pub(crate) const NLM_F_REQUEST: u16 = 0x01;
pub(crate) const NLM_F_ACK: u16 = 0x04;
/// In a dump's answer: what it shows changed while it was shown.
pub(crate) const NLM_F_DUMP_INTR: u16 = 0x10;
pub(crate) const NLM_F_DUMP: u16 = 0x300;
/// In an acknowledgement: the request is not repeated in it.
pub(crate) const NLM_F_CAPPED: u16 = 0x100;
/// In an acknowledgement: attributes follow, such as the reason in words.
pub(crate) const NLM_F_ACK_TLVS: u16 = 0x200;
pub(crate) const NLMSGERR_ATTR_MSG: u16 = 1;

pub(crate) const NLA_F_NESTED: u16 = 0x8000;
/// What is left of an attribute's type without its flags.
pub(crate) const NLA_TYPE_MASK: u16 = 0x3fff;

/// `struct nlmsghdr`: length, type, flags, sequence number, port.
pub(crate) const NLMSG_HEADER: usize = 16;
/// `struct genlmsghdr`: command, version, two bytes reserved.
pub(crate) const GENL_HEADER: usize = 4;
/// `struct nlattr`: length with this header, type.
pub(crate) const NLA_HEADER: usize = 4;

/// The family that knows the families.
pub(crate) const GENL_ID_CTRL: u16 = 16;
pub(crate) const CTRL_CMD_GETFAMILY: u8 = 3;
pub(crate) const CTRL_ATTR_FAMILY_ID: u16 = 1;
pub(crate) const CTRL_ATTR_FAMILY_NAME: u16 = 2;

pub(crate) const WG_GENL_NAME: &str = "wireguard";
pub(crate) const WG_GENL_VERSION: u8 = 1;
pub(crate) const WG_CMD_GET_DEVICE: u8 = 0;
pub(crate) const WG_CMD_SET_DEVICE: u8 = 1;

pub(crate) const WGDEVICE_A_IFNAME: u16 = 2;
pub(crate) const WGDEVICE_A_PRIVATE_KEY: u16 = 3;
pub(crate) const WGDEVICE_A_PUBLIC_KEY: u16 = 4;
pub(crate) const WGDEVICE_A_FLAGS: u16 = 5;
pub(crate) const WGDEVICE_A_LISTEN_PORT: u16 = 6;
pub(crate) const WGDEVICE_A_FWMARK: u16 = 7;
pub(crate) const WGDEVICE_A_PEERS: u16 = 8;

pub(crate) const WGDEVICE_F_REPLACE_PEERS: u32 = 1;

pub(crate) const WGPEER_A_PUBLIC_KEY: u16 = 1;
pub(crate) const WGPEER_A_PRESHARED_KEY: u16 = 2;
pub(crate) const WGPEER_A_FLAGS: u16 = 3;
pub(crate) const WGPEER_A_ENDPOINT: u16 = 4;
pub(crate) const WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL: u16 = 5;
pub(crate) const WGPEER_A_LAST_HANDSHAKE_TIME: u16 = 6;
pub(crate) const WGPEER_A_RX_BYTES: u16 = 7;
pub(crate) const WGPEER_A_TX_BYTES: u16 = 8;
pub(crate) const WGPEER_A_ALLOWEDIPS: u16 = 9;
pub(crate) const WGPEER_A_PROTOCOL_VERSION: u16 = 10;

pub(crate) const WGPEER_F_REMOVE_ME: u32 = 1;
pub(crate) const WGPEER_F_REPLACE_ALLOWEDIPS: u32 = 2;
pub(crate) const WGPEER_F_UPDATE_ONLY: u32 = 4;

pub(crate) const WGALLOWEDIP_A_FAMILY: u16 = 1;
pub(crate) const WGALLOWEDIP_A_IPADDR: u16 = 2;
pub(crate) const WGALLOWEDIP_A_CIDR_MASK: u16 = 3;
/// Since Linux 6.16.
pub(crate) const WGALLOWEDIP_A_FLAGS: u16 = 4;
pub(crate) const WGALLOWEDIP_F_REMOVE_ME: u32 = 1;

pub(crate) const AF_INET: u16 = 2;
pub(crate) const AF_INET6: u16 = 10;

/// Rounds up to the next multiple of four. Of lengths near the largest the result is small, and
/// too short for what it is the length of.
pub(crate) const fn align(len: usize) -> usize {
    len.wrapping_add(3) & !3
}

/// `struct nlattr` of a value of `len` bytes.
pub(crate) const fn attribute_header(kind: u16, len: u16) -> [u8; 4] {
    let [l0, l1] = len.saturating_add(4).to_ne_bytes();
    let [k0, k1] = kind.to_ne_bytes();
    [l0, l1, k0, k1]
}
