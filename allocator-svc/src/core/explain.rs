//! Why a Service has what it has, or has nothing: whether it keeps its addresses, what each rule says of its claim, and why each address
//! is announced where it is.
//!
//! All of it is the word of the functions by which claims are met and VIPs are placed, over the state as it is; nothing is decided here.

use std::collections::BTreeMap;

use mooring_proto::types::address::Vip;
use mooring_proto::types::claim::Claim;
use mooring_proto::types::lease::Lease;
use mooring_proto::types::node::SpeakerId;
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::service::ServiceKey;

use super::dual_stack::{Grant, Need, candidate};
use super::free::Pool;
use super::placement::{Placement, Worth, worth};
use super::refusal::Refusal;
use super::rules::{Closed, Considered, Rule, Verdict, explicit, verdicts};
use super::state::{Book, State};
use super::{Event, Now, allocate, quota};

/// The step before the rules: to keep what the Service has.
const KEEP: &str = "keep";

/// How many pools of a rule are told of; the one that grants always is.
const MOST_POOLS: usize = 200;

/// How many shared or reserved addresses are looked at to say why the Service cannot have them.
const MOST_SHARED: usize = 1_000;

/// How many of these are told of in a pool.
const MOST_OBSTACLES: usize = 5;

/// Why a Service has what it has.
#[derive(Clone, Debug)]
pub(crate) struct Explanation {
    /// What it asks for; `None` = nobody has said since the start.
    pub(crate) claim: Option<Claim>,
    /// Whether it keeps what it has, then each rule; none without a claim.
    pub(crate) trials: Vec<Trial>,
    /// The name of the step that decides.
    pub(crate) decided_by: &'static str,
    /// What it holds.
    pub(crate) lease: Option<Lease>,
    /// Why its claim is not met.
    pub(crate) refusal: Option<Refusal>,
    /// Its addresses.
    pub(crate) vips: Vec<VipTrial>,
}

/// What a rule says of the claim.
#[derive(Clone, Debug)]
pub(crate) struct Trial {
    /// The rule's name.
    pub(crate) rule: &'static str,
    /// Whether it is asked: no step before it decides.
    pub(crate) asked: bool,
    /// What it says, or would say.
    pub(crate) said: Said,
    /// The pools that it looks at, in order.
    pub(crate) pools: Vec<PoolTrial>,
    /// How many more there are.
    pub(crate) pools_left_out: usize,
}

/// A verdict, with its reason.
#[derive(Clone, Debug)]
pub(crate) enum Said {
    /// The next rule is asked.
    Passes(String),
    /// The claim can have these.
    Grants(Grant, String),
    /// The claim cannot be met.
    Refuses(Refusal),
}

/// A pool that a rule looks at.
#[derive(Clone, Debug)]
pub(crate) struct PoolTrial {
    /// Its name.
    pub(crate) pool: PoolName,
    /// Whether the addresses come from it.
    pub(crate) taken: bool,
    /// What the Service gets, or could have had, of it.
    pub(crate) offers: Vec<Vip>,
    /// Why it was taken or passed over.
    pub(crate) reason: String,
}

/// Why an address is announced where it is.
#[derive(Clone, Debug)]
pub(crate) struct VipTrial {
    /// The address.
    pub(crate) vip: Vip,
    /// Who holds it.
    pub(crate) services: Vec<ServiceKey>,
    /// Who announces it and why, or why nobody does.
    pub(crate) reason: String,
    /// The advertisements about it.
    pub(crate) advertisements: Vec<String>,
    /// Every speaker.
    pub(crate) speakers: Vec<SpeakerTrial>,
}

/// What a speaker has to do with an address.
#[derive(Clone, Debug)]
pub(crate) struct SpeakerTrial {
    /// The speaker.
    pub(crate) id: SpeakerId,
    /// What it is worth for the address, or why it may not announce it.
    pub(crate) worth: Result<Worth, String>,
    /// How many addresses its node announces.
    pub(crate) active_on: usize,
    /// For how many its node stands by.
    pub(crate) standby_on: usize,
    /// Its part in the address.
    pub(crate) part: Option<Part>,
}

