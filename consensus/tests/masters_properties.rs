//! What must hold of every step, whatever the census: judged by rules written down here once more, and in other words.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use mgmt_consensus::masters::{Census, Deed, Policy, Profile, Seat, Step, choose, may_leave, safe, spread, standings};
use mgmt_consensus::mutant::{self, Mutant};
use mgmt_consensus::{Incarnation, Member, PeerId, RaftId};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestRng, TestRunner};

const POLICY: Policy = Policy::LAN;

/// How one is: mostly well.
fn seat() -> impl Strategy<Value = Seat> {
    let silence = prop_oneof![
        8 => Just(0_u64),
        1 => select(vec![1_001_u64, 5_000, 29_999]),
        1 => select(vec![30_000_u64, 600_000, 86_400_000, 90_000_000]),
    ];
    let alive = prop_oneof![5 => Just(3_600_000_u64), 1 => select(vec![0_u64, 999, 1_000, 9_999, 10_000, 600_000])];
    let behind = prop_oneof![7 => Just(Some(0)), 1 => select(vec![Some(64), Some(65), Some(100_000), None])];
    let rare = || prop::bool::weighted(0.05);
    let zone = prop::collection::vec(select(vec!["x".to_owned(), "y".to_owned(), "z".to_owned()]), 0..3);
    let eligible = prop_oneof![9 => Just(Some(true)), 1 => select(vec![Some(false), None])];
    let profile = (eligible, any::<bool>(), zone, (rare(), rare(), rare()), 0..300_u64, 0..1_000_000_000_u64);
    let times = (silence, alive, behind, prop::bool::weighted(0.9), select(vec![1_000_u64, 3_600_000]));
    (times, 0..3_usize, rare(), profile).prop_map(|(times, downs, slow, profile)| {
        let (silent_ms, alive_ms, behind, caught_up, known_ms) = times;
        let (eligible, prefer, zone, (draining, disk_low, lost_data), sync_p99_ms, uptime_ms) = profile;
        let alive_ms = (silent_ms <= 1_000).then_some(alive_ms);
        let near = behind.is_some_and(|behind| behind <= 64) && alive_ms.is_some();
        Seat {
            member: Member { peer: PeerId(0), incarnation: Incarnation(0), host: String::new() },
            known_ms,
            silent_ms,
            alive_ms,
            behind,
            caught_up: caught_up && near,
            downs,
            slow_ms: slow.then_some(70_000),
            profile: Profile {
                eligible,
                prefer,
                zone,
                draining,
                disk_low,
                lost_data,
                sync_p99_ms: if slow { 800 } else { sync_p99_ms },
                uptime_ms,
            },
        }
    })
}

fn well(seat: &mut Seat) {
    (seat.silent_ms, seat.alive_ms, seat.behind, seat.caught_up) = (0, Some(3_600_000), Some(0), true);
    (seat.slow_ms, seat.known_ms) = (None, 3_600_000);
    let Profile { prefer, zone, uptime_ms, .. } = std::mem::take(&mut seat.profile);
    seat.profile = Profile { eligible: Some(true), prefer, zone, uptime_ms, sync_p99_ms: 5, ..Profile::default() };
}

