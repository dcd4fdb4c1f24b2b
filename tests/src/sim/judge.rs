//! What has to be so: that a VIP lost its place for a reason, and that a whole cluster comes to rest with each VIP answered by one node.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use mooring_allocator::core::nodes::Liveness;
use mooring_proto::types::address::Vip;
use mooring_proto::types::node::MacAddress;
use mooring_proto::types::time::Mono;

use super::allocator::Unplaced;
use super::client::{LOCK_TIME, Looker};
use super::lan::{Machine, Nic};
use super::watcher::{CALL, node};
use super::{Slot, World};

/// Within this time after a whole cluster has come back together every VIP is answered where it stays.
///
/// Up to 2 s until a sender tries again what a cut held up (or 1 s of a connection attempt and 1 s of rest), 5 s for a speaker that was
/// just asked to end and 0.3 s until its successor runs, 2 s of recovery in an allocator that has just begun, and 1 s of probes.
pub const HEALED: Duration = Duration::from_secs(10);

/// How long nothing may move for a cluster to be at rest. Longer than a neighbor entry is locked, so that the client's has to be right.
pub const QUIET: Duration = LOCK_TIME.saturating_add(Duration::from_millis(500));

/// What was on its way before has arrived: more than the delay of the worst LAN.
const SETTLE: Duration = Duration::from_millis(100);

/// How often it is looked whether the cluster is at rest.
const LOOK: Duration = Duration::from_millis(25);

/// What an answer may take besides the pause between two requests: twice the delay of a good LAN, and what twice its delay adds to a gap.
const SLACK: Duration = Duration::from_millis(2);

impl World {
    /// The node that answers for a VIP, by what its speakers have in force; `None` = none.
    ///
    /// # Errors
    /// Several do.
    pub fn answered_by(&self, vip: Vip) -> anyhow::Result<Option<u8>> {
        let answers = |slot: &Slot| {
            let speaker = self.speakers.get(slot).and_then(Option::as_ref);
            speaker.is_some_and(|speaker| speaker.answering().contains(&vip))
        };
        let slots: Vec<Slot> = self.shape.slots().into_iter().filter(answers).collect();
        ensure!(slots.len() <= 1, "{vip} is answered by {slots:?}");
        Ok(slots.first().map(|slot| slot.node))
    }

    /// The node that announces each VIP, by the allocator's word.
    ///
    /// # Errors
    /// There is no allocator, or it has no place for one.
    pub fn placed(&self) -> anyhow::Result<BTreeMap<Vip, u8>> {
        let allocator = self.allocator.as_ref().context("there is no allocator")?;
        let mut placed = BTreeMap::new();
        for vip in self.vips() {
            let active = allocator.state.network().placements().get(&vip).and_then(|placed| placed.as_ref().ok());
            let node_of = |slot: &Slot| slot.id().ok().filter(|id| active.is_some_and(|placement| placement.active.node == id.node));
            let slot = self.shape.slots().into_iter().find(|slot| node_of(slot).is_some());
            placed.insert(vip, slot.with_context(|| format!("{vip} has no place"))?.node);
        }
        Ok(placed)
    }

    /// Whether one node answers for each VIP, whatever the allocator believes.
    ///
    /// # Errors
    /// None does, or several.
    pub fn judge_answers(&self) -> anyhow::Result<()> {
        for vip in self.vips() {
            ensure!(self.answered_by(vip)?.is_some(), "{vip} is answered by nobody");
        }
        Ok(())
    }

    /// The client looks anew.
    pub fn look_anew(&mut self) {
        self.client.look_anew(Looker::Scenario, self.now);
    }

    /// How long each VIP has at most been without an answer since the client looks.
    #[must_use]
    pub fn gaps(&self) -> BTreeMap<Vip, Duration> {
        self.vips().into_iter().map(|vip| (vip, self.client.longest_gap(Looker::Scenario, vip, self.now))).collect()
    }

    /// The longest of them.
    #[must_use]
    pub fn longest_gap(&self) -> Duration {
        self.gaps().into_values().max().unwrap_or_default()
    }

    /// The longest pause between two answers of a VIP that nothing happens to.
    #[must_use]
    pub fn no_gap(&self) -> Duration {
        self.shape.asks + SLACK
    }

    /// Whether whoever only listens sends to the node that announces a VIP: it has heard of each move.
    ///
    /// # Errors
    /// It sends to another one.
    pub fn judge_listener(&self) -> anyhow::Result<()> {
        for (vip, number) in self.placed()? {
            let own = self.shape.nics().into_iter().filter(|nic| nic.machine == Machine::Node(number)).map(Nic::mac);
            let macs: BTreeSet<MacAddress> = own.collect();
            let sent_to = self.listener.neighbor(vip).map(|neighbor| neighbor.mac);
            ensure!(
                sent_to.is_some_and(|mac| macs.contains(&mac)),
                "who only listens sends what is for {vip} to {sent_to:?}, not to {macs:?}"
            );
        }
        Ok(())
    }

    /// Whether a node can announce a VIP: it is allowed to, a speaker is there, and an interface is up.
    fn is_eligible(&self, vip: Vip, number: u8) -> anyhow::Result<bool> {
        let nics = self.shape.nics().into_iter().filter(|nic| nic.machine == Machine::Node(number));
        let wanted = |nic: &Nic| super::interface(nic.port).is_some_and(|name| self.watcher.advertises_on(name.as_str()));
        let heard = nics.filter(wanted).any(|nic| self.is_up(nic));
        let speaks = |slot: &Slot| self.speakers.get(slot).and_then(Option::as_ref).is_some_and(|speaker| !speaker.state.is_draining());
        let speaks = self.slots_of(number).iter().any(speaks);
        Ok(heard && speaks && self.watcher.admits(vip, &node(number)?))
    }

