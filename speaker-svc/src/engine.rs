//! The one task that owns the core's state.
//!
//! It takes what waits in its mailboxes, has the core decide, carries the events out, publishes the reply table once for all of them,
//! and only then tells the allocator what is in force: once the table's IPv6 groups are joined too, as before that not every solicitation reaches
//! us. Gratuitous frames are sent from here, on sockets of their own and without ever
//! waiting: answering is the responder threads', which share nothing with this task but the published table. What became of each Service
//! is logged when all of that is done, a few at a time, as a takeover of thousands must not wait for the words about it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use mooring_kit::Stop;
use mooring_kit::admin::ReadinessHandle;
use mooring_kit::clock::Clock;
use mooring_kit::mailbox::{Address, Mailbox};
use mooring_kit::supervise::Spawner;
use mooring_proto::types::address::Vip;
use mooring_proto::types::assignment::{AllocatorMessage, SpeakerMessage};
use mooring_proto::types::lease::Epoch;
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::Mono;
use tokio::select;
use tokio::sync::oneshot;
use tracing::{debug, info, warn};

use crate::core::announce::Phase;
use crate::core::heed::Heeded;
use crate::core::interfaces::{Link, LinkIndex, Port};
use crate::core::pace::PACE;
use crate::core::reply::{Entry, ReplyTable};
use crate::core::state::{Settings, State};
use crate::core::word::Due;
use crate::core::{Change, Command, Event, decide, next_deadline};
use crate::grpc::announcement::{Page, Query};
use crate::logs;
use crate::metrics::Metrics;
use crate::net::groups::Groups;
use crate::net::responder::{Claim, Shared};
use crate::net::socket::is_interface_gone;
use crate::net::station::Station;

/// Inputs that may wait; policy: wait. An allocator tells much in parts, each of which is one.
pub const INBOX: usize = 64;

/// Claims that may wait; policy: shed. A claim that matters is made again.
pub const CLAIMS: usize = 256;

/// How long inputs are worked off before the table is published and what is due is sent: a new VIP waits no longer for its first answer, and
/// announcements keep their pace while thousands more are told.
const WORK: Duration = PACE;

/// Services of which is logged at once, about half a millisecond, and the pause before the next ones: three lines each are 20,000 a second, so that
/// the queue of lines stays short and the log of a takeover takes no time from what is announced and answered meanwhile.
const TOLD_AT_ONCE: usize = 32;
const TOLD_PAUSE: Duration = PACE;

/// Services of which nothing is logged yet at most: beyond it logging goes first, as it must not fall behind for ever.
const TOLD_LATER: usize = 65_536;

/// News from outside.
#[derive(Debug)]
pub enum Input {
    /// A stream is open; messages for the allocator go here.
    SessionOpened(Address<SpeakerMessage>),
    /// The allocator said something.
    Heard(AllocatorMessage),
    /// The stream is gone.
    SessionClosed,
    /// The links are these.
    Links(Vec<Link>),
    /// Somebody asks for a page of announcements.
    Listed(Query, oneshot::Sender<Page>),
}

/// What ends the process.
#[derive(Debug, thiserror::Error)]
pub enum EngineFault {
    /// No privilege.
    #[error("speaker needs CAP_NET_RAW to open packet sockets")]
    Privilege(#[source] io::Error),
    /// A socket could not be opened.
    #[error("could not open packet sockets on {interface}")]
    Socket {
        /// Its interface.
        interface: String,
        /// Why.
        source: io::Error,
    },
    /// Nobody sends inputs any more.
    #[error("all senders of inputs are gone")]
    Orphaned,
}

/// The two ends that only the engine reads.
#[derive(Debug)]
pub struct Mailboxes {
    /// Everything but claims.
    pub inputs: Mailbox<Input>,
    /// Claims of the responder threads.
    pub claims: Mailbox<Claim>,
}

/// What became of a Service's address, for the log.
#[derive(Debug)]
struct Update {
    vip: Vip,
    service: ServiceKey,
    pool: PoolName,
    change: Change,
}

/// What readiness waits for.
#[derive(Debug)]
pub struct Ready {
    /// The links are known.
    pub links: ReadinessHandle,
    /// An interface answers; if none does any more, it is waited for again.
    pub sockets: ReadinessHandle,
    /// The allocator has been there.
    pub session: ReadinessHandle,
}

/// Owns the state.
#[derive(Debug)]
pub struct Engine {
    state: State,
    shared: Shared,
    metrics: Metrics,
    clock: Clock,
    spawner: Spawner,
    ready: Ready,
    /// Whether the allocator was there by the last news of it.
    live: bool,
    /// The older leadership that was refused last.
    refused: Option<Epoch>,
    stations: BTreeMap<LinkIndex, Station>,
    outbox: Option<Address<SpeakerMessage>>,
    /// What the allocator is to be told once the table is published.
    due: Due,
    /// What is still to be logged.
    updates: VecDeque<Update>,
    /// When anything of that was last logged.
    told: Mono,
    table_changed: bool,
    /// The table changed for IPv6 VIPs.
    groups_changed: bool,
    links_changed: bool,
    /// The version of the newest table, and of the newest that changed for IPv6 VIPs.
    version: u64,
    groups_version: u64,
    /// The drain is over, and so many VIPs were left.
    drained: Option<usize>,
}

impl Engine {
    /// An engine that was told nothing yet.
    #[must_use]
    pub fn new(settings: Settings, shared: Shared, metrics: Metrics, clock: Clock, spawner: Spawner, ready: Ready) -> Self {
        Self {
            state: State::new(settings),
            shared,
            metrics,
            clock,
            spawner,
            ready,
            live: false,
            refused: None,
            stations: BTreeMap::new(),
            outbox: None,
            due: Due::default(),
            updates: VecDeque::new(),
            told: Mono::ZERO,
            table_changed: false,
            groups_changed: false,
            links_changed: false,
            version: 0,
            groups_version: 0,
            drained: None,
        }
    }