/// A speaker's part in an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// It announces.
    Active,
    /// It takes over when the active one is lost.
    Standby,
    /// It goes on until the active one has said that it announces.
    Outgoing,
}

/// Explains a Service; `None` = it neither holds nor claims anything.
pub(crate) fn explain(state: &State, service: &ServiceKey, now: Now) -> Option<Explanation> {
    let book = &state.book;
    let lease = book.lease(service).cloned();
    let vips = lease.iter().flat_map(|lease| &lease.addresses).map(|vip| vip_trial(state, *vip)).collect();
    let Some(claim) = book.claim(service) else {
        let lease = Some(lease?);
        return Some(Explanation { claim: None, trials: Vec::new(), decided_by: "", lease, refusal: None, vips });
    };
    let trials = trials(state, claim);
    let decides = |trial: &&Trial| trial.asked && !matches!(trial.said, Said::Passes(_));
    let decided_by = trials.iter().find(decides).map_or("", |trial| trial.rule);
    Some(Explanation { claim: Some(claim.clone()), trials, decided_by, lease, refusal: refusal(state, claim, now), vips })
}

/// Why a claim is not met, by what is free now.
fn refusal(state: &State, claim: &Claim, now: Now) -> Option<Refusal> {
    let is_as_before = |event: &Event| matches!(event, Event::ClaimRetried(_));
    let events = allocate::settle(state, claim, now);
    let before = state.book.refusal(&claim.service).filter(|_| events.iter().any(is_as_before)).cloned();
    let refused = |event| if let Event::ClaimRefused { refusal, .. } = event { Some(refusal) } else { None };
    before.or_else(|| events.into_iter().find_map(refused))
}

fn trials(state: &State, claim: &Claim) -> Vec<Trial> {
    let kept = keep(state, claim);
    let mut asked = matches!(kept, Said::Passes(_));
    let mut trials = vec![Trial { rule: KEEP, asked: true, said: kept, pools: Vec::new(), pools_left_out: 0 }];
    for (rule, verdict) in verdicts(&state.book, claim) {
        let decides = verdict.decides();
        trials.push(Trial { asked, ..trial(&state.book, claim, rule, verdict) });
        asked = asked && !decides;
    }
    trials
}

fn keep(state: &State, claim: &Claim) -> Said {
    let lease = state.book.lease(&claim.service);
    if let Some(lease) = lease.filter(|_| allocate::waits_for_its_pool(&state.book, claim)) {
        let grant = Grant { addresses: lease.addresses.clone(), pool: lease.pool.clone() };
        return Said::Grants(grant, format!("pool {} is gone; until its grace is over it may come back", lease.pool));
    }
    match allocate::keep(state, claim).map(|kept| allocate::extended(&state.book, claim, kept)) {
        Ok(grant) if lease.is_some_and(|lease| lease.addresses == grant.addresses) => {
            Said::Grants(grant, "it has them and may have them: nothing moves that can stay".to_owned())
        }
        Ok(grant) if lease.is_some() => Said::Grants(grant, "it keeps what it has, and the other family is there for it now".to_owned()),
        Ok(grant) => Said::Grants(grant, "its status holds them, and it may have them".to_owned()),
        Err(unkept) => Said::Passes(unkept.to_string()),
    }
}

