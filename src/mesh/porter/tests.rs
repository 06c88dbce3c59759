//! Joining from both sides, with no network between them: the joiner's messages go straight to the porter.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use expect_test::expect;
use mgmt_consensus::Machine as _;
use mgmt_consensus::authority::token::Token;
use mgmt_consensus::authority::{CERTIFICATE_DAYS, DAY_S, GRACE_DAYS, KeyPair};
use mgmt_store::command::Command;
use mgmt_store::record::Versions;
use mgmt_store::{LeaseId, Origin, ProposeError, StoreMachine, Watches};

use super::*;
use crate::mesh::joining::{self, Applicant, JoinError, Joined, Knock};
use crate::mesh::messages::HexBytes;
use crate::mesh::papers;
use crate::mesh::place::Place;

const CLUSTER: ClusterId = ClusterId(0xc1);
const FOUNDER: PeerId = PeerId(0xf0);
const NOW_S: u64 = 1_800_000_000;
const SEED: &str = "10.0.0.1:6468";
const LEVELS: Versions = Versions { min: 0, max: 1 };

/// A log of one, which is at hand or not.
struct Log {
    machine: Mutex<(StoreMachine, u64)>,
    shared: Arc<Shared>,
    up: AtomicBool,
    now_s: AtomicU64,
    waited_ms: AtomicU64,
    /// How often somebody looked while it was not at hand.
    missed: AtomicU64,
}

#[derive(Clone)]
struct Way(Arc<Log>);

impl Proposer for Way {
    async fn propose(&self, request: Bytes, _: Duration) -> Result<(Revision, Bytes), ProposeError> {
        if !self.0.up.load(Ordering::Relaxed) {
            return Err(ProposeError::NoLeader);
        }
        let host = HostName::parse("founder").unwrap();
        let origin = Origin { host, peer: FOUNDER, role: Role::Admin };
        let at_ms = self.0.now_s.load(Ordering::Relaxed) * 1000;
        let command = Command::attest(&request, &origin, at_ms).unwrap();
        let mut log = self.0.machine.lock().unwrap();
        log.1 += 1;
        let index = log.1;
        let outcome = log.0.apply(index, &command).unwrap();
        log.0.settled(index);
        Ok((Revision(index), outcome))
    }

    async fn barrier(&self, _: Duration) -> Result<Revision, ProposeError> {
        if self.0.up.load(Ordering::Relaxed) {
            return Ok(self.0.shared.revision());
        }
        self.0.missed.fetch_add(1, Ordering::Relaxed);
        Err(ProposeError::NoLeader)
    }

    async fn renew(&self, _: LeaseId, _: Duration) -> Result<bool, ProposeError> {
        Ok(true)
    }

    fn now_ms(&self) -> u64 {
        self.0.waited_ms.load(Ordering::Relaxed)
    }

    async fn sleep(&self, time: Duration) {
        // Nobody waits: time goes on by itself.
        self.0.waited_ms.fetch_add(u64::try_from(time.as_millis()).unwrap(), Ordering::Relaxed);
        tokio::task::yield_now().await;
    }
}

struct Here(Arc<Log>);

impl Lodge for Here {
    fn unix_ms(&self) -> u64 {
        self.0.now_s.load(Ordering::Relaxed) * 1000
    }

    fn masters(&self) -> Vec<PeerId> {
        vec![FOUNDER]
    }
}

/// A mesh of one, and a door to it.
struct House {
    log: Arc<Log>,
    porter: Porter<Way>,
    authority: Authority,
    _place: tempfile::TempDir,
    /// What the last visitor said, and his connection's exporter.
    last: Mutex<Option<([u8; 32], Bytes)>>,
    connections: AtomicU64,
    /// Answers that are lost on the way.
    lost: AtomicU64,
}

impl House {
    async fn new() -> Self {
        Self::of(CLUSTER).await
    }