    /// Runs until `stop` and the drain after it. The mailboxes stay open: whoever is still at work hears of the end, not of a closed door.
    ///
    /// # Errors
    /// What ends the process.
    pub async fn run(mut self, mailboxes: &mut Mailboxes, stop: Stop) -> Result<(), EngineFault> {
        let (ended, grouped) = (Arc::clone(&self.shared.ended), Arc::clone(&self.shared.grouped));
        let clock = self.clock;
        while self.drained.is_none() {
            let deadline = next_deadline(&self.state);
            // Each branch is cancel-safe: a letter stays in its mailbox, a notification with its sender.
            select! {
                biased;
                () = stop.cancelled(), if !self.state.is_draining() => self.take(Command::Drain),
                inputs = mailboxes.inputs.take(1) => {
                    if inputs.is_empty() {
                        return Err(EngineFault::Orphaned);
                    }
                    self.work_off(inputs, &mut mailboxes.inputs);
                }
                () = ended.notified() => self.bury(),
                // What waits for it is told below.
                () = grouped.notified() => {}
                claims = mailboxes.claims.take(CLAIMS) => {
                    for Claim { vip, mac, link } in claims {
                        self.take(Command::NoteClaim { vip, mac, link });
                    }
                }
                () = clock.wait_until(deadline.unwrap_or_default()), if deadline.is_some() => {}
                has_room = self.has_room() => if !has_room {
                    self.outbox = None;
                },
                // Last of all: nothing more urgent is due.
                () = clock.wait_until(self.told + TOLD_PAUSE), if !self.updates.is_empty() => self.log_updates(TOLD_AT_ONCE),
            }
            self.finish_batch().await?;
            // In the same round, so that a first announcement waits for nothing but its table.
            if next_deadline(&self.state).is_some_and(|deadline| deadline <= clock.now()) {
                self.take(Command::Tick);
                self.finish_batch().await?;
            }
            self.log_updates(self.updates.len().saturating_sub(TOLD_LATER));
        }
        self.log_updates(usize::MAX);
        info!(event = logs::DRAINED, left = self.drained, "ending");
        Ok(())
    }

    /// Takes these inputs, and others that wait, for as long as [`WORK`].
    fn work_off(&mut self, inputs: Vec<Input>, others: &mut Mailbox<Input>) {
        let end = self.clock.now() + WORK;
        inputs.into_iter().for_each(|input| self.hear(input));
        while self.clock.now() < end
            && let Some(input) = others.try_take()
        {
            self.hear(input);
        }
    }

    fn hear(&mut self, input: Input) {
        match input {
            Input::SessionOpened(outbox) => {
                self.outbox = Some(outbox);
                self.take(Command::OpenSession);
            }
            Input::Heard(message) => self.take(Command::Hear(message)),
            Input::SessionClosed => {
                self.outbox = None;
                self.take(Command::CloseSession);
            }
            Input::Links(links) => self.take(Command::ReplaceLinks(links)),
            Input::Listed(query, reply) => {
                // Whoever asked may have gone.
                drop(reply.send(Page::of(&self.state, query)));
            }
        }
    }

