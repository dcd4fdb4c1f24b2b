//! The groups of an interface: where neighbor solicitations for its IPv6 VIPs are sent (RFC 4291 §2.7.1).
//!
//! They are joined by `IPV6_ADD_MEMBERSHIP` on IPv6 sockets, so that the kernel does all that a group needs: it opens the interface's filter for
//! the group's hardware address, says by MLD (RFC 3810) that somebody listens, without which switches that snoop would forward nothing, and says so
//! again whenever a router asks. `PACKET_ADD_MEMBERSHIP` would open the filter alone. The kernel itself answers no solicitation for a VIP,
//! as a VIP is no address of the node.
//!
//! A join takes the kernel a time that grows with the groups of the interface, up to a second for the last thousands of ten thousand, so a
//! thread of its own does it: neither answers nor announcements wait. It is woken when a table with other IPv6 VIPs is published, looks at the
//! newest table, and tells which one it has seen to. A group is joined where a VIP is answered for, and nowhere else.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use mooring_kit::Stop;
use mooring_kit::supervise::Spawner;
use tracing::warn;

use super::responder::Shared;
use super::socket::{GroupSocket, is_interface_gone, is_socket_full};
use crate::core::interfaces::{LinkIndex, Port};
use crate::core::reply::ReplyTable;
use crate::logs;
use crate::wire::ndp::solicited_node;

/// Memberships of one socket: the kernel goes through all of a socket's for each new one, and allows a few hundred by default.
const MEMBERSHIPS: usize = 128;

/// Until groups that could not be joined are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps an interface in its groups; dropping it leaves them all.
#[derive(Debug)]
pub struct Groups {
    wake: SyncSender<()>,
    seen: Arc<AtomicU64>,
}

impl Groups {
    /// Starts a thread that joins the groups of the newest table.
    pub async fn start(port: &Port, shared: &Shared, spawner: &Spawner) -> Self {
        // Policy: latest. One that waits is enough, as the thread then looks at the newest table.
        let (wake, woken) = sync_channel(1);
        let groups = Self { wake, seen: Arc::default() };
        groups.wake();
        let mut work = Work { link: port.index, joined: BTreeMap::new(), sockets: Vec::new() };
        let (name, seen, shared) = (port.name.clone(), Arc::clone(&groups.seen), shared.clone());
        let thread = move |_stop: &Stop| {
            let mut failed = false;
            while is_woken(&woken, failed) {
                let table = shared.table.load_full();
                let result = work.align(&table);
                failed = result.is_err();
                match result {
                    // The links will say so too; until they do nobody has to wait for us.
                    Err(error) if is_interface_gone(&error) => {
                        seen.store(u64::MAX, Ordering::Release);
                        shared.grouped.notify_one();
                        return Ok(());
                    }
                    Err(error) => warn!(event = logs::JOIN_FAILED, interface = %name, %error, "a group could not be joined; trying again"),
                    Ok(()) => {}
                }
                seen.store(table.version(), Ordering::Release);
                shared.grouped.notify_one();
            }
            Ok(())
        };
        spawner.thread(format!("groups {}", port.name), thread).await;
        groups
    }

    /// Says that the table is another one.
    pub fn wake(&self) {
        match self.wake.try_send(()) {
            // It is woken already, or the interface is gone.
            Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(())) => {}
        }
    }

    /// The version of the newest table of which all groups are joined, or were tried.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }
}

/// Waits for the next table, or for the time to try again; `false` when nobody is left to say so.
fn is_woken(woken: &Receiver<()>, failed: bool) -> bool {
    if !failed {
        return woken.recv().is_ok();
    }
    !matches!(woken.recv_timeout(RETRY), Err(RecvTimeoutError::Disconnected))
}

/// A socket and how many memberships it holds.
struct Member {
    socket: GroupSocket,
    held: usize,
}

struct Work {
    link: LinkIndex,
    /// Each group with the number of the socket that holds it.
    joined: BTreeMap<Ipv6Addr, usize>,
    sockets: Vec<Member>,
}

impl Work {
    /// Joins what is missing and leaves what nobody needs any more; the first error, after all has been tried.
    fn align(&mut self, table: &ReplyTable) -> io::Result<()> {
        let here = table.iter().filter(|entry| entry.links.contains(&self.link));
        let wanted: BTreeSet<Ipv6Addr> = here.filter_map(|entry| entry.assigned.vip.v6()).map(solicited_node).collect();
        let gone: Vec<Ipv6Addr> = self.joined.keys().filter(|group| !wanted.contains(group)).copied().collect();
        for group in gone {
            self.leave(group);
        }
        if self.joined.is_empty() {
            self.sockets.clear();
        }
        let mut result = Ok(());
        for group in wanted {
            if !self.joined.contains_key(&group) {
                result = result.and(self.join(group));
            }
        }
        result
    }

    fn leave(&mut self, group: Ipv6Addr) {
        let member = self.joined.remove(&group).and_then(|number| self.sockets.get_mut(number));
        if let Some(member) = member {
            // Where it fails the kernel has left the group before us, as the interface has lost its IPv6.
            drop(member.socket.leave(group, self.link));
            member.held = member.held.saturating_sub(1);
        }
    }

    fn join(&mut self, group: Ipv6Addr) -> io::Result<()> {
        while let Some(number) = self.sockets.iter().position(|member| member.held < MEMBERSHIPS) {
            let Some(member) = self.sockets.get_mut(number) else { break };
            match member.socket.join(group, self.link) {
                Ok(()) => {
                    member.held = member.held.saturating_add(1);
                    self.joined.insert(group, number);
                    return Ok(());
                }
                Err(error) if is_socket_full(&error) && member.held > 0 => member.held = MEMBERSHIPS,
                Err(error) => return Err(error),
            }
        }
        self.sockets.push(Member { socket: GroupSocket::open()?, held: 0 });
        let Some((number, member)) = self.sockets.iter_mut().enumerate().next_back() else { return Ok(()) };
        member.socket.join(group, self.link)?;
        member.held = 1;
        self.joined.insert(group, number);
        Ok(())
    }
}
