//! Routes into an interface, and the rules that keep its own packets out of a default route.
//!
//! A default route as wg-quick makes it, for an interface that marks its packets with M:
//!
//! ```text
//! rule 32764: from all lookup main suppress_prefixlength 0    every route but the default ones
//! rule 32765: not from all fwmark M lookup M                  all but the tunnel's own packets
//! table M: default dev wg0
//! ```
//!
//! What is made here carries the protocol number [`PROTOCOL`], and only that is ever removed.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::{IpVersion, RouteMessageBuilder};

use super::{Link, Links, ignore};
use crate::Error;

/// Whose routes and rules they are (`ip route show proto 87`).
pub const PROTOCOL: u8 = 87;

const SUPPRESS_PRIORITY: u32 = 32_764;
const TUNNEL_PRIORITY: u32 = 32_765;

/// The first of the marks and tables that are chosen for interfaces without a mark; wg-quick's.
const FIRST_MARK: u32 = 51_820;

/// The kernel's own table of local addresses (`RT_TABLE_LOCAL`).
const TABLE_LOCAL: u32 = 255;

const SRC_VALID_MARK: &str = "/proc/sys/net/ipv4/conf/all/src_valid_mark";

/// A route into the interface, and the table that it is in.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Route {
    net: IpNet,
    table: u32,
}

impl Links {
    /// The mark and table for the default routes of an interface that has no mark yet.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchInterface`] and the system's.
    pub fn choose_mark(&self, name: &str) -> Result<u32, Error> {
        Ok(FIRST_MARK.saturating_add(self.existing(name)?.index))
    }

    /// Makes `routes` the routes into the interface that were made here; `mark` is the interface's
    /// and the number of the table for default routes.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchInterface`], [`Error::RouteTaken`], [`Error::PermissionDenied`] and the
    /// system's other ones.
    pub fn set_routes(&self, name: &str, routes: &[IpNet], mark: u32) -> Result<(), Error> {
        let link = self.existing(name)?;
        let wanted: BTreeSet<Route> = routes
            .iter()
            .map(IpNet::trunc)
            .map(|net| Route { net, table: if net.prefix_len() == 0 { mark } else { main() } })
            .collect();
        for version in [IpVersion::V4, IpVersion::V6] {
            let family = family(&version);
            let of_family = |route: &&Route| family_of(&route.net) == family;
            self.replace_routes(
                link,
                &version,
                wanted.iter().filter(of_family).copied().collect(),
            )?;
            let has_default =
                wanted.iter().filter(of_family).any(|route| route.net.prefix_len() == 0);
            if has_default {
                self.add_rules(family, mark)?;
            } else {
                self.remove_rules(&version, mark)?;
            }
        }
        Ok(())
    }

    /// Removes the rules for the default routes of the interface with `mark`. Routes go with the
    /// interface, rules do not.
    ///
    /// # Errors
    ///
    /// [`Error::PermissionDenied`] and the system's other ones.
    pub fn remove_all_rules(&self, mark: u32) -> Result<(), Error> {
        self.remove_rules(&IpVersion::V4, mark)?;
        self.remove_rules(&IpVersion::V6, mark)
    }

    fn replace_routes(
        &self,
        link: Link,
        version: &IpVersion,
        mut missing: BTreeSet<Route>,
    ) -> Result<(), Error> {
        for message in self.routes(link, version)? {
            let Some(route) = route_of(&message) else { continue };
            let is_ours = message.header.protocol == RouteProtocol::Other(PROTOCOL);
            // One that the kernel made for an address serves as well as ours.
            if !missing.remove(&route) && is_ours {
                let request = self.handle.route().del(message);
                let gone = self.run("remove a route", async move { request.execute().await });
                ignore(gone, libc::ESRCH)?;
            }
        }
        missing.into_iter().try_for_each(|route| self.add_route(link, route))
    }

    fn add_route(&self, link: Link, route: Route) -> Result<(), Error> {
        let message = match route.net {
            IpNet::V4(net) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .destination_prefix(net.addr(), net.prefix_len())
                .output_interface(link.index)
                .table_id(route.table)
                .protocol(RouteProtocol::Other(PROTOCOL))
                .scope(RouteScope::Link)
                .build(),
            IpNet::V6(net) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .destination_prefix(net.addr(), net.prefix_len())
                .output_interface(link.index)
                .table_id(route.table)
                .protocol(RouteProtocol::Other(PROTOCOL))
                .build(),
        };
        let request = self.handle.route().add(message);
        let added = self.run("add a route", async move { request.execute().await });
        added.map_err(|error| match error {
            Error::Os { code: libc::EEXIST, .. } => Error::RouteTaken { route: route.net },
            error => error,
        })
    }

