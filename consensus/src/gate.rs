//! Whose messages are heard, and whose votes are believed. Holding a certificate authorises nothing: a message of the
//! Raft group is heard when the membership knows its sender, under that id, in that life. A higher vote deposes a leader,
//! and a term never goes back: what an answer says of one is believed of voters alone, and nobody's leap far ahead is.

use crate::identity::PeerId;
use crate::limits::TERM_LEAP_MAX;
use crate::mutant::{self, Mutant};
use crate::types::{RaftId, StoredMembership, Vote};
use crate::wire::Envelope;

/// Why a message is not heard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Of another cluster.
    #[error("it is of another cluster")]
    OtherCluster,
    /// For another id, or another life of this peer.
    #[error("it is for member {0}")]
    OtherReceiver(RaftId),
    /// Its sender claims an id that belongs to another peer or another life.
    #[error("member {0} is somebody else")]
    Impostor(RaftId),
    /// Its sender is a member no more.
    #[error("member {0} was removed")]
    Removed(RaftId),
    /// Its sender has lost what it had acknowledged.
    #[error("the disk of member {0} went back in time")]
    WentBack(RaftId),
    /// Its sender has no id yet.
    #[error("the sender is no member")]
    NoMember,
}

/// Is a message of the Raft group heard?
///
/// `committed` and `effective` are the memberships this replica knows. Ids are log indices, so what is known up to one
/// index says about every lower id whether it belongs to a member; a sender with a higher id may have been admitted
/// since, by a leader who knows more, and is heard.
///
/// # Errors
/// [`Refusal`] says why not.
pub fn hears(
    envelope: &Envelope,
    sender: PeerId,
    me: &Envelope,
    committed: &StoredMembership,
    effective: &StoredMembership,
) -> Result<(), Refusal> {
    if envelope.cluster != me.cluster {
        return Err(Refusal::OtherCluster);
    }
    if envelope.to != me.from {
        return Err(Refusal::OtherReceiver(envelope.to));
    }
    if envelope.from == 0 {
        return Err(Refusal::NoMember);
    }
    if mutant::is(Mutant::IncarnationNotChecked) {
        return Ok(());
    }
    let known = committed.membership().get_node(&envelope.from).or(effective.membership().get_node(&envelope.from));
    match known {
        Some(member) if member.peer == sender && member.incarnation == envelope.incarnation => Ok(()),
        Some(_) => Err(Refusal::Impostor(envelope.from)),
        None if committed.log_id().is_some_and(|id| envelope.from <= id.index) => Err(Refusal::Removed(envelope.from)),
        None => Ok(()),
    }
}

/// Why a vote is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Disbelief {
    /// A leader and a candidate show their own.
    #[error("member {0} shows the vote of member {1}")]
    Anothers(RaftId, RaftId),
    /// Whoever does not vote has nothing to say about who leads.
    #[error("member {0} does not vote, and answers with a higher vote")]
    NoVoter(RaftId),
    /// A late answer, or made up: one knows one's own votes better.
    #[error("it is an own vote")]
    Own,
    /// Made up, or of a world that went on for very long without this replica.
    #[error("member {from} is in term {term}, far ahead of term {own}")]
    Leap {
        /// Who says so.
        from: RaftId,
        /// His term.
        term: u64,
        /// The own term.
        own: u64,
    },
}

fn no_leap(vote: &Vote, from: RaftId, own: u64) -> Result<(), Disbelief> {
    let term = vote.leader_id.term;
    if term > own.saturating_add(TERM_LEAP_MAX) { Err(Disbelief::Leap { from, term, own }) } else { Ok(()) }
}

/// Is the vote believed that a leader or a candidate shows with what he asks?
///
/// `own` is the term of whoever is asked; `None` while he knows no membership: he is new, takes the term in which he is
/// taken in, and harms nobody if it is made up. Whether the sender may vote is not asked: whoever is behind takes him for
/// the learner that he was.
///
/// # Errors
/// [`Disbelief`] says why not.
pub fn believes_request(vote: &Vote, from: RaftId, own: Option<u64>) -> Result<(), Disbelief> {
    let of = vote.leader_id.node_id;
    if of != from {
        return Err(Disbelief::Anothers(from, of));
    }
    own.map_or(Ok(()), |own| no_leap(vote, from, own))
}

/// Is the vote believed that is in an answer to a leader or a candidate, who `asked` with his own?
///
/// The sender `votes` if the membership that the asker goes by says so: it is the asker's own log, and he asks nobody for a
/// vote whom it does not name. A learner that is in a higher term for a good reason (it has heard of a later leader, or was
/// a voter and stood for election) is not needed to tell: voters do.
///
/// # Errors
/// [`Disbelief`] says why not.
pub fn believes_answer(vote: &Vote, from: RaftId, asked: &Vote, votes: bool) -> Result<(), Disbelief> {
    if vote > asked && vote.leader_id.node_id == asked.leader_id.node_id {
        return Err(Disbelief::Own);
    }
    if vote > asked && !votes {
        return Err(Disbelief::NoVoter(from));
    }
    no_leap(vote, from, asked.leader_id.term)
}