    fn take(&mut self, command: Command) {
        let now = self.clock.now();
        for event in decide(&self.state, command, now) {
            crate::core::apply(&mut self.state, &event, now);
            self.perform(event);
        }
    }

    /// Publishes, opens and tells what a batch of commands led to.
    async fn finish_batch(&mut self) -> Result<(), EngineFault> {
        if std::mem::take(&mut self.table_changed) {
            self.publish();
        }
        if std::mem::take(&mut self.links_changed) {
            self.open_missing().await?;
            self.ready.links.set(true);
        }
        self.ready.sockets.set(!self.stations.is_empty());
        self.metrics.observe(&self.state);
        self.tell();
        Ok(())
    }

    fn publish(&mut self) {
        self.version = self.version.saturating_add(1);
        self.shared.table.store(Arc::new(ReplyTable::new(self.version, self.state.answering().map(Entry::from))));
        self.shared.heeded.store(Arc::new(Heeded::new(self.state.silent(), self.state.probed())));
        if std::mem::take(&mut self.groups_changed) {
            self.groups_version = self.version;
            self.stations.values().filter_map(Station::groups).for_each(Groups::wake);
        }
    }

    /// The table will be another one, if only for what is said of a VIP.
    fn table_changes(&mut self, vip: Vip) {
        self.table_changed = true;
        self.groups_changed |= vip.v6().is_some();
    }

    fn perform(&mut self, event: Event) {
        self.due.note(&event);
        match event {
            Event::SessionChanged(session) => {
                // Attempts in vain are no news: an allocator may be away for long.
                if std::mem::replace(&mut self.live, session.is_live()) == session.is_live() {
                    debug!(event = logs::SESSION_CHANGED, state = session.as_str(), "session to the allocator");
                } else {
                    info!(event = logs::SESSION_CHANGED, state = session.as_str(), "session to the allocator");
                }
                if session.is_live() {
                    self.ready.session.set(true);
                }
            }
            Event::EpochRefused { epoch, newest } => {
                if self.refused.replace(epoch) == Some(epoch) {
                    debug!(event = logs::EPOCH_REFUSED, %epoch, %newest, "allocator of an older leadership refused");
                } else {
                    warn!(event = logs::EPOCH_REFUSED, %epoch, %newest, "allocator of an older leadership refused");
                }
                self.outbox = None;
            }
            Event::RevisionReached { epoch, revision } => debug!(%epoch, %revision, "assignments in force"),
            Event::AssignmentStored(assigned) => self.table_changes(assigned.vip),
            Event::AssignmentRemoved(vip) | Event::StandingChanged { vip, standing: _ } => self.table_changes(vip),
            Event::ReachChanged => (self.table_changed, self.groups_changed) = (true, true),
            Event::ServiceUpdated { vip, service, pool, change } => self.updates.push_back(Update { vip, service, pool, change }),
            Event::AssignmentFailed { vip, failure } => {
                warn!(event = logs::ANNOUNCE_FAILED, ip = %vip, reason = failure.as_str(), "address cannot be announced");
            }
            Event::LinksReplaced(_) | Event::PortOpened(_) => self.links_changed = true,
            Event::PortClosed(port) => self.close(port.index),
            Event::AnnouncementDue { vip, link, phase } => self.announce(vip, link, phase),
            Event::PeerContradicted { vip, mac, link: _ } => {
                debug!(ip = %vip, peer = %mac, "a peer announces what is ours; announcing it again");
            }
            Event::ConflictSeen { vip, mac, interface, defend } => {
                self.metrics.conflict();
                if defend {
                    warn!(event = logs::ADDRESS_CONFLICT, ip = %vip, %mac, %interface, "another machine claims the address");
                }
            }
            Event::Yielded { vip, mac } => info!(event = logs::YIELDED, ip = %vip, peer = %mac, "a peer announces the address"),
            Event::PeerAsked { node, questions } => self.ask(&node, &questions),
            Event::LookDue(vip) => self.ask_all(vip),
            Event::ProbeDue(vip) => self.probe_all(vip),
            Event::HelloDue | Event::AppliedDue | Event::InterfacesDue | Event::AddressProven(_) | Event::ProbePutOff(_) => {}
            Event::AddressFound { vip, mac, interface } => {
                self.metrics.in_use();
                warn!(event = logs::ADDRESS_IN_USE, ip = %vip, %mac, %interface, "another machine has the address, which is not announced");
            }
            Event::PeerHeard { .. } | Event::AnswerSeen { .. } | Event::LookPutOff(_) => {}
            Event::LookOver { vip, answers } => {
                debug!(ip = %vip, ?answers, "seen on the LAN");
            }
            Event::PeerSuspected { vip, node } => {
                debug!(ip = %vip, peer = %node, "a node does not answer for what we stand by for");
            }
            Event::TookOver { vip, node } => {
                self.metrics.took_over();
                let reason = "the node does not answer, and no allocator is there";
                warn!(event = logs::TOOK_OVER, ip = %vip, peer = %node, reason, "took the address over");
            }
            Event::DrainStarted { .. } => {
                info!(event = logs::DRAIN_STARTED, announced = self.state.announced(), "giving all addresses away");
            }
            Event::Drained { left } => self.drained = Some(left),
        }
    }