fn trial(book: &Book, claim: &Claim, rule: &Rule, verdict: Verdict) -> Trial {
    let considered = (rule.considers)(book, claim);
    let grant = match &verdict {
        Verdict::Grants(grant) => Some(grant),
        Verdict::Passes(_) | Verdict::Refuses(_) => None,
    };
    let is_taken = |considered: &Considered<'_>| grant.is_some_and(|grant| grant.pool == *considered.name);
    let is_closed = |closed: Closed| considered.iter().any(|pool| pool.pool.is_err_and(|found| found == closed));
    let shared = || claim.sharing_key.iter().flat_map(|key| book.under_key(key));
    let obstacles = if is_closed(Closed::NotShared) {
        obstacles(book, claim, shared())
    } else if is_closed(Closed::NotKept) {
        obstacles(book, claim, book.reservations().kept_for(&claim.service))
    } else {
        BTreeMap::new()
    };
    let numbered = considered.iter().enumerate();
    let told: Vec<(usize, &Considered<'_>)> = numbered.filter(|(at, pool)| *at < MOST_POOLS || is_taken(pool)).collect();
    let taken_at = considered.iter().position(is_taken);
    let asked_after = |at: usize| grant.filter(|_| taken_at.is_some_and(|taken| taken < at)).map(|grant| &grant.pool);
    let pool_trial = |(at, pool): &(usize, &Considered<'_>)| match (pool.pool, grant.filter(|_| is_taken(pool))) {
        (Err(closed), _) => closed_trial(pool.name, closed, &obstacles),
        (Ok(pool), Some(grant)) => taken_trial(book, claim, pool, grant),
        (Ok(pool), None) => passed_trial(book, claim, pool, asked_after(*at)),
    };
    let pools: Vec<PoolTrial> = told.iter().map(pool_trial).collect();
    let taken = pools.iter().find(|pool| pool.taken).map(|pool| pool.reason.clone()).unwrap_or_default();
    let said = match verdict {
        Verdict::Passes(reason) => Said::Passes(reason.to_owned()),
        Verdict::Grants(grant) => Said::Grants(grant, taken),
        Verdict::Refuses(refusal) => Said::Refuses(refusal),
    };
    Trial { rule: rule.name, asked: true, said, pools_left_out: considered.len().saturating_sub(told.len()), pools }
}

/// A pool that is passed over whatever is free in it.
fn closed_trial(name: &PoolName, closed: Closed, obstacles: &BTreeMap<&PoolName, Vec<String>>) -> PoolTrial {
    let obstacles = match closed {
        Closed::NotShared | Closed::NotKept => obstacles.get(name).map(|texts| texts.join("; ")),
        Closed::Unknown | Closed::NotAutomatic | Closed::NotAdmitted | Closed::NotGranted | Closed::NotAsked => None,
    };
    let reason = obstacles.unwrap_or_else(|| closed.to_string());
    PoolTrial { pool: name.clone(), taken: false, offers: Vec::new(), reason }
}

/// The pool that the addresses come from.
fn taken_trial(book: &Book, claim: &Claim, pool: &Pool, grant: &Grant) -> PoolTrial {
    let origins: Vec<String> = grant.addresses.iter().map(|vip| origin(book, claim, pool, *vip)).collect();
    PoolTrial { pool: grant.pool.clone(), taken: true, offers: grant.addresses.clone(), reason: origins.join("; ") }
}

/// A pool that is open and passed over; `after` is the one that the addresses come from, if that is asked before it.
fn passed_trial(book: &Book, claim: &Claim, pool: &Pool, after: Option<&PoolName>) -> PoolTrial {
    let need = Need::of(claim);
    let (mut offers, mut lacking) = (Vec::new(), Vec::new());
    for family in need.families() {
        match candidate(book, claim, pool, *family) {
            Some(vip) => offers.push(vip),
            None if pool.count(*family).total == 0 => lacking.push(format!("it has no {family} addresses")),
            None if pool.lowest(*family).is_some() => lacking.push(quota::exceeded(book, claim).to_string()),
            None => lacking.push(pool.count(*family).to_string()),
        }
    }
    let reason = if !lacking.is_empty() {
        lacking.dedup();
        lacking.join("; ")
    } else if let Some(taken) = after {
        format!("pool {taken} is asked before it")
    } else if need == Need::BothAsked {
        "with the policy SingleStack and two families the Service gets only just the addresses that it asks for".to_owned()
    } else if quota::affords(book, claim, &offers) {
        "another pool has more of what is reserved for the Service".to_owned()
    } else {
        quota::exceeded(book, claim).to_string()
    };
    PoolTrial { pool: pool.spec().name.clone(), taken: false, offers, reason }
}

/// Why an address of a pool is there for a Service.
fn origin(book: &Book, claim: &Claim, pool: &Pool, vip: Vip) -> String {
    if book.lease(&claim.service).is_some_and(|lease| lease.addresses.contains(&vip)) {
        return format!("{vip} is its own already");
    }
    if book.reservations().kept_for(&claim.service).any(|kept| kept == vip) {
        return format!("{vip} is reserved for it");
    }
    if let Some(other) = book.others(vip, Some(&claim.service)).next() {
        return format!("{vip} is held by {} and can be shared", other.service);
    }
    let lowest = pool.lowest(vip.family()) == Some(vip);
    if lowest { format!("{vip} is the first that is free") } else { format!("{vip} is free") }
}

/// Why the Service cannot have these addresses, by pool.
fn obstacles<'a>(book: &'a Book, claim: &Claim, vips: impl Iterator<Item = Vip>) -> BTreeMap<&'a PoolName, Vec<String>> {
    let mut found: BTreeMap<&PoolName, Vec<String>> = BTreeMap::new();
    for vip in vips.take(MOST_SHARED) {
        let exceeded = || (!quota::affords(book, claim, &[vip])).then(|| quota::exceeded(book, claim));
        let refusal = explicit::allowed(book, claim, &[vip]).err().or_else(exceeded);
        if let (Some(pool), Some(refusal)) = (book.pool_of(vip), refusal) {
            let texts = found.entry(&pool.spec().name).or_default();
            if texts.len() < MOST_OBSTACLES {
                texts.push(refusal.to_string());
            }
        }
    }
    found
}

