//! Meshes of real processes for one test: on one machine, or on hosts of their own.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::machine;
use crate::mesh::clients::Outcome;
use crate::mesh::linear;
use crate::mesh::peer::{Ended, Peers, Recipe};
use crate::netns::Network;
use crate::scratch::Scratch;

/// Times are measured: one mesh at a time has the machine.
static ALONE: Mutex<()> = Mutex::new(());

/// Peers, and where they are.
pub(crate) struct Field {
    // Dropped in this order.
    pub(crate) peers: Peers,
    pub(crate) network: Option<Network>,
    pub(crate) scratch: Scratch,
    _alone: MutexGuard<'static, ()>,
}

impl Field {
    fn empty(network: impl FnOnce() -> Option<Network>) -> Self {
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Self { peers: Peers::default(), network: network(), scratch: Scratch::new(), _alone: alone }
    }

    /// A machine without any.
    pub(crate) fn machine() -> Self {
        Self::empty(|| None)
    }

    /// So many hosts on one switch, without any.
    pub(crate) fn hosts(hosts: usize) -> Self {
        Self::empty(|| Some(Network::new(hosts)))
    }

    /// A peer on this machine, with the state of all peers under one prefix: they find each other.
    pub(crate) fn local(&self, host: &str) -> Recipe {
        Recipe::new(&self.scratch.prefix(), host)
    }

    /// Starts `p1` to `pN` on this machine, all at once, and waits until they are a mesh.
    pub(crate) fn plain(count: usize, masters: usize) -> Self {
        let mut field = Self::machine();
        for number in 1..=count {
            let recipe = field.local(&format!("p{number}"));
            field.peers.start(recipe);
        }
        let took = field.peers.until_formed(masters, count - masters);
        machine::say(&format!("{count} peers at once: {masters} masters after {:.1} s", took.as_secs_f64()));
        field.open();
        field
    }

    /// Starts `p1` to `pN` on this machine, all of them admins: of others the leader takes only so many changes a second.
    pub(crate) fn admins(count: usize) -> Self {
        let mut field = Self::machine();
        let first = field.local("p1");
        field.peers.start(first.clone());
        field.peers.until_formed(1, 0);
        let at = first.status().expect("it is formed")["mesh"]["address"].as_str().expect("it listens").to_owned();
        let token = field.token(&["--role", "admin", "--uses", &count.to_string()]);
        for number in 2..=count {
            let recipe = field.local(&format!("p{number}")).with(&["--seeds", &at, "--token", &token]);
            field.peers.start(recipe);
        }
        let took = field.peers.until_formed(count, 0);
        machine::say(&format!("{count} peers: all are masters after {:.1} s", took.as_secs_f64()));
        field.open();
        field
    }

    pub(crate) fn network(&self) -> &Network {
        self.network.as_ref().expect("it has hosts")
    }

    /// A peer on a host of its own: `pN` on host N.
    pub(crate) fn remote(&self, host: usize) -> Recipe {
        let prefix = self.scratch.path(&format!("host{host}"));
        let launcher = self.network().launcher(host);
        let mut recipe = Recipe::new(&prefix, &format!("p{host}"));
        recipe.launcher = launcher;
        recipe
    }

    /// The option that says where a host listens.
    pub(crate) fn listen(&self, host: usize) -> String {
        format!("{}:6468", self.network().address(host))
    }

    /// A mesh on so many hosts: the first founds it, the others join by its address and a token.
    pub(crate) fn spread(count: usize, masters: usize) -> Self {
        Self::spread_as("master", count, masters)
    }

    /// Such a mesh of hosts that may do this much.
    pub(crate) fn spread_as(role: &str, count: usize, masters: usize) -> Self {
        let mut field = Self::hosts(count);
        let listen = field.listen(1);
        let first = field.remote(1).with(&["--listen", &listen]);
        field.peers.start(first.clone());
        field.peers.until_formed(1, 0);
        let token = field.token(&["--role", role, "--uses", &count.to_string()]);
        for host in 2..=count {
            let recipe = field.remote(host).with(&["--seeds", &field.listen(1), "--token", &token]);
            let recipe = recipe.with(&["--listen", &field.listen(host)]);
            field.peers.start(recipe);
        }
        let took = field.peers.until_formed(masters, count - masters);
        machine::say(&format!("{count} hosts: {masters} masters after {:.1} s", took.as_secs_f64()));
        field.open();
        field
    }

    /// Whoever may do everything: the founder.
    #[track_caller]
    pub(crate) fn admin(&mut self) -> Recipe {
        let may = |recipe: &Recipe| recipe.status().is_some_and(|status| status["mesh"]["may"] == "admin");
        let found = self.peers.live().into_iter().find(may);
        found.unwrap_or_else(|| panic!("no admin runs\n{}", self.peers.show()))
    }

    /// Lets every host write what tests write.
    #[track_caller]
    pub(crate) fn open(&mut self) {
        let admin = self.admin();
        for prefix in ["lab/", "linear/"] {
            expect_done(&admin.verb(["cluster", "allow", "*", prefix]));
        }
    }

    /// A token that lets hosts in.
    #[track_caller]
    pub(crate) fn token(&mut self, options: &[&str]) -> String {
        let ended = self.admin().verb([&["token", "create"], options].concat());
        expect_done(&ended);
        let token = ended.out.split_whitespace().find(|word| word.starts_with("mgt1_") || word.starts_with("mgmt1_"));
        token.unwrap_or_else(|| panic!("no token in {ended:?}")).to_owned()
    }

    /// Whom all follow.
    #[track_caller]
    pub(crate) fn leader(&mut self) -> String {
        self.peers.members().leader.expect("asked for one that has it")
    }

    /// Recipes of all, whether they run or not, for clients.
    pub(crate) fn all(&self) -> Vec<Recipe> {
        self.peers.0.values().map(|peer| peer.recipe.clone()).collect()
    }
}

/// A verb that had to succeed.
#[track_caller]
pub(crate) fn expect_done(ended: &Ended) {
    assert_eq!(ended.code, 0, "{ended:?}");
}

/// Judges what clients were told, and says how much it was.
#[track_caller]
pub(crate) fn judge(name: &str, outcome: &Outcome) {
    let judged = linear::judge(&outcome.history).unwrap_or_else(|why| panic!("{name}: {why}"));
    let rate = outcome.history.len() as f64 / outcome.elapsed.as_secs_f64();
    machine::say(&format!(
        "{name}: {} operations on {} keys in {:.0} s ({rate:.0}/s), {} of unknown outcome: linearizable",
        judged.operations,
        judged.keys,
        outcome.elapsed.as_secs_f64(),
        judged.unknown
    ));
}

/// A list of times for people.
pub(crate) fn times(times: &[Duration]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let seconds = |at: usize| sorted.get(at).map_or(0.0, Duration::as_secs_f64);
    format!(
        "p50 {:.2} s, max {:.2} s of {}",
        seconds(sorted.len() / 2),
        seconds(sorted.len().wrapping_sub(1)),
        sorted.len()
    )
}

/// How many masters each zone has.
pub(crate) fn zones(members: &crate::mesh::peer::Members) -> BTreeMap<String, usize> {
    let mut zones = BTreeMap::new();
    for member in members.members.iter().filter(|member| member.master) {
        *zones.entry(member.zone.clone()).or_insert(0) += 1;
    }
    zones
}
