//! What a host does about the mesh when it starts: from what was typed, what it was before, and who lives beside it.
//!
//! Promises: a pure decision. Nothing is founded where data of an earlier life, or a promise to found together with
//! others, says that there may be a mesh already. What is refused is refused with what to do instead.

use std::net::IpAddr;
use std::path::Path;

use mgmt_consensus::ClusterId;
use mgmt_consensus::authority::proof::{SECRET_BYTES_MAX, Secret};
use mgmt_consensus::authority::token::Token;

use super::bootstrap::Founders;
use super::rendezvous::{Announcement, Meet, Scene, decide};
use super::seeds::{Place, Seed, parse};
use crate::cli::args;
use crate::cli::{Exit, Failure};

/// Hosts that found a mesh together.
pub const EXPECT_MAX: u16 = 64;

/// What was typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flags {
    /// `--seeds`.
    pub seeds: Vec<Seed>,
    /// `--token`, or what is in `--token-file`; or why that cannot be read.
    pub token: Option<Result<String, String>>,
    /// `--expect`.
    pub expect: Option<u16>,
    /// `--new-cluster`.
    pub new_cluster: bool,
    /// `--no-network`.
    pub no_network: bool,
    /// The first flag of the mesh that was given, whichever it is.
    pub any: Option<&'static str>,
}

/// What the graph has to do with the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Graph {
    /// It exports, collects or uses keys.
    Needs,
    /// It does nothing of that.
    Without,
    /// There is none.
    None,
}

/// What is left of an earlier life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Before {
    /// Nothing.
    Nobody,
    /// A member of this cluster.
    Member(ClusterId),
    /// A member of a mesh that this program is too old for, in words.
    Outdated(String),
    /// Somebody: it cannot be read who, and why.
    Damaged(String),
}

/// All there is to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// What was typed.
    pub flags: Flags,
    /// The graph.
    pub graph: Graph,
    /// What this host was.
    pub before: Before,
    /// Whom it has promised to found a mesh with, if it has: the file that says so, and the host.
    pub promised: Option<(String, String)>,
    /// Who lives and who sleeps under this prefix.
    pub scene: Scene,
    /// Who lives under the usual prefix of this user, where that is another one.
    pub elsewhere: Vec<Announcement>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// Take no part.
    Off {
        /// A fragment that reads after "no mesh: ".
        why: &'static str,
    },
    /// Go on as the member it was.
    Resume,
    /// Found, if that is still right once nobody else can: [`Local::meet`](super::rendezvous::Local::meet).
    Found,
    /// Join one beside it.
    JoinLocal(Announcement),
    /// Join one of these.
    JoinSeeds {
        /// Whom to ask.
        seeds: Vec<Seed>,
        /// What lets in.
        token: Token,
    },
    /// Found together with others.
    Bootstrap(Founders),
    /// Somebody must come first: [`Local::meet`](super::rendezvous::Local::meet) waits for that.
    Wait {
        /// Who: any of them.
        hosts: Vec<String>,
        /// A sentence.
        why: String,
    },
    /// Do not start.
    Refuse(Failure),
}

impl Flags {
    /// What was typed, read.
    ///
    /// # Errors
    /// A seed is none, or there is none.
    pub fn of(args: &args::Mesh, no_network: bool) -> Result<Self, Failure> {
        let seeds = parse(&args.seeds).map_err(|error| Failure::new(Exit::Usage, error))?;
        // An empty variable in somebody's script must not found a mesh.
        if seeds.is_empty() && !args.seeds.is_empty() {
            return Err(Failure::new(
                Exit::Usage,
                "--seeds names nobody: give the address of a member, or leave it out",
            ));
        }
        let token = match (&args.token, &args.token_file) {
            (Some(token), _) => Some(Ok(token.trim().to_owned())),
            (None, Some(file)) => Some(read(file)),
            (None, None) => None,
        };
        Ok(Self { seeds, token, expect: args.expect, new_cluster: args.new_cluster, no_network, any: args.given() })
    }
}

impl Flags {
    /// What this host was given to found a mesh together with others, also when it is a member by now.
    #[must_use]
    pub fn founders(&self) -> Option<Founders> {
        let expect = self.expect.filter(|_| !self.seeds.is_empty())?;
        if let Start::Bootstrap(founders) = together(self, expect) { Some(founders) } else { None }
    }
}

/// A token or a secret from a file; bounded, because it may be any file.
fn read(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let most = SECRET_BYTES_MAX as u64 + 2;
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(most).read_to_string(&mut text));
    match read {
        Err(error) => Err(format!("cannot read {}: {error}", path.display())),
        Ok(_) if text.trim().is_empty() => Err(format!("{} is empty", path.display())),
        Ok(_) => Ok(text.trim().to_owned()),
    }
}

/// Decides.
#[must_use]
pub fn plan(facts: &Facts) -> Start {
    let Facts { flags, graph, before, .. } = facts;
    if flags.no_network {
        return match flags.any {
            Some(flag) => usage(format!("--no-network and {flag} contradict each other: leave one of them out")),
            None => Start::Off { why: "--no-network is given" },
        };
    }
    if let Before::Outdated(why) = before {
        return Start::Refuse(Failure::new(Exit::Outdated, why));
    }
    if let Before::Member(cluster) = before {
        return member(flags, *cluster, &facts.scene.me);
    }
    let start = match (flags.seeds.is_empty(), flags.expect) {
        (true, Some(_)) => usage("--expect needs --seeds: the addresses of the hosts that found the mesh"),
        (false, Some(expect)) => together(flags, expect),
        (false, None) => join(facts),
        (true, None) if flags.token.is_some() => join_here(facts),
        (true, None) if *graph == Graph::Without && flags.any.is_none() && *before == Before::Nobody => {
            return Start::Off { why: "the graph needs none" };
        }
        (true, None) => beside(facts),
    };
    match start {
        Start::Found | Start::Bootstrap(_) | Start::Wait { .. } if let Before::Damaged(why) = before => damaged(why),
        Start::Found if let Some((file, host)) = &facts.promised => Start::Refuse(Failure::new(
            Exit::NotAllowed,
            format!(
                "this host has promised to found a mesh together with others, led by {host}: start it with --seeds and \
                 --expect as before, or remove {file} if that mesh was never founded"
            ),
        )),
        other => other,
    }
}

