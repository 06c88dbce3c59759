//! Scripts: what the leader hears and when, and which leases it calls expired.

use expect_test::{Expect, expect};

use super::*;

fn id(word: &str) -> LeaseId {
    LeaseId(word.parse().unwrap())
}

/// Plays a script of lines `MOMENT VERB ARGUMENTS…`; the answer is one line for each that has something to say.
fn check(script: &str, expected: Expect) {
    let mut presence = Presence::new();
    let mut trace = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let words: Vec<_> = line.split_whitespace().collect();
        let now: u64 = words[0].parse().unwrap();
        let number = |at: usize| words[at].parse::<u64>().unwrap();
        let said = match words[1] {
            "promote" => {
                let leases = words[2..].iter().map(|word| word.split_once(':').unwrap());
                presence.promote(now, leases.map(|(lease, ttl)| (id(lease), ttl.parse().unwrap())));
                continue;
            }
            "demote" => {
                presence.demote();
                continue;
            }
            "grant" => {
                presence.grant(now, id(words[2]), number(3));
                continue;
            }
            "ended" => {
                presence.ended(id(words[2]));
                continue;
            }
            "renew" => if presence.renew(now, id(words[2])) { "renewed" } else { "too late" }.to_owned(),
            "look" => format!("{:?}", presence.expired(now).iter().map(|lease| lease.0).collect::<Vec<_>>()),
            "each" => {
                // A driver that looks twice a second up to this moment.
                let mut all = Vec::new();
                for moment in (presence.seen_ms..=now).step_by(500) {
                    all.extend(presence.expired(moment).iter().map(|lease| format!("{}@{moment}", lease.0)));
                }
                all.join(" ")
            }
            other => panic!("{other}"),
        };
        trace.push_str(&format!("{line}: {said}\n"));
    }
    expected.assert_eq(&trace);
}

#[test]
fn renewed_in_time_it_goes_on() {
    check(
        "
        0 promote 1:5000 2:5000
        4000 each
        4000 renew 1
        9500 each
        ",
        expect![[r#"
            4000 each: 
            4000 renew 1: renewed
            9500 each: 2@5000 2@6000 2@7000 2@8000 1@9000 2@9000
        "#]],
    );
}

#[test]
fn what_was_called_expired_is_over() {
    check(
        "
        0 promote 1:5000
        5000 each
        5001 renew 1
        6000 each
        6100 ended 1
        9000 each
        9000 renew 1
        ",
        expect![[r#"
            5000 each: 1@5000
            5001 renew 1: too late
            6000 each: 
            9000 each: 
            9000 renew 1: too late
        "#]],
    );
}

#[test]
fn a_lease_that_is_granted_ends_by_itself() {
    check(
        "
        0 promote
        0 renew 7
        100 grant 7 6000
        6000 each
        6500 each
        6600 ended 7
        8000 each
        ",
        expect![[r#"
            0 renew 7: too late
            6000 each: 
            6500 each: 7@6100
            8000 each: 
        "#]],
    );
}

#[test]
fn granted_again_it_has_another_ttl() {
    check(
        "
        0 promote 1:5000
        1000 grant 1 9000
        9500 each
        10000 each
        ",
        expect![[r#"
            9500 each: 
            10000 each: 1@10000
        "#]],
    );
}

#[test]
fn a_new_leader_gives_each_its_full_time_again() {
    check(
        "
        0 promote 1:5000 2:60000
        4500 each
        4500 demote
        4600 renew 1
        4600 look
        4700 promote 1:5000 2:60000
        9500 each
        10000 each
        ",
        expect![[r#"
            4500 each: 
            4600 renew 1: too late
            4600 look: []
            9500 each: 
            10000 each: 1@9700
        "#]],
    );
}

#[test]
fn who_does_not_lead_knows_nothing() {
    check(
        "
        0 grant 1 5000
        0 renew 1
        9000 look
        ",
        expect![[r#"
            0 renew 1: too late
            9000 look: []
        "#]],
    );
}

#[test]
fn time_that_the_leader_was_paused_counts_for_nobody() {
    check(
        "
        0 promote 1:5000
        1000 each
        61000 look
        61010 renew 1
        65500 each
        66500 each
        ",
        expect![[r#"
            1000 each: 
            61000 look: []
            61010 renew 1: renewed
            65500 each: 
            66500 each: 1@66010
        "#]],
    );
}

#[test]
fn a_clock_that_steps_back_ends_nothing_early() {
    check(
        "
        10000 promote 1:5000
        9000 renew 1
        9000 look
        14500 each
        15000 each
        ",
        expect![[r#"
            9000 renew 1: renewed
            9000 look: []
            14500 each: 
            15000 each: 1@15000
        "#]],
    );
}

#[test]
fn no_more_than_a_thousand_a_second() {
    let mut presence = Presence::new();
    presence.promote(0, (0..5_000).map(|lease| (LeaseId(lease), 5_000)));
    let mut expired = BTreeMap::new();
    for now in (0..20_000).step_by(100) {
        for lease in presence.expired(now) {
            assert!(expired.insert(lease, now).is_none(), "it was ended at once, and is not called again");
            presence.ended(lease);
        }
    }
    assert_eq!(expired.len(), 5_000);
    assert!(presence.is_empty() && presence.due.is_empty());
    for second in 5_000..12_000 {
        let within = expired.values().filter(|now| (second..second + 1_000).contains(*now)).count() as u64;
        assert!(within <= EXPIRIES_PER_S_MAX + EXPIRIES_BURST, "{within} in the second after {second}");
    }
    assert!(expired.values().max().unwrap() < &10_000, "and not much fewer");
}
