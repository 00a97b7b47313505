//! Whose program is at the other end of a loopback connection: the kernel says it, in
//! `/proc/net/tcp`.
//!
//! Loopback is open to every user of a machine. With this, a link that another user read off a
//! command line opens nothing.

use std::net::SocketAddr;

/// The state of a connection that is open at that end (`include/net/tcp_states.h`).
const ESTABLISHED: &str = "01";

/// Finds the user at the other end; `None`: the kernel lists no open connection of this kind.
pub(super) fn user(peer: SocketAddr, ours: SocketAddr) -> Option<u32> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    find(&read("/proc/net/tcp"), peer, ours).or_else(|| find(&read("/proc/net/tcp6"), peer, ours))
}

/// Reads the table: `sl local_address rem_address st tx:rx tr:when retrnsmt uid …`.
fn find(table: &str, peer: SocketAddr, ours: SocketAddr) -> Option<u32> {
    let (theirs, ours) = (spelled(peer)?, spelled(ours)?);
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        let is_it = local.ends_with(&theirs) && remote.ends_with(&ours) && state == ESTABLISHED;
        is_it.then(|| fields.nth(3)?.parse().ok())?
    })
}

/// An address as the table writes it: the bytes in memory's order, then the port. An IPv4 address
/// ends a mapped one of IPv6 too.
fn spelled(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(v4) = address else { return None };
    let word = u32::from_ne_bytes(v4.ip().octets());
    Some(format!("{word:08X}:{:04X}", v4.port()))
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_kernel_names_the_user_of_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let stream = TcpStream::connect(at).unwrap();
        let (_accepted, peer) = listener.accept().unwrap();

        assert_eq!(user(peer, at), Some(rustix::process::geteuid().as_raw()));
        drop(stream);
        // Half closed, it belongs to nobody any more.
        assert_eq!(user(peer, at), None);
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn another_users_connection_is_told_apart() {
        const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1267 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1
   1: 0100007F:1267 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 2
   2: 0100007F:C001 0100007F:1267 01 00000000:00000000 00:00000000 00000000  1001        0 3
   3: 0100007F:C002 0100007F:1267 06 00000000:00000000 00:00000000 00000000     0        0 0
";
        let at = "127.0.0.1:4711".parse().unwrap();
        let from = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(find(TABLE, from(0xc001), at), Some(1001));
        assert_eq!(find(TABLE, from(0xc002), at), None);
        assert_eq!(find(TABLE, from(0xc003), at), None);
    }
}