prop_compose! {
    fn census()(
        seats in prop::collection::vec(seat(), 1..13),
        voters in 1_usize..8,
        other in prop::option::weighted(0.05, (0_usize..12, 1_usize..6)),
        ideal in select(vec![1_usize, 3, 5, 5, 5, 7]),
        quorum in prop_oneof![9 => Just(Some(100_u64)), 1 => select(vec![None, Some(1_001_u64)])],
        settled in prop::bool::weighted(0.95),
        flight in prop::bool::weighted(0.05),
        ages in (select(vec![500_u64, 10_000, 86_400_000]), select(vec![500_u64, 5_000, 86_400_000, 86_400_000])),
        transfer_ms in prop_oneof![Just(None), Just(Some(9_999_u64)), Just(Some(10_000_u64))],
    ) -> Census {
        let mut seats: BTreeMap<RaftId, Seat> = (1..).zip(seats).collect();
        for (id, seat) in &mut seats {
            seat.member.peer = PeerId(u128::from(*id));
            seat.member.host = format!("h{id}");
        }
        let count = seats.len();
        let mut configs = vec![seats.keys().copied().take(voters).collect::<BTreeSet<_>>()];
        if let Some((from, size)) = other {
            configs.push(seats.keys().copied().cycle().skip(from).take(size.min(count)).collect());
        }
        let me = *configs[0].first().expect("somebody votes");
        let leader = seats.get_mut(&me).expect("it is there");
        (leader.silent_ms, leader.alive_ms, leader.behind, leader.caught_up) = (0, Some(ages.0), Some(0), true);
        leader.profile.lost_data = false;
        Census {
            me, led_ms: ages.0, quorum_ack_ms: quorum, configs, settled, change_in_flight: flight, change_ms: ages.1,
            transfer_ms, ideal, seats,
        }
    }
}

/// Whom one would count on: in words of its own, so that a mistake there is not repeated here.
fn counts(census: &Census, id: RaftId) -> bool {
    let Some(seat) = census.seats.get(&id) else { return false };
    seat.alive_ms.is_some() && !seat.profile.lost_data && seat.behind.unwrap_or(u64::MAX) <= 64
}

fn quorum(census: &Census, set: &BTreeSet<RaftId>) -> bool {
    2 * set.iter().filter(|id| counts(census, **id)).count() > set.len()
}

/// What must hold of a step.
fn judge(census: &Census, step: &Step) -> Result<(), String> {
    let ensure = |holds: bool, what: &str| if holds { Ok(()) } else { Err(format!("{what}: {step:?}")) };
    let old = census.configs.last().expect("somebody votes");
    let new = &step.voters;
    ensure(census.quorum_ack_ms.is_some_and(|age| age <= 1_000), "decided without a quorum")?;
    ensure(!census.change_in_flight && census.settled, "two at a time")?;
    ensure(new.iter().all(|id| census.seats.contains_key(id) || old.contains(id)), "who is that?")?;
    if census.configs.len() > 1 {
        ensure(step.deed == Deed::Finish && new == old, "a change that was begun is ended first")?;
    }
    if let Deed::Transfer { to } = step.deed {
        ensure(new == old && old.contains(&to) && to != census.me, "only another master can lead")?;
        ensure(counts(census, to) && !census.seats[&to].profile.draining, "a leader for a moment only")?;
        return ensure(census.transfer_ms.is_none_or(|ago| ago >= 10_000), "again and again");
    }
    ensure(census.configs.iter().chain([new]).all(|set| quorum(census, set)), "no live quorum before or after")?;
    if step.deed == Deed::Finish {
        return Ok(());
    }
    let wanted_ms = if old.len() < 3 { 1_000 } else { 10_000 };
    ensure(census.led_ms >= wanted_ms, "it does not know enough")?;
    for id in new - old {
        let Seat { alive_ms, caught_up, profile, .. } = &census.seats[&id];
        ensure(alive_ms.is_some_and(|alive| alive >= wanted_ms), "a young master")?;
        ensure(*caught_up && counts(census, id), "a master that lags")?;
        let fit = profile.eligible == Some(true) && !profile.draining && !profile.disk_low && !profile.lost_data;
        ensure(fit, "a master that should be none")?;
    }
    let live = |set: &BTreeSet<RaftId>| set.iter().filter(|id| counts(census, **id)).count();
    let draining = |id: &RaftId| census.seats.get(id).is_some_and(|seat| seat.profile.draining);
    let (leave, enter) = (old - new, new - old);
    match &step.deed {
        Deed::Replace { .. } | Deed::Spread { .. } => {
            ensure((leave.len(), enter.len()) == (1, 1), "one against one")?;
            let out = leave.first().and_then(|id| census.seats.get(id));
            let trouble = out.is_none_or(|seat| {
                let Profile { draining, lost_data, eligible, .. } = seat.profile;
                draining || lost_data || seat.silent_ms >= 30_000 || eligible == Some(false)
            });
            let apart = spread::spread(census, new) < spread::spread(census, old);
            ensure(
                trouble != matches!(step.deed, Deed::Spread { .. }) && (trouble || apart),
                "nobody moves for nothing",
            )
        }
        Deed::Grow { enter: said } => {
            ensure(leave.is_empty() && enter == *said && (1..=2).contains(&enter.len()), "two at once at most")?;
            ensure(
                !new.len().is_multiple_of(2) && new.len() <= census.ideal,
                "an odd number, and not more than is wished for",
            )
        }
        Deed::Shrink { leave: said } => {
            ensure(enter.is_empty() && leave == *said && (1..=2).contains(&leave.len()), "two at once at most")?;
            ensure(!new.len().is_multiple_of(2), "an odd number")?;
            ensure(new.contains(&census.me) || draining(&census.me), "not the leader")?;
            let staying = old.iter().filter(|id| !draining(id)).count();
            let wished = census.ideal == 1 || staying < 3;
            ensure(live(new) >= 2 || live(old) < 3 || wished, "one is left of many")?;
            let dead = old.iter().any(|id| census.seats.get(id).is_none_or(|seat| seat.silent_ms >= 86_400_000));
            let why = old.len() > census.ideal || old.iter().any(draining) || old.len().is_multiple_of(2) || dead;
            ensure(why, "fewer for no reason")
        }
        Deed::RemoveLearners { leave } => {
            let gone = |id: &RaftId| census.seats[id].silent_ms >= 600_000 || census.seats[id].profile.lost_data;
            ensure(new == old && leave.is_disjoint(old) && leave.iter().all(gone), "only who is gone for good")
        }
        Deed::Finish | Deed::Transfer { .. } => Ok(()),
    }
}

