//! What the host must do that the gateway does not do for it.

use std::fs;

use ipnet::IpNet;

/// Says so if the host does not forward the packets of these networks: from the other end of a
/// tunnel that mistake is hard to find.
pub(crate) fn warn_unless_forwarding(addresses: &[IpNet]) {
    let v4 = addresses.iter().any(|net| matches!(net, IpNet::V4(_)));
    let v6 = addresses.iter().any(|net| matches!(net, IpNet::V6(_)));
    for (concerned, path, key) in [
        (v4, "/proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward"),
        (v6, "/proc/sys/net/ipv6/conf/all/forwarding", "net.ipv6.conf.all.forwarding"),
    ] {
        if concerned && fs::read_to_string(path).is_ok_and(|value| value.trim() == "0") {
            tracing::warn!(
                "this host does not forward packets ({key} is 0), so clients reach nothing behind \
                 it; `sysctl -w {key}=1` changes that until the next boot"
            );
        }
    }
}