    async fn of(cluster: ClusterId) -> Self {
        let shared = Arc::<Shared>::default();
        let machine = Mutex::new((StoreMachine::anew(shared.clone(), LEVELS), 0));
        let (up, now_s) = (AtomicBool::new(true), AtomicU64::new(NOW_S));
        let (waited_ms, missed) = Default::default();
        let log = Arc::new(Log { machine, shared: shared.clone(), up, now_s, waited_ms, missed });
        let directory = tempfile::tempdir().unwrap();
        let place = Place::open(directory.path()).unwrap();
        let papers = papers::Papers::found(&place, cluster, FOUNDER, "founder").unwrap();
        let keyring = Arc::new(Keyring::open(place, papers));
        let authority = keyring.authority().unwrap();
        let host = HostName::parse("founder").unwrap();
        let watches = Watches::new(shared.clone());
        let client = Client::new(Way(log.clone()), shared.clone(), watches, host.clone(), LIMIT);
        let own = Own { cluster, peer: FOUNDER, host: host.clone(), versions: LEVELS };
        let porter = Porter::new(own, client, shared, keyring, Arc::new(Here(log.clone())));
        let house = Self {
            log,
            porter,
            authority,
            _place: directory,
            last: Mutex::default(),
            connections: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        };
        let founder = Peer {
            peer: FOUNDER,
            role: Role::Admin,
            addresses: vec![SEED.into()],
            zone: Vec::new(),
            versions: LEVELS,
            key_hash: [1; 32],
            admitted: Revision(0),
        };
        house.call(Body::PeerAdmit { host, peer: founder, replace: false }).await;
        house
    }

    async fn call(&self, body: Body) {
        self.porter.client.call(body, LIMIT).await.unwrap();
    }

    async fn token(&self, change: impl FnOnce(&mut mgmt_store::record::Token)) -> Token {
        let token = Token::draw(self.porter.own.cluster, self.authority.certificate().key_hash()).unwrap();
        let mut record = mgmt_store::record::Token {
            public_key: token.public_key(),
            role: Role::Agent,
            host: None,
            replace: false,
            expires_ms: (self.log.now_s.load(Ordering::Relaxed) + 3600) * 1000,
            uses: Some(1),
            used: 0,
        };
        change(&mut record);
        self.call(Body::TokenCreate { id: token.id.as_str().into(), token: record }).await;
        token
    }

    fn later(&self, seconds: u64) {
        self.log.now_s.fetch_add(seconds, Ordering::Relaxed);
    }

    fn uses(&self, token: &Token) -> u32 {
        self.log.shared.read(|store| store.tokens().find(|(id, _)| *id == token.id).unwrap().1.used)
    }

    async fn join(&self, token: &Token, host: &str, peer: u128, key: &KeyPair) -> Result<Joined, JoinError> {
        let (seeds, patience) = ([SEED.parse().unwrap()], Duration::from_millis(200));
        joining::join(self, &seeds, token, &applicant(host, peer, key), patience).await
    }

    /// What is said to somebody who is refused.
    async fn refused(&self, token: &Token, host: &str, peer: u128) -> String {
        // He is not the same one who was refused before.
        self.later(61);
        self.join(token, host, peer, &KeyPair::generate().unwrap())
            .await
            .unwrap_err()
            .to_string()
            .replace(&token.id, "ID")
    }
}

