//! Two versions of the program in one mesh, rolled in both orders under load: the level rises once all understand it, and
//! whoever does not is refused by name and loses nothing.
//!
//! The next version is this program with one level more, run by this test program itself: see
//! [`a_peer_of_the_next_version`].

use std::process::ExitCode;
use std::time::Duration;

use mgmt::cli;
use mgmt::mesh::levels::VERSIONS;
use mgmt_store::record::Versions;
use rustix::process::Signal;

use crate::machine::{self, Need};
use crate::mesh::clients::{self, Load};
use crate::mesh::peer::{MGMT, Recipe};
use crate::mesh::{PATIENCE, wait};
use crate::meshes::{Field, expect_done, judge};

/// Stops with this where the mesh uses a level that it does not understand.
const OUTDATED: i32 = 76;
const OLD: u32 = VERSIONS.max;
const NEXT: u32 = OLD + 1;
/// Between the last one that understands and the rise.
const STABLE: Duration = Duration::from_millis(mgmt_store::level::STABLE_MS);

/// No test: what the peers of the next version are, each a process of its own.
#[test]
fn a_peer_of_the_next_version() -> ExitCode {
    let mut words = std::env::args_os().skip_while(|word| word != MGMT).peekable();
    if words.peek().is_none() {
        return ExitCode::SUCCESS;
    }
    cli::run_as(Versions { max: NEXT, ..VERSIONS }, words)
}

/// The same peer, of the next version.
fn next(recipe: Recipe) -> Recipe {
    let me = std::env::current_exe().unwrap();
    let words = [me.to_str().unwrap(), "rolling::a_peer_of_the_next_version", "--exact", "--nocapture", "--"];
    Recipe { instead: words.map(str::to_owned).to_vec(), ..recipe }
}

/// The same peer, of this version.
fn old(recipe: Recipe) -> Recipe {
    Recipe { instead: Vec::new(), ..recipe }
}

fn level(recipe: &Recipe) -> Option<u64> {
    recipe.status()?["mesh"]["level"].as_u64()
}

/// The level that all who run have come to; `None` while they are not of one mind.
fn level_of_all(field: &mut Field) -> Option<u64> {
    let mut levels: Vec<_> = field.peers.live().iter().map(level).collect();
    levels.dedup();
    if let [one] = levels[..] { one } else { None }
}

#[track_caller]
fn until_level(field: &mut Field, wanted: u32) -> Duration {
    let waited = wait(PATIENCE, || level_of_all(field) == Some(wanted.into()));
    waited.unwrap_or_else(|| panic!("the level is not {wanted}\n{}", field.peers.show()))
}

/// Ends a peer in order and starts it as another version.
#[track_caller]
fn roll(field: &mut Field, host: &str, to: impl Fn(Recipe) -> Recipe) {
    let peer = field.peers.get(host);
    assert_eq!(peer.end(Signal::TERM), 0, "{}", peer.tail());
    peer.recipe = to(peer.recipe.clone());
    peer.restart();
}

/// What makes a host who it is, and what it has put aside of earlier lives.
fn identity(recipe: &Recipe) -> (String, Vec<String>) {
    let home = std::fs::read_dir(recipe.home()).unwrap();
    let aside = home.filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let mut aside: Vec<_> = aside.filter(|name| name.starts_with("damaged")).collect();
    aside.sort();
    (std::fs::read_to_string(recipe.home().join("peer.toml")).unwrap(), aside)
}

/// Waits until an old program has refused, and looks at what it said and left.
#[track_caller]
fn refused(field: &mut Field, host: &str, before: &(String, Vec<String>), words: &str) {
    let peer = field.peers.get(host);
    assert_eq!(peer.ended(), OUTDATED, "{}", peer.tail());
    assert!(peer.tail().contains(words), "{}", peer.tail());
    assert_eq!(identity(&peer.recipe), *before, "it is somebody else, or has put its log aside");
}

/// So many lines of the log say this.
fn told(log: &str, words: &str) -> usize {
    log.lines().filter(|line| line.contains(words)).count()
}

