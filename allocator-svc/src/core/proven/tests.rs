use super::*;

fn vip(text: &str) -> Vip {
    text.parse().unwrap()
}

#[test]
fn what_nobody_holds_any_more_is_certain_for_an_hour() {
    let (mut proven, one, other) = (Proven::default(), vip("192.0.2.1"), vip("192.0.2.2"));
    let at = |secs| Mono::ZERO + Duration::from_secs(secs);
    assert!(!proven.has(one));
    proven.add(one);
    proven.at(at(10));
    proven.leave(one);
    proven.leave(other);
    assert!(proven.has(one) && !proven.has(other));
    proven.at(at(3_609));
    assert!(proven.has(one));
    proven.at(at(3_610));
    assert!(!proven.has(one));
    assert!(proven.left.is_empty() && proven.by_time.is_empty(), "nothing is kept for ever");
    proven.add(one);
    proven.leave(one);
    proven.add(one);
    proven.at(at(99_999));
    assert!(proven.has(one), "somebody holds it again");
    proven.lose(one);
    assert!(!proven.has(one));
}
