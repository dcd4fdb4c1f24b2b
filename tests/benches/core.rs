//! One allocation by the pure core, in pools of every kind and fill, with a thousand to a million leases; beside an ordered map of as many
//! entries, as both wait for the same memory.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a benchmark's result is what it prints")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mooring_allocator::core::{Command, Event, Leadership, Now, Settings, State, apply, decide, next_deadline};
use mooring_proto::types::address::{Family, Vip};
use mooring_proto::types::claim::{BackendKey, Claim, Families, FamilyPolicy};
use mooring_proto::types::labels::Labels;
use mooring_proto::types::lease::{Epoch, Lease, Revision};
use mooring_proto::types::pool::{Configuration, PoolName, PoolSpec};
use mooring_proto::types::service::{Protocol, ServiceKey, ServicePort, ServiceUid};
use mooring_proto::types::time::{Mono, UnixMillis};
use mooring_tests::lab::bench::{Samples, compare, head, micros, now, title};

/// How many Services hold something.
const LEASES: [usize; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// How many rounds of either side, in turn, and how many allocations or insertions a round has.
const ROUNDS: usize = 20;
const EACH: usize = 250;

/// How much of a pool is in use.
#[derive(Clone, Copy, Debug)]
enum Fill {
    /// Nothing: all leases are in another pool.
    Empty,
    /// Every second address, as far as there are leases.
    Half,
    /// All of it: the allocation is refused.
    Full,
}

fn main() -> Result<()> {
    title("One claim decided and taken in, by the core alone (p50)");
    head("core", "BTreeMap");
    for (pool, first) in [("IPv4 /16", "10.0.0.0/16"), ("IPv4 /8", "10.0.0.0/8"), ("IPv6 /64", "fd00::/64")] {
        for fill in [Fill::Empty, Fill::Half, Fill::Full] {
            let mut ends = Vec::new();
            for leases in LEASES {
                let Some(mut book) = Book::new(first, fill, leases)? else { continue };
                let (ours, peer) = book.measure()?;
                compare(&format!("{pool}, {fill:?}, {leases} leases").to_lowercase(), micros(ours), micros(peer), "µs");
                ends.push((ours, peer));
            }
            if let ([(first, first_peer), .., (last, last_peer)], true) = (ends.as_slice(), ends.len() > 1) {
                let factor = last.as_secs_f64() / first.as_secs_f64();
                let peer = last_peer.as_secs_f64() / first_peer.as_secs_f64();
                println!("{:<44} {factor:>12.2} {peer:>12.2} times  from the fewest leases to the most\n", "");
            }
        }
    }
    Ok(())
}

/// The core with leases in it, and a map with as many entries.
struct Book {
    state: State,
    peer: BTreeMap<ServiceKey, Vip>,
    leases: usize,
    is_full: bool,
    next: usize,
}

impl Book {
    /// `None` if the pool does not have so many addresses.
    fn new(prefix: &str, fill: Fill, leases: usize) -> Result<Option<Self>> {
        let net: ipnet::IpNet = prefix.parse()?;
        let address = |offset: usize| -> Result<Vip> {
            let offset = u128::try_from(offset)?;
            Ok(match net.network() {
                std::net::IpAddr::V4(first) => std::net::Ipv4Addr::from_bits(u32::try_from(u128::from(first.to_bits()) + offset)?).into(),
                std::net::IpAddr::V6(first) => std::net::Ipv6Addr::from_bits(first.to_bits() + offset).into(),
            })
        };
        let step = match fill {
            Fill::Empty => None,
            Fill::Half => Some(2),
            Fill::Full => Some(1),
        };
        if step.is_some_and(|step| net.prefix_len() == 16 && leases * step > 1 << 16) {
            return Ok(None);
        }
        // A pool can be full of so many leases only if it has just so many addresses.
        let range = match fill {
            Fill::Full => format!("{}-{}", address(0)?, address(leases - 1)?),
            Fill::Empty | Fill::Half => prefix.to_owned(),
        };
        let pools = vec![pool("measured", true, &range)?, pool("other", false, "172.16.0.0/12")?];
        let mut state = State::new(SETTINGS);
        apply(&mut state, &Event::EpochBegan(Epoch(1)));
        let configuration = Configuration::new(pools, Vec::new()).map_err(|errors| anyhow::anyhow!("{errors:?}"))?;
        for event in decide(&state, Command::ReplacePools { leadership: Leadership::Present, configuration }, NOW)? {
            apply(&mut state, &event);
        }
        let mut peer = BTreeMap::new();
        for number in 0..leases {
            let (vip, name) = match step {
                Some(step) => (address(number * step)?, "measured"),
                None => (std::net::Ipv4Addr::from_bits(0xac10_0000 + u32::try_from(number)?).into(), "other"),
            };
            let service = service(number)?;
            peer.insert(service.clone(), vip);
            apply(&mut state, &Event::LeaseGranted(Box::new(lease(service, vip, name)?)));
        }
        let mut book = Self { state, peer, leases, is_full: matches!(fill, Fill::Full), next: 0 };
        book.settle()?;
        Ok(Some(book))
    }

    /// The median of one claim, and of one insertion into the map; each is undone outside of the measured time.
    fn measure(&mut self) -> Result<(Duration, Duration)> {
        let (mut ours, mut peer) = (Samples::default(), Samples::default());
        let family = self.family()?;
        for _ in 0..ROUNDS {
            for _ in 0..EACH {
                let claim = claim(self.another()?, family);
                let service = claim.service.clone();
                let began = now();
                self.command(Command::Allocate { leadership: Leadership::Present, claim: Box::new(claim) })?;
                ours.add(began.elapsed());
                ensure!(self.state.book().lease(&service).is_none() == self.is_full, "{service} has the wrong outcome");
                self.command(Command::Release { leadership: Leadership::Present, service })?;
            }
            for _ in 0..EACH {
                let (service, vip) = (self.another()?, std::net::Ipv4Addr::LOCALHOST.into());
                let began = now();
                self.peer.insert(service.clone(), vip);
                peer.add(began.elapsed());
                self.peer.remove(&service);
            }
        }
        Ok((ours.percentile(50), peer.percentile(50)))
    }

    fn family(&self) -> Result<Family> {
        let pool = self.state.book().pools().values().find(|pool| pool.spec().auto_assign).context("no pool")?;
        Ok(if pool.count(Family::V4).total > 0 { Family::V4 } else { Family::V6 })
    }

    /// A Service that is not there yet, anywhere among those that are.
    fn another(&mut self) -> Result<ServiceKey> {
        self.next = (self.next + 7_919) % self.leases;
        Ok(ServiceKey::new("default", &format!("service-{:07}-new", self.next))?)
    }

    /// One wish and all that follows from it.
    fn command(&mut self, command: Command) -> Result<()> {
        for event in decide(&self.state, command, NOW)? {
            apply(&mut self.state, &event);
        }
        self.settle()
    }

    fn settle(&mut self) -> Result<()> {
        while next_deadline(&self.state) == Some(Mono::ZERO) {
            for event in decide(&self.state, Command::Tick, NOW)? {
                apply(&mut self.state, &event);
            }
        }
        if let Some(revision) = self.state.feed().next() {
            apply(&mut self.state, &Event::RevisionReached(revision));
        }
        Ok(())
    }
}

const NOW: Now = Now { mono: Mono::ZERO, wall: UnixMillis(0) };

const SETTINGS: Settings = Settings::DEFAULT;

fn pool(name: &str, auto_assign: bool, range: &str) -> Result<PoolSpec> {
    let name = PoolName::new(name).context("a pool without a name")?;
    let ranges = vec![range.parse()?];
    Ok(PoolSpec { name, ranges, auto_assign, avoid_buggy_ips: false, allocation: None, labels: Labels::new() })
}

fn service(number: usize) -> Result<ServiceKey> {
    Ok(ServiceKey::new("default", &format!("service-{number:07}"))?)
}

fn ports() -> BTreeSet<ServicePort> {
    [ServicePort { protocol: Protocol::Tcp, port: 80 }].into()
}

fn lease(service: ServiceKey, vip: Vip, pool: &str) -> Result<Lease> {
    Ok(Lease {
        service,
        uid: ServiceUid(String::new()),
        addresses: vec![vip],
        pool: PoolName::new(pool).context("a pool without a name")?,
        ports: ports(),
        sharing_key: None,
        backend_key: BackendKey::default(),
        revision: Revision::default(),
        granted: UnixMillis(0),
        retain: None,
    })
}

fn claim(service: ServiceKey, family: Family) -> Claim {
    Claim {
        service,
        uid: ServiceUid::default(),
        labels: Labels::new(),
        namespace_labels: Labels::new(),
        ports: ports(),
        families: Families::Single(family),
        policy: FamilyPolicy::SingleStack,
        requested_addresses: Vec::new(),
        requested_pool: None,
        sharing_key: None,
        backend_key: BackendKey::default(),
        adopt: Vec::new(),
        created: None,
        retain: None,
        quota: None,
    }
}
