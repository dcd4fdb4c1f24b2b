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
use super::rules::{Closed, Considered, Rule, Verdict, sharing, verdicts};
use super::state::{Book, State};
use super::{Event, Now, allocate};

/// The step before the rules: to keep what the Service has.
const KEEP: &str = "keep";

/// How many pools of a rule are told of; the one that grants always is.
const MOST_POOLS: usize = 200;

/// How many shared addresses are looked at to say why they cannot be shared, and how many are told of in a pool.
const MOST_SHARED: usize = 1_000;
const MOST_CONFLICTS: usize = 5;

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
    let conflicts = if considered.iter().any(|pool| pool.pool.is_err_and(|closed| closed == Closed::NotShared)) {
        conflicts(book, claim)
    } else {
        BTreeMap::new()
    };
    let numbered = considered.iter().enumerate();
    let told: Vec<&Considered<'_>> = numbered.filter(|(at, pool)| *at < MOST_POOLS || is_taken(pool)).map(|(_, pool)| pool).collect();
    let pools: Vec<PoolTrial> = told.iter().map(|considered| pool_trial(book, claim, considered, grant, &conflicts)).collect();
    let taken = pools.iter().find(|pool| pool.taken).map(|pool| pool.reason.clone()).unwrap_or_default();
    let said = match verdict {
        Verdict::Passes(reason) => Said::Passes(reason.to_owned()),
        Verdict::Grants(grant) => Said::Grants(grant, taken),
        Verdict::Refuses(refusal) => Said::Refuses(refusal),
    };
    Trial { rule: rule.name, asked: true, said, pools_left_out: considered.len().saturating_sub(told.len()), pools }
}

fn pool_trial(
    book: &Book,
    claim: &Claim,
    considered: &Considered<'_>,
    grant: Option<&Grant>,
    conflicts: &BTreeMap<&PoolName, Vec<String>>,
) -> PoolTrial {
    let told = |taken: bool, offers: Vec<Vip>, reason: String| PoolTrial { pool: considered.name.clone(), taken, offers, reason };
    let pool = match considered.pool {
        Ok(pool) => pool,
        Err(Closed::NotShared) => {
            let conflicts = conflicts.get(considered.name).map(|texts| texts.join("; "));
            return told(false, Vec::new(), conflicts.unwrap_or_else(|| Closed::NotShared.to_string()));
        }
        Err(closed) => return told(false, Vec::new(), closed.to_string()),
    };
    if let Some(grant) = grant.filter(|grant| grant.pool == *considered.name) {
        let origins: Vec<String> = grant.addresses.iter().map(|vip| origin(book, claim, pool, *vip)).collect();
        return told(true, grant.addresses.clone(), origins.join("; "));
    }
    let (mut offers, mut lacking) = (Vec::new(), Vec::new());
    for family in Need::of(claim).families() {
        match candidate(book, claim, pool, *family) {
            Some(vip) => offers.push(vip),
            None if pool.count(*family).total == 0 => lacking.push(format!("it has no {family} addresses")),
            None => lacking.push(pool.count(*family).to_string()),
        }
    }
    let reason = match (grant, lacking.is_empty()) {
        (_, false) => lacking.join("; "),
        (Some(grant), true) => format!("pool {} is asked before it", grant.pool),
        (None, true) => "with the policy SingleStack and two families the Service gets only just the addresses that it asks for".to_owned(),
    };
    told(false, offers, reason)
}

/// Why an address of a pool is there for a Service.
fn origin(book: &Book, claim: &Claim, pool: &Pool, vip: Vip) -> String {
    if book.lease(&claim.service).is_some_and(|lease| lease.addresses.contains(&vip)) {
        return format!("{vip} is its own already");
    }
    if let Some(other) = book.others(vip, Some(&claim.service)).next() {
        return format!("{vip} is held by {} and can be shared", other.service);
    }
    let lowest = pool.lowest(vip.family()) == Some(vip);
    if lowest { format!("{vip} is the first that is free") } else { format!("{vip} is free") }
}

/// Why addresses under the Service's sharing key cannot be shared, by pool.
fn conflicts<'a>(book: &'a Book, claim: &Claim) -> BTreeMap<&'a PoolName, Vec<String>> {
    let mut found: BTreeMap<&PoolName, Vec<String>> = BTreeMap::new();
    let shared = claim.sharing_key.iter().flat_map(|key| book.under_key(key)).take(MOST_SHARED);
    for vip in shared {
        if let (Some(pool), Err(refusal)) = (book.pool_of(vip), sharing::check(book, claim, vip)) {
            let texts = found.entry(&pool.spec().name).or_default();
            if texts.len() < MOST_CONFLICTS {
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
