//! The key goes to masters and to nobody else.

use std::time::Duration;

use mgmt_consensus::authority::token::Token;
use mgmt_consensus::authority::{Authority, KeyPair};
use mgmt_consensus::{ClusterId, PeerId};

use super::judge::{Deed, May, Needs, may};
use super::{hand_over, kept, write};
use crate::mesh::keyring::Keyring;
use crate::mesh::messages::hand::{Hand, Handed};
use crate::mesh::messages::join::Kind;
use crate::mesh::messages::{HexBytes, HexText};
use crate::mesh::papers::Papers;
use crate::mesh::place::{Part, Place};

fn founder() -> (tempfile::TempDir, Keyring) {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::open(directory.path()).unwrap();
    let papers = Papers::found(&place, ClusterId(1), PeerId(1), "a").unwrap();
    (directory, Keyring::open(place, papers))
}

/// Another member of the same cluster, without the key.
fn member(founder: &Keyring) -> (tempfile::TempDir, Place, Keyring) {
    let directory = tempfile::tempdir().unwrap();
    let place = Place::open(directory.path()).unwrap();
    let key = KeyPair::generate().unwrap();
    let badge =
        mgmt_consensus::authority::Badge { peer: PeerId(2), host: "b".to_owned(), ..founder.papers().badge().unwrap() };
    let now_s = founder.papers().certificate.not_before_s() + 3600;
    let certificate = founder.authority().unwrap().issue(&badge, &key.public_key(), now_s).unwrap();
    let papers = Papers { key, certificate, authorities: founder.papers().authorities };
    papers.save(&place).unwrap();
    (directory, place.clone(), Keyring::open(place, papers))
}

#[test]
fn only_masters_hand_the_key_over_or_get_it() {
    let handing = Hand::Authority { authorities: Vec::new(), key: HexText(Vec::new()) };
    let renewing = Hand::Renew { public_key: HexBytes([0; 32]) };
    let learner = May::new(false, false);
    let candidate = May::new(true, false);
    let former = May::new(false, true);
    let master = May::new(true, true);
    for (who, hands, fetches) in
        [(learner, false, false), (candidate, true, false), (former, false, false), (master, true, true)]
    {
        assert_eq!(may(&who, &handing).is_ok(), hands, "{who:?}");
        assert_eq!(may(&who, &Hand::Fetch).is_ok(), fetches, "{who:?}");
        assert_eq!(may(&who, &renewing), Ok(()));
    }
}

#[test]
fn the_key_stays_while_it_is_needed_and_a_minute_longer() {
    let mut needs = Needs::new(Duration::from_secs(60));
    let looks = [
        // It votes and has it; it is demoted; it is appointed again in time.
        (true, true, 0, Deed::Nothing),
        (false, true, 10, Deed::Nothing),
        (false, true, 69, Deed::Nothing),
        (true, true, 70, Deed::Nothing),
        // It is demoted for good.
        (false, true, 80, Deed::Nothing),
        (false, true, 139, Deed::Nothing),
        (false, true, 140, Deed::Forget),
        // Until it is gone, it is to be deleted.
        (false, true, 141, Deed::Forget),
        (false, false, 142, Deed::Nothing),
        // A candidate that is not appointed.
        (false, true, 200, Deed::Nothing),
        (false, true, 260, Deed::Forget),
        (false, false, 261, Deed::Nothing),
        // A master that has lost it.
        (true, false, 300, Deed::Fetch),
    ];
    for (votes, has, at_s, deed) in looks {
        assert_eq!(needs.look(votes, has, at_s * 1000), deed, "at {at_s} s");
    }
}

#[test]
fn what_is_handed_over_is_on_disk_and_signs() {
    let (_founder, founder) = founder();
    let (_member, place, member) = member(&founder);
    assert!(member.authority().is_none() && place.load(Part::AuthorityKey).unwrap().is_none());
    let sent = hand_over(&founder.authority().unwrap(), &founder.papers().authorities).write().unwrap();
    assert!(!format!("{:?}", Hand::read(&sent).unwrap()).contains("key:"));
    let Ok(Hand::Authority { authorities, key }) = Hand::read(&sent) else { panic!("it is the authority") };
    let authorities = super::authorities(&authorities).unwrap();
    member.keep(authorities, KeyPair::from_pkcs8(&key.0).unwrap()).unwrap();
    // As it would come back after a power cut.
    let again = Keyring::open(place.clone(), Papers::load(&place).unwrap().unwrap());
    for keyring in [&member, &again] {
        assert_eq!(keyring.authority().unwrap().certificate(), founder.authority().unwrap().certificate());
    }
    assert!(member.forget().unwrap());
    assert!(member.authority().is_none() && place.load(Part::AuthorityKey).unwrap().is_none());
    assert!(!member.forget().unwrap());
}

#[test]
fn nobody_is_given_an_authority_that_he_has_no_reason_to_believe() {
    let (_founder, founder) = founder();
    let (_member, place, member) = member(&founder);
    let mut said = Vec::new();
    for cluster in [ClusterId(1), ClusterId(2)] {
        let other = Authority::create(cluster, 1_800_000_000).unwrap();
        let keep = member.keep(vec![other.certificate().clone()], other.key().clone());
        said.push(keep.unwrap_err().to_string());
    }
    let stranger = KeyPair::generate().unwrap();
    said.push(member.keep(founder.papers().authorities, stranger.clone()).unwrap_err().to_string());
    said.push(member.keep(Vec::new(), stranger).unwrap_err().to_string());
    expect_test::expect![[r#"
        this is no authority of this cluster: none of these was believed here before
        this is no authority of this cluster: it is of cluster 00000000000000000000000000000002
        this is no authority of this cluster: the authority's key does not belong to its certificate
        this is no authority of this cluster: there is none"#]]
    .assert_eq(&said.join("\n"));
    assert!(place.load(Part::AuthorityKey).unwrap().is_none());
    assert_eq!(member.papers().authorities, founder.papers().authorities);
}

#[test]
fn an_answer_counts_only_when_it_says_that_it_was_kept() {
    assert_eq!(kept(&write(Handed::Kept)), Ok(()));
    let no = write(Handed::refused(Kind::Other, "the disk\u{1b} is full"));
    assert_eq!(kept(&no), Err("the disk\u{fffd} is full".to_owned()));
    assert!(kept(b"").is_err() && kept(br#"{"v":1,"handed":"lost"}"#).is_err());
}

#[test]
fn the_token_of_a_house_goes_along_with_the_authority() {
    let (_founder, founder) = founder();
    let (directory, place, member) = member(&founder);
    let token = Token::draw(ClusterId(1), founder.authority().unwrap().certificate().key_hash()).unwrap();
    place.save(Part::HouseToken, &token.to_string()).unwrap();
    let next = Authority::create(ClusterId(1), 1_800_000_000).unwrap();
    let former = founder.papers().authorities[0].clone();
    member.keep(vec![next.certificate().clone(), former], next.key().clone()).unwrap();
    member.readdress().unwrap();
    let now: Token = place.load(Part::HouseToken).unwrap().unwrap().parse().unwrap();
    assert_eq!(now.authority, next.certificate().key_hash());
    assert_eq!((now.id.as_str(), now.public_key()), (token.id.as_str(), token.public_key()));
    drop(directory);
}
