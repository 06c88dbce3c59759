//! How this host comes by its part in a mesh: goes on with the one it has, founds one, or is let in. What is to be done
//! is decided in `start`; this does it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mgmt_consensus::authority::token::Token;
use mgmt_consensus::authority::{KeyPair, key_from_pem, pem_of_key};
use mgmt_consensus::disk::files::Files;
use mgmt_consensus::ground::chance;
use mgmt_consensus::identity::{Identity, Stored};
use mgmt_consensus::peer::Otherwise;
use mgmt_consensus::quic::{Endpoint, Options};
use mgmt_consensus::{ClusterId, PeerId, identity};
use mgmt_store::record::Peer;
use mgmt_store::{Body, Revision, Role};

use crate::cli::Exit;
use crate::control::mesh::{Blob, hex};

use super::bootstrap::{self, Bootstrap, Founders, Ledger, Settled};
use super::house;
use super::joining::{self, Applicant, JoinError};
use super::keyring::Keyring;
use super::messages::join::Kind;
use super::node::{Node, Setup};
use super::papers::Papers;
use super::place::{Part, Place};
use super::registrar::{self, Listed};
use super::rendezvous::{Announced, Announcement, Local, Met};
use super::seeds::{Resolver, Seed};
use super::start::{Start, plan};
use super::surroundings::unix_ms;
use super::{Attempt, LIMIT, Mesh, PATIENCE, PORT, Stage};

/// How long an address that is in use is waited for.
const IN_USE_TRIES: u32 = 30;
const IN_USE_PAUSE: Duration = Duration::from_millis(100);

/// A member that has arrived, and what says so to others of this user.
pub(super) struct Arrived {
    pub(super) node: Arc<Node>,
    pub(super) announced: Option<(Announced, Announcement)>,
}

/// A failure that may pass.
fn again(what: &str, error: impl std::fmt::Display) -> Attempt {
    Attempt::Again(format!("cannot {what}: {error}"))
}

/// Arrives.
pub(super) async fn arrive(mesh: &Mesh) -> Result<Arrived, Attempt> {
    let settings = mesh.settings();
    let place = Place::open(&settings.state).map_err(|e| again("use the state directory", e))?;
    let facts = settings.facts().map_err(|e| again("look around", e))?;
    let start = plan(&facts);
    let listen = settings.listen_at(&place, &start).map_err(|e| again("remember where to listen", e))?;
    let endpoint = bind(&place, listen).await?;
    let arrived = Arrival { mesh, setup: mesh.setup(place.clone(), endpoint.clone()) }.by(start).await;
    if arrived.is_ok() {
        // A promise binds until there is a mesh, and this host is in one.
        if let Err(error) = bootstrap::forget(&place) {
            tracing::warn!("mesh: what was promised to found this mesh is not forgotten: {error}");
        }
    } else {
        // The next attempt may want the same port.
        endpoint.close().await;
    }
    arrived
}
/// Listens: where it did last, if nothing else was asked for and that is free.
async fn bind(place: &Place, listen: SocketAddr) -> Result<Endpoint, Attempt> {
    let secret = reset_secret(place).map_err(|e| again("use the state directory", e))?;
    let options = |at| Options { reset_secret: Some(secret), ..Options::lan(at) };
    let remembered = |address: &SocketAddr| address.ip() == listen.ip() && listen.port() == 0;
    let last = last_listened(place).filter(remembered);
    let bound = match last {
        Some(last) => patiently(|| Endpoint::bind(options(last))).await.ok(),
        None => None,
    };
    let endpoint = match bound {
        Some(endpoint) => endpoint,
        None => {
            patiently(|| Endpoint::bind(options(listen))).await.map_err(|e| again(&format!("listen at {listen}"), e))?
        }
    };
    place.save(Part::Port, &endpoint.local_address().to_string()).map_err(|e| again("use the state directory", e))?;
    Ok(endpoint)
}

