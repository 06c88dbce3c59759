//! Members who lie about votes: nobody is deposed, and no term is used up.

use bytes::Bytes;
use mgmt_consensus::limits::{NUMBER_MAX, TERM_LEAP_MAX};
use mgmt_consensus::transport::memory::Memory;
use mgmt_consensus::transport::{Lane, Reply as _, Transport as _};
use mgmt_consensus::types::{CommittedLeaderId, LogId, Vote};
use mgmt_consensus::wire::{self, Answer, Appended, Ballot, Cast, Envelope, Request};
use openraft::AsyncRuntime as _;
use openraft::vote::RaftLeaderId as _;
use openraft_rt_sim::SimRuntime;

use super::*;

/// So that nobody has a longer one.
fn long_log() -> Option<LogId> {
    Some(LogId::new(CommittedLeaderId::new(1 << 50, 1), 1 << 50))
}

/// In place of a host, somebody with its certificate: answers whatever it is asked with this vote. What it says is signed
/// with the host's id and incarnation.
async fn possess(world: &mut World, number: usize, vote: impl Fn(u64) -> Vote + Send + 'static) -> Memory<SimRuntime> {
    let identity = world.replica(number).identity().clone();
    world.crash(number).await;
    let transport = world.network.join(world.hosts[number].peer);
    let me = envelope(&identity);
    let ear = transport.clone();
    drop(SimRuntime::spawn(async move {
        while let Some(incoming) = ear.accept().await {
            let Ok((from, request)) = wire::decode_request(&incoming.message) else { continue };
            let cast = |vote| Cast { vote, granted: false, last: None };
            let answer = match request {
                Request::Append(append) => Answer::Append(Appended::HigherVote(vote(append.vote.leader_id.term))),
                Request::Vote(ballot) => Answer::Vote(cast(vote(ballot.vote.leader_id.term))),
                Request::PreVote(ballot) => Answer::PreVote(cast(vote(ballot.vote.leader_id.term))),
                Request::SnapshotOffer { vote: leader, .. } => {
                    Answer::SnapshotDone { vote: vote(leader.leader_id.term) }
                }
                _ => continue,
            };
            incoming.reply.send(wire::encode_answer(&Envelope { to: from.from, ..me }, &answer).unwrap());
        }
    }));
    transport
}

fn envelope(identity: &Identity) -> Envelope {
    Envelope { cluster: identity.cluster, from: identity.raft.unwrap(), incarnation: identity.incarnation, to: 0 }
}

/// Three masters and a learner, who is the last one.
async fn three_and_a_learner() -> World {
    let mut world = World::new(&["a", "b", "c", "d"]);
    for number in 0..4 {
        world.up(number).await;
        let members = number + 1;
        world.until("it is in", |world| world.replica(0).standing().members().count() == members).await;
    }
    world.until("three masters", |world| world.voters(0) == 3 && world.voters(3) == 3).await;
    let learner = world.replica(3).id();
    assert!(world.replica(0).standing().voters().iter().all(|set| !set.contains(&learner)));
    world
}

/// Writes for some seconds, and sees that the same leader leads in the same term all the time.
async fn nothing_happens(world: &World, live: &[usize]) {
    let before = world.replica(live[0]).standing();
    for _ in 0..20 {
        world.put(live[0], "x").await.unwrap();
        SimRuntime::sleep(Duration::from_millis(100)).await;
    }
    for number in live {
        let after = world.replica(*number).standing();
        assert_eq!((after.term, after.leader), (before.term, before.leader), "host {number}");
    }
}

#[test]
fn a_learner_that_answers_with_a_higher_vote_deposes_nobody() {
    for vote in [
        |term: u64| Vote::new(term + 1, 99),
        |term: u64| Vote::new_committed(term + 1, 99),
        |_: u64| Vote::new(NUMBER_MAX - 1, 99),
    ] {
        run(async {
            let mut world = three_and_a_learner().await;
            possess(&mut world, 3, vote).await;
            nothing_happens(&world, &[0, 1, 2]).await;
        });
    }
}

#[test]
fn nobody_is_told_of_votes_of_his_own_that_he_has_not_cast() {
    run(async {
        let mut world = three_and_a_learner().await;
        let leader = world.replica(0).standing().leader.unwrap();
        let liar = (0..3).find(|number| world.replica(*number).id() != leader).unwrap();
        possess(&mut world, liar, move |term| Vote::new(term + 1, leader)).await;
        let live: Vec<_> = (0..3).filter(|number| *number != liar).collect();
        nothing_happens(&world, &live).await;
    });
}

#[test]
fn a_voter_that_leaps_far_ahead_takes_nobody_along() {
    run(async {
        let mut world = three_and_a_learner().await;
        let leader = world.replica(0).standing().leader;
        let liar = (0..3).find(|number| Some(world.replica(*number).id()) != leader).unwrap();
        possess(&mut world, liar, |term| Vote::new(term + TERM_LEAP_MAX + 1, 99)).await;
        let live: Vec<_> = (0..3).filter(|number| *number != liar).collect();
        nothing_happens(&world, &live).await;
    });
}

/// What is said to everybody by a host that is possessed, again and again; nobody follows.
async fn says(world: &mut World, number: usize, request: impl Fn(u64, RaftId) -> Request) {
    let identity = world.replica(number).identity().clone();
    let (me, term) = (envelope(&identity), world.replica(0).standing().term);
    let transport = possess(world, number, |term| Vote::new(term, 1)).await;
    let live: Vec<_> = (0..3).filter(|other| *other != number).collect();
    for _ in 0..20 {
        for other in &live {
            let to = world.replica(*other).id();
            let message = wire::encode_request(&Envelope { to, ..me }, &request(term, me.from)).unwrap();
            // Whatever it is told.
            let _answer: Result<Bytes, _> =
                transport.call(world.hosts[*other].peer, Lane::Control, message, Duration::from_secs(1)).await;
        }
        SimRuntime::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(world.replica(live[0]).standing().term, term);
    nothing_happens(world, &live).await;
}

#[test]
fn a_candidate_from_far_ahead_is_not_heard() {
    run(async {
        let mut world = three_and_a_learner().await;
        let far = |_: u64, me| Vote::new(NUMBER_MAX - 1, me);
        says(&mut world, 3, |term, me| Request::Vote(Ballot { vote: far(term, me), last: long_log(), transfer: true }))
            .await;
    });
}

#[test]
fn a_learner_cannot_say_that_leadership_was_handed_to_it() {
    run(async {
        let mut world = three_and_a_learner().await;
        let ballot = |term: u64, me| Ballot { vote: Vote::new(term + 1, me), last: long_log(), transfer: true };
        says(&mut world, 3, |term, me| Request::Vote(ballot(term, me))).await;
    });
}

#[test]
fn nobody_leads_in_the_name_of_another() {
    run(async {
        let mut world = three_and_a_learner().await;
        let (leader, term) = (world.replica(0).standing().leader.unwrap(), world.replica(0).standing().term);
        let transfer = move |to| wire::Transfer { from: Vote::new_committed(term, leader), to, last: None };
        let other = (0..3).map(|number| world.replica(number).id()).find(|id| *id != leader).unwrap();
        says(&mut world, 3, move |_, _| Request::Transfer(transfer(other))).await;
    });
}
