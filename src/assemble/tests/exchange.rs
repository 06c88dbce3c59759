//! Exports and collects, sentence by sentence: who takes what, under which name, and what nobody can do to another.

use std::sync::Arc;

use expect_test::{Expect, expect};
use mgmt_resources::KINDS;
use mgmt_store::view::Collect;
use mgmt_store::{Key, Revision, Value, View};
use proptest::prelude::*;

use super::fake::host;
use super::{Assembled, Options, Sight, assemble_bytes};

/// What others export: host, kind, name, and the record.
type Export<'a> = (&'a str, &'a str, &'a str, &'a str);

fn options(exports: &[Export<'_>]) -> Options {
    let entry = |(host, kind, name, record): &Export<'_>| {
        (Key::parse(&format!("x/{host}/{kind}/{name}")).unwrap(), Value::from(record.as_bytes()))
    };
    let asked =
        ["file", "noop", "msg", "exec"].map(|kind| Collect { kind: kind.into(), name: None, hosts: Vec::new() });
    let sight = Sight { asked: asked.to_vec(), view: View::remembered(Revision(1), exports.iter().map(entry)) };
    let (file, directory) = ("g".into(), "/etc/mgmt".into());
    Options { file, directory, hostname: "web1".into(), sight: Arc::new(sight), ..Options::default() }
}

