//! Certificates at the door: whom the book lets in, and as what.

use mgmt_consensus::authority::{Authority, KeyPair, Role};
use mgmt_consensus::masters::Policy;
use mgmt_consensus::types::Member;
use mgmt_consensus::{Incarnation, authority};
use mgmt_engine::Clock;
use mgmt_store::desk;

use super::*;
use crate::mesh::handover::Bell;
use crate::mesh::inquiry::Inquiries;

const NOW_S: u64 = 1_800_000_000;
const CLUSTER: ClusterId = ClusterId(1);

fn book() -> Book {
    let (transfers, _wanted) = tokio::sync::mpsc::channel(1);
    let (bell, _rung) = Bell::new();
    let me = (PeerId(1), Role::Admin);
    let inquiries = Arc::new(Inquiries::new(Clock::start(), Arc::default()));
    let surroundings = Surroundings::new(Arc::default(), me, Policy::LAN, Clock::start(), transfers, (bell, inquiries));
    Book::new(CLUSTER, BTreeMap::new(), Arc::new(surroundings))
}

fn badge(peer: u128, role: Role) -> Badge {
    Badge { cluster: CLUSTER, peer: PeerId(peer), host: format!("web{peer}"), role }
}

fn issue(badge: &Badge) -> Vec<u8> {
    let authority = Authority::create(badge.cluster, NOW_S).unwrap();
    authority.issue(badge, &KeyPair::generate().unwrap().public_key(), NOW_S).unwrap().der().to_vec()
}

fn listed(peers: &[u128]) -> BTreeMap<PeerId, Listed> {
    peers.iter().map(|peer| (PeerId(*peer), Listed { host: format!("web{peer}"), addresses: Vec::new() })).collect()
}

#[test]
fn who_is_let_in_may_lead_only_with_a_master_s_certificate() {
    let book = book();
    for (role, may_lead) in [(Role::Agent, false), (Role::Master, true), (Role::Admin, true)] {
        let caller = book.admits(&issue(&badge(7, role))).unwrap();
        assert_eq!((caller.peer, caller.may_lead), (PeerId(7), may_lead));
        let member = Member { peer: PeerId(7), incarnation: Incarnation(1), host: "web7".to_owned() };
        assert_eq!(desk::Surroundings::role(&*book.surroundings, &member), role, "what he says counts as much as that");
    }
}

#[test]
fn another_cluster_s_certificate_opens_nothing() {
    let other = Badge { cluster: ClusterId(2), ..badge(7, Role::Admin) };
    let said = book().admits(&issue(&other)).unwrap_err();
    assert!(said.starts_with("web7 is of cluster") && said.contains(&CLUSTER.to_string()), "{said}");
}

#[test]
fn nor_does_one_that_says_nothing_or_is_an_authority_s() {
    let key = KeyPair::generate().unwrap();
    let nobody = authority::temporary(PeerId(7), &key, NOW_S).unwrap();
    let own = Authority::create(CLUSTER, NOW_S).unwrap();
    for certificate in [&nobody[..], own.certificate().der(), b"", b"hello"] {
        assert!(book().admits(certificate).is_err());
    }
}

#[test]
fn who_was_removed_is_refused_until_he_is_let_in_again() {
    let book = book();
    let (other, gone) = book.follow(&listed(&[7, 8]));
    assert!(other && !gone);
    assert!(book.admits(&issue(&badge(7, Role::Master))).is_ok());
    let (_, gone) = book.follow(&listed(&[8]));
    assert!(gone, "his connections are closed");
    assert_eq!(book.admits(&issue(&badge(7, Role::Master))).unwrap_err(), "web7 was removed from the mesh");
    assert!(book.admits(&issue(&badge(8, Role::Master))).is_ok());
    book.follow(&listed(&[7, 8]));
    assert!(book.admits(&issue(&badge(7, Role::Master))).is_ok());
}