fn carry_out(census: &mut Census, step: &Step) {
    match &step.deed {
        Deed::Transfer { to } => census.me = *to,
        Deed::RemoveLearners { leave } => census.seats.retain(|id, _| !leave.contains(id)),
        _ => census.configs = vec![step.voters.clone()],
    }
    if !census.voters().contains(&census.me) {
        census.me = *census.voters().first().expect("somebody votes");
    }
    census.transfer_ms = None;
}

fn calm(census: &mut Census) {
    (census.led_ms, census.change_ms, census.transfer_ms) = (86_400_000, 86_400_000, None);
    (census.quorum_ack_ms, census.settled, census.change_in_flight) = (Some(0), true, false);
}

fn run(cases: u32, test: impl Fn(Census) -> Result<(), TestCaseError>) -> Result<(), String> {
    // The same cases each time: whoever changes a rule sees what the change does, and nobody else is surprised by it.
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let chance = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, chance).run(&census(), test).map_err(|error| error.to_string())
}

fn judged(census: &Census) -> Result<(), TestCaseError> {
    match choose(census, &POLICY) {
        Some(step) => judge(census, &step).map_err(TestCaseError::fail),
        None => Ok(()),
    }
}

#[test]
fn every_step_keeps_the_rules() {
    let met = RefCell::new(BTreeMap::<String, u32>::new());
    run(20_000, |census| {
        if let Some(step) = choose(&census, &POLICY) {
            *met.borrow_mut().entry(step.deed.to_string()).or_default() += 1;
        }
        judged(&census)
    })
    .expect("every step keeps the rules");
    let met = met.into_inner();
    assert!(met.len() == 7 && met.values().all(|count| *count >= 10), "too few of a kind were judged: {met:?}");
}

