//! Hosts that all start empty and found one mesh together, while the network and the hosts themselves come and go.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use crate::machine;
use crate::mesh::peer::{Peers, Recipe};
use crate::mesh::{let_pass, wait};
use crate::meshes::{Field, times};
use crate::netns::NETWORK;

const HOSTS: usize = 5;
/// `MGMT_SLOW=1`: fifty.
const ROUNDS: u64 = 6;
/// How long after the last fault all are members: a promise, a join, and whatever was waited for when it healed.
const HEALED: Duration = Duration::from_secs(60);

/// splitmix64, so that a round can be repeated as far as the machine lets it.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn host(&mut self) -> usize {
        1 + usize::try_from(self.below(HOSTS as u64)).unwrap()
    }
}

/// The cluster each host belongs to, if any.
fn clusters(recipes: &[Recipe]) -> Vec<Option<String>> {
    let cluster = |file: PathBuf| {
        let text = std::fs::read_to_string(file).ok()?;
        text.lines().find(|line| line.starts_with("cluster = ")).map(str::to_owned)
    };
    recipes.iter().map(|recipe| cluster(recipe.home().join("peer.toml"))).collect()
}

/// One fault, for a moment.
fn trouble(field: &Field, peers: &mut Peers, chance: &mut Chance) {
    let network = field.network();
    network.heal();
    let host = chance.host();
    match chance.below(6) {
        0 => network.partition(&[&[host], &network.others(&[host])]),
        1 => {
            let pair = BTreeSet::from([host, chance.host()]).into_iter().collect::<Vec<_>>();
            network.partition(&[&pair, &network.others(&pair)]);
        }
        2 => network.cut(&[host], &network.others(&[host])),
        3 => network.lose(200),
        4 => {
            let peer = peers.get(&format!("p{host}"));
            peer.kill();
            peer.restart();
        }
        _ => {}
    }
    let_pass(Duration::from_millis(50 + chance.below(700)));
}

#[test]
fn five_empty_hosts_found_one_mesh_whatever_the_network_does() {
    needs!(NETWORK);
    let field = Field::hosts(HOSTS);
    let rounds = if std::env::var_os("MGMT_SLOW").is_some() { 50 } else { ROUNDS };
    let secret = field.scratch.path("secret");
    std::fs::write(&secret, "what all five were given to found a mesh\n").unwrap();
    let seeds: Vec<_> = (1..=HOSTS).map(|host| field.listen(host)).collect();
    let mut took = Vec::new();
    for round in 0..rounds {
        let mut chance = Chance(round);
        let recipe = |host: usize| {
            let mut recipe = Recipe::new(&field.scratch.path(&format!("r{round}h{host}")), &format!("p{host}"));
            recipe.launcher = field.network().launcher(host);
            let expect = HOSTS.to_string();
            recipe
                .with(&["--seeds", &seeds.join(","), "--listen", &field.listen(host), "--expect", &expect])
                .with(&["--token-file", secret.to_str().unwrap()])
        };
        let recipes: Vec<_> = (1..=HOSTS).map(recipe).collect();
        let mut peers = Peers::default();
        for recipe in &recipes {
            peers.start(recipe.clone());
        }
        for _ in 0..2 + chance.below(5) {
            trouble(&field, &mut peers, &mut chance);
            let found: BTreeSet<_> = clusters(&recipes).into_iter().flatten().collect();
            assert!(found.len() < 2, "round {round}: {found:?}\n{}", peers.show());
        }
        field.network().heal();
        let all = |found: &[Option<String>]| found.iter().all(Option::is_some);
        let healed = wait(HEALED, || all(&clusters(&recipes)));
        let healed = healed.unwrap_or_else(|| panic!("round {round}: not all are members\n{}", peers.show()));
        let found: BTreeSet<_> = clusters(&recipes).into_iter().flatten().collect();
        assert_eq!(found.len(), 1, "round {round}: {found:?}\n{}", peers.show());
        peers.until(HEALED, "five members", |members| members.leader.is_some() && members.hosts().len() == HOSTS);
        took.push(healed);
    }
    machine::say(&format!("five empty hosts, {rounds} rounds: one mesh each, all in it after {}", times(&took)));
}