    /// The routes into the interface in the tables main and those of marks.
    fn routes(&self, link: Link, version: &IpVersion) -> Result<Vec<RouteMessage>, Error> {
        let mut request = RouteMessage::default();
        request.header.address_family = family(version);
        let request = self.handle.route().get(request);
        let all: Vec<_> =
            self.run("read routes", async move { request.execute().try_collect().await })?;
        let is_into = |message: &RouteMessage| {
            message.attributes.contains(&RouteAttribute::Oif(link.index))
                && table_of(message) != TABLE_LOCAL
        };
        Ok(all.into_iter().filter(is_into).collect())
    }

    fn add_rules(&self, family: AddressFamily, mark: u32) -> Result<(), Error> {
        if family == AddressFamily::Inet {
            // Without it the reverse path filter looks answers up without their mark. Where /proc
            // cannot be written an administrator has decided otherwise.
            if let Err(error) = fs::write(SRC_VALID_MARK, "1") {
                tracing::warn!(%error, "could not set {SRC_VALID_MARK} for the default route");
            }
        }
        for message in [suppress_rule(family), tunnel_rule(family, mark)] {
            let mut request = self.handle.rule().add();
            *request.message_mut() = message;
            let added = self.run("add a rule", async move { request.execute().await });
            ignore(added, libc::EEXIST)?;
        }
        Ok(())
    }

    fn remove_rules(&self, version: &IpVersion, mark: u32) -> Result<(), Error> {
        let ours = self.rules(version)?;
        let (mine, others): (Vec<_>, Vec<_>) = ours
            .into_iter()
            .partition(|rule| rule.attributes.contains(&RuleAttribute::FwMark(mark)));
        let is_tunnel = |rule: &RuleMessage| {
            rule.attributes.iter().any(|attribute| matches!(attribute, RuleAttribute::FwMark(_)))
        };
        // Other tunnels share the rule that suppresses the main table's default routes.
        let last = if others.iter().any(is_tunnel) { Vec::new() } else { others };
        for rule in mine.into_iter().chain(last) {
            let request = self.handle.rule().del(rule);
            let gone = self.run("remove a rule", async move { request.execute().await });
            ignore(gone, libc::ENOENT)?;
        }
        Ok(())
    }

    fn rules(&self, version: &IpVersion) -> Result<Vec<RuleMessage>, Error> {
        let request = self.handle.rule().get(version.clone());
        let all =
            self.run("read rules", async move { request.execute().try_collect::<Vec<_>>().await });
        let mut rules = match all {
            Ok(rules) => rules,
            // A kernel without IPv6, or without policy rules, has none.
            Err(Error::Os { code: libc::EAFNOSUPPORT | libc::EOPNOTSUPP, .. }) => Vec::new(),
            Err(error) => return Err(error),
        };
        let mark = RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL));
        rules.retain(|rule| rule.attributes.contains(&mark));
        Ok(rules)
    }
}

fn suppress_rule(family: AddressFamily) -> RuleMessage {
    let mut rule = rule(family, main(), SUPPRESS_PRIORITY);
    rule.attributes.push(RuleAttribute::SuppressPrefixLen(0));
    rule
}

fn tunnel_rule(family: AddressFamily, mark: u32) -> RuleMessage {
    let mut rule = rule(family, mark, TUNNEL_PRIORITY);
    rule.header.flags = RuleFlags::Invert;
    rule.attributes.push(RuleAttribute::FwMark(mark));
    rule
}

fn rule(family: AddressFamily, table: u32, priority: u32) -> RuleMessage {
    let mut rule = RuleMessage::default();
    rule.header.family = family;
    rule.header.action = RuleAction::ToTable;
    rule.attributes = vec![
        RuleAttribute::Table(table),
        RuleAttribute::Priority(priority),
        RuleAttribute::Protocol(RouteProtocol::Other(PROTOCOL)),
    ];
    rule
}

fn route_of(message: &RouteMessage) -> Option<Route> {
    let destination = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    });
    // A default route has no destination.
    let any = match message.header.address_family {
        AddressFamily::Inet => IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let prefix = message.header.destination_prefix_length;
    let net = IpNet::new(destination.unwrap_or(any), prefix).ok()?;
    Some(Route { net, table: table_of(message) })
}

fn table_of(message: &RouteMessage) -> u32 {
    let wide = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    wide.unwrap_or_else(|| u32::from(message.header.table))
}

fn main() -> u32 {
    u32::from(RouteHeader::RT_TABLE_MAIN)
}

const fn family(version: &IpVersion) -> AddressFamily {
    match version {
        IpVersion::V4 => AddressFamily::Inet,
        IpVersion::V6 => AddressFamily::Inet6,
    }
}

const fn family_of(net: &IpNet) -> AddressFamily {
    match net {
        IpNet::V4(_) => AddressFamily::Inet,
        IpNet::V6(_) => AddressFamily::Inet6,
    }
}