impl Knock for House {
    async fn knock(
        &self,
        to: SocketAddr,
        authority: [u8; 32],
        say: impl FnOnce(&[u8; 32]) -> Bytes + Send,
        _: Duration,
    ) -> Result<Bytes, String> {
        if authority != self.authority.certificate().key_hash() {
            return Err(format!("whoever answers at {to} is not believed"));
        }
        let mut exporter = [0; 32];
        exporter[..8].copy_from_slice(&self.connections.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        let message = say(&exporter);
        *self.last.lock().unwrap() = Some((exporter, message.clone()));
        let answer = self.porter.answer("10.0.0.9:1000".parse().unwrap(), &exporter, &message).await;
        let lost = self.lost.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok();
        if lost { Err("the answer was lost".to_owned()) } else { Ok(answer) }
    }
}

fn applicant<'a>(host: &'a str, peer: u128, key: &'a KeyPair) -> Applicant<'a> {
    Applicant { host, peer: PeerId(peer), key, replace: false, zone: &[], versions: LEVELS }
}

#[tokio::test]
async fn a_token_lets_a_host_in_once() {
    let (house, key) = (House::new().await, KeyPair::generate().unwrap());
    let token = house.token(|_| {}).await;
    let joined = house.join(&token, "web1", 7, &key).await.unwrap();
    let badge = joined.papers.badge().unwrap();
    assert_eq!((badge.cluster, badge.peer, &*badge.host, badge.role), (CLUSTER, PeerId(7), "web1", Role::Agent));
    assert_eq!(joined.papers.authorities, [house.authority.certificate().clone()]);
    assert_eq!(joined.members[0].host, "founder");
    let registered = house.log.shared.read(|store| store.peer(&HostName::parse("web1").unwrap())).unwrap();
    assert_eq!((registered.peer, registered.role), (PeerId(7), Role::Agent));
    assert_eq!(registered.key_hash, joined.papers.certificate.key_hash());
    assert_eq!(&*registered.addresses, ["10.0.0.9:1000".into()]);
    assert_eq!(house.uses(&token), 1);
}

#[tokio::test]
async fn roles_come_from_the_token_and_nowhere_else() {
    let house = House::new().await;
    for (n, role) in Role::ALL.iter().enumerate() {
        let token = house.token(|token| token.role = *role).await;
        let key = KeyPair::generate().unwrap();
        let joined = house.join(&token, &format!("web{n}"), 10 + n as u128, &key).await.unwrap();
        assert_eq!(joined.papers.badge().unwrap().role, *role);
    }
}

#[tokio::test]
async fn a_lost_answer_costs_no_second_use() {
    let (house, key) = (House::new().await, KeyPair::generate().unwrap());
    let token = house.token(|_| {}).await;
    house.lost.store(2, Ordering::Relaxed);
    house.join(&token, "web1", 7, &key).await.unwrap();
    assert_eq!(house.uses(&token), 1);
    // Also long after, when the token has ended: it is the same peer with the same key.
    house.later(100_000);
    house.join(&token, "web1", 7, &key).await.unwrap();
    assert_eq!(house.uses(&token), 1);
}

#[tokio::test]
async fn a_use_without_an_admission_is_finished_by_whoever_began_it() {
    let (house, key) = (House::new().await, KeyPair::generate().unwrap());
    let token = house.token(|_| {}).await;
    let wish = Wish {
        token: token.id.clone(),
        cluster: CLUSTER.into(),
        host: "web1".to_owned(),
        peer: PeerId(7).into(),
        public_key: HexBytes(key.public_key()),
        replace: false,
        zone: Vec::new(),
        level_min: 0,
        level_max: 1,
    };
    house
        .call(Body::TokenConsume { id: token.id.as_str().into(), host: HostName::parse("web1").unwrap(), used: 0 })
        .await;
    house.porter.begin(&wish);
    assert!(house.refused(&token, "web1", 8).await.contains("as often as it may be"));
    house.join(&token, "web1", 7, &key).await.unwrap();
    assert_eq!(house.uses(&token), 1);
}

#[tokio::test]
async fn each_no_has_its_sentence() {
    let house = House::new().await;
    let mut said = Vec::new();
    let other = Token::draw(CLUSTER, house.authority.certificate().key_hash()).unwrap();
    said.push(house.refused(&other, "web1", 7).await);
    let bound = house.token(|token| token.host = Some(HostName::parse("web1").unwrap())).await;
    said.push(house.refused(&bound, "web2", 7).await);
    let used = house.token(|_| {}).await;
    house.join(&used, "web1", 7, &KeyPair::generate().unwrap()).await.unwrap();
    said.push(house.refused(&used, "web2", 8).await);
    let many = house.token(|token| token.uses = None).await;
    said.push(house.refused(&many, "web1", 8).await);
    said.push(house.refused(&many, "web1", 7).await);
    said.push(house.refused(&many, "web2", 7).await);
    said.push(house.refused(&many, "web_2", 9).await);
    let old = house.token(|_| {}).await;
    house.later(3600);
    // The store's time is that of its last command.
    house.call(Body::SessionOpen).await;
    said.push(house.refused(&old, "web3", 9).await);
    house.call(Body::TokenRevoke { id: old.id.as_str().into() }).await;
    said.push(house.refused(&old, "web3", 9).await);
    let replacing = house.token(|token| token.replace = true).await;
    said.push(house.refused(&replacing, "founder", 9).await);
    expect![[r#"
        there is no token ID here: it was revoked, or has long expired; make another with `mgmt token create` on a member
        token ID is for host web1, not for web2: run with `--hostname web1`, or make another with `mgmt token create --host web2` on a member
        token ID was used as often as it may be: make another with `mgmt token create` on a member
        the name web1 belongs to another peer of this mesh: choose another with `--hostname`, or, if this is the same host set up anew, use a token of `mgmt token create --replace web1`
        peer 00000000000000000000000000000007 of web1 is a member already, under another key: `mgmt cluster remove web1` first
        this peer is a member under another name: it cannot be web2 as well; start web2 with a state directory of its own
        "web_2" is no host name: 1 to 253 of a-z, 0-9, '.' and '-', beginning with a letter or digit
        token ID has expired: make another with `mgmt token create` on a member
        there is no token ID here: it was revoked, or has long expired; make another with `mgmt token create` on a member
        founder is the last admin of this mesh: make another one first, or a token with `--role admin`"#]].assert_eq(&said.join("\n"));
}

#[tokio::test]
async fn a_token_that_replaces_gives_the_name_to_another_peer() {
    let house = House::new().await;
    let (first, second) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    house.join(&house.token(|_| {}).await, "web1", 7, &first).await.unwrap();
    house.join(&house.token(|token| token.replace = true).await, "web1", 8, &second).await.unwrap();
    let now = house.log.shared.read(|store| store.peer(&HostName::parse("web1").unwrap())).unwrap();
    assert_eq!(now.peer, PeerId(8));
}

#[tokio::test]
async fn another_cluster_is_told_apart_on_both_sides() {
    let (house, other) = (House::new().await, House::of(ClusterId(0xc2)).await);
    let token = other.token(|_| {}).await;
    // The joiner sees it first: another authority answers.
    let refused = house.join(&token, "web1", 7, &KeyPair::generate().unwrap()).await.unwrap_err().to_string();
    assert_eq!(
        refused,
        format!("nobody has let this host in within 0 s: {SEED}: whoever answers at {SEED} is not believed")
    );
    // One that lies about whom it believes is seen by the porter.
    let mut lying = token;
    lying.authority = house.authority.certificate().key_hash();
    let refused = house.refused(&lying, "web1", 7).await;
    expect!["this is cluster 000000000000000000000000000000c1, and the token is for cluster 000000000000000000000000000000c2: two clusters never become one; use addresses of that one, or a token of this one"].assert_eq(&refused);
}

#[tokio::test]
async fn what_was_said_on_one_connection_is_worth_nothing_on_another() {
    let house = House::new().await;
    let token = house.token(|token| token.uses = None).await;
    house.join(&token, "web1", 7, &KeyPair::generate().unwrap()).await.unwrap();
    let (_, message) = house.last.lock().unwrap().clone().unwrap();
    let answer = house.porter.answer("10.6.6.6:6".parse().unwrap(), &[9; 32], &message).await;
    let Ok(Reply::Refused { kind: Kind::Signature, why }) = Reply::read(&answer) else { panic!("{answer:?}") };
    expect!["this was not signed with token ID for this connection: the token was changed, or the message was sent before by somebody else; copy the token again and join again"].assert_eq(&why.replace(&token.id, "ID"));
}

#[tokio::test]
async fn a_changed_wish_is_not_what_was_signed() {
    let house = House::new().await;
    let token = house.token(|token| token.uses = None).await;
    house.join(&token, "web1", 7, &KeyPair::generate().unwrap()).await.unwrap();
    let (exporter, message) = house.last.lock().unwrap().clone().unwrap();
    let text = String::from_utf8(message.to_vec()).unwrap();
    for (from, to) in [("web1", "web9"), (r#"\"replace\":false"#, r#"\"replace\":true"#)] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text);
        let answer = house.porter.answer("10.6.6.6:6".parse().unwrap(), &exporter, changed.as_bytes()).await;
        assert!(matches!(Reply::read(&answer), Ok(Reply::Refused { kind: Kind::Signature, .. })), "{to}");
    }
}

#[tokio::test]
async fn whoever_fails_too_often_waits() {
    let house = House::new().await;
    let (token, key) = (house.token(|_| {}).await, KeyPair::generate().unwrap());
    let nonsense = Token::draw(CLUSTER, token.authority).unwrap();
    for _ in 0..5 {
        let refused = house.join(&nonsense, "web1", 7, &key).await.unwrap_err();
        assert!(matches!(refused, JoinError::Refused { kind: Kind::NoToken, .. }));
    }
    let refused = house.join(&token, "web1", 7, &key).await.unwrap_err().to_string();
    let wait = "nobody has let this host in within 0 s: 10.0.0.1:6468: too many attempts from 10.0.0.9 have failed: try again in 61 s";
    assert_eq!(refused, wait);
    house.later(60);
    house.join(&token, "web1", 7, &key).await.unwrap();
}

#[tokio::test]
async fn whoever_only_asks_whether_a_token_is_good_need_not_wait() {
    let house = House::new().await;
    let (token, key) = (house.token(|_| {}).await, KeyPair::generate().unwrap());
    let expired = house.token(|token| token.expires_ms = NOW_S * 1000 + 1).await;
    house.later(1);
    // As `doctor` does: nobody understands such a level.
    let versions = Versions { min: u32::MAX, max: u32::MAX };
    let asking = Applicant { versions, ..applicant("web9", 9, &key) };
    for _ in 0..4 {
        for (token, wanted) in [(&token, Kind::Level), (&expired, Kind::Expired)] {
            let (seeds, patience) = ([SEED.parse().unwrap()], Duration::from_millis(200));
            let refused = joining::join(&house, &seeds, token, &asking, patience).await.unwrap_err();
            assert!(matches!(refused, JoinError::Refused { kind, .. } if kind == wanted), "{refused}");
        }
    }
    house.join(&token, "web1", 7, &key).await.unwrap();
}

#[tokio::test]
async fn without_a_quorum_one_goes_on_asking() {
    let (house, key) = (House::new().await, KeyPair::generate().unwrap());
    let token = house.token(|_| {}).await;
    house.log.up.store(false, Ordering::Relaxed);
    let refused = house.join(&token, "web1", 7, &key).await.unwrap_err();
    assert!(matches!(&refused, JoinError::Patience { .. }) && refused.to_string().contains("no quorum"), "{refused}");
    let seeds = [SEED.parse().unwrap()];
    let applicant = applicant("web1", 7, &key);
    let joining = joining::join(&house, &seeds, &token, &applicant, Duration::from_secs(60));
    let missed = house.log.missed.load(Ordering::Relaxed);
    let back = async {
        while house.log.missed.load(Ordering::Relaxed) < missed + 25 {
            tokio::task::yield_now().await;
        }
        house.log.up.store(true, Ordering::Relaxed);
    };
    let (joined, ()) = tokio::join!(joining, back);
    joined.unwrap();
    assert_eq!(house.uses(&token), 1);
}

#[tokio::test]
async fn many_at_once_with_one_token() {
    let house = House::new().await;
    let token = house.token(|token| token.uses = Some(20)).await;
    let keys: Vec<KeyPair> = (0..20).map(|_| KeyPair::generate().unwrap()).collect();
    let hosts: Vec<String> = (0..20).map(|n| format!("web{n}")).collect();
    let all = keys.iter().zip(&hosts).zip(100..).map(|((key, host), peer)| house.join(&token, host, peer, key));
    for joined in futures_util::future::join_all(all).await {
        joined.unwrap();
    }
    assert_eq!(house.uses(&token), 20);
}

#[tokio::test]
async fn who_cannot_sign_names_who_can() {
    let (house, key) = (House::new().await, KeyPair::generate().unwrap());
    let token = house.token(|_| {}).await;
    assert!(house.porter.keyring.forget().unwrap());
    let refused = house.join(&token, "web1", 7, &key).await.unwrap_err();
    assert!(refused.to_string().contains("no master can be reached from here"), "{refused}");
    let peer =
        Peer { peer: PeerId(9), ..house.log.shared.read(|s| s.peer(&HostName::parse("founder").unwrap())).unwrap() };
    let peer = Peer { addresses: vec!["10.0.0.2:6468".into(), "10.0.0.3:1".into()], ..peer };
    house.call(Body::PeerAdmit { host: HostName::parse("second").unwrap(), peer, replace: false }).await;
    let Reply::Elsewhere { addresses } =
        Porter { own: Own { peer: PeerId(1), ..house.porter.own.clone() }, ..house.porter }.elsewhere()
    else {
        panic!("it names others")
    };
    assert_eq!(addresses, [SEED.parse().unwrap()]);
}

#[tokio::test]
async fn who_is_there_is_no_secret() {
    let house = House::new().await;
    let answer = house.porter.answer("10.6.6.6:6".parse().unwrap(), &[9; 32], &Ask::Who.write().unwrap()).await;
    let Ok(Reply::Who(who)) = Reply::read(&answer) else { panic!("{answer:?}") };
    assert_eq!((who.host.as_str(), who.unix_ms, who.cluster), ("founder", NOW_S * 1000, CLUSTER.into()));
}

#[tokio::test]
async fn a_certificate_that_has_ended_is_renewed_for_a_while() {
    let (house, key) = (House::new().await, KeyPair::generate().unwrap());
    let joined = house.join(&house.token(|_| {}).await, "web1", 7, &key).await.unwrap();
    let seeds = [SEED.parse().unwrap()];
    let patience = Duration::from_millis(200);
    house.later((CERTIFICATE_DAYS + GRACE_DAYS - 1) * DAY_S);
    let renewed = joining::renew(&house, &seeds, &joined.papers, patience).await.unwrap();
    let now_s = house.log.now_s.load(Ordering::Relaxed);
    assert!(!joined.papers.certificate.counts_at(now_s) && renewed.papers.certificate.counts_at(now_s));
    assert_eq!(renewed.papers.badge().unwrap(), joined.papers.badge().unwrap());
    // Somebody who has the certificate, and not its key.
    let thief = papers::Papers { key: KeyPair::generate().unwrap(), ..joined.papers.clone() };
    let refused = joining::renew(&house, &seeds, &thief, patience).await.unwrap_err();
    assert!(matches!(refused, JoinError::Refused { kind: Kind::Signature, .. }), "{refused}");
    house.later(2 * DAY_S);
    let refused = joining::renew(&house, &seeds, &joined.papers, patience).await.unwrap_err();
    assert_eq!(refused.to_string(), "the certificate ended more than 30 days ago: join again with a token");
    house.call(Body::PeerRemove { host: HostName::parse("web1").unwrap() }).await;
    let refused = joining::renew(&house, &seeds, &renewed.papers, patience).await.unwrap_err();
    let gone = "web1 is no member any more, or another peer has its name: join again with a token";
    assert_eq!(refused.to_string(), gone);
}

#[tokio::test]
async fn an_agent_does_not_become_a_master_by_asking_again() {
    let (house, key) = (House::new().await, KeyPair::generate().unwrap());
    let joined = house.join(&house.token(|_| {}).await, "web1", 7, &key).await.unwrap();
    // Its certificate, made out by itself, with another role.
    let own = Authority::create(CLUSTER, NOW_S).unwrap();
    let badge = Badge { role: Role::Master, ..joined.papers.badge().unwrap() };
    let forged =
        papers::Papers { certificate: own.issue(&badge, &key.public_key(), NOW_S).unwrap(), ..joined.papers.clone() };
    let seeds = [SEED.parse().unwrap()];
    let refused = joining::renew(&house, &seeds, &forged, Duration::from_millis(200)).await.unwrap_err();
    assert!(matches!(refused, JoinError::Refused { kind: Kind::Unknown, .. }), "{refused}");
    let renewed = joining::renew(&house, &seeds, &joined.papers, Duration::from_millis(200)).await.unwrap();
    assert_eq!(renewed.papers.badge().unwrap().role, Role::Agent);
    // A token for masters does not raise who is in already, under the same key.
    let token = house.token(|token| token.role = Role::Master).await;
    let again = house.join(&token, "web1", 7, &key).await.unwrap();
    assert_eq!(again.papers.badge().unwrap().role, Role::Agent);
    assert_eq!(house.uses(&token), 0);
}

/// A member that signs with an authority of its own.
struct Rogue(Authority);

impl Knock for Rogue {
    async fn knock(
        &self,
        _: SocketAddr,
        _: [u8; 32],
        say: impl FnOnce(&[u8; 32]) -> Bytes + Send,
        _: Duration,
    ) -> Result<Bytes, String> {
        let Ok(Ask::Join(signed)) = Ask::read(&say(&[0; 32])) else { panic!("it asks to be let in") };
        let wish = signed.wish().unwrap();
        let badge = Badge { cluster: CLUSTER, peer: wish.peer.into(), host: wish.host, role: Role::Admin };
        let certificate = self.0.issue(&badge, &wish.public_key.0, NOW_S).unwrap();
        let papers = Papers {
            certificate: HexText(certificate.der().to_vec()),
            authorities: vec![HexText(self.0.certificate().der().to_vec())],
            members: Vec::new(),
        };
        Ok(Reply::Joined(papers).write().unwrap())
    }
}

#[tokio::test]
async fn a_member_that_is_no_master_cannot_let_anybody_into_a_mesh_of_its_own() {
    let (house, key) = (House::new().await, KeyPair::generate().unwrap());
    let token = house.token(|_| {}).await;
    let rogue = Rogue(Authority::create(CLUSTER, NOW_S).unwrap());
    let seeds = [SEED.parse().unwrap()];
    let joined = joining::join(&rogue, &seeds, &token, &applicant("web1", 7, &key), Duration::from_secs(1)).await;
    expect!["a member at 10.0.0.1:6468 has answered with papers that are not for this host: no authority that is believed here has signed the certificate"].assert_eq(&joined.unwrap_err().to_string());
}
