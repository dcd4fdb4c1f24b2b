//! The Services that hold an address: nearly always one, which then costs no more than its key.

use std::collections::{BTreeSet, btree_set};
use std::iter::{Once, once};

use mooring_proto::types::service::ServiceKey;

/// Who holds an address; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holders(Inner);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Inner {
    One(ServiceKey),
    /// At least two.
    More(BTreeSet<ServiceKey>),
}

impl Holders {
    /// A Service alone.
    pub(super) fn one(service: ServiceKey) -> Self {
        Self(Inner::One(service))
    }

    /// One more.
    pub(super) fn insert(&mut self, service: ServiceKey) {
        match &mut self.0 {
            Inner::One(one) if *one == service => {}
            Inner::One(one) => self.0 = Inner::More([one.clone(), service].into()),
            Inner::More(more) => {
                more.insert(service);
            }
        }
    }

    /// One less; false if it was the last, which then stays.
    pub(super) fn remove(&mut self, service: &ServiceKey) -> bool {
        let Inner::More(more) = &mut self.0 else { return false };
        more.remove(service);
        if let (1, Some(last)) = (more.len(), more.first()) {
            self.0 = Inner::One(last.clone());
        }
        true
    }

    /// Whether a Service is one of them.
    #[must_use]
    pub fn contains(&self, service: &ServiceKey) -> bool {
        match &self.0 {
            Inner::One(one) => one == service,
            Inner::More(more) => more.contains(service),
        }
    }

    /// The first of them, by name.
    #[must_use]
    pub fn first(&self) -> Option<&ServiceKey> {
        self.iter().next()
    }

    /// All of them, by name.
    pub fn iter(&self) -> Iter<'_> {
        self.into_iter()
    }
}

/// Goes over those who hold an address.
#[derive(Clone, Debug)]
pub struct Iter<'a>(Rest<'a>);

#[derive(Clone, Debug)]
enum Rest<'a> {
    One(Once<&'a ServiceKey>),
    More(btree_set::Iter<'a, ServiceKey>),
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a ServiceKey;

    fn next(&mut self) -> Option<&'a ServiceKey> {
        match &mut self.0 {
            Rest::One(one) => one.next(),
            Rest::More(more) => more.next(),
        }
    }
}

impl<'a> IntoIterator for &'a Holders {
    type Item = &'a ServiceKey;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        Iter(match &self.0 {
            Inner::One(one) => Rest::One(once(one)),
            Inner::More(more) => Rest::More(more.iter()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_becomes_several_and_one_again() {
        let key = |name: &str| ServiceKey::new("n", name).unwrap();
        let names = |holders: &Holders| holders.iter().map(|key| key.name().to_owned()).collect::<Vec<_>>();
        let mut holders = Holders::one(key("b"));
        holders.insert(key("b"));
        assert_eq!(names(&holders), ["b"]);
        holders.insert(key("c"));
        holders.insert(key("a"));
        assert_eq!(names(&holders), ["a", "b", "c"]);
        assert!(holders.contains(&key("c")) && !holders.contains(&key("d")));
        assert!(holders.remove(&key("b")) && holders.remove(&key("a")));
        assert_eq!(holders, Holders::one(key("c")));
        assert!(holders.contains(&key("c")) && !holders.contains(&key("a")));
        assert!(!holders.remove(&key("c")), "the last");
    }
}
