//! Hostile peers against a mesh of real processes: whoever is not who he says, members who overstep, tokens that are not
//! theirs, frames against the rules, and floods. Each is refused, the mesh goes on, memory is bounded, and the log says
//! it once.
//!
//! The same inside one process, lane by lane, is in `consensus/tests/quic_hostile.rs`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mgmt::mesh::messages::HexBytes;
use mgmt::mesh::messages::join::{Ask, Kind, Reply, Signed, Wish};
use mgmt::mesh::papers::{Papers, authority};
use mgmt::mesh::place::Place;
use mgmt_consensus::authority::token::Token;
use mgmt_consensus::authority::{Authority, Badge, KeyPair, Role};
use mgmt_consensus::disk::files::Files;
use mgmt_consensus::identity::{self, Identity, Stored};
use mgmt_consensus::limits::{FRAME_BYTES_MAX, HANDSHAKE_DEADLINE, VISIT_DEADLINE};
use mgmt_consensus::quic::{Credentials, Endpoint, Errand, Options, Pin};
use mgmt_consensus::transport::Lane;
use mgmt_consensus::types::Vote;
use mgmt_consensus::wire::{self, Answer, Append, Ballot, Envelope, Mismatch, Request, Transfer};
use mgmt_consensus::{ClusterId, PeerId};
use mgmt_store::key::Key;
use mgmt_store::outcome::{Outcome, Refusal};
use mgmt_store::{Body, HostName};

use crate::machine::{self, Need};
use crate::mesh::peer::Recipe;
use crate::mesh::pipe::Answer as Told;
use crate::mesh::{PATIENCE, let_pass};
use crate::meshes::{Field, expect_done};
use crate::process::Process;
use crate::rogue::{MEMBER, Noise, Rogue, Talk, VISITOR, closed_with, ended, frame, garbage, hello};

/// What all attacks of a test together may cost the attacked process, in KiB: handshakes, windows and queues fill up to
/// their limits, and the allocator keeps what it had.
const GROWTH_KIB_MAX: u64 = 48 << 10;
/// A write of somebody else may take so long meanwhile.
const SERVED: Duration = Duration::from_secs(1);
/// How long each flood goes on.
const FLOOD: Duration = Duration::from_secs(2);
const HOME: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// As the other end says why it closes.
const REFUSED: u32 = 2;
const MISBEHAVED: u32 = 3;
const IDLE: u32 = 6;

/// A mesh of three, the one of them that is attacked, and what he had before.
struct Scene {
    field: Field,
    victim: Recipe,
    process: Process,
    at: SocketAddr,
    who: Identity,
    before_kib: u64,
    runtime: tokio::runtime::Runtime,
}

/// Somebody's papers, in the wrong hands.
pub(crate) struct Stolen {
    papers: Papers,
    who: Identity,
}

pub(crate) fn identity_of(recipe: &Recipe) -> Identity {
    match identity::load(&Files::open(&recipe.home()).unwrap()).unwrap() {
        Stored::Sound(identity) => identity,
        other => panic!("{other:?}"),
    }
}

fn papers_of(recipe: &Recipe) -> Papers {
    Papers::load(&Place::open(&recipe.home()).unwrap()).unwrap().expect("a member has papers")
}

fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

impl Scene {
    fn new() -> Self {
        let mut field = Field::plain(3, 3);
        let leader = field.leader();
        let members = field.peers.members();
        let at = members.members.iter().find(|member| member.host == leader).unwrap().address.parse().unwrap();
        let peer = field.peers.get(&leader);
        let (victim, process) = (peer.recipe.clone(), Process::new(peer.pid()));
        let who = identity_of(&victim);
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let before_kib = process.holdings().memory_kib;
        Self { field, victim, process, at, who, before_kib, runtime }
    }

    /// Lets a host in, kills it, and takes its papers.
    fn steal(&mut self, host: &str, role: &str) -> Stolen {
        let token = self.field.token(&["--role", role, "--uses", "1"]);
        let recipe = Recipe::new(&self.field.scratch.path(host), host);
        let recipe = recipe.with(&["--seeds", &self.at.to_string(), "--token", &token]);
        self.field.peers.start(recipe.clone());
        self.field.peers.until(PATIENCE, "it is a member", |members| members.hosts().contains(&host));
        self.field.peers.get(host).kill();
        self.field.peers.0.remove(host);
        Stolen::of(&recipe)
    }

