//! Who is at the other end: the socket's address, or what a trusted proxy says.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// The socket's other end, put into each request by the listener.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Returns the address that a request came from.
///
/// `X-Forwarded-For` counts only from a trusted proxy, and is read from its end: each proxy appends
/// whom it heard, so the last address that is not a trusted proxy is the one that a trusted proxy
/// saw itself. What stands before it, anybody can have written.
#[must_use]
pub fn source(peer: SocketAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let is_trusted = |ip: &IpAddr| trusted.iter().any(|net| net.contains(ip));
    let mut heard = peer.ip().to_canonical();
    if !is_trusted(&heard) {
        return heard;
    }
    let values: Vec<&str> = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    for hop in values.into_iter().rev() {
        let Ok(ip) = hop.trim().parse::<IpAddr>() else { break };
        heard = ip.to_canonical();
        if !is_trusted(&heard) {
            break;
        }
    }
    heard
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(peer: &str, forwarded: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for value in forwarded {
            headers.append(FORWARDED_FOR, value.parse().unwrap());
        }
        let peer = format!("{peer}:1").parse().unwrap();
        source(peer, &headers, &["10.0.0.0/8".parse().unwrap()]).to_string()
    }

    #[test]
    fn a_stranger_cannot_say_who_it_is() {
        assert_eq!(seen("192.0.2.9", &["198.51.100.1"]), "192.0.2.9");
    }

    #[test]
    fn a_trusted_proxy_says_whom_it_heard() {
        assert_eq!(seen("10.0.0.1", &["198.51.100.1"]), "198.51.100.1");
        assert_eq!(seen("10.0.0.1", &["198.51.100.1, 10.0.0.2"]), "198.51.100.1");
        assert_eq!(seen("10.0.0.1", &["198.51.100.1", "10.0.0.2"]), "198.51.100.1");
    }

    #[test]
    fn what_the_client_wrote_before_the_proxy_is_not_believed() {
        assert_eq!(seen("10.0.0.1", &["203.0.113.7, 198.51.100.1"]), "198.51.100.1");
        assert_eq!(seen("10.0.0.1", &["10.9.9.9, 198.51.100.1"]), "198.51.100.1");
        assert_eq!(seen("10.0.0.1", &["198.51.100.1, nonsense"]), "10.0.0.1");
    }

    #[test]
    fn without_the_header_the_proxy_itself_is_the_source() {
        assert_eq!(seen("10.0.0.1", &[]), "10.0.0.1");
    }
}