/// Tries again for a moment while an address is in use: this host's former life may still be letting go of it.
async fn patiently(bind: impl Fn() -> std::io::Result<Endpoint>) -> std::io::Result<Endpoint> {
    for _ in 0..IN_USE_TRIES {
        match bind() {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => tokio::time::sleep(IN_USE_PAUSE).await,
            bound => return bound,
        }
    }
    bind()
}

/// By what others see at once that this host was started again, and `doctor` that it is there at all: the same over all
/// lives of the state directory.
fn reset_secret(place: &Place) -> std::io::Result<[u8; 32]> {
    let digits = place.load(Part::ResetSecret)?.map(|text| Blob::Hex(text.trim().to_owned()));
    if let Some(secret) = digits.and_then(Blob::bytes).and_then(|bytes| bytes.try_into().ok()) {
        return Ok(secret);
    }
    let mut secret = [0; 32];
    for part in secret.chunks_mut(size_of::<u64>()) {
        part.copy_from_slice(&chance().to_le_bytes());
    }
    place.save(Part::ResetSecret, &hex(&secret))?;
    Ok(secret)
}

/// Where this host listened when it ran last.
fn last_listened(place: &Place) -> Option<SocketAddr> {
    place.load(Part::Port).ok().flatten()?.trim().parse().ok()
}

impl super::Settings {
    /// Where to listen.
    fn listen_at(&self, place: &Place, start: &Start) -> std::io::Result<SocketAddr> {
        if let Some(listen) = self.listen {
            return Ok(listen);
        }
        let everywhere = |six: bool| {
            let ip = if six { IpAddr::from(Ipv6Addr::UNSPECIFIED) } else { IpAddr::from(Ipv4Addr::UNSPECIFIED) };
            SocketAddr::new(ip, PORT)
        };
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let seeds = match start {
            Start::JoinSeeds { seeds, .. } | Start::Bootstrap(Founders { seeds, .. }) => seeds,
            Start::Resume => {
                let last = last_listened(place);
                // On loopback any port does, because it is announced to those who are beside.
                return Ok(last.map_or(loopback, |last| if last.ip().is_loopback() { loopback } else { last }));
            }
            _ => return Ok(loopback),
        };
        let far = seeds.iter().any(|seed| !seed.is_loopback());
        Ok(if far { everywhere(seeds.iter().any(Seed::is_v6)) } else { loopback })
    }
}

struct Arrival<'a> {
    mesh: &'a Mesh,
    setup: Setup,
}