    /// The authority, as whoever has broken into a master has it.
    fn authority(&self) -> Authority {
        let place = Place::open(&self.victim.home()).unwrap();
        authority(&place, &papers_of(&self.victim)).unwrap().expect("masters have the authority's key")
    }

    fn log(&mut self) -> String {
        let host = self.victim.host.clone();
        self.field.peers.get(&host).log()
    }

    /// Tries something while somebody honest writes, and says what it has cost.
    fn attack<T>(&mut self, what: &str, attack: impl AsyncFnOnce(&Self) -> T) -> T {
        self.process.forget_peak();
        let honest = Honest::begin(&self.victim);
        let done = self.runtime.block_on(attack(self));
        let (writes, slowest) = honest.end();
        let (now, most) = (self.process.holdings().memory_kib, self.process.memory_peak_kib());
        let more = most.saturating_sub(self.before_kib);
        let mib = |kib: u64| kib as f64 / 1024.0;
        machine::say(&format!(
            "hostile: {what}: {:.1} MiB resident before all, {:.1} at most, {:.1} after; {writes} writes of others, the \
             slowest {:.0} ms",
            mib(self.before_kib),
            mib(most),
            mib(now),
            slowest.as_secs_f64() * 1e3
        ));
        assert!(more < GROWTH_KIB_MAX, "{what} has cost {more} KiB");
        assert!(slowest < SERVED, "{what}: a write of somebody else took {slowest:?}");
        done
    }

    /// All goes on as before, and each of these was said, and not again and again.
    fn over(mut self, said: &[&str]) {
        let log = self.log();
        for words in said {
            let times = log.lines().filter(|line| line.contains(words)).count();
            assert!((1..=2).contains(&times), "{words:?} {times} times in\n{log}");
        }
        let lines = log.lines().count();
        machine::say(&format!("hostile: the log has {lines} lines after all of that"));
        assert!(lines < 100, "{log}");
        let members = self.field.peers.members();
        assert_eq!(members.masters(), ["p1", "p2", "p3"]);
    }
}

/// Somebody who writes all the time.
struct Honest {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<(usize, Duration)>,
}

