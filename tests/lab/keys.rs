//! What takes a majority waits for one, and is made up for without being asked.

use std::fs;

use crate::machine::{self, Need};
use crate::mesh::{PATIENCE, wait};
use crate::meshes::Field;

#[test]
fn a_key_and_a_command_wait_for_a_majority() {
    needs!(&[Need::Root]);
    let mut field = Field::machine();
    let root = field.scratch.path("");
    let graph = |value: &str| {
        let shown = root.display();
        let text = format!(
            "graph: a\nresources:\n  kv:\n  - {{name: app/x, value: {value}}}\n  exec:\n  - name: turn\n    \
             shell: /bin/sh\n    cmd: echo turn >> {shown}/turns\n    watchfiles: [{shown}/again]\n    \
             meta: {{sema: ['cluster/turn:1']}}\n"
        );
        field.scratch.graph_named("a.yaml", &text)
    };
    let mut recipe = field.local("a").with(&["--zone", "here"]);
    recipe.args[0] = graph("one").to_str().unwrap().to_owned();
    let turns = || fs::read_to_string(root.join("turns")).unwrap_or_default().lines().count();
    let value = || recipe.asked(&["kv", "get", "app/x"]).and_then(|told| told["value"].as_str().map(str::to_owned));
    let stand = |resource: &str| {
        let status = recipe.status().unwrap_or_default();
        let all = status["resources"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|stand| stand["resource"] == resource).unwrap_or_default()
    };
    // First, so that it founds the mesh: an admin's host may write any key.
    field.peers.start(recipe.clone());
    field.peers.until_formed(1, 0);
    for host in ["b", "c"] {
        let other = field.local(host);
        field.peers.start(other);
    }
    field.peers.until_formed(3, 0);
    assert!(wait(PATIENCE, || value().as_deref() == Some("one") && turns() == 1).is_some(), "{}", field.peers.show());

    ["b", "c"].iter().for_each(|host| field.peers.get(host).kill());
    graph("two");
    fs::write(root.join("again"), "").unwrap();
    let failed = || stand("kv[app/x]")["fault"].as_str().is_some_and(|why| why.contains("no quorum"));
    assert!(wait(PATIENCE, failed).is_some(), "{:?}\n{}", recipe.status(), field.peers.show());
    let waits = || stand("exec[turn]")["awaits"] == "cluster/turn:1";
    assert!(wait(PATIENCE, waits).is_some(), "{:?}\n{}", recipe.status(), field.peers.show());
    assert_eq!((value().as_deref(), turns()), (Some("one"), 1));

    ["b", "c"].iter().for_each(|host| field.peers.get(host).restart());
    let took = wait(PATIENCE, || value().as_deref() == Some("two") && turns() == 2);
    let took = took.unwrap_or_else(|| panic!("{:?}\n{}", recipe.status(), field.peers.show()));
    machine::say(&format!("{:.1} s after a majority was started again, all is made up for", took.as_secs_f64()));
    assert!(wait(PATIENCE, || stand("kv[app/x]").is_null()).is_some(), "{:?}", stand("kv[app/x]"));
}
