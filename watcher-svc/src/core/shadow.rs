//! What a shadow finds: where what would be differs from what is there.
//!
//! With `--shadow` a watcher claims as ever, but from an allocator's shadow, and a Service whose claims are made has no status to be
//! written; it is compared instead. What the shadow grants is nobody's: addresses that appear in a status meanwhile come first, as they
//! would at a takeover, so a difference counts only over a full view that was made with what the status holds now.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use mooring_proto::types::address::Vip;
use mooring_proto::types::claim::Claim;
use mooring_proto::types::pool::PoolName;
use mooring_proto::types::service::ServiceKey;
use mooring_proto::types::time::Mono;

use super::service::Wish;
use super::{Fed, report};
use crate::k8s::service::ServiceView;

/// How soon a full view may follow another one.
const VIEW_PAUSE: Duration = Duration::from_secs(1);

/// How what would be differs from what is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Other addresses.
    WouldMove,
    /// More addresses, or any at all.
    WouldGain,
    /// Fewer addresses, or none, by the Service's own wish.
    WouldLose,
    /// None, because its claim is refused.
    Refused,
}

impl Reason {
    /// As the log has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WouldMove => "wouldMove",
            Self::WouldGain => "wouldGain",
            Self::WouldLose => "wouldLose",
            Self::Refused => "refused",
        }
    }
}

/// Where a Service would differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The addresses in its status, ascending as text.
    pub has: BTreeSet<String>,
    /// Those that would be there.
    pub wanted: BTreeSet<String>,
    /// The pool that these come from.
    pub pool: Option<PoolName>,
    /// How the two differ.
    pub reason: Reason,
    /// Why, where a rule says so: MetalLB's text, then the cause.
    pub error: String,
}

/// As a sentence goes on that begins with the Service.
impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |set: &BTreeSet<String>| set.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        let (has, wanted) = (list(&self.has), list(&self.wanted));
        match self.reason {
            Reason::WouldMove => write!(f, "would move from {has} to {wanted}")?,
            Reason::WouldGain if self.has.is_empty() => write!(f, "has no address and would gain {wanted}")?,
            Reason::WouldGain => write!(f, "would gain {} besides {has}", list(&(&self.wanted - &self.has)))?,
            Reason::WouldLose if !self.wanted.is_empty() => {
                write!(f, "would lose {} and keep {wanted}", list(&(&self.has - &self.wanted)))?
            }
            Reason::WouldLose | Reason::Refused => write!(f, "would lose {has}")?,
        }
        if let Some(pool) = &self.pool {
            write!(f, " of pool {pool}")?;
        }
        if self.error.is_empty() { Ok(()) } else { write!(f, ": {}", self.error) }
    }
}

/// What comparing one Service comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It is another implementation's, or neither has nor wants an address.
    NoConcern,
    /// The allocator has not said yet what it would have.
    Open,
    /// It would have what it has.
    Same,
    /// It would not.
    Differs(Difference),
}

/// Compares what a Service has with what it would have.
#[must_use]
pub fn compare(view: &ServiceView, wish: &Wish, fed: Option<&Fed>) -> Finding {
    let has = held(view);
    let wanted = match report::status(view, wish, fed) {
        Some(status) => status.ingress.into_iter().map(|ingress| ingress.ip).collect::<BTreeSet<String>>(),
        None if *wish == Wish::Foreign => return Finding::NoConcern,
        None if matches!(wish, Wish::Claim(_)) => return Finding::Open,
        None => return Finding::Same,
    };
    if has == wanted {
        let concerns = !has.is_empty() || matches!(wish, Wish::Claim(_) | Wish::Hold(_));
        return if concerns { Finding::Same } else { Finding::NoConcern };
    }
    let refusal = fed.and_then(|fed| fed.refusal.as_ref());
    let untenable = fed.and_then(|fed| fed.untenable.as_ref()).filter(|_| !has.is_subset(&wanted));
    let error = match wish {
        Wish::Nothing(why) => why.as_str().to_owned(),
        Wish::Claim(_) | Wish::Hold(_) | Wish::Foreign => refusal.or(untenable).map(|refused| refused.message.clone()).unwrap_or_default(),
    };
    let reason = match refusal {
        Some(_) if wanted.is_empty() => Reason::Refused,
        _ if has.is_subset(&wanted) => Reason::WouldGain,
        _ if wanted.is_subset(&has) => Reason::WouldLose,
        _ => Reason::WouldMove,
    };
    let pool = fed.and_then(|fed| fed.lease.as_ref()).filter(|_| !wanted.is_empty()).map(|lease| lease.pool.clone());
    Finding::Differs(Difference { has, wanted, pool, reason, error })
}

/// The addresses in a Service's status; what is no address stands there as it is written.
fn held(view: &ServiceView) -> BTreeSet<String> {
    let texts = view.status.ingress.iter().map(|ingress| &ingress.ip).filter(|ip| !ip.is_empty());
    texts.map(|text| text.parse::<Vip>().map_or_else(|_invalid| text.clone(), |vip| vip.to_string())).collect()
}