/// Does a membership let this member vote, in either of its sets?
#[must_use]
pub fn votes(membership: &StoredMembership, id: RaftId) -> bool {
    membership.membership().get_joint_config().iter().any(|set| set.contains(&id))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use openraft::vote::RaftLeaderId as _;

    use super::*;
    use crate::identity::{ClusterId, Incarnation};
    use crate::types::{CommittedLeaderId, LogId, Member, Membership};

    fn membership(index: u64, members: &[(RaftId, u128)]) -> StoredMembership {
        let member = |incarnation: u128| Member {
            peer: PeerId(100 + incarnation),
            incarnation: Incarnation(incarnation),
            host: String::new(),
        };
        let nodes: BTreeMap<_, _> = members.iter().map(|(id, life)| (*id, member(*life))).collect();
        let voters = [nodes.keys().copied().collect()].into();
        let log_id = LogId::new(CommittedLeaderId::new(1, 1), index);
        StoredMembership::new(Some(log_id), Membership::new(voters, nodes).unwrap())
    }

    /// What member 2 says to a message of this id, incarnation and peer.
    fn says(from: RaftId, life: u128, peer: u128, change: impl FnOnce(&mut Envelope)) -> Result<(), Refusal> {
        let (committed, effective) =
            (membership(30, &[(1, 1), (2, 2), (9, 9)]), membership(40, &[(1, 1), (2, 2), (35, 5)]));
        let me = Envelope { cluster: ClusterId(1), from: 2, incarnation: Incarnation(2), to: 0 };
        let mut envelope = Envelope { cluster: ClusterId(1), from, incarnation: Incarnation(life), to: 2 };
        change(&mut envelope);
        hears(&envelope, PeerId(peer), &me, &committed, &effective)
    }

    #[test]
    fn members_are_heard_in_this_life_and_as_this_peer_only() {
        assert_eq!(says(1, 1, 101, |_| ()), Ok(()));
        assert_eq!(says(1, 3, 101, |_| ()), Err(Refusal::Impostor(1)));
        assert_eq!(says(1, 1, 103, |_| ()), Err(Refusal::Impostor(1)));
        assert_eq!(says(1, 1, 101, |envelope| envelope.cluster = ClusterId(2)), Err(Refusal::OtherCluster));
        assert_eq!(says(1, 1, 101, |envelope| envelope.to = 1), Err(Refusal::OtherReceiver(1)));
        assert_eq!(says(0, 1, 101, |_| ()), Err(Refusal::NoMember));
    }

    #[test]
    fn an_id_below_the_membership_that_is_not_in_it_was_removed() {
        assert_eq!(says(12, 12, 112, |_| ()), Err(Refusal::Removed(12)));
        assert_eq!(says(30, 12, 112, |_| ()), Err(Refusal::Removed(30)));
    }

    #[test]
    fn one_who_was_admitted_later_than_is_known_is_heard() {
        assert_eq!(says(31, 12, 112, |_| ()), Ok(()));
    }

    #[test]
    fn what_is_not_committed_yet_counts_for_the_sender() {
        // 9 is removed by the membership that is not committed, and 35 admitted by it.
        assert_eq!(says(9, 9, 109, |_| ()), Ok(()));
        assert_eq!(says(35, 5, 105, |_| ()), Ok(()));
        assert_eq!(says(35, 6, 106, |_| ()), Err(Refusal::Impostor(35)));
    }

    #[test]
    fn who_knows_no_membership_yet_hears_everybody_of_the_cluster() {
        let me = Envelope { cluster: ClusterId(1), from: 2, incarnation: Incarnation(2), to: 0 };
        let envelope = Envelope { from: 77, to: 2, ..me };
        let nothing = StoredMembership::default();
        assert_eq!(hears(&envelope, PeerId(1), &me, &nothing, &nothing), Ok(()));
    }

    fn vote(term: u64, of: RaftId) -> Vote {
        Vote::new(term, of)
    }

    #[test]
    fn an_answer_raises_the_term_only_if_a_voter_says_so() {
        let asked = vote(5, 1);
        assert_eq!(believes_answer(&vote(6, 2), 2, &asked, true), Ok(()));
        assert_eq!(believes_answer(&vote(6, 2), 2, &asked, false), Err(Disbelief::NoVoter(2)));
        assert_eq!(believes_answer(&Vote::new_committed(5, 2), 2, &asked, false), Err(Disbelief::NoVoter(2)));
        assert_eq!(believes_answer(&vote(6, 1), 2, &asked, true), Err(Disbelief::Own));
        assert_eq!(believes_answer(&asked, 2, &asked, false), Ok(()), "it has what was asked with");
        assert_eq!(believes_answer(&vote(4, 3), 2, &asked, false), Ok(()));
    }

    #[test]
    fn nobody_leaps_far_ahead() {
        let (far, own) = (5 + TERM_LEAP_MAX, 5);
        assert_eq!(believes_answer(&vote(far, 2), 2, &vote(own, 1), true), Ok(()));
        let leap = Err(Disbelief::Leap { from: 2, term: far + 1, own });
        assert_eq!(believes_answer(&vote(far + 1, 2), 2, &vote(own, 1), true), leap);
        assert_eq!(believes_request(&vote(far, 2), 2, Some(own)), Ok(()));
        assert_eq!(believes_request(&vote(far + 1, 2), 2, Some(own)), leap);
        assert!(believes_request(&vote(u64::MAX, 2), 2, Some(u64::MAX - 1)).is_ok(), "and nothing overflows");
    }

    #[test]
    fn whoever_is_new_takes_the_term_he_is_taken_into() {
        assert_eq!(believes_request(&vote(2 * TERM_LEAP_MAX, 2), 2, None), Ok(()));
    }

    #[test]
    fn a_leader_and_a_candidate_show_their_own_vote() {
        assert_eq!(believes_request(&vote(5, 1), 2, Some(5)), Err(Disbelief::Anothers(2, 1)));
        assert_eq!(believes_request(&vote(5, 1), 2, None), Err(Disbelief::Anothers(2, 1)));
    }

    #[test]
    #[cfg(feature = "testing")]
    fn without_the_check_another_life_would_be_heard() {
        let _mutant = mutant::choose(Some(Mutant::IncarnationNotChecked));
        assert_eq!(says(1, 3, 101, |_| ()), Ok(()));
    }
}