    /// The nodes that can announce a VIP.
    fn eligible(&self, vip: Vip) -> anyhow::Result<BTreeSet<u8>> {
        let mut eligible = BTreeSet::new();
        for number in self.shape.numbers() {
            if self.is_eligible(vip, number)? {
                eligible.insert(number);
            }
        }
        Ok(eligible)
    }

    /// A VIP that lost its place had a reason to: nobody holds it, the cluster lets nobody announce it, no speaker is there to, or after a
    /// start the one that had it says that it has yielded to whoever took it over. For such a one it has to be true.
    pub(super) fn justify(&self, lost: &Unplaced) -> anyhow::Result<()> {
        let Some(allocator) = &self.allocator else { return Ok(()) };
        if lost.given_up {
            for slot in self.shape.slots() {
                let answers =
                    self.speakers.get(&slot).and_then(Option::as_ref).is_some_and(|speaker| speaker.answering().contains(&lost.vip));
                ensure!(!answers || slot.id()? != lost.before.active, "{slot:?} still answers for it");
            }
            return Ok(());
        }
        let told = self.now.saturating_since(self.watcher.changed) > 2 * CALL;
        if !told || !allocator.state.book().holders().contains_key(&lost.vip) {
            return Ok(());
        }
        for number in self.shape.numbers() {
            let name = node(number)?;
            let live = allocator.state.network().speakers().iter().any(|(id, speaker)| {
                let wanted = |name: &str| self.watcher.advertises_on(name);
                id.node == name
                    && speaker.liveness == Liveness::Live
                    && speaker.interfaces.iter().any(|interface| wanted(interface.name.as_str()))
            });
            ensure!(!live || !self.watcher.admits(lost.vip, &name), "node {number} could announce it");
        }
        Ok(())
    }

    /// Whether everything is where it belongs, or what is not.
    fn settled(&self) -> anyhow::Result<()> {
        let Some(allocator) = &self.allocator else { bail!("there is no allocator") };
        for service in self.watcher.services.keys() {
            ensure!(allocator.state.book().lease(service).is_some(), "{service} has no address");
        }
        for (slot, speaker) in &self.speakers {
            let Some(speaker) = speaker else { continue };
            ensure!(speaker.state.session().is_live(), "{slot:?} has no session");
        }
        for vip in self.vips() {
            let (eligible, answered) = (self.eligible(vip)?, self.answered_by(vip)?);
            match answered {
                None => ensure!(eligible.is_empty(), "{vip} is answered by nobody, and could be by {eligible:?}"),
                Some(number) => {
                    ensure!(eligible.contains(&number), "{vip} is answered by {number}, and may be by {eligible:?}");
                    let placed = allocator.state.network().placements().get(&vip);
                    let active = placed.and_then(|placed| placed.as_ref().ok()).map(|placement| &placement.active.node);
                    ensure!(active == Some(&node(number)?), "{vip} is answered by {number}, and the allocator has it on {active:?}");
                }
            }
        }
        Ok(())
    }

    /// Waits until the cluster is at rest and sees to it that it stays so: each VIP that can be is answered without a gap by one node, which
    /// is the one that the client sends to, and nothing moves. Returned is how long it took.
    ///
    /// # Errors
    /// It is not at rest after `within`, or it is not as it should be then, or something that must always hold does not.
    pub fn rest(&mut self, within: Duration) -> anyhow::Result<Duration> {
        let (begin, mut since, mut is_watched) = (self.now, None::<Mono>, false);
        let since = loop {
            let settled = self.settled();
            let late = self.now.saturating_since(begin) > within;
            match (&settled, since.filter(|since| *since >= self.moved)) {
                (Ok(()), Some(since)) if self.now.saturating_since(since) >= SETTLE + QUIET => break since,
                (Ok(()), Some(since)) if self.now.saturating_since(since) >= SETTLE && !is_watched => {
                    self.client.look_anew(Looker::Rest, self.now);
                    is_watched = true;
                }
                (Ok(()), Some(_)) => {}
                (Ok(()), None) if late => bail!("still moving after {within:?}"),
                (Ok(()), None) => (since, is_watched) = (Some(self.now), false),
                (Err(_), _) if late => return settled.map(|()| within),
                (Err(_), _) => since = None,
            }
            self.pass(LOOK)?;
        };
        self.judge_sights()?;
        Ok(since.saturating_since(begin))
    }

    /// What the client has seen since it looks: one node answers for each VIP, without a gap, and the client sends to it.
    fn judge_sights(&self) -> anyhow::Result<()> {
        for vip in self.vips() {
            let (sight, answered) = (self.client.sight(Looker::Rest, vip), self.answered_by(vip)?);
            let own = |number: u8| self.shape.nics().into_iter().filter(move |nic| nic.machine == Machine::Node(number)).map(Nic::mac);
            let macs: BTreeSet<MacAddress> = answered.into_iter().flat_map(own).collect();
            ensure!(sight.by.is_subset(&macs), "{vip} is answered by {:?} and should be by {macs:?}", sight.by);
            if macs.is_empty() {
                continue;
            }
            let gap = self.client.longest_gap(Looker::Rest, vip, self.now);
            ensure!(gap <= self.shape.asks + SLACK, "{vip} was not answered for {gap:?}");
            let sent_to = self.client.neighbor(vip).map(|neighbor| neighbor.mac);
            ensure!(sent_to.is_some_and(|mac| macs.contains(&mac)), "the client sends what is for {vip} to {sent_to:?}, not to {macs:?}");
        }
        Ok(())
    }
}