impl Honest {
    fn begin(recipe: &Recipe) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut pipe = recipe.pipe().expect("it runs");
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut writes, mut slowest) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) || writes == 0 {
                let start = Instant::now();
                let answer = pipe.ask(&format!("PUT lab/honest v{writes}"));
                assert!(matches!(answer, Told::Ok(_)), "{answer:?}");
                (writes, slowest) = (writes + 1, slowest.max(start.elapsed()));
                let_pass(Duration::from_millis(20));
            }
            (writes, slowest)
        });
        Self { stop, thread }
    }

    fn end(self) -> (usize, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

impl Stolen {
    /// Those of a host that does not run.
    pub(crate) fn of(recipe: &Recipe) -> Self {
        Self { papers: papers_of(recipe), who: identity_of(recipe) }
    }

    pub(crate) fn envelope(&self, to: &Identity) -> Envelope {
        let Identity { cluster, incarnation, raft, .. } = self.who;
        Envelope { cluster, from: raft.unwrap(), incarnation, to: to.raft.unwrap() }
    }

    pub(crate) fn rogue(&self) -> Rogue {
        Rogue::new(HOME, Some(&self.papers.credentials()), MEMBER)
    }
}

pub(crate) async fn asked(talk: &mut Talk, envelope: &Envelope, request: &Request) -> Answer {
    let answer = talk.ask(&wire::encode_request(envelope, request).unwrap()).await.expect("an answer");
    wire::decode_answer(&answer).unwrap().1
}

/// What only a leader says, or who wants to be one.
fn usurping(term: u64, me: u64) -> Vec<Request> {
    let vote = Vote::new(term, me);
    let ballot = Ballot { vote, last: None, transfer: true };
    vec![
        Request::Vote(ballot),
        Request::PreVote(ballot),
        Request::Append(Append { vote: Vote::new_committed(term, me), prev: None, entries: Vec::new(), commit: None }),
        Request::Transfer(Transfer { from: vote, to: me, last: None }),
        Request::SnapshotOffer { vote, meta: Default::default(), transfer: 1, bytes: 1 << 20 },
    ]
}

#[test]
fn who_is_not_let_in() {
    needs!(&[Need::Root]);
    let mut scene = Scene::new();
    let gone = scene.steal("gone", "master");
    let (real, at) = (scene.authority(), scene.at);
    let badge = |cluster: ClusterId, role: Role| Badge { cluster, peer: PeerId(77), host: "mallory".to_owned(), role };
    let made = |authority: &Authority, now_s: u64| {
        let key = KeyPair::generate().unwrap();
        let badge = badge(authority.cluster(), Role::Master);
        let certificate = authority.issue(&badge, &key.public_key(), now_s).unwrap().der().to_vec();
        Credentials { certificate, key: key.pkcs8().to_vec(), authorities: Vec::new() }
    };
    let foreign = Authority::create(ClusterId(99), unix_s()).unwrap();
    let alike = Authority::create(real.cluster(), unix_s()).unwrap();
    let wrong = [
        ("of another cluster", made(&foreign, unix_s())),
        ("of another authority with the same name", made(&alike, unix_s())),
        ("expired", made(&real, unix_s() - 200 * 24 * 3600)),
        ("of tomorrow", made(&real, unix_s() + 2 * 24 * 3600)),
    ];
    scene.attack("400 handshakes with certificates that are none", async |_| {
        for (what, credentials) in &wrong {
            let rogue = Rogue::new(HOME, Some(credentials), MEMBER);
            for _ in 0..100 {
                let error = rogue.turned_away(at).await;
                assert!(matches!(error, quinn::ConnectionError::ConnectionClosed(_)), "{what}: {error}");
            }
        }
    });
    let live = scene.runtime.block_on(async {
        let connection = gone.rogue().connected(at).await;
        let mut talk = Talk::begin(&connection, 2).await;
        let answer = asked(&mut talk, &gone.envelope(&scene.who), &Request::Standing).await;
        assert!(matches!(answer, Answer::Standing(_)), "{answer:?}");
        (connection, talk)
    });
    let removed = scene.field.admin().verb(["cluster", "remove", "gone"]);
    expect_done(&removed);
    scene.attack("a member that was removed, and others without papers", async |scene| {
        let error = ended(&live.0).await;
        assert!(closed_with(&error, REFUSED), "what he had is closed: {error}");
        for _ in 0..100 {
            let error = gone.rogue().turned_away(at).await;
            assert!(closed_with(&error, REFUSED), "{error}");
            let error = Rogue::new(HOME, None, MEMBER).turned_away(scene.at).await;
            assert!(closed_with(&error, REFUSED), "{error}");
        }
    });
    scene.over(&["a handshake failed", "a peer was not let in"]);
}

#[test]
fn a_member_who_oversteps() {
    needs!(&[Need::Root]);
    let mut scene = Scene::new();
    let agent = scene.steal("agent", "agent");
    let term = || scene.victim.status().unwrap()["mesh"]["term"].as_u64().unwrap();
    let before = term();
    let lied = Envelope { from: scene.who.raft.unwrap(), ..agent.envelope(&scene.who) };
    let unborn = Envelope { from: 1 << 40, ..agent.envelope(&scene.who) };
    scene.attack("an agent that speaks as a leader, 1,500 times", async |scene| {
        let connection = agent.rogue().connected(scene.at).await;
        let mut talk = Talk::begin(&connection, 0).await;
        for round in 0..100 {
            for request in usurping(before + 1000 + round, agent.who.raft.unwrap()) {
                for envelope in [agent.envelope(&scene.who), unborn] {
                    let answer = asked(&mut talk, &envelope, &request).await;
                    assert!(matches!(&answer, Answer::Unavailable { why } if why == "you may not lead"), "{answer:?}");
                }
                let answer = asked(&mut talk, &lied, &request).await;
                assert_eq!(answer, Answer::Mismatch(Mismatch::Incarnation), "as the leader himself");
            }
        }
    });
    let host = || HostName::parse("agent").unwrap();
    let bodies = [
        Body::IdealSize { masters: 1 },
        Body::TokenRevoke { id: "x".into() },
        Body::PeerRemove { host: HostName::parse("p1").unwrap() },
        Body::Allow { hosts: "*".into(), prefix: "".into() },
        Body::ExportForget { host: HostName::parse("p1").unwrap() },
        Body::FeatureLevel { level: 1 },
        Body::TokenConsume { id: "x".into(), host: host(), used: 0 },
        Body::Put { key: Key::parse("k/theirs").unwrap(), value: (&b"mine"[..]).into(), lease: None },
        Body::Put { key: Key::parse("m/x/p1").unwrap(), value: (&b"mine"[..]).into(), lease: None },
    ];
    scene.attack("an agent that asks for what only an admin may, 900 times", async |scene| {
        let connection = agent.rogue().connected(scene.at).await;
        let mut talk = Talk::begin(&connection, 2).await;
        for body in bodies.iter().cycle().take(900) {
            let command = mgmt_store::Request::plain(body.clone()).encode();
            let request = Request::Propose { command, deadline: Duration::from_secs(5) };
            let answer = asked(&mut talk, &agent.envelope(&scene.who), &request).await;
            let Answer::Proposed { outcome, .. } = &answer else { panic!("{body:?}: {answer:?}") };
            let refusal = Outcome::decode(outcome).unwrap().result.unwrap_err();
            assert!(matches!(refusal, Refusal::NotAllowed(_) | Refusal::Busy { .. }), "{body:?}: {refusal:?}");
        }
        let transfer = Request::Tell { message: Bytes::from_static(br#"{"transfer":{"to":null}}"#) };
        let answer = asked(&mut talk, &agent.envelope(&scene.who), &transfer).await;
        let Answer::Told { answer } = answer else { panic!("{answer:?}") };
        assert_eq!(&answer[..], br#"{"no":"only an admin may say who leads"}"#);
    });
    let after = scene.victim.status().unwrap()["mesh"]["term"].as_u64().unwrap();
    assert_eq!((after, scene.field.leader()), (before, scene.victim.host.clone()), "nobody was deposed");
    scene.over(&["its certificate does not let it lead"]);
}

/// Asks to be let in from an address, once, and says what came of it.
async fn knock(from: u8, at: SocketAddr, token: &Token, say: impl FnOnce(&[u8; 32]) -> Signed) -> Result<(), Kind> {
    let endpoint = Endpoint::bind(Options::lan((Ipv4Addr::new(127, 0, 0, from), 0).into())).unwrap();
    let say = |exporter: &[u8; 32]| Ask::Join(say(exporter)).write().unwrap();
    let visited = endpoint.visit(at, Errand::Join, Pin::Authority(token.authority), say, PATIENCE).await.unwrap();
    endpoint.close().await;
    match Reply::read(&visited.answer).unwrap() {
        Reply::Joined(_) => Ok(()),
        Reply::Refused { kind, .. } => Err(kind),
        other => panic!("{other:?}"),
    }
}

fn wish(token: &Token, host: &str) -> Wish {
    let key = KeyPair::generate().unwrap().public_key();
    let (first, _) = key.split_first_chunk::<16>().unwrap();
    Wish {
        token: token.id.clone(),
        cluster: token.cluster.into(),
        host: host.to_owned(),
        peer: PeerId(u128::from_be_bytes(*first)).into(),
        public_key: HexBytes(key),
        replace: true,
        zone: Vec::new(),
        level_min: 0,
        level_max: 1,
    }
}

#[test]
fn tokens_in_the_wrong_hands() {
    needs!(&[Need::Root]);
    let mut scene = Scene::new();
    let mut token = |options: &[&str]| scene.field.token(options).parse::<Token>().unwrap();
    let (once, only, brief) = (token(&["--uses", "1"]), token(&["--host", "three"]), token(&["--ttl", "1s"]));
    let (revoked, copied) = (token(&[]), token(&["--uses", "2"]));
    expect_done(&scene.field.admin().verb(["token", "revoke", &revoked.id]));
    // The name of a real one, and another secret.
    let mut guessed = Token::draw(once.cluster, once.authority).unwrap();
    guessed.id.clone_from(&copied.id);
    let (at, admin) = (scene.at, scene.field.admin());
    crate::wait::until("the brief one has expired", || {
        let list = admin.verb(["token", "list"]).out;
        list.lines().any(|line| line.starts_with(brief.id.as_str()) && line.contains("expired"))
    });
    scene.attack("tokens that are used up, of others, of yesterday, copied and guessed", async |_| {
        let sign =
            |token: &Token, wish: &Wish, exporter: &[u8; 32]| wish.sign(exporter, |words| token.sign(words)).unwrap();
        let own = |token: Token, host: &str| {
            let wish = wish(&token, host);
            move |exporter: &[u8; 32]| sign(&token, &wish, exporter)
        };
        let mut heard = None;
        let first = wish(&once, "one");
        let said = knock(2, at, &once, |exporter| heard.insert(sign(&once, &first, exporter)).clone()).await;
        assert_eq!(said, Ok(()));
        let replayed = heard.unwrap();
        assert_eq!(
            knock(3, at, &once, |_| replayed).await,
            Err(Kind::Signature),
            "the same words on another connection"
        );
        assert_eq!(knock(3, at, &once, own(once.clone(), "two")).await, Err(Kind::UsedUp), "a second host");
        assert_eq!(
            knock(3, at, &once, own(once.clone(), "one")).await,
            Err(Kind::UsedUp),
            "under the first one's name"
        );
        assert_eq!(knock(3, at, &only, own(only.clone(), "four")).await, Err(Kind::OtherHost));
        assert_eq!(knock(4, at, &revoked, own(revoked.clone(), "five")).await, Err(Kind::NoToken));
        assert_eq!(knock(4, at, &guessed, own(guessed.clone(), "six")).await, Err(Kind::Signature));
        assert_eq!(knock(4, at, &brief, own(brief.clone(), "seven")).await, Err(Kind::Expired));
        assert_eq!(
            knock(5, at, &copied, own(copied.clone(), "p1")).await,
            Err(Kind::HostTaken),
            "a name that is taken"
        );
        for _ in 0..20 {
            let refused = knock(6, at, &guessed, own(guessed.clone(), "eight")).await;
            assert!(matches!(refused, Err(Kind::Signature | Kind::Slow)), "{refused:?}");
        }
        assert_eq!(knock(6, at, &copied, own(copied.clone(), "nine")).await, Err(Kind::Slow), "guessing is slow");
        assert_eq!(knock(7, at, &copied, own(copied.clone(), "nine")).await, Ok(()), "elsewhere there is room");
    });
    let tries = scene.log().lines().filter(|line| line.contains("mesh: not let in")).count();
    assert!(tries <= 13, "of 28 that were refused {tries} are in the log");
    scene.over(&["has expired: make another", "used as often as it may be: make another"]);
}

#[test]
fn frames_against_the_rules_and_slow_ones() {
    needs!(&[Need::Root]);
    let mut scene = Scene::new();
    let agent = scene.steal("agent", "agent");
    let (other, third) = (scene.steal("other", "agent"), scene.steal("third", "agent"));
    scene.attack("frames against the rules, 300 times", async |scene| {
        let too_long = u32::try_from(FRAME_BYTES_MAX + 1).unwrap();
        let says: [(&str, Vec<u8>); 3] = [
            ("a byte too long", [&hello(0)[..], &too_long.to_le_bytes(), &[0; 8]].concat()),
            ("the largest number", [&hello(0)[..], &u32::MAX.to_le_bytes(), &[0; 8]].concat()),
            ("a lane there is not", hello(9)),
        ];
        let rogue = agent.rogue();
        for (what, bytes) in says.iter().cycle().take(300) {
            let connection = rogue.connected(scene.at).await;
            let (mut sender, _receiver) = connection.open_bi().await.unwrap();
            sender.write_all(bytes).await.unwrap();
            let error = ended(&connection).await;
            assert!(closed_with(&error, MISBEHAVED), "{what}: {error}");
        }
    });
    let slow = async |connection: quinn::Connection, bytes: Vec<u8>| {
        let start = Instant::now();
        let (mut sender, _receiver) = connection.open_bi().await.unwrap();
        let drip = async {
            for byte in bytes {
                if sender.write_all(&[byte]).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let (error, ()) = tokio::join!(ended(&connection), drip);
        (error, start.elapsed())
    };
    scene.attack("a byte a second: members and visitors; the largest frames, all but their last byte", async |scene| {
        let at = scene.at;
        let member = async { slow(other.rogue().connected(at).await, hello(2)).await };
        let visitor = async { slow(Rogue::new(HOME, None, VISITOR).connected(at).await, vec![b'{'; 60]).await };
        let rogue = third.rogue();
        let unfinished = async {
            let connection = rogue.connected(at).await;
            let large = frame(1, &vec![1; FRAME_BYTES_MAX]);
            let mut streams = Vec::new();
            for lane in 0..4 {
                let mut stream = connection.open_bi().await.unwrap();
                stream.0.write_all(&hello(lane)).await.unwrap();
                stream.0.write_all(&large[..large.len() - 1]).await.unwrap();
                streams.push(stream);
            }
            (connection, streams)
        };
        let ((member, after), (visitor, later), _held) = tokio::join!(member, visitor, unfinished);
        assert!(closed_with(&member, IDLE) && after < HANDSHAKE_DEADLINE * 2, "a member after {after:?}: {member}");
        assert!(closed_with(&visitor, IDLE) && later < VISIT_DEADLINE * 2, "a visitor after {later:?}: {visitor}");
    });
    scene.over(&["a peer does not keep to the rules", "a visitor was sent away"]);
}

#[test]
fn floods_of_packets_handshakes_and_messages() {
    needs!(&[Need::Root]);
    let mut scene = Scene::new();
    let agent = scene.steal("agent", "agent");
    let at = scene.at;
    scene.attack("20,000 packets of garbage", async |_| {
        tokio::task::spawn_blocking(move || garbage(at, 20_000)).await.unwrap();
    });
    let packets = scene.runtime.block_on(async { Rogue::new(HOME, None, VISITOR).first_packets(2_000).await });
    scene.attack("2,000 handshakes without an end", async |_| {
        let socket = std::net::UdpSocket::bind((HOME, 0)).unwrap();
        for packet in packets {
            let _dropped = socket.send_to(&packet, at);
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(FLOOD).await;
    });
    scene.attack("2,000 connections of one member", async |_| {
        let rogue = agent.rogue();
        let mut last = Vec::new();
        for _ in 0..250 {
            let many: Vec<_> = (0..8).map(|_| rogue.connect(at)).collect();
            last.clear();
            for connecting in many {
                let Ok(connection) = connecting.await else { continue };
                if let Ok((mut sender, receiver)) = connection.open_bi().await {
                    let _replaced = sender.write_all(&hello(2)).await;
                    last.push((connection, sender, receiver));
                }
            }
        }
    });
    scene.attack("1,000 visitors from 20 addresses, who stay and say nothing", async |_| {
        let mut held = Vec::new();
        for from in 10..30 {
            let rogue = Rogue::new(Ipv4Addr::new(127, 0, 0, from).into(), None, VISITOR);
            for _ in 0..50 {
                held.extend(rogue.connect(at).await);
            }
        }
        tokio::time::sleep(FLOOD).await;
    });
    scene.attack("messages of garbage on four lanes", async |_| {
        let connection = agent.rogue().connected(at).await;
        flood(&connection, &[0, 1, 2, 3], |noise| {
            let mut body = vec![0; 32 << 10];
            noise.fill(&mut body[..64]);
            body
        })
        .await;
    });
    let envelope = agent.envelope(&scene.who);
    let command = mgmt_store::Request::plain(Body::IdealSize { masters: 1 }).encode();
    let request = Request::Propose { command, deadline: Duration::from_secs(5) };
    let (propose, standing) =
        (wire::encode_request(&envelope, &request), wire::encode_request(&envelope, &Request::Standing));
    let (propose, standing) = (propose.unwrap(), standing.unwrap());
    scene.attack("commands that are refused, and answers that nobody reads", async |_| {
        let rogue = Rogue::with_window(HOME, Some(&agent.papers.credentials()), MEMBER, 16 << 10);
        let connection = rogue.connected(at).await;
        flood(&connection, &[Lane::Client as u8], |_| propose.to_vec()).await;
        let connection = rogue.connected(at).await;
        flood(&connection, &[Lane::Client as u8, Lane::Control as u8], |_| standing.to_vec()).await;
    });
    scene.over(&["a visitor was sent away"]);
}

/// Sends as fast as it is taken, on these lanes at once, and reads nothing.
async fn flood(connection: &quinn::Connection, lanes: &[u8], mut body: impl FnMut(&mut Noise) -> Vec<u8>) {
    let mut noise = Noise(7);
    let bodies: Vec<Vec<u8>> = (0..16).map(|number| frame(number, &body(&mut noise))).collect();
    let bodies = Arc::new(bodies);
    let mut tasks = tokio::task::JoinSet::new();
    for lane in lanes {
        let (mut sender, receiver) = connection.open_bi().await.unwrap();
        sender.write_all(&hello(*lane)).await.unwrap();
        let bodies = bodies.clone();
        tasks.spawn(async move {
            let _unread = receiver;
            for body in bodies.iter().cycle() {
                if sender.write_all(body).await.is_err() {
                    return;
                }
            }
        });
    }
    tokio::time::sleep(FLOOD).await;
    tasks.shutdown().await;
}