    fn announce(&self, vip: Vip, link: LinkIndex, phase: Phase) {
        let (Some(station), Some(held)) = (self.stations.get(&link), self.state.vips().get(&vip)) else { return };
        match phase {
            Phase::Probe => station.probe(vip),
            Phase::First | Phase::Repeat | Phase::Refresh | Phase::Defense => station.announce(vip, &held.assigned.counters),
        }
    }

    /// Opens what can answer and does not yet.
    async fn open_missing(&mut self) -> Result<(), EngineFault> {
        let missing: Vec<Port> = self.state.interfaces().ports().filter(|port| !self.stations.contains_key(&port.index)).cloned().collect();
        for port in missing {
            match Station::open(&port, &self.shared, &self.spawner).await {
                Ok(station) => drop(self.stations.insert(port.index, station)),
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(EngineFault::Privilege(error)),
                // The links will say so too, or that it is back.
                Err(error) if is_interface_gone(&error) => debug!(interface = %port.name, %error, "interface went before it was opened"),
                Err(source) => return Err(EngineFault::Socket { interface: port.name.to_string(), source }),
            }
        }
        for port in self.state.interfaces().ports() {
            if let Some(station) = self.stations.get_mut(&port.index) {
                station.align(port, &self.shared, &self.spawner).await;
            }
        }
        Ok(())
    }

    fn close(&mut self, link: LinkIndex) {
        if let Some(station) = self.stations.remove(&link) {
            station.close();
        }
    }

    /// Removes responders that ended by themselves; one whose interface is back already is opened again.
    fn bury(&mut self) {
        let dead: Vec<LinkIndex> = self.stations.iter().filter(|(_, station)| station.has_ended()).map(|(link, _)| *link).collect();
        for link in dead {
            self.close(link);
            self.links_changed = true;
        }
    }

    /// Sends what is due and finds room. A session that does not take even that is given up: the next one begins with everything.
    fn tell(&mut self) {
        let Some(outbox) = &self.outbox else { return self.due.keep_conflicts() };
        let in_force = self.stations.values().filter_map(Station::groups).all(|groups| groups.seen() >= self.groups_version);
        let messages = self.due.take(&self.state, outbox.room(), in_force);
        if !messages.into_iter().all(|message| outbox.offer(message)) {
            self.outbox = None;
        }
    }

    /// Waits until the session takes reports that have found no room; false once it takes nothing any more.
    async fn has_room(&self) -> bool {
        match &self.outbox {
            Some(outbox) if self.due.has_reports() => outbox.has_room(Due::LEAST_ROOM).await.is_ok(),
            Some(_) | None => std::future::pending().await,
        }
    }

    /// Logs of so many Services. Room for thousands of them is not kept.
    fn log_updates(&mut self, count: usize) {
        if count == 0 || self.updates.is_empty() {
            return;
        }
        for update in self.updates.drain(..count.min(self.updates.len())) {
            update.log();
        }
        self.told = self.clock.now();
        if self.updates.is_empty() {
            self.updates.shrink_to(TOLD_AT_ONCE);
        }
    }
}

impl Update {
    /// A look at one Service's address, as MetalLB logs it.
    fn log(&self) {
        let Self { vip: ip, service, pool, change } = self;
        info!(event = logs::START_UPDATE, %service, "start of service update");
        match change {
            Change::Announced => {
                info!(event = logs::SERVICE_ANNOUNCED, %service, %ip, %pool, protocol = "layer2", "service has IP, announcing");
            }
            Change::Withdrawn(reason) => {
                let reason = reason.as_str();
                info!(event = logs::SERVICE_WITHDRAWN, %service, %ip, %pool, protocol = "layer2", reason, "withdrawing service announcement");
            }
            Change::Noted => {}
        }
        info!(event = logs::END_UPDATE, %service, "end of service update");
    }
}

mod ask;
#[cfg(test)]
mod tests;