#[test]
fn an_upgrade_under_load_and_no_way_back() {
    needs!(&[Need::Root]);
    let words = format!("the mesh uses feature level {NEXT}, and this program understands 0 to {OLD}: bring mgmt");
    let mut field = Field::plain(3, 3);
    let peers = field.all();
    let who = identity(&peers[2]);
    let outcome = clients::run(&peers, Load { clients: 16, ..Load::light() }, |progress| {
        let served = |field: &mut Field, after: &str| {
            assert!(progress.until_change(PATIENCE).is_some(), "no change after {after}\n{}", field.peers.show());
        };
        for (host, to) in [("p3", &next as &dyn Fn(Recipe) -> Recipe), ("p1", &next), ("p1", &old), ("p1", &next)] {
            roll(&mut field, host, to);
            field.peers.until_formed(3, 0);
            served(&mut field, host);
            assert_eq!(level_of_all(&mut field), Some(OLD.into()), "while p2 is old");
        }
        // The last one is rolled while one that understands is away, so that it does not see the level rise.
        field.peers.get("p3").kill();
        roll(&mut field, "p2", next);
        let rose = until_level(&mut field, NEXT);
        assert!(rose > STABLE / 2, "{rose:?} after the last one was started");
        machine::say(&format!("the level rose {:.1} s after the last of three was upgraded", rose.as_secs_f64()));
        served(&mut field, "the rise");
        let p3 = field.peers.get("p3");
        p3.recipe = old(p3.recipe.clone());
        p3.restart();
        refused(&mut field, "p3", &who, &words);
        // Now it knows before it looks at anything.
        field.peers.get("p3").restart();
        refused(&mut field, "p3", &who, &words);
        let log = field.peers.get("p3").log();
        assert_eq!(told(&log, &words), 2, "once each time\n{log}");
        served(&mut field, "the refusal");
        // Who was a member of the new mesh and goes back, likewise: it has the level in its log alone.
        let two = identity(&peers[1]);
        field.peers.get("p2").kill();
        std::fs::remove_file(peers[1].home().join("mesh/level")).unwrap();
        let p3 = field.peers.get("p3");
        p3.recipe = next(p3.recipe.clone());
        p3.restart();
        let p2 = field.peers.get("p2");
        p2.recipe = old(p2.recipe.clone());
        p2.restart();
        refused(&mut field, "p2", &two, &words);
        let p2 = field.peers.get("p2");
        p2.recipe = next(p2.recipe.clone());
        p2.restart();
        field.peers.until_formed(3, 0);
        served(&mut field, "the way back and forth");
        progress.stop();
    });
    assert_eq!((identity(&peers[2]), level_of_all(&mut field)), (who, Some(NEXT.into())), "all go on as who they were");
    judge("two versions, an upgrade one by one", &outcome);
}

#[test]
fn newcomers_of_both_versions() {
    needs!(&[Need::Root]);
    let mut field = Field::machine();
    let recipe = field.local("p1");
    field.peers.start(recipe);
    field.peers.until_formed(1, 0);
    for host in ["p2", "p3"] {
        let recipe = next(field.local(host));
        field.peers.start(recipe);
    }
    field.peers.until_formed(3, 0);
    field.open();
    let peers = field.all();
    let outcome = clients::run(&peers, Load { clients: 16, ..Load::light() }, |progress| {
        let recipe = field.local("p4");
        field.peers.start(recipe);
        field.peers.until_formed(3, 1);
        assert_eq!(level_of_all(&mut field), Some(OLD.into()), "two of four are old");
        // Nobody old is left once one is upgraded and one has left.
        expect_done(&field.peers.get("p4").recipe.verb(["cluster", "leave"]));
        assert_eq!(field.peers.get("p4").end(Signal::TERM), 0);
        roll(&mut field, "p1", next);
        field.peers.0.remove("p4");
        until_level(&mut field, NEXT);
        let recipe = field.local("p5");
        let late = field.peers.start(recipe);
        assert_eq!(late.ended(), OUTDATED, "{}", late.tail());
        let words = format!(
            "uses feature level {NEXT}, and the mgmt of p5 understands 0 to {OLD}: bring mgmt on p5 up to date"
        );
        assert_eq!(told(&late.log(), &words), 1, "{}", late.log());
        late.recipe = next(late.recipe.clone());
        late.restart();
        field.peers.until_formed(3, 1);
        progress.stop();
    });
    judge("two versions, newcomers of both", &outcome);
}