fn usage(message: impl std::fmt::Display) -> Start {
    Start::Refuse(Failure::new(Exit::Usage, message))
}

fn damaged(why: &str) -> Start {
    let message = format!(
        "peer.toml of this host cannot be trusted ({why}), so it may have been in a mesh: join that again with --seeds \
         and --token, or remove the file if there is none"
    );
    Start::Refuse(Failure::new(Exit::Disk, message))
}

/// One that has data goes on; seeds only help it to find addresses.
fn member(flags: &Flags, cluster: ClusterId, me: &str) -> Start {
    let other = match (&flags.token, flags.expect) {
        (Some(Ok(text)), None) => text.parse::<Token>().ok().filter(|token| token.cluster != cluster),
        _ => None,
    };
    match other {
        None => Start::Resume,
        Some(token) => Start::Refuse(Failure::new(
            Exit::NotAllowed,
            format!(
                "{me} is a member of cluster {cluster} and the token is of cluster {}: two meshes never merge; leave out \
                 --token to go on, or leave the first (mgmt cluster leave), or give another --prefix",
                token.cluster
            ),
        )),
    }
}

fn together(flags: &Flags, expect: u16) -> Start {
    if expect == 0 || expect > EXPECT_MAX {
        return usage(format!("--expect takes the number of hosts that found the mesh, 1 to {EXPECT_MAX}"));
    }
    let text = match &flags.token {
        None => {
            return usage(
                "--expect needs --token-file: a file with a secret of at least 16 characters, the same on all hosts, as \
                 of `openssl rand -hex 16`",
            );
        }
        Some(Err(why)) => return Start::Refuse(Failure::new(Exit::CannotCreate, why)),
        Some(Ok(text)) => text,
    };
    if text.parse::<Token>().is_ok() {
        return usage("that is the token of a mesh that is there already: leave out --expect to join it");
    }
    match Secret::new(text) {
        Ok(secret) => Start::Bootstrap(Founders { seeds: flags.seeds.clone(), expect, secret }),
        Err(error) => usage(error),
    }
}

fn join(facts: &Facts) -> Start {
    let seeds = &facts.flags.seeds;
    match &facts.flags.token {
        Some(Ok(text)) => match text.parse::<Token>() {
            Ok(token) => Start::JoinSeeds { seeds: seeds.clone(), token },
            Err(error) => usage(error),
        },
        Some(Err(why)) => Start::Refuse(Failure::new(Exit::CannotCreate, why)),
        None => match announced(facts) {
            Some(other) => Start::JoinLocal(other.clone()),
            None => usage(
                "joining by --seeds needs what lets in: give --token or --token-file with a token of that mesh (mgmt \
                 token create on one of its members), or --expect N to found one together",
            ),
        },
    }
}

/// Somebody of the same user at a port of this machine that is among the seeds, who lets in.
fn announced(facts: &Facts) -> Option<&Announcement> {
    let here = |seed: &Seed| match &seed.place {
        Place::Address(address) => address.is_loopback(),
        Place::Name(name) => name == "localhost",
    };
    let all = || facts.scene.live.iter().chain(&facts.elsewhere);
    let local = |address: IpAddr| address.is_loopback() || address.is_unspecified();
    facts.flags.seeds.iter().filter(|seed| here(seed)).find_map(|seed| {
        all().find(|other| other.address.port() == seed.port && local(other.address.ip()) && other.token.is_some())
    })
}

/// With a token and without seeds: whoever lives here and is of that cluster.
fn join_here(facts: &Facts) -> Start {
    let token = match &facts.flags.token {
        Some(Ok(text)) => text,
        Some(Err(why)) => return Start::Refuse(Failure::new(Exit::CannotCreate, why)),
        None => return beside(facts),
    };
    let cluster = match token.parse::<Token>() {
        Ok(token) => token.cluster,
        Err(error) => return usage(error),
    };
    match facts.scene.live.iter().find(|other| other.cluster == cluster && other.host != facts.scene.me) {
        Some(other) => Start::JoinLocal(Announcement { token: Some(token.clone()), ..other.clone() }),
        None => usage("--token needs --seeds: the address of a member of that mesh"),
    }
}

/// Without seeds: whoever is beside it.
fn beside(facts: &Facts) -> Start {
    let mut scene = facts.scene.clone();
    // What it was itself has been looked at, and is nobody or cannot be read.
    scene.sleepers.retain(|sleeper| sleeper.host != scene.me);
    match decide(&scene) {
        Meet::Resume => Start::Resume,
        Meet::Found => Start::Found,
        Meet::Join(other) => Start::JoinLocal(other),
        Meet::Wait { hosts, why } => Start::Wait { hosts, why },
        Meet::Refuse(why) => Start::Refuse(Failure::new(Exit::NotAllowed, why)),
    }
}

#[cfg(test)]
mod tests;