fn vip_trial(state: &State, vip: Vip) -> VipTrial {
    let network = &state.network;
    let placed = network.placements().get(&vip);
    let worth = worth(state, vip);
    let (advertisements, speakers) = match &worth {
        Ok((advertisements, speakers)) => {
            let speakers = speakers.iter().map(|(id, worth)| (*id, worth.clone().map_err(str::to_owned))).collect();
            (advertisements.iter().map(|name| (*name).to_owned()).collect(), speakers)
        }
        Err(reason) => {
            let reason = reason.to_string();
            (Vec::new(), network.speakers().keys().map(|id| (id, Err(reason.clone()))).collect::<Vec<_>>())
        }
    };
    let present = placed.and_then(|placed| placed.as_ref().ok());
    let trial = |(id, worth): (&SpeakerId, Result<Worth, String>)| SpeakerTrial {
        worth,
        active_on: network.active_on(&id.node),
        standby_on: network.standby_on(&id.node),
        part: present.and_then(|placement| part(placement, id)),
        id: id.clone(),
    };
    let speakers: Vec<SpeakerTrial> = speakers.into_iter().map(trial).collect();
    let reason = match placed {
        None => "it has not been given to any node yet".to_owned(),
        Some(Err(reason)) => reason.to_string(),
        Some(Ok(placement)) => why_there(state, vip, placement, &speakers),
    };
    let services = state.book.holders().get(&vip).into_iter().flatten().cloned().collect();
    VipTrial { vip, services, reason, advertisements, speakers }
}

fn part(placement: &Placement, id: &SpeakerId) -> Option<Part> {
    if placement.active == *id {
        Some(Part::Active)
    } else if placement.outgoing.as_ref() == Some(id) {
        Some(Part::Outgoing)
    } else {
        (placement.standby.as_ref() == Some(id)).then_some(Part::Standby)
    }
}

/// Why a VIP is where it is.
fn why_there(state: &State, vip: Vip, placement: &Placement, speakers: &[SpeakerTrial]) -> String {
    let active = speakers.iter().find(|speaker| speaker.id == placement.active);
    let node = &placement.active.node;
    let stays = match active.map(|active| &active.worth) {
        Some(Ok(Worth { drained: Some(why), .. })) if placement.last_resort => {
            format!("{node} goes on announcing it although {why}: no other node is eligible")
        }
        Some(Ok(_)) => format!("{node} announces it: an address stays where it is as long as its node may announce it"),
        Some(Err(reason)) => format!("{node} goes on announcing it for now, although {reason}"),
        None => format!("{node} announces it"),
    };
    match &placement.outgoing {
        Some(outgoing) => format!("{stays}; {} answers until {node} has said that it announces it", outgoing.node),
        None if state.network.is_announced(vip) => stays,
        None => format!("{stays}; it has not said yet that it does"),
    }
}

#[cfg(test)]
mod tests;
