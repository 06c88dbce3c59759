//! What is decided about a user: from parameters to the run of a program.

use std::fs;

use super::build::build;
use super::compare::{Note, Numbers, creation, modification, notes};
use super::*;
use crate::Host;
use crate::accounts::Accounts;
use crate::kind::{Anchor, Built, Context, Params, Problem, Value};
use crate::watches::Watches;

fn built(name: &str, pairs: &[(&'static str, Value)]) -> Result<Built, Vec<Problem>> {
    let mut params = Params::default();
    pairs.iter().for_each(|(field, value)| params.set(field, value.clone()));
    let host = std::sync::Arc::new(Host::with(Watches::shared()));
    build(&mut params, &Context::of(&host, name))
}

fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

fn list(texts: &[&str]) -> Value {
    Value::Texts(texts.iter().map(|text| (*text).to_owned()).collect())
}

fn refused(name: &str, pairs: &[(&'static str, Value)]) -> String {
    let problems = built(name, pairs).unwrap_err();
    problems.iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect::<Vec<_>>().join("; ")
}

fn accounts(passwd: &str, group: &str) -> (tempfile::TempDir, Accounts) {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("etc")).unwrap();
    fs::write(root.path().join("etc/passwd"), passwd).unwrap();
    fs::write(root.path().join("etc/group"), group).unwrap();
    let accounts = Accounts::below(root.path());
    (root, accounts)
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/var/www:/bin/sh\n";
const GROUP: &str = "root:x:0:\nwww:x:34:web\nlogs:x:50:other,web\nadm:x:4:web\nusers:x:100:\n";

fn set(names: &[&str]) -> Option<BTreeSet<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

/// What is wrong with `web`, and the run that puts it right.
fn compared(desired: &Desired) -> (String, Edit) {
    let (_root, accounts) = accounts(PASSWD, GROUP);
    let numbers = Numbers::quickly(desired, &accounts).unwrap().unwrap();
    let web = accounts.local_user("web").unwrap().unwrap();
    let notes = notes(desired, &numbers, &web, &accounts);
    let edit = modification("web", desired, &notes);
    (Drift { notes, edit: edit.clone(), home: None }.to_string(), edit)
}

fn run(program: &'static str, words: &str) -> Edit {
    words.split(' ').fold(Edit::new(program), |edit, word| edit.arg(if word == "''" { "" } else { word }))
}

#[test]
fn bad_values_are_refused_with_their_field() {
    assert_eq!(refused("root", &[("state", text("absent"))]), "state: the user root is never removed");
    assert!(refused("a:b", &[]).contains("the name of the resource is the user's, and 'a:b' has a blank"));
    assert!(refused("a", &[("uid", Value::Count(4_294_967_295))]).starts_with("uid: has to be less than"));
    let both = [("group", text("7")), ("gid", Value::Count(8))];
    assert_eq!(refused("a", &both), "gid: is not the number that group says (7): give one of them");
    assert!(refused("a", &[("groups", list(&["adm", "x,y"]))]).starts_with("groups: a group's name 'x,y' has"));
    assert!(refused("a", &[("homedir", text("/a:b"))]).starts_with("homedir: /a:b has to be an absolute path"));
    assert!(refused("a", &[("allowduplicateuid", Value::Bool(true))]).starts_with("allowduplicateuid: is about uid"));
}

#[test]
fn groups_come_first_and_the_user_leaves_them_first() {
    let facets = built("bob", &[("uid", Value::Count(7)), ("groups", list(&["adm", "100"]))]).unwrap().facets;
    assert_eq!(facets.provides, [Anchor::User("bob".into()), Anchor::User("7".into())]);
    assert_eq!(facets.wants, ["100", "adm", "bob"].map(|group| Anchor::Group(group.into())));
    let facets = built("bob", &[("group", text("web")), ("homedir", text("/srv/bob/"))]).unwrap().facets;
    assert_eq!(facets.provides, [Anchor::User("bob".into()), Anchor::Path("/srv/bob".into())]);
    let home = "/srv/bob";
    assert_eq!(facets.wants, [Anchor::Group("web".into()), Anchor::Parent(home.into()), Anchor::Shipped(home.into())]);
    let facets = built("bob", &[("group", text("web")), ("state", text("absent"))]).unwrap().facets;
    assert_eq!(facets.provides, ["bob", "web"].map(|group| Anchor::Leaves(group.into())));
    assert_eq!(facets.wants, []);
}

#[test]
fn what_is_given_is_compared_and_nothing_else() {
    assert_eq!(compared(&Desired::default()).0, "");
    let same = Desired {
        uid: Some(33),
        group: Some("www".into()),
        gid: Some(34),
        // Its primary group is no other group, whether it lists the user or not.
        groups: set(&["www", "50", "adm"]),
        home: Some("/var/www".into()),
        shell: Some("/bin/sh".into()),
        shared_uid: false,
    };
    assert_eq!(compared(&same).0, "");
    let other = Desired {
        uid: Some(34),
        gid: None,
        group: Some("users".into()),
        shell: Some("/bin/false".into()),
        ..same.clone()
    };
    let (shown, edit) = compared(&Desired { groups: None, ..other });
    assert_eq!(shown, "uid is 33, wanted 34, group is www, wanted users, shell is /bin/sh, wanted /bin/false");
    assert_eq!(edit, run("usermod", "-u 34 -g users -s /bin/false -- web"));
    let (shown, edit) = compared(&Desired { groups: set(&[]), ..Desired::default() });
    assert_eq!((shown.as_str(), edit), ("groups are adm logs, wanted none", run("usermod", "-G '' -- web")));
    let (shown, edit) = compared(&Desired { gid: Some(50), ..Desired::default() });
    assert_eq!((shown.as_str(), edit), ("group is www, wanted logs", run("usermod", "-g 50 -- web")));
}

#[test]
fn groups_that_cannot_be_had_are_told() {
    let (_root, accounts) = accounts(PASSWD, GROUP);
    let fault = |desired: Desired| Numbers::quickly(&desired, &accounts).unwrap_err().to_string();
    let group = |name: &str| Some(name.to_owned());
    assert_eq!(fault(Desired { group: group("none"), ..Desired::default() }), "group none does not exist");
    let both = Desired { group: group("www"), gid: Some(35), ..Desired::default() };
    assert_eq!(fault(both), "group www has the number 34, and gid says 35: give one of them");
    let unlisted = Desired { groups: set(&["none"]), ..Desired::default() };
    assert_eq!(fault(unlisted), "group none is not in /etc/group, so nobody can become its member");
}

#[test]
fn a_user_is_made_by_one_run() {
    let desired = Desired {
        uid: Some(7),
        shared_uid: true,
        groups: set(&["b", "a"]),
        home: Some("/srv/x".into()),
        shell: Some("/bin/sh".into()),
        ..Desired::default()
    };
    assert_eq!(creation("x", &desired, true), run("useradd", "-o -u 7 -g x -G a,b -m -d /srv/x -s /bin/sh -- x"));
    let plain = Desired { group: Some("g".into()), groups: set(&[]), ..Desired::default() };
    assert_eq!(creation("x", &plain, true), run("useradd", "-g g -- x"));
    assert_eq!(creation("x", &Desired::default(), false), run("useradd", "-- x"));
}

#[test]
fn deeds_say_what_was_set() {
    let groups = Note::Groups { is: Vec::new(), wanted: vec!["a".into(), "b".into()] };
    assert_eq!(groups.deed(), "groups set to a b");
    assert_eq!(Note::Uid { is: 1, wanted: 2 }.deed(), "uid set to 2");
}
