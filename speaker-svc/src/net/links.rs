//! News of links and addresses by rtnetlink (rtnetlink(7)).
//!
//! Any news makes us read the whole list again: news may be lost (`ENOBUFS`) or come in halves, the list is always true, and it is
//! short. There is no polling. What a link is good for is `crate::core::interfaces`'; here is only what the kernel says, and which
//! names the flags admit.

use std::collections::BTreeMap;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt as _, TryStreamExt as _};
use ipnet::IpNet;
use mooring_proto::types::node::{InterfaceName, MacAddress};
use regex::Regex;
use rtnetlink::packet_core::NetlinkMessage;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup};

use crate::core::interfaces::{Link, LinkIndex};

/// Which interfaces may be used, by name. The patterns match anywhere in a name (MetalLB behaviour 7).
#[derive(Clone, Debug, Default)]
pub struct NameFilter {
    /// One of these must match; none = all names.
    pub only: Vec<Regex>,
    /// None of these may match.
    pub except: Vec<Regex>,
}

impl NameFilter {
    /// Whether an interface of that name may be used.
    #[must_use]
    pub fn admits(&self, name: &str) -> bool {
        let any = |patterns: &[Regex]| patterns.iter().any(|pattern| pattern.is_match(name));
        (self.only.is_empty() || any(&self.only)) && !any(&self.except)
    }
}

/// What went wrong with rtnetlink.
#[derive(Debug, thiserror::Error)]
pub enum LinksError {
    /// No socket.
    #[error("could not open a netlink socket")]
    Open(#[source] std::io::Error),
    /// The list of links could not be read.
    #[error("could not list the links")]
    Links(#[source] rtnetlink::Error),
    /// The list of addresses could not be read.
    #[error("could not list the addresses")]
    Addresses(#[source] rtnetlink::Error),
    /// The kernel sends no more news.
    #[error("the netlink socket is closed")]
    Closed,
}

/// Reads links and waits for news.
#[derive(Debug)]
pub struct Links {
    handle: Handle,
    news: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    filter: NameFilter,
}

impl Links {
    /// Opens a socket; the connection has to be polled for as long as the links are wanted.
    ///
    /// # Errors
    /// [`LinksError::Open`].
    pub fn open(filter: NameFilter) -> Result<(Self, impl Future<Output = ()> + Send + use<>), LinksError> {
        let groups = [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv6Ifaddr];
        let (connection, handle, news) = rtnetlink::new_multicast_connection(&groups).map_err(LinksError::Open)?;
        Ok((Self { handle, news, filter }, connection))
    }

    /// Waits for news. What has come meanwhile is one piece of news.
    ///
    /// # Errors
    /// [`LinksError::Closed`].
    pub async fn changed(&mut self) -> Result<(), LinksError> {
        self.news.next().await.ok_or(LinksError::Closed)?;
        while self.news.try_recv().is_ok() {}
        Ok(())
    }

    /// All links.
    ///
    /// # Errors
    /// What the kernel says.
    pub async fn list(&self) -> Result<Vec<Link>, LinksError> {
        let links: Vec<LinkMessage> = self.handle.link().get().execute().try_collect().await.map_err(LinksError::Links)?;
        let addresses: Vec<AddressMessage> = self.handle.address().get().execute().try_collect().await.map_err(LinksError::Addresses)?;
        let mut by_link = BTreeMap::<u32, Vec<IpNet>>::new();
        for message in &addresses {
            by_link.entry(message.header.index).or_default().extend(address(message));
        }
        Ok(links.iter().filter_map(|message| link(message, &mut by_link, &self.filter)).collect())
    }
}

/// An address with its prefix length: the local one, which on point-to-point links differs from the other end's.
fn address(message: &AddressMessage) -> Option<IpNet> {
    let local = message.attributes.iter().find_map(|attribute| if let AddressAttribute::Local(ip) = attribute { Some(*ip) } else { None });
    let plain =
        message.attributes.iter().find_map(|attribute| if let AddressAttribute::Address(ip) = attribute { Some(*ip) } else { None });
    IpNet::new(local.or(plain)?, message.header.prefix_len).ok()
}

/// What the kernel says of a link; nothing if it has no name.
fn link(message: &LinkMessage, addresses: &mut BTreeMap<u32, Vec<IpNet>>, filter: &NameFilter) -> Option<Link> {
    let (mut name, mut mac, mut enslaved) = (None, None, false);
    for attribute in &message.attributes {
        if let LinkAttribute::IfName(text) = attribute {
            name = InterfaceName::new(text);
        } else if let LinkAttribute::Address(octets) = attribute {
            mac = <[u8; 6]>::try_from(octets.as_slice()).ok().map(MacAddress);
        } else if let LinkAttribute::Controller(index) = attribute {
            enslaved = *index != 0;
        }
    }
    let name = name?;
    let flags = message.header.flags;
    Some(Link {
        index: LinkIndex(message.header.index),
        admitted: filter.admits(name.as_str()),
        name,
        mac: mac.filter(|_| message.header.link_layer_type == LinkLayerType::Ether),
        addresses: addresses.remove(&message.header.index).unwrap_or_default(),
        // The kernel sets RUNNING when the operational state is up or unknown (RFC 2863), and takes it away with the carrier.
        running: flags.contains(LinkFlags::Up | LinkFlags::Running),
        resolves: flags.contains(LinkFlags::Broadcast) && !flags.contains(LinkFlags::Noarp),
        enslaved,
    })
}

#[cfg(test)]
mod tests;
