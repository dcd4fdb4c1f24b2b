use super::*;

/// When each of so many rounds goes out, all of them due at once, where each batch is later than it may be by so much.
fn rounds(count: usize, late: Duration) -> Vec<Mono> {
    let (mut batch, mut now, mut rounds) = (Batch::default(), Mono::ZERO + Duration::from_secs(1), Vec::new());
    while rounds.len() < count {
        now = batch.opens(now) + late;
        for _ in 0..batch.room(now) {
            batch.note(now);
            rounds.push(now);
        }
    }
    rounds
}

#[test]
fn whoever_is_late_by_less_than_a_pace_keeps_it() {
    let cases = [(0, 1_245), (1_000, 1_247), (3_500, 1_252), (4_999, 1_254)];
    for (late, wanted) in cases {
        let rounds = rounds(10_000, Duration::from_micros(late));
        let took = rounds[9_999].saturating_since(Mono::ZERO + Duration::from_secs(1));
        assert_eq!(took.as_millis(), wanted, "late by {late} µs");
    }
}

#[test]
fn no_pace_has_more_than_two_batches_and_no_second_more_than_its_own_and_one() {
    let second = BATCH * 200;
    for late in [0, 1_000, 3_500, 4_999, 5_000, 7_000, 12_000] {
        let rounds = rounds(40_000, Duration::from_micros(late));
        for (count, time) in [(2 * BATCH, PACE), (second + BATCH, Duration::from_secs(1))] {
            let least = rounds.windows(count + 1).map(|window| window[count].saturating_since(window[0])).min().unwrap();
            assert!(least >= time, "late by {late} µs: {count} in {least:?}");
        }
    }
}

#[test]
fn what_was_not_used_is_lost() {
    let (mut batch, start) = (Batch::default(), Mono::ZERO + Duration::from_secs(1));
    batch.note(start);
    assert_eq!(batch.room(start), BATCH - 1);
    let much_later = start + PACE * 10;
    assert_eq!(batch.room(much_later), BATCH);
    batch.note(much_later);
    assert_eq!((batch.room(much_later), batch.room(much_later + PACE)), (BATCH - 1, BATCH));
    assert_eq!(batch.opens(much_later), much_later);
}