#[test]
fn the_mutants_do_not() {
    for mutant in [Mutant::LaggingLearnerPromoted, Mutant::QuorumCheckSkipped, Mutant::TwoStepsInFlight] {
        let _wrong = mutant::choose(Some(mutant));
        run(20_000, |census| judged(&census)).expect_err("a wrong choice is noticed");
    }
}

#[test]
fn the_same_census_gives_the_same_step_and_a_plain_reason() {
    run(2_000, |census| {
        let mut again = census.clone();
        again.seats = census.seats.iter().rev().map(|(id, seat)| (*id, seat.clone())).collect();
        let step = choose(&census, &POLICY);
        prop_assert_eq!(&step, &choose(&again, &POLICY));
        prop_assert_eq!(standings(&census, &POLICY).len(), census.seats.len());
        if let Some(step) = step {
            prop_assert!(!step.why.is_empty() && step.sentence(&census).contains(&step.why));
            if step.deed.changes_membership() {
                prop_assert_eq!(safe(&census.configs, &step.voters, &census, &POLICY), Ok(()));
            }
        }
        Ok(())
    })
    .expect("it does");
}

#[test]
fn whatever_is_the_matter_it_comes_to_rest_and_keeps_the_rules_on_the_way() {
    run(2_000, |mut census| {
        calm(&mut census);
        for _ in 0..40 {
            let Some(step) = choose(&census, &POLICY) else { return Ok(()) };
            judge(&census, &step).map_err(TestCaseError::fail)?;
            carry_out(&mut census, &step);
        }
        Err(TestCaseError::fail("it never rests"))
    })
    .expect("it rests");
}

#[test]
fn where_all_are_well_there_are_as_many_masters_as_wished_for_and_they_stay() {
    run(2_000, |mut census| {
        calm(&mut census);
        census.seats.values_mut().for_each(well);
        let wanted = census.ideal.min(census.seats.len());
        let wanted = if wanted.is_multiple_of(2) { wanted - 1 } else { wanted };
        for _ in 0..40 {
            let Some(step) = choose(&census, &POLICY) else { break };
            carry_out(&mut census, &step);
        }
        prop_assert_eq!(choose(&census, &POLICY), None);
        prop_assert_eq!(census.configs.len(), 1);
        prop_assert_eq!(census.voters().len(), wanted);
        // As well spread as exchanging one for one can make it, and nobody would say a zone too many is held by one.
        let places: BTreeSet<_> = census.seats.values().map(|seat| seat.profile.zone.first()).collect();
        let placed = census.seats.values().all(|seat| !seat.profile.zone.is_empty());
        let enough = places
            .iter()
            .all(|place| census.seats.values().filter(|seat| seat.profile.zone.first() == *place).count() >= wanted);
        if placed && enough {
            let most = spread::spread(&census, census.voters())[0].0;
            prop_assert_eq!(most, wanted.div_ceil(places.len()));
        }
        Ok(())
    })
    .expect("they do");
}

#[test]
fn who_may_leave_can_and_the_rest_goes_on() {
    run(2_000, |census| {
        let mut census = census;
        calm(&mut census);
        census.seats.values_mut().for_each(|seat| seat.profile.draining = false);
        for id in census.seats.keys().copied().collect::<Vec<_>>() {
            if may_leave(&census, &POLICY, id).is_err() || !census.votes(id) {
                continue;
            }
            let mut left = census.clone();
            left.seats.get_mut(&id).expect("it is there").profile.draining = true;
            left.seats.values_mut().for_each(|seat| seat.known_ms = 3_600_000);
            for _ in 0..40 {
                let Some(step) = choose(&left, &POLICY) else { break };
                carry_out(&mut left, &step);
            }
            prop_assert!(!left.votes(id), "{} may leave and never does: {:?}", id, left);
            prop_assert!(quorum(&left, left.voters()), "it left, and the quorum with it");
        }
        Ok(())
    })
    .expect("they can");
}