fn with(text: &str, exports: &[Export<'_>]) -> Assembled {
    assemble_bytes(text.as_bytes(), &options(exports), KINDS, &host())
}

fn show(assembled: &Assembled) -> String {
    let mut out = String::new();
    if let Some(graph) = &assembled.graph {
        for (number, vertex) in graph.vertices().iter().enumerate() {
            out += &format!("{} at {}", vertex.id, assembled.places[number]);
            let resource = format!("{:?}", vertex.resource);
            for field in ["path: \"", "mode: Some(Exact(", "owner: Some(\"", "beneath: Some(\"", "purge: "] {
                if let Some((_, rest)) = resource.split_once(field) {
                    let value = rest.split(['"', ')', ',']).next().unwrap();
                    let value = if field.starts_with("mode") {
                        format!("{:04o}", value.parse::<u32>().unwrap())
                    } else {
                        value.to_owned()
                    };
                    if value != "false" {
                        out += &format!(" {} {value}", field.split(':').next().unwrap());
                    }
                }
            }
            out.push('\n');
        }
        out += &super::edges(graph);
    }
    let exchanged = &assembled.exchanged;
    for export in &exchanged.exports {
        out += &format!("exports {}\n", export.id);
    }
    for taken in exchanged.taken.iter().filter(|taken| !taken.left_out.is_empty()) {
        out += &format!("{} without: {}\n", taken.id, taken.left_out.join(", "));
    }
    for skipped in &exchanged.skipped {
        out += &format!("skips {} of {} at {}: {}\n", skipped.id, skipped.host, skipped.item, skipped.why);
    }
    for id in &exchanged.waiting {
        out += &format!("{id} waits to purge\n");
    }
    out + &assembled.problems.to_string()
}

fn check(text: &str, exports: &[Export<'_>], expected: Expect) {
    // Every new kind would change it.
    let kinds: Vec<_> = mgmt_resources::KINDS.iter().map(|info| info.name).collect();
    expected.assert_eq(&show(&with(text, exports)).replace(&kinds.join(", "), "KINDS"));
}

const PLAIN: &str = r#"{"v":1,"params":{"path":"/tmp/x/one","content":"1\n","state":"exists"}}"#;

#[test]
fn every_host_is_collected_this_one_included() {
    check(
        "
graph: g
resources:
  file:
  - {name: '@@mine', path: /tmp/own/mine, content: m, state: exists, owner: root, mode: '4755'}
  - {name: local, path: /p/local, content: l, state: exists}
collect:
- {kind: file, pattern: /p/}
",
        &[
            ("web2", "file", "one", PLAIN),
            ("db", "file", "one", &PLAIN.replace("one", "two")),
            ("web1", "file", "old", PLAIN),
        ],
        expect![[r#"
            file[local] at 6:5 path /p/local
            file[one@db] at 8:3 path /p/two beneath /p
            file[mine@web1] at 8:3 path /p/mine mode 4755 owner root beneath /p
            file[one@web2] at 8:3 path /p/one beneath /p
            exports file[mine]
        "#]],
    );
}

#[test]
fn others_carry_a_name_contents_a_state_and_permissions() {
    let record = |params: &str| format!(r#"{{"v":1,"params":{{"path":"/x/f",{params}}}}}"#);
    let records = [
        ("plain", record(r#""content":"a","mode":"0640""#)),
        ("owner", record(r#""content":"a","owner":"root","group":"root""#)),
        ("setuid", record(r#""content":"a","mode":"4755""#)),
        ("prefix", record(r#""content":"a","mode":"0o6711""#)),
        ("symbolic", record(r#""content":"a","mode":"u+s""#)),
        ("link", record(r#""symlink":true,"source":"/etc/shadow""#)),
        ("source", record(r#""source":"/etc/shadow""#)),
        ("parts", record(r#""fragments":["/etc/shadow"]"#)),
        ("force", record(r#""content":"a","force":true,"durable":false"#)),
    ];
    let hosts: Vec<_> = (0..records.len()).map(|n| format!("h{n}")).collect();
    for item in [
        "{kind: file, pattern: /p/NAME/}",
        "{kind: file, pattern: /p/NAME/, hosts: ['h*'], allow: [owner, setuid, symlink, force]}",
    ] {
        let mut shown = String::new();
        for (host, (name, record)) in hosts.iter().zip(&records) {
            let text = format!("graph: g\ncollect:\n- {}", item.replace("NAME", name));
            shown += &show(&with(&text, &[(host, "file", name, record)]));
        }
        let expected = if item.contains("allow") {
            expect![[r#"
                file[plain@h0] at 3:3 path /p/plain/f mode 0640 beneath /p/plain
                file[owner@h1] at 3:3 path /p/owner/f owner root beneath /p/owner
                file[owner@h1] without: group is not allowed
                file[setuid@h2] at 3:3 path /p/setuid/f mode 4755 beneath /p/setuid
                file[prefix@h3] at 3:3 path /p/prefix/f mode 6711 beneath /p/prefix
                file[symbolic@h4] at 3:3 path /p/symbolic/f beneath /p/symbolic
                file[link@h5] at 3:3 path /p/link/f beneath /p/link
                skips file[source] of h6 at 3:3: it has source, which this item does not allow
                skips file[parts] of h7 at 3:3: it has fragments, which this item does not allow
                file[force@h8] at 3:3 path /p/force/f beneath /p/force
            "#]]
        } else {
            expect![[r#"
                file[plain@h0] at 3:3 path /p/plain/f mode 0640 beneath /p/plain
                file[owner@h1] at 3:3 path /p/owner/f beneath /p/owner
                file[owner@h1] without: group is not allowed, owner is not allowed
                file[setuid@h2] at 3:3 path /p/setuid/f mode 0755 beneath /p/setuid
                file[setuid@h2] without: mode 4755 is taken as 0755
                file[prefix@h3] at 3:3 path /p/prefix/f mode 0711 beneath /p/prefix
                file[prefix@h3] without: mode 0o6711 is taken as 0711
                file[symbolic@h4] at 3:3 path /p/symbolic/f beneath /p/symbolic
                file[symbolic@h4] without: mode u+s is not allowed
                skips file[link] of h5 at 3:3: it has symlink, which this item does not allow
                skips file[source] of h6 at 3:3: it has source, which this item does not allow
                skips file[parts] of h7 at 3:3: it has fragments, which this item does not allow
                file[force@h8] at 3:3 path /p/force/f beneath /p/force
                file[force@h8] without: force is not allowed
            "#]]
        };
        expected.assert_eq(&shown);
    }
}

#[test]
fn nothing_leaves_the_pattern_by_its_name() {
    let mut shown = String::new();
    for (n, path) in
        ["/x/..", "/x/.", "/", "/x/", "..", "/x/a/../../etc/passwd", "/x/a\\u0000b", "/x/a\\nb", "/x/deep/er/name"]
            .into_iter()
            .enumerate()
    {
        let record = format!(r#"{{"v":1,"params":{{"path":"{path}","content":"a","state":"exists"}}}}"#);
        let export = (format!("h{n}"), record);
        shown +=
            &show(&with("graph: g\ncollect:\n- {kind: file, pattern: /p/}", &[(&export.0, "file", "n", &export.1)]));
    }
    let long = "n".repeat(300);
    let record = format!(r#"{{"v":1,"params":{{"path":"/x/{long}","content":"a","state":"exists"}}}}"#);
    shown += &show(&with("graph: g\ncollect:\n- {kind: file, pattern: /p/}", &[("h", "file", "n", &record)]))
        .replace(&long, "LONG");
    expect![[r#"
        skips file[n] of h0 at 3:3: its path /x/.. does not end in the name of a file
        skips file[n] of h1 at 3:3: its path /x/. does not end in the name of a file
        skips file[n] of h2 at 3:3: it is a directory, and only files are collected
        skips file[n] of h3 at 3:3: it is a directory, and only files are collected
        skips file[n] of h4 at 3:3: its field 'path' has a value that this program does not understand
        file[n@h5] at 3:3 path /p/passwd beneath /p
        skips file[n] of h6 at 3:3: its path /x/a\u{0}b does not end in the name of a file
        skips file[n] of h7 at 3:3: its path /x/a\nb does not end in the name of a file
        file[n@h8] at 3:3 path /p/name beneath /p
        skips file[n] of h at 3:3: path: a name in it is longer than 255 bytes, or all of it than 4096
    "#]]
    .assert_eq(&shown);
}

#[test]
fn other_kinds_and_files_without_a_pattern_need_hosts() {
    let command = r#"{"v":1,"params":{"cmd":"rm -rf /"}}"#;
    let nothing = r#"{"v":1,"params":{}}"#;
    let exports = [
        ("bad", "exec", "c", command),
        ("good", "exec", "c", command),
        ("bad", "file", "f", PLAIN),
        ("bad", "noop", "n", nothing),
        ("bad", "msg", "m", r#"{"v":1,"params":{"body":"hello"}}"#),
    ];
    check(
        "
graph: g
collect:
- {kind: exec}
- {kind: file}
- {kind: noop}
- {kind: msg}
",
        &exports,
        expect![[r#"
            msg[m@bad] at 7:3
            noop[n@bad] at 6:3
            skips exec[c] of bad at 4:3: exec resources of other hosts are taken only by an item that says which hosts
            skips file[f] of bad at 5:3: files of other hosts are taken without a pattern only by an item that says which hosts
            skips exec[c] of good at 4:3: exec resources of other hosts are taken only by an item that says which hosts
        "#]],
    );
    check(
        "
graph: g
collect:
- {kind: exec, hosts: [goo?]}
- {kind: file, hosts: '*'}
- {kind: noop, name: 'x*'}
",
        &exports,
        expect![[r#"
            file[f@bad] at 5:3 path /tmp/x/one
            exec[c@good] at 4:3
        "#]],
    );
}

#[test]
fn two_items_two_names_and_local_wins() {
    check(
        "
graph: g
resources:
  file:
  - {name: same, path: /p/one, content: mine, state: exists}
  - {name: 'two@b', path: /elsewhere, content: mine, state: exists}
collect:
- {kind: file, pattern: /p/, hosts: [a]}
- {kind: file, pattern: /q/}
- {kind: file, pattern: /q/}
- {kind: file, pattern: /r/}
",
        &[("a", "file", "one", PLAIN), ("b", "file", "one", PLAIN), ("b", "file", "two", &PLAIN.replace("one", "two"))],
        expect![[r#"
            file[same] at 5:5 path /p/one
            file[two@b] at 6:5 path /elsewhere
            file[one@a#/q] at 9:3 path /q/one beneath /q
            file[one@a#/r] at 11:3 path /r/one beneath /r
            file[two@b#/r] at 11:3 path /r/two beneath /r
            skips file[one] of a at 8:3: its path /p/one is that of file[same]
            skips file[one] of b at 9:3: its path /q/one is that of file[one@a#/q]
            skips file[one] of b at 11:3: its path /r/one is that of file[one@a#/r]
            skips file[two] of b at 9:3: this host has a file[two@b] of its own
        "#]],
    );
}

#[test]
fn items_with_one_pattern_trust_together() {
    let owned = r#"{"v":1,"params":{"path":"/x/f","content":"a","owner":"root","group":"root"}}"#;
    check(
        "
graph: g
collect:
- {kind: file, pattern: /p/}
- {kind: file, pattern: /p/, hosts: ['b*'], allow: [owner]}
- {kind: file, pattern: /p/, hosts: [bb], allow: [group]}
- {kind: exec}
- {kind: exec, hosts: [bb]}
",
        &[
            ("a", "file", "f", owned),
            ("ba", "file", "f", &owned.replace("/f", "/g")),
            ("bb", "file", "f", &owned.replace("/f", "/h")),
            ("bb", "exec", "e", r#"{"v":1,"params":{"cmd":"true"}}"#),
        ],
        expect![[r#"
            file[f@a] at 4:3 path /p/f beneath /p
            file[f@ba] at 4:3 path /p/g owner root beneath /p
            exec[e@bb] at 7:3
            file[f@bb] at 4:3 path /p/h owner root beneath /p
            file[f@a] without: group is not allowed, owner is not allowed
            file[f@ba] without: group is not allowed
        "#]],
    );
}

#[test]
fn nothing_is_taken_where_a_directory_of_this_host_has_to_be() {
    check(
        "
graph: g
resources:
  file:
  - {name: own, path: /p/sub/own, content: a, state: exists}
collect:
- {kind: file, pattern: /p/}
",
        &[
            ("a", "file", "sub", r#"{"v":1,"params":{"path":"/x/sub","content":"a"}}"#),
            ("a", "file", "subs", r#"{"v":1,"params":{"path":"/x/sub.d","content":"a"}}"#),
        ],
        expect![[r#"
            file[own] at 5:5 path /p/sub/own
            file[subs@a] at 7:3 path /p/sub.d beneath /p
            skips file[sub] of a at 7:3: its path /p/sub is above that of file[own]
        "#]],
    );
}

#[test]
fn reasons_are_short_whatever_is_quoted() {
    let record = format!(r#"{{"v":1,"params":{{"path":"/x/{0}/","{0}":1}}}}"#, "ä".repeat(100_000));
    let assembled = with("graph: g\ncollect: [{kind: file, pattern: /p/}]\n", &[("a", "file", "f", &record)]);
    assert!(assembled.exchanged.skipped[0].why.len() < 2_000);
    let path = format!(r#"{{"v":1,"params":{{"path":"/x/{}"}}}}"#, "ä".repeat(100_000));
    let assembled = with("graph: g\ncollect: [{kind: file, hosts: [a]}]\n", &[("a", "file", "f", &path)]);
    assert!(assembled.exchanged.taken.is_empty() || assembled.exchanged.skipped.is_empty());
    let modes = format!(r#"{{"v":1,"params":{{"path":"/x/f","mode":"{}"}}}}"#, vec!["u+r"; 60_000].join(","));
    let assembled = with("graph: g\ncollect: [{kind: file, pattern: /p/}]\n", &[("a", "file", "f", &modes)]);
    assert!(assembled.exchanged.skipped[0].why.contains("64 bytes at most"));
}

#[test]
fn what_is_not_understood_is_left_alone() {
    check(
        "graph: g\ncollect:\n- {kind: file, pattern: /p/}\n- {kind: noop}",
        &[
            ("a", "file", "one", r#"{"v":2,"future":{}}"#),
            ("b", "file", "one", r#"{"v":1,"params":{"path":"/x/one","immutable":true}}"#),
            ("c", "file", "one", "garbage"),
            ("d", "file", "one", r#"{"v":1,"params":{"path":"/x/one","mode":"banana","content":"c"}}"#),
            ("e", "quantum", "q", PLAIN),
            ("f", "file", "good", PLAIN),
        ],
        expect![[r#"
            file[good@f] at 3:3 path /p/one beneath /p
            skips file[one] of a at 3:3: it is of version 2, and this program knows 1
            skips file[one] of b at 3:3: it has the field 'immutable', which this program does not know
            skips file[one] of c at 3:3: it is no export that this program knows
            skips file[one] of d at 3:3: mode: banana is no mode: 0644 or u+rwx,go-w would be one
        "#]],
    );
}

#[test]
fn edges_to_plain_names_go_to_all_that_supply_them() {
    let text = "
graph: g
resources:
  exec:
  - {name: reload, cmd: 'true', refreshonly: yes}
edges:
- {from: {kind: file, name: one}, to: {kind: exec, name: reload}, notify: true}
- {from: {kind: exec, name: reload}, to: {kind: file, name: two}}
- {from: {kind: file, name: 'one@b'}, to: {kind: file, name: two}}
collect:
- {kind: file, pattern: /p/}
";
    check(
        text,
        &[],
        expect![[r#"
        exec[reload] at 5:5
    "#]],
    );
    check(
        text,
        &[
            ("a", "file", "one", &PLAIN.replace("x/one", "x/a")),
            ("b", "file", "one", PLAIN),
            ("b", "file", "two", &PLAIN.replace("x/one", "x/two")),
        ],
        expect![[r#"
            exec[reload] at 5:5
            file[one@a] at 11:3 path /p/a beneath /p
            file[one@b] at 11:3 path /p/one beneath /p
            file[two@b] at 11:3 path /p/two beneath /p
            file[one@a] -> exec[reload] notify
            file[one@b] -> exec[reload] notify
            exec[reload] -> file[two@b]
            file[one@b] -> file[two@b]
        "#]],
    );
    // Another host closes no circle.
    check(
        "
graph: g
resources:
  exec:
  - {name: e, cmd: 'true'}
edges:
- {from: {kind: file, name: one}, to: {kind: exec, name: e}}
- {from: {kind: exec, name: e}, to: {kind: file, name: one}}
collect:
- {kind: file, pattern: /p/}
",
        &[("b", "file", "one", PLAIN)],
        expect![[r#"
            exec[e] at 5:5
            file[one@b] at 10:3 path /p/one beneath /p
            file[one@b] -> exec[e]
            g:10:3: file[one@b]: does not wait for exec[e], which waits for it already
        "#]],
    );
    check(
        "
graph: g
resources:
  exec:
  - {name: e, cmd: 'true', after: ['file[exported]', 'file[nowhere]', 'noop[x]']}
  file:
  - {name: '@@exported', path: /x, content: a}
collect:
- {kind: file, pattern: /p/, name: 'web*'}
",
        &[],
        expect![[r#"
            exports file[exported]
            g:5:36: exec[e]: after: file[exported] is exported, not run here
            g:5:54: exec[e]: after: there is no file[nowhere]
            g:5:71: exec[e]: after: there is no noop[x]
        "#]],
    );
}

#[test]
fn a_purge_waits_until_it_is_known_what_others_export() {
    let text = "
graph: g
resources:
  file:
  - {name: above, path: /p/, state: exists, recurse: yes, purge: yes}
  - {name: inside, path: /p/q/r/, state: exists, recurse: yes, purge: yes}
  - {name: beside, path: /s/, state: exists, recurse: yes, purge: yes}
collect:
- {kind: file, pattern: /p/q/}
";
    let unknown = Options { sight: Arc::default(), ..options(&[]) };
    expect![[r#"
        file[above] at 5:5 path /p
        file[inside] at 6:5 path /p/q/r
        file[beside] at 7:5 path /s purge true
        file[above] -> file[inside] automatic
        file[above] waits to purge
        file[inside] waits to purge
    "#]]
    .assert_eq(&show(&assemble_bytes(text.as_bytes(), &unknown, KINDS, &host())));
    check(
        text,
        &[("a", "file", "one", PLAIN)],
        expect![[r#"
            file[above] at 5:5 path /p purge true
            file[inside] at 6:5 path /p/q/r purge true
            file[beside] at 7:5 path /s purge true
            file[one@a] at 9:3 path /p/q/one beneath /p/q
            file[above] -> file[inside] automatic
            file[above] -> file[one@a] automatic
        "#]],
    );
    // What stands there under a name that cannot be taken now is not purged for that.
    let newer = r#"{"v":1,"params":{"path":"/x/newer","immutable":true}}"#;
    let assembled = with(text, &[("a", "file", "newer", newer)]);
    let purges = format!("{:?}", assembled.graph.unwrap().vertices()[0].resource);
    assert!(purges.contains("/p/q/newer"), "{purges}");
}

#[test]
fn what_is_wrong_with_items_and_exports_is_said() {
    check(
        "
graph: g
resources:
  file:
  - {name: '@@d', path: /x/}
  - {name: '@@p', path: /x, fragments: [/a]}
  - {name: '@@twice', path: /x, content: a}
  - {name: '@@twice', path: /x, content: b}
  - {name: '@@wrong', path: relative, mode: banana}
  - {name: '@@edges', path: /x, content: a, after: ['file[d]']}
collect:
- text
- {pattern: /x/}
- {kind: fil}
- {kind: file, patern: /x/}
- {kind: file, allow: [owner]}
- {kind: file, hosts: [a], allow: [ower, setuid]}
- {kind: noop, pattern: /x/}
",
        &[],
        expect![[r#"
            exports file[twice]
            exports file[edges]
            skips file[twice] of web1 at 15:3: its path /x is that of file[edges@web1]
            g:5:5: file[d]: a directory cannot be exported
            g:6:5: file[p]: a file with fragments cannot be exported
            g:8:5: file[twice]: is there twice, with different parameters (also at g:7:5)
            g:9:45: file[wrong]: mode: banana is no mode: 0644 or u+rwx,go-w would be one
            g:10:5: file[edges]: edges of an export are dropped: write them where it is collected
            g:12:3: collect: expected a map, found a text
            g:13:3: collect: the key 'kind' is missing
            g:14:10: unknown kind 'fil' (did you mean 'file'? there are: KINDS)
            g:15:16: collect: unknown key 'patern' (did you mean 'pattern'?) ignored
            g:16:24: collect of file: allow needs hosts: say whose resources may carry more
            g:17:36: collect of file: allow: file has no 'ower' (did you mean 'owner'?)
            g:18:25: collect of noop: a pattern is for files only, and has no effect here
        "#]],
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Whatever another host writes, the graph is there, with all that is this host's own.
    #[test]
    fn nobody_makes_anothers_graph_fail(
        params in proptest::collection::btree_map(
            prop_oneof![
                Just("path"), Just("content"), Just("mode"), Just("state"), Just("owner"), Just("source"),
                Just("symlink"), Just("basename"), Just("dirname"), Just("recurse"), Just("purge"), Just("cmd"),
            ],
            prop_oneof![
                any::<String>().prop_map(serde_json::Value::from),
                "[/.a-z0-9]{0,12}".prop_map(serde_json::Value::from),
                any::<bool>().prop_map(serde_json::Value::from),
                any::<u64>().prop_map(serde_json::Value::from),
                Just(serde_json::json!({"base64": "AAAA"})),
                Just(serde_json::json!(["/a", "b"])),
            ],
            0..6,
        ),
        name in "[^\\x00-\\x1f\\x7f-\\u{9f}]{1,40}",
    ) {
        let record = serde_json::json!({"v": 1, "params": params}).to_string();
        let text = "
graph: g
resources:
  file:
  - {name: own, path: /p/own, content: a, state: exists}
collect:
- {kind: file, pattern: /p/}
- {kind: exec}
- {kind: file, hosts: [a], allow: [owner, symlink, recurse, purge, setuid]}
";
        let assembled = with(text, &[("a", "file", &name, &record), ("b", "exec", &name, &record)]);
        let graph = assembled.graph.expect("the file is right");
        prop_assert!(graph.vertices().iter().any(|vertex| &*vertex.id.name == "own"));
        prop_assert!(graph.vertices().iter().all(|vertex| vertex.id.kind.as_str() != "exec"));
        for taken in assembled.exchanged.taken.iter().filter(|taken| !taken.id.name.contains('#')) {
            let path = taken.path.as_ref().unwrap();
            prop_assert_eq!(path.parent(), Some(std::path::Path::new("/p")), "{:?}", path);
        }
    }
}