/// Whether a Service claims anew while the shadow holds something else for it than its status does: what is there comes first, so that
/// is given back, and claimed as if nothing had been granted.
#[must_use]
pub fn is_overtaken(said: Option<&Claim>, claim: &Claim, fed: Option<&Fed>) -> bool {
    let (Some(said), Some(lease)) = (said, fed.and_then(|fed| fed.lease.as_ref())) else { return false };
    let set = |vips: &[Vip]| vips.iter().copied().collect::<BTreeSet<Vip>>();
    said != claim && !claim.adopt.is_empty() && set(&claim.adopt) != set(&lease.addresses)
}

/// How many Services were compared, and what that came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Summary {
    /// Those that have an address, or would.
    pub services: usize,
    /// Those of them that would have what they have.
    pub same: usize,
    /// Those that would not.
    pub differ: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { services, same, differ } = self;
        write!(f, "of {services} Services {same} would keep what they have, {differ} would differ")
    }
}

/// Something to tell people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// A Service would differ, or in another way than before.
    Differs(ServiceKey, Difference),
    /// A Service would not differ any more.
    Agrees(ServiceKey),
    /// All Services have been compared.
    AtRest(Summary),
    /// The shadow ends, in the midst of comparing.
    CutShort(Summary),
}

/// All that was found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// What each Service's status held when the last full view was made, and when that was.
    viewed: BTreeMap<ServiceKey, BTreeSet<String>>,
    viewed_at: Mono,
    /// The Services compared, each with where it would differ.
    found: BTreeMap<ServiceKey, Option<Difference>>,
    differ: usize,
    open: BTreeSet<ServiceKey>,
    /// Services that differ, but the last full view was made before their status came to hold what it holds.
    outdated: BTreeSet<ServiceKey>,
    /// The summary as last told.
    told: Option<Summary>,
    /// Something was told since.
    news: bool,
}

impl Findings {
    /// A full view is made of these.
    pub fn viewed<'a>(&mut self, services: impl Iterator<Item = &'a ServiceView>, now: Mono) {
        self.viewed = services.map(|view| (view.key.clone(), held(view))).collect();
        self.viewed_at = now;
        self.outdated.clear();
    }

    /// The allocator is there anew: when all is compared, that is told in any case.
    pub fn connected(&mut self) {
        self.told = None;
    }

    /// Takes in what comparing a Service came to, and says what is new about it.
    pub fn take(&mut self, service: &ServiceKey, finding: Finding) -> Option<News> {
        self.open.remove(service);
        self.outdated.remove(service);
        match finding {
            Finding::NoConcern => {
                self.forget(service);
                None
            }
            Finding::Open => {
                self.open.insert(service.clone());
                None
            }
            Finding::Same => {
                let differed = self.note(service, None).flatten().is_some();
                differed.then(|| self.tell(News::Agrees(service.clone())))
            }
            Finding::Differs(found) if !found.has.is_empty() && self.viewed.get(service) != Some(&found.has) => {
                self.outdated.insert(service.clone());
                None
            }
            Finding::Differs(found) => {
                let before = self.note(service, Some(found.clone())).flatten();
                (before.as_ref() != Some(&found)).then(|| self.tell(News::Differs(service.clone(), found)))
            }
        }
    }

    /// A Service is gone.
    pub fn forget(&mut self, service: &ServiceKey) {
        self.open.remove(service);
        self.outdated.remove(service);
        if let Some(before) = self.found.remove(service) {
            self.differ = self.differ.saturating_sub(usize::from(before.is_some()));
        }
    }

    fn note(&mut self, service: &ServiceKey, difference: Option<Difference>) -> Option<Option<Difference>> {
        self.differ = self.differ.saturating_add(usize::from(difference.is_some()));
        let before = self.found.insert(service.clone(), difference);
        self.differ = self.differ.saturating_sub(usize::from(before.as_ref().is_some_and(Option::is_some)));
        before
    }

    fn tell(&mut self, news: News) -> News {
        self.news = true;
        news
    }

    /// How many Services would differ.
    #[must_use]
    pub fn differ(&self) -> usize {
        self.differ
    }

    /// When the next full view is due, as nothing else is under way; `None` if all that differs was found over the last one.
    #[must_use]
    pub fn next_view(&self) -> Option<Mono> {
        (self.open.is_empty() && !self.outdated.is_empty()).then(|| self.viewed_at + VIEW_PAUSE)
    }

    /// What to tell now that nothing is under way.
    pub fn at_rest(&mut self) -> Option<News> {
        let summary = self.summary();
        if !self.is_whole() || (!std::mem::take(&mut self.news) && self.told == Some(summary)) {
            return None;
        }
        self.told = Some(summary);
        Some(News::AtRest(summary))
    }

    /// The last word; `idle` says that nothing else is under way.
    #[must_use]
    pub fn end(&self, idle: bool) -> News {
        if idle && self.is_whole() { News::AtRest(self.summary()) } else { News::CutShort(self.summary()) }
    }

    fn is_whole(&self) -> bool {
        self.open.is_empty() && self.outdated.is_empty()
    }

    fn summary(&self) -> Summary {
        let services = self.found.len();
        Summary { services, same: services.saturating_sub(self.differ), differ: self.differ }
    }
}

#[cfg(test)]
mod tests;