impl Arrival<'_> {
    /// Does what was decided.
    async fn by(self, start: Start) -> Result<Arrived, Attempt> {
        match start {
            Start::Off { why } => Err(Attempt::Never(format!("no mesh: {why}"))),
            Start::Refuse(failure) if failure.exit == Exit::Outdated => Err(Attempt::Outdated(failure.message)),
            Start::Refuse(failure) => Err(Attempt::Never(failure.message)),
            Start::Resume => self.resume().await,
            Start::Found | Start::Wait { .. } if self.mesh.settings().private => self.found(None).await,
            Start::Found | Start::Wait { .. } => self.meet().await,
            Start::JoinLocal(other) => self.join_beside(&other).await,
            Start::JoinSeeds { seeds, token } => self.join_seeds(&seeds, &token).await,
            Start::Bootstrap(founders) => self.together(&founders).await,
        }
    }

    /// Goes on as the member it was.
    async fn resume(self) -> Result<Arrived, Attempt> {
        let disk = Files::open(&self.setup.state).map_err(|e| again("use the state directory", e))?;
        let stored = identity::load(&disk).map_err(|e| again("read who this host is", e))?;
        let Stored::Sound(identity) = stored else {
            return Err(Attempt::Never("peer.toml cannot be trusted: join again with a token".to_owned()));
        };
        let papers = Papers::load(&self.setup.place).map_err(|e| again("use this host's papers", e))?;
        let Some(papers) = papers else {
            return Err(Attempt::Never("this host's certificate is gone: join again with a token".to_owned()));
        };
        let listed = self.beside(&identity);
        let seeds = listed.keys().filter(|peer| **peer != identity.peer).copied().collect();
        let otherwise = Otherwise::Join { cluster: identity.cluster, seeds, patience: PATIENCE };
        let node = Node::come(self.setup.clone(), self.keyring(&papers), listed, otherwise).await;
        let node = node.map_err(|e| again("go on as a member", e))?;
        tracing::info!("mesh: {} goes on as a member of cluster {}", node.identity.host, node.identity.cluster);
        // Whoever was stopped before its first commands were through has still to give them.
        if node.role == Role::Admin && node.shared.read(|keyspace| keyspace.peers().next().is_none()) {
            first_entry(&node, &papers).await.map_err(|e| again("enter the registry", e))?;
        }
        self.announce(node)
    }

    fn keyring(&self, papers: &Papers) -> Arc<Keyring> {
        Arc::new(Keyring::open(self.setup.place.clone(), papers.clone()))
    }

    /// Where the others were, and where those beside it are now.
    fn beside(&self, identity: &Identity) -> BTreeMap<PeerId, Listed> {
        let mut listed = registrar::remembered(&self.setup.place);
        let live = Local::existing(&self.mesh.settings().prefix).ok().flatten().and_then(|local| local.live().ok());
        for other in live.unwrap_or_default() {
            if other.cluster == identity.cluster && other.peer != identity.peer {
                let entry =
                    listed.entry(other.peer).or_insert_with(|| Listed { host: other.host, addresses: Vec::new() });
                entry.addresses.retain(|address| *address != other.address);
                entry.addresses.insert(0, other.address);
            }
        }
        listed
    }

    /// Meets those of the same user: the first founds, and the others join it.
    async fn meet(self) -> Result<Arrived, Attempt> {
        let settings = self.mesh.settings();
        let local = Local::open(&settings.prefix).map_err(|e| again("look for others on this machine", e))?;
        let say = |why: &str| self.mesh.say(Stage::Coming(why.to_owned()));
        let met = local.meet(settings.host.as_str(), settings.flags.new_cluster, say).await;
        match met.map_err(|e| again("look for others on this machine", e))? {
            Met::Found(founding) => {
                let arrived = self.found(Some(local)).await;
                drop(founding);
                arrived
            }
            Met::Join(other) => self.join_beside(&other).await,
            Met::Resume => self.resume().await,
            Met::Refuse(why) => Err(Attempt::Never(why)),
        }
    }

    /// Founds a mesh together with others: one of them founds, and the others join it.
    async fn together(self, founders: &Founders) -> Result<Arrived, Attempt> {
        let settings = self.mesh.settings();
        let place = &self.setup.place;
        let ledger = Ledger::open(place, &founders.secret).await.map_err(|e| again("take part in founding", e))?;
        let mut visits = self.setup.endpoint.visits();
        let bootstrap = Bootstrap {
            host: settings.host.as_str(),
            founders,
            ledger,
            network: self.setup.endpoint.clone(),
            visitors: &mut visits,
            resolver: Resolver::new(),
            clock: settings.clock,
        };
        let settled = bootstrap.settle(|why| self.mesh.say(Stage::Coming(why.to_owned()))).await;
        // Those who came meanwhile are answered by the member that this host becomes.
        self.setup.endpoint.take_back(visits);
        match settled.map_err(|e| again("take part in founding", e))? {
            Settled::Found => {
                let local = Local::open(&settings.prefix).map_err(|e| again("look for others on this machine", e))?;
                self.found(Some(local)).await
            }
            Settled::Join(mesh) => {
                let token: Token = mesh.token.unwrap_or_default().parse().map_err(|e| again("join", e))?;
                self.join(&mesh.addresses, &token, true).await
            }
        }
    }

    /// Founds a cluster.
    async fn found(self, local: Option<Local>) -> Result<Arrived, Attempt> {
        let (cluster, host) = (ClusterId::draw(chance), self.setup.host.as_str().to_owned());
        // A founder is named by its key as those are who join: so it comes back by it when its log is lost.
        let key = key(&self.setup.place).map_err(|e| again("use the state directory", e))?;
        let papers = Papers::found_with(&self.setup.place, cluster, peer_of(&key), &host, key);
        let papers = papers.map_err(|e| again("found a mesh", e))?;
        let node =
            Node::come(self.setup.clone(), self.keyring(&papers), BTreeMap::new(), Otherwise::Found(cluster)).await;
        let node = node.map_err(|e| again("found a mesh", e))?;
        first_entry(&node, &papers).await.map_err(|e| again("enter the registry", e))?;
        tracing::info!("mesh: {host} has founded cluster {cluster}");
        node.is_founder();
        if local.is_none() {
            return Ok(Arrived { node, announced: None });
        }
        self.announce(node)
    }

    /// Joins a process of the same user.
    async fn join_beside(self, other: &Announcement) -> Result<Arrived, Attempt> {
        let token = other.token.as_deref().unwrap_or_default();
        let token: Token = token.parse().map_err(|e| again(&format!("join {}", other.host), e))?;
        self.join(&[other.address], &token, true).await
    }

    async fn join_seeds(self, seeds: &[Seed], token: &Token) -> Result<Arrived, Attempt> {
        let resolved = Resolver::new().resolve(seeds).await;
        for missing in &resolved.missing {
            tracing::warn!("mesh: {missing}");
        }
        if resolved.addresses.is_empty() {
            return Err(Attempt::Again("no seed has an address".to_owned()));
        }
        self.join(&resolved.addresses, token, false).await
    }

    /// Is let in by a token; `house`: it is the token for those of this house, which others are let in by too.
    async fn join(self, seeds: &[SocketAddr], token: &Token, house: bool) -> Result<Arrived, Attempt> {
        let host = self.setup.host.as_str().to_owned();
        let asked: Vec<String> = seeds.iter().map(ToString::to_string).collect();
        self.mesh.say(Stage::Coming(format!("asking {} to be let in", asked.join(", "))));
        let key = key(&self.setup.place).map_err(|e| again("use the state directory", e))?;
        let peer = peer_of(&key);
        let Setup { zone, versions, .. } = &self.setup;
        let who = Applicant { host: &host, peer, key: &key, replace: true, zone, versions: *versions };
        let joined = joining::join(&self.setup.endpoint, seeds, token, &who, PATIENCE).await;
        let joined = joined.map_err(|error| {
            let why = format!("{host} is not let in: {error}");
            match error {
                JoinError::Refused { kind: Kind::Level, .. } => Attempt::Outdated(why),
                JoinError::Refused { .. } | JoinError::NoSeeds => Attempt::Never(why),
                JoinError::Patience { .. } | JoinError::Strange { .. } => Attempt::Again(why),
            }
        })?;
        let papers = joined.papers;
        if house {
            let kept = self.setup.place.save(Part::HouseToken, &token.to_string());
            kept.map_err(|e| again("use the state directory", e))?;
        }
        papers.save(&self.setup.place).map_err(|e| again("use the state directory", e))?;
        self.mesh.was_let_in();
        let cluster = token.cluster;
        let listed =
            joined.members.into_iter().map(|at| (at.peer.into(), Listed { host: at.host, addresses: at.addresses }));
        let listed: BTreeMap<PeerId, Listed> = listed.collect();
        // At once: whoever ends now, or is ended, has to find them again before it was told anything.
        registrar::remember(&self.setup.place, &listed).map_err(|e| again("use the state directory", e))?;
        let seeds = listed.keys().filter(|other| **other != peer).copied().collect();
        let otherwise = Otherwise::Join { cluster, seeds, patience: PATIENCE };
        let node = Node::come(self.setup.clone(), self.keyring(&papers), listed, otherwise).await;
        let node = node.map_err(|e| again("join", e))?;
        tracing::info!("mesh: {host} has joined cluster {cluster}");
        if self.setup.transient {
            node.is_guest();
        }
        self.announce(node)
    }

    /// Tells the others of this user where it is.
    fn announce(self, node: Arc<Node>) -> Result<Arrived, Attempt> {
        let settings = self.mesh.settings();
        if settings.private {
            return Ok(Arrived { node, announced: None });
        }
        let mut address = self.setup.endpoint.local_address();
        if address.ip().is_unspecified() {
            let loopback =
                if address.is_ipv4() { IpAddr::from(Ipv4Addr::LOCALHOST) } else { Ipv6Addr::LOCALHOST.into() };
            address.set_ip(loopback);
        }
        let announcement = Announcement {
            cluster: node.identity.cluster,
            peer: node.identity.peer,
            host: node.identity.host.clone(),
            address,
            pid: std::process::id(),
            token: self.setup.place.load(Part::HouseToken).ok().flatten().map(|token| token.trim().to_owned()),
        };
        let announced = Local::open(&settings.prefix).and_then(|local| local.announce(&announcement));
        // Others will not find it by themselves; nothing else depends on it.
        let announced =
            announced.inspect_err(|error| tracing::warn!("mesh: cannot tell others on this machine: {error}")).ok();
        Ok(Arrived { node, announced: announced.map(|announced| (announced, announcement)) })
    }
}

