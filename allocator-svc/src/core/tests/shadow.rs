//! A state that only shows what would be.

use super::*;

fn begin(rig: &mut Rig, pools: Vec<PoolSpec>) -> Vec<Event> {
    let configuration = Configuration::new(pools, vec![advertise_everything()]).unwrap();
    rig.command(Command::ReplacePools { leadership: Leadership::Next, configuration }).unwrap()
}

#[test]
fn each_session_begins_with_nothing_and_the_feed_tells_of_all_that_was() {
    let mut rig = Rig::shadow();
    begin(&mut rig, vec![pool("a", &["10.0.0.0/31"])]);
    rig.full_view(vec![claim("web"), claim("api"), claim("zeta")]);
    assert_eq!((rig.held("default/api"), rig.held("default/web")), ("10.0.0.0@a".to_owned(), "10.0.0.1@a".to_owned()));
    let (revision, term) = (rig.state.feed().revision(), rig.state.term());
    let events = begin(&mut rig, vec![pool("a", &["10.0.0.0/31"])]);
    assert!(
        matches!(events[..], [Event::ShadowBegan, Event::TermBegan(_), Event::ConfigurationReplaced { .. }, Event::RevisionReached(_)]),
        "{events:?}"
    );
    let book = rig.state.book();
    assert_eq!((book.leases().len(), book.claims().len(), book.waiting().len(), book.is_reconciled()), (0, 0, 0, false));
    assert_eq!((rig.state.epoch(), rig.state.term().0), (Epoch(1), term.0 + 1));
    let changed: Vec<&str> = rig.state.feed().since(revision).unwrap().into_iter().map(ServiceKey::name).collect();
    assert_eq!(changed, ["api", "web", "zeta"]);
    // What a status holds counts again, as if nothing had been held before.
    rig.full_view(vec![claim("web"), Claim { adopt: vips(&["10.0.0.1"]), ..claim("api") }]);
    assert_eq!((rig.held("default/api"), rig.held("default/web")), ("10.0.0.1@a".to_owned(), "10.0.0.0@a".to_owned()));
}

#[test]
fn a_full_view_can_begin_a_session_as_well_and_a_call_of_the_present_one_goes_on() {
    let mut rig = Rig::shadow();
    begin(&mut rig, vec![pool("a", &["10.0.0.0/31"])]);
    rig.claim(claim("web")).unwrap();
    rig.command(Command::ReplacePools { leadership: Leadership::Present, configuration: rig.state.book().configuration().clone() })
        .unwrap();
    assert_eq!(rig.held("default/web"), "10.0.0.0@a");
    rig.command(Command::Reconcile { leadership: Leadership::Next, claims: vec![claim("web")] }).unwrap();
    let refusal = rig.outcome(&claim("web").service);
    assert_eq!(refusal, Err("no available IPs: no pool is open to this Service".to_owned()), "the configuration is forgotten too");
    let outdated = rig.command(Command::Reconcile { leadership: Leadership::Term(Term(1)), claims: vec![] }).unwrap_err();
    assert_eq!(outdated.to_string(), "term 1 is over: a watcher leads with term 2");
}

#[test]
fn who_serves_forgets_nothing_when_a_leadership_begins() {
    let mut rig = Rig::with_pools(vec![pool("a", &["10.0.0.0/31"])]);
    rig.claim(claim("web")).unwrap();
    let events = begin(&mut rig, vec![pool("a", &["10.0.0.0/31"])]);
    assert_eq!(events, [Event::TermBegan(Term(1))]);
    assert_eq!(rig.held("default/web"), "10.0.0.0@a");
}

#[test]
fn nobody_announces_what_only_would_be() {
    let mut rig = Rig::shadow();
    begin(&mut rig, vec![pool("a", &["10.0.0.0/31"])]);
    rig.full_view(vec![claim("web")]);
    let placed: Vec<_> = rig.state.network().placements().values().collect();
    assert!(placed.iter().all(|placed| placed.is_err()), "{placed:?}");
    assert!(rig.state.network().speakers().is_empty());
    assert_eq!(next_deadline(&rig.state), None, "and nothing is waited for");
}