/// This host's key: the one that an earlier attempt to join has used, so that a token is not used up by two.
fn key(place: &Place) -> std::io::Result<KeyPair> {
    if let Some(Ok(key)) = place.load(Part::Key)?.map(|text| key_from_pem(text.as_bytes())) {
        return Ok(key);
    }
    let key = KeyPair::generate().map_err(std::io::Error::other)?;
    place.save(Part::Key, &pem_of_key(&key))?;
    Ok(key)
}

/// A joiner's name to the transport: a part of its key, which is chance enough, and stays the same over attempts.
fn peer_of(key: &KeyPair) -> PeerId {
    let (first, _) =
        key.public_key().split_first_chunk::<16>().map(|(first, rest)| (*first, rest.len())).expect("it has 32 bytes");
    PeerId(u128::from_be_bytes(first))
}

/// The founder's own entry in the registry, and the token for the others of this house.
async fn first_entry(node: &Arc<Node>, papers: &Papers) -> Result<(), FirstEntry> {
    let addresses = registrar::reachable(node.setup.endpoint.local_address(), &[]);
    let peer = Peer {
        peer: node.identity.peer,
        role: Role::Admin,
        addresses: addresses.iter().map(|address| address.to_string().into()).collect(),
        zone: node.setup.zone.clone(),
        versions: node.setup.versions,
        key_hash: papers.certificate.key_hash(),
        admitted: Revision(0),
    };
    node.client.call(Body::PeerAdmit { host: node.setup.host.clone(), peer, replace: false }, LIMIT).await?;
    let authority = papers.authorities.first().map(|authority| authority.key_hash()).unwrap_or_default();
    let secret = Token::draw(node.identity.cluster, authority).map_err(|e| FirstEntry::Make(e.to_string()))?;
    let token = house::record(secret.public_key(), unix_ms());
    node.client.call(Body::TokenCreate { id: secret.id.as_str().into(), token }, LIMIT).await?;
    node.setup.place.save(Part::HouseToken, &secret.to_string())?;
    Ok(())
}

/// Why a founder's first commands are not through.
#[derive(Debug, thiserror::Error)]
enum FirstEntry {
    #[error(transparent)]
    Call(#[from] mgmt_store::CallError),
    #[error("make a token: {0}")]
    Make(String),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}
