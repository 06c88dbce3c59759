//! The sentences of the manual's page on the graph file, one by one.

mod exchange;
mod fake;
mod hostile;

use std::num::NonZeroU32;

use expect_test::{Expect, expect};
use mgmt_engine::id::Id;

use super::*;
use fake::{KINDS, host};

fn options() -> Options {
    Options { file: "g".into(), directory: "/etc/mgmt".into(), hostname: "web1".into(), ..Options::default() }
}

fn with(text: &str, options: &Options) -> Assembled {
    assemble_bytes(text.as_bytes(), options, KINDS, &host())
}

/// A graph as lines: vertices with their parameters and meta where it differs, edges, then the problems.
fn show(assembled: &Assembled) -> String {
    let mut out = String::new();
    if let Some(graph) = &assembled.graph {
        out += &format!("graph {}\n", graph.name());
        let plain = mgmt_engine::meta::Meta::default();
        for (number, vertex) in graph.vertices().iter().enumerate() {
            let params = format!("{:?}", vertex.resource);
            let params = params.split_once("params: {").and_then(|(_, rest)| rest.rsplit_once("}, first_dialect"));
            let params = params.map_or("", |(params, _)| params);
            out += &format!("{} at {}", vertex.id, assembled.places[number]);
            if !params.is_empty() {
                out += &format!(" {}", params);
            }
            if vertex.meta != plain {
                out += &difference(&format!("{:#?}", vertex.meta), &format!("{plain:#?}"));
            }
            out.push('\n');
        }
        out += &edges(graph);
    }
    out + &assembled.problems.to_string()
}

/// A line an edge.
fn edges(graph: &Graph) -> String {
    let id = |number: usize| &graph.vertices()[number].id;
    let line = |edge: &mgmt_engine::graph::Edge| {
        let notify = if edge.notify { " notify" } else { "" };
        let automatic = if edge.automatic { " automatic" } else { "" };
        format!("{} -> {}{notify}{automatic}\n", id(edge.from), id(edge.to))
    };
    graph.edges().iter().map(line).collect()
}

/// The lines of one that are not in the other, on one line.
fn difference(one: &str, other: &str) -> String {
    let other: Vec<_> = other.lines().map(str::trim).collect();
    one.lines().map(str::trim).filter(|line| !other.contains(line)).fold(String::new(), |out, line| out + " " + line)
}

fn check(text: &str, expected: Expect) {
    expected.assert_eq(&show(&with(text, &options())));
}

/// Resources of one kind, under a good head.
fn check_file(fields: &str, expected: Expect) {
    check(&format!("graph: g\nresources:\n  file:\n  - name: a\n    path: /a\n    {fields}"), expected);
}

fn check_exec(fields: &str, expected: Expect) {
    check(&format!("graph: g\nresources:\n  exec:\n  - name: a\n    {fields}"), expected);
}

#[test]
fn three_dialects_in_any_mixture() {
    check(
        "
edges:
- name: e1
  from: {type: noop, name: a}
  to: {res: FILE, name: b}
- from: {kind: file, name: b}
  to: {kind: exec, name: c}
  notify: yes
types:
  noop:
  - name: a
resources:
  File:
  - name: b
    path: /b
  exec:
  - {name: c, cmd: date}
graph: mixed
comment: hello
",
        expect![[r#"
            graph mixed
            noop[a] at 11:5
            file[b] at 14:5 "path": Text("/b")
            exec[c] at 17:5 "cmd": Text("date")
            noop[a] -> file[b]
            file[b] -> exec[c] notify
        "#]],
    );
}

#[test]
fn lists_may_be_missing_empty_or_null() {
    check(
        "graph: g",
        expect![[r#"
        graph g
    "#]],
    );
    check(
        "graph: g\nresources:\nedges: []\ncollect: ~\ntypes: {}\nhosts: []",
        expect![[r#"
        graph g
    "#]],
    );
    check(
        "graph: g\nresources:\n  file:\n  noop: []\n  exec: null",
        expect![[r#"
        graph g
    "#]],
    );
}

#[test]
fn the_name_of_the_graph_is_mandatory() {
    check(
        "resources: {}",
        expect![[r#"
        g:1:1: the key 'graph' is missing: it names the graph
    "#]],
    );
    check(
        "graph: ''",
        expect![[r#"
        g:1:8: the graph's name is empty
    "#]],
    );
    check(
        "graph:",
        expect![[r#"
        g:1:6: the graph's name is empty
    "#]],
    );
    check(
        "graph: [a]",
        expect![[r#"
        g:1:8: the graph's name must be a text, and this is a list
    "#]],
    );
    check(
        "- graph",
        expect![[r#"
        g:1:1: a graph file is a map, and this is a list
    "#]],
    );
    check(
        "just text",
        expect![[r#"
        g:1:1: a graph file is a map, and this is a text
    "#]],
    );
    check(
        "---\n",
        expect![[r#"
        g:2:1: a graph file is a map, and this is nothing
    "#]],
    );
}

#[test]
fn old_top_level_keys_warn() {
    check(
        "graph: g\nremote: x\nhostname: y",
        expect![[r#"
            graph g
            g:2:1: the key 'remote' of old files has no effect
            g:3:1: the key 'hostname' of old files has no effect
        "#]],
    );
}

#[test]
fn unknown_keys_are_reported_everywhere() {
    let text = "
graph: g
resourcs: {}
resources:
  file:
  - name: motd
    path: /etc/motd
    contents: hello
    meta:
      retries: 3
      rewatch: true
edges:
- {name: e, frm: x, from: {kind: file, name: motd, x: y}, to: {kind: noop, name: n}}
types:
  noop: [{name: n}]
";
    check(
        text,
        expect![[r#"
            graph g
            noop[n] at 15:10
            file[motd] at 6:5 "path": Text("/etc/motd")
            file[motd] -> noop[n]
            g:3:1: unknown key 'resourcs' (did you mean 'resources'?) ignored
            g:8:5: file[motd]: unknown key 'contents' (did you mean 'content'?) ignored
            g:10:7: file[motd]: unknown key 'retries' in meta ignored
            g:11:7: file[motd]: meta.rewatch is not supported and has no effect
            g:13:13: edge[e]: unknown key 'frm' (did you mean 'from'?) ignored
            g:13:52: edge[e]: unknown key 'x' ignored
        "#]],
    );
    let strict = show(&with(text, &Options { strict: true, ..options() }));
    expect![[r#"
        g:3:1: unknown key 'resourcs' (did you mean 'resources'?)
        g:8:5: file[motd]: unknown key 'contents' (did you mean 'content'?)
        g:10:7: file[motd]: unknown key 'retries' in meta
        g:11:7: file[motd]: meta.rewatch is not supported and has no effect
        g:13:13: edge[e]: unknown key 'frm' (did you mean 'from'?)
        g:13:52: edge[e]: unknown key 'x'
    "#]]
    .assert_eq(&strict);
}

#[test]
fn unknown_kinds_are_errors() {
    check(
        "
graph: g
resources:
  flie: [{name: a}]
  augeas: [{name: a}]
  aws:ec2: [{name: a}]
  docker:container: [{name: a}]
  service: [{name: a}]
  virt: []
  kaboom: []
edges:
- {from: {kind: svc, name: a}, to: {kind: augeas, name: a}}
",
        expect![[r#"
            g:4:3: unknown kind 'flie' (did you mean 'file'? there are: noop, file, exec, user)
            g:5:3: the kind 'augeas' is left out of this program for good (use `file` or `line`)
            g:6:3: the kind 'aws:ec2' is left out of this program for good
            g:7:3: the kind 'docker:container' is left out of this program for good
            g:8:3: unknown kind 'svc' (there are: noop, file, exec, user)
            g:9:3: the kind 'virt' is left out of this program for good
            g:10:3: unknown kind 'kaboom' (there are: noop, file, exec, user)
        "#]],
    );
}

#[test]
fn scalars_keep_their_source_text() {
    check_file(
        "mode: 0741\n    owner: 1\n    content: false",
        expect![[r#"
        graph g
        file[a] at 4:5 "content": Text("false"), "mode": Text("0741"), "owner": Text("1"), "path": Text("/a")
    "#]],
    );
    check_file(
        "content: .inf",
        expect![[r#"
        graph g
        file[a] at 4:5 "content": Text(".inf"), "path": Text("/a")
    "#]],
    );
    check_file(
        "content: |\n      hello",
        expect![[r#"
            graph g
            file[a] at 4:5 "content": Text("hello\n"), "path": Text("/a")
        "#]],
    );
    check_file(
        "content: ''\n    owner:",
        expect![[r#"
        graph g
        file[a] at 4:5 "content": Text(""), "path": Text("/a")
    "#]],
    );
    check_exec(
        "args: one\n    env: {A: 1, B: , C: yes}",
        expect![[r#"
        graph g
        exec[a] at 4:5 "args": Texts(["one"]), "env": Map({"A": "1", "B": "", "C": "yes"})
    "#]],
    );
}

#[test]
fn values_have_the_shape_that_is_asked_for() {
    for yes in ["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"] {
        let text = format!("graph: g\nresources: {{file: [{{name: /a, recurse: {yes}}}]}}");
        let shown = show(&with(&text, &options()));
        assert!(shown.contains("\"recurse\": Bool(true)"), "{shown}");
    }
    check_file(
        "recurse: off\n    state: absent\n    fragments: [x, /y/]\n    source: d/",
        expect![[r#"
        graph g
        file[a] at 4:5 "fragments": Texts(["/etc/mgmt/x", "/y/"]), "path": Text("/a"), "recurse": Bool(false), "source": Text("/etc/mgmt/d/"), "state": Text("absent")
    "#]],
    );
    check_file(
        "recurse: maybe\n    state: exist\n    fragments: {a: b}\n    mode: [1]",
        expect![[r#"
        g:6:14: file[a]: recurse: expected yes or no, found 'maybe'
        g:7:12: file[a]: state: expected one of exists, absent, found 'exist' (did you mean 'exists'?)
        g:8:16: file[a]: fragments: expected a list of texts, found a map
        g:9:11: file[a]: mode: expected a text, found a list
    "#]],
    );
    check_file(
        "recurse: 'true'\n    state: ''\n    fragments: [a, [b], ~]",
        expect![[r#"
        g:6:14: file[a]: recurse: expected yes or no, found the text 'true' (without quotes)
        g:8:20: file[a]: fragments: expected a text, found a list
    "#]],
    );
    check_exec(
        "timeout: 1.5\n    tries: 1_000\n    state: whatever\n    pollint: 5",
        expect![[r#"
        graph g
        exec[a] at 4:5 "timeout": Seconds(1.5), "tries": Count(1000) poll: Some( 5s,
    "#]],
    );
    check_exec(
        "timeout: .inf\n    tries: -1\n    env: [a]\n    pollint: x",
        expect![[r#"
        g:5:14: exec[a]: timeout: expected a number of seconds, not below 0, found '.inf'
        g:6:12: exec[a]: tries: expected a whole number, not below 0, found '-1'
        g:7:10: exec[a]: env: expected a map, found a list
        g:8:14: exec[a]: pollint: expected a whole number, not below 0, found 'x'
    "#]],
    );
    check_exec(
        "timeout: -2\n    tries: 1.5\n    env: {a: {b: c}}",
        expect![[r#"
        g:5:14: exec[a]: timeout: expected a number of seconds, not below 0, found '-2'
        g:6:12: exec[a]: tries: expected a whole number, not below 0, found '1.5'
        g:7:14: exec[a]: env: expected a text, found a map
    "#]],
    );
    check_exec(
        "tries: '5'",
        expect![[r#"
        g:5:12: exec[a]: tries: expected a whole number, not below 0, found the text '5' (without quotes)
    "#]],
    );
    check_exec(
        "tries: 99999999999999999999",
        expect![[r#"
        g:5:12: exec[a]: tries: expected a whole number, not below 0, found '99999999999999999999'
    "#]],
    );
}

#[test]
fn names_are_mandatory_and_fit() {
    let long = "x".repeat(1025);
    check(
        &format!(
            "graph: g\nresources:\n  noop:\n  - comment: x\n  - name: ''\n  - name:\n  - name: [a]\n  - name: {long}\n  - \
             name: \"a\\nb\"\n  - text\n  - name: 5\n  noop2: text\n  exec: text"
        ),
        expect![[r#"
            g:4:5: noop: the name is missing
            g:5:11: noop: the name is empty
            g:6:9: noop: the name is empty
            g:7:11: noop: name: expected a text, found a list
            g:8:11: noop: the name is longer than 1024 bytes
            g:9:11: noop: the name has control characters
            g:10:5: noop: expected a map, found a text
            g:12:3: unknown kind 'noop2' (did you mean 'noop'? there are: noop, file, exec, user)
            g:12:10: noop2: expected a list of resources, found a text
            g:13:9: exec: expected a list of resources, found a text
        "#]],
    );
}

#[test]
fn a_file_is_named_by_its_path() {
    check(
        "graph: g\nresources: {file: [{name: /etc/motd}, {name: relative}]}",
        expect![[r#"
        g:2:39: file[relative]: a path is missing
    "#]],
    );
}

#[test]
fn equal_resources_are_one_and_different_ones_an_error() {
    check(
        "
graph: g
resources:
  file:
  - {name: a, path: /a, content: x}
  - {name: a, path: /a, content: x}
  - {name: b, path: /b, content: x}
  - {name: c, path: /c}
  - {name: c, path: /c, meta: {retry: 1}}
types:
  file:
  - {name: b, path: /b, content: y}
",
        expect![[r#"
            g:7:5: file[b]: is there twice, with different parameters (also at g:12:5)
            g:9:5: file[c]: is there twice, with different parameters (also at g:8:5)
        "#]],
    );
    check(
        "graph: g\nresources: {file: [{name: a, path: /a, content: x}, {content: x, path: /a, name: a}]}",
        expect![[r#"
            graph g
            file[a] at 2:20 "content": Text("x"), "path": Text("/a")
        "#]],
    );
}

#[test]
fn a_path_has_one_owner() {
    check(
        "graph: g\nresources:\n  file:\n  - {name: a, path: /x/y}\n  - {name: b, path: /x//z/../y/}",
        expect![[r#"
        g:5:5: file[b]: its path /x/y is that of file[a] as well (also at g:4:5)
    "#]],
    );
}

#[test]
fn additions() {
    check(
        "
graph: g
resources:
  file:
  - {name: a, path: /a, notify: 'exec[b]', sensitive: true}
  exec:
  - {name: b, after: ['noop[c]', 'File[a]']}
  noop:
  - {name: c, after: ['noop[zzz]'], notify: nonsense}
  - {name: d, hosts: 'web*'}
  - {name: e, hosts: ['db*', 'mail'], after: ['noop[nowhere]']}
edges:
- {from: {kind: noop, name: e}, to: {kind: noop, name: d}}
",
        expect![[r#"
            g:9:45: noop[c]: notify: expected a resource such as file[motd], found 'nonsense'
        "#]],
    );
    check(
        "
graph: g
resources:
  file:
  - {name: a, path: /a, notify: 'exec[b]', sensitive: true}
  exec:
  - {name: b, after: ['noop[c]', 'File[a]']}
  noop:
  - {name: c}
  - {name: d, hosts: 'web*'}
  - {name: e, hosts: ['db*', 'mail'], after: ['noop[nowhere]']}
  - {name: d, hosts: 'db*', comment: other}
edges:
- {from: {kind: noop, name: e}, to: {kind: noop, name: d}}
",
        expect![[r#"
            graph g
            file[a] at 5:5 "path": Text("/a") sensitive: true,
            exec[b] at 7:5
            noop[c] at 9:5
            noop[d] at 10:5
            file[a] -> exec[b] notify
            noop[c] -> exec[b]
        "#]],
    );
    check(
        "graph: g\nhosts: [db1]\nresources: {noop: [{name: a}], file: [{name: b}]}",
        expect![[r#"
        g:3:39: file[b]: a path is missing
    "#]],
    );
    check(
        "graph: g\nhosts: [db1]\nresources: {noop: [{name: a}]}",
        expect![[r#"
        graph g
    "#]],
    );
}

#[test]
fn edges_are_judged() {
    let noops = "graph: g\nresources:\n  noop: [{name: a}, {name: b}, {name: c}, {name: other}]\nedges:\n";
    check(
        &format!(
            "{noops}
- {{name: e1, from: {{kind: noop, name: a}}, to: {{kind: noop, name: b}}}}
- {{name: e2, from: {{kind: noop, name: a}}, to: {{kind: noop, name: b}}, notify: true}}"
        ),
        expect![[r#"
            graph g
            noop[a] at 3:10
            noop[b] at 3:21
            noop[c] at 3:32
            noop[other] at 3:43
            noop[a] -> noop[b] notify
        "#]],
    );
    check(
        &format!(
            "{noops}
- {{name: e1, from: {{kind: noop, name: othr}}, to: {{kind: file, name: b}}}}
- {{name: e2, from: {{kind: noop, name: a}}, to: {{kind: noop, name: a}}}}
- {{name: e3, from: {{kind: noop}}, to: text}}
- {{from: {{kind: noop, name: a}}}}
- text"
        ),
        expect![[r#"
            g:6:3: edge[e1]: from: there is no noop[othr] (did you mean noop[other]?)
            g:6:3: edge[e1]: to: there is no file[b]
            g:7:3: edge[e2]: noop[a] would wait for itself
            g:8:20: edge[e3]: from: a kind and a name are needed
            g:8:38: edge[e3]: to: expected a map of kind and name, found a text
            g:9:3: edge: the key 'to' is missing
            g:10:3: edge: expected a map, found a text
        "#]],
    );
    check(
        &format!(
            "{noops}
- {{name: e1, from: {{kind: noop, name: b}}, to: {{kind: noop, name: c}}}}
- {{name: e2, from: {{kind: noop, name: c}}, to: {{kind: noop, name: a}}}}
- {{name: e3, from: {{kind: noop, name: a}}, to: {{kind: noop, name: b}}}}
- {{name: e4, from: {{kind: noop, name: other}}, to: {{kind: noop, name: b}}}}"
        ),
        expect![[r#"
            g:6:3: these wait for each other: noop[a] → noop[b] → noop[c] → noop[a]
        "#]],
    );
}

#[test]
fn meta_parameters() {
    let meta = |text: &str| format!("meta: {text}");
    check_exec(
        &meta("{noop: yes, retry: 3, delay: 500, timeout: 1000, poll: 60}"),
        expect![[r#"
        graph g
        exec[a] at 4:5 noop: true, 3, delay: 500ms, timeout: Some( 1s, poll: Some( 60s,
    "#]],
    );
    check_exec(
        &meta("{retry: -1, limit: 2.5, burst: 3, autoedge: no, autogroup: no}"),
        expect![[r#"
        graph g
        exec[a] at 4:5 retry: None, limit: Some( Limit { rate: 2.5, burst: 3, }, autoedge: false, autogroup: false,
    "#]],
    );
    check_exec(
        &meta("{limit: .inf, burst: 0, retry: 0, timeout: 0, poll: 0, sema: []}"),
        expect![[r#"
        graph g
        exec[a] at 4:5
    "#]],
    );
    check_exec(
        &meta("{sema: [b:2, a, b:2]}"),
        expect![[r#"
        graph g
        exec[a] at 4:5 sema: [ Semaphore { id: "a", count: 1, }, Semaphore { id: "b", count: 2, }, ],
    "#]],
    );
    check_exec(
        &meta(""),
        expect![[r#"
        graph g
        exec[a] at 4:5
    "#]],
    );
    check_exec(
        &meta("{limit: 5}"),
        expect![[r#"
        g:5:19: exec[a]: meta.limit: with a burst of 0 nothing would ever happen (set meta.burst to 1 or more)
    "#]],
    );
    check_exec(
        &meta("{limit: 0, burst: 1}"),
        expect![[r#"
        g:5:19: exec[a]: meta.limit: expected a number of events a second above 0, or .inf, found 0
    "#]],
    );
    check_exec(
        &meta("{retry: -2, delay: x, poll: 1.5, noop: 3, sema: {a: b}}"),
        expect![[r#"
            g:5:19: exec[a]: meta.retry: expected a whole number, not below 0, found '-2' (-1 stands for "for ever")
            g:5:30: exec[a]: meta.delay: expected a whole number, not below 0, found 'x'
            g:5:39: exec[a]: meta.poll: expected a whole number, not below 0, found '1.5'
            g:5:50: exec[a]: meta.noop: expected yes or no, found '3'
            g:5:59: exec[a]: meta.sema: expected a list of texts, found a map
        "#]],
    );
    check_exec(
        &meta("{sema: [cluster/x, 'a:0', 'a:b', cluster/, 'cluster/x:257']}"),
        expect![[r#"
            g:5:30: exec[a]: meta.sema: expected id or id:count, found 'a:0'
            g:5:37: exec[a]: meta.sema: expected id or id:count, found 'a:b'
            g:5:44: exec[a]: meta.sema: 'cluster/' needs a name behind the slash
            g:5:54: exec[a]: meta.sema: 'cluster/x': at most 256 may hold what all hosts share
        "#]],
    );
    check_exec(
        &meta("{rewatch: 1, reset: 1, realize: 1, reverse: 1, hidden: 1, export: 1, dollar: 1, retryreset: 1}"),
        expect![[r#"
            graph g
            exec[a] at 4:5
            g:5:12: exec[a]: meta.rewatch is not supported and has no effect
            g:5:24: exec[a]: meta.reset is not supported and has no effect
            g:5:34: exec[a]: meta.realize is not supported and has no effect
            g:5:46: exec[a]: meta.reverse is not supported and has no effect
            g:5:58: exec[a]: meta.hidden is not supported and has no effect
            g:5:69: exec[a]: meta.export is not supported and has no effect
            g:5:80: exec[a]: meta.dollar is not supported and has no effect
            g:5:91: exec[a]: meta.retryreset is not supported and has no effect
        "#]],
    );
    check_exec(
        &meta("[a]"),
        expect![[r#"
        g:5:11: exec[a]: meta: expected a map, found a list
    "#]],
    );
    check_exec(
        "pollint: 5\n    meta: {poll: 7}",
        expect![[r#"
        graph g
        exec[a] at 4:5 poll: Some( 7s,
    "#]],
    );
    check(
        "graph: g\nresources:\n  noop:\n  - {name: a, meta: {sema: ['x:2']}}\n  - {name: b, meta: {sema: ['x:3']}}",
        expect![[r#"
            g:5:29: noop[b]: meta.sema: 'x' has the count 3 here, and 2 at 4:29
        "#]],
    );
}

#[test]
fn options_reach_every_vertex() {
    let options = Options { noop: true, sema: NonZeroU32::new(4), no_autoedge: true, ..options() };
    let text = "graph: g\nresources:\n  file: [{name: /a, meta: {noop: no, sema: [x]}}, {name: /a/b}]";
    expect![[r#"
        graph g
        file[/a] at 3:10 "path": Text("/a") noop: true, sema: [ Semaphore { id: "", count: 4, }, Semaphore { id: "x", count: 1, }, ],
        file[/a/b] at 3:51 "path": Text("/a/b") noop: true, sema: [ Semaphore { id: "", count: 4, }, ],
    "#]].assert_eq(&show(&with(text, &options)));
    let text = "graph: g\nresources:\n  file: [{name: /a, meta: {sema: [':3']}}]";
    expect![[r#"
        g:3:35: file[/a]: meta.sema: '' has the count 3 here, and 4 by an option of the program
    "#]]
    .assert_eq(&show(&with(text, &options)));
}

#[test]
fn automatic_edges() {
    check(
        "
graph: g
resources:
  exec:
  - {name: run, cmd: /a/b/script}
  file:
  - {name: script, path: /a/b/script, owner: bob}
  - {name: nearest, path: /a/b/}
  - {name: top, path: /a/}
  - {name: alone, path: /a/x, meta: {autoedge: no}}
  - {name: parts, path: /parts, fragments: [/a/b/script, /a/x]}
  user:
  - {name: bob}
edges:
- {from: {kind: file, name: script}, to: {kind: exec, name: run}, notify: true}
- {from: {kind: file, name: nearest}, to: {kind: file, name: top}}
",
        expect![[r#"
            graph g
            exec[run] at 5:5 "cmd": Text("/a/b/script")
            file[script] at 7:5 "owner": Text("bob"), "path": Text("/a/b/script")
            file[nearest] at 8:5 "path": Text("/a/b/")
            file[top] at 9:5 "path": Text("/a/")
            file[alone] at 10:5 "path": Text("/a/x") autoedge: false,
            file[parts] at 11:5 "fragments": Texts(["/a/b/script", "/a/x"]), "path": Text("/parts")
            user[bob] at 13:5
            file[script] -> exec[run] notify
            file[nearest] -> file[top]
            file[nearest] -> file[script] automatic
            user[bob] -> file[script] automatic
            file[script] -> file[parts] automatic
            g:8:5: file[nearest]: does not wait for file[top], which waits for it already
        "#]],
    );
}

#[test]
fn automatic_edges_never_close_a_circle() {
    check(
        "
graph: g
resources:
  file:
  - {name: a, path: /a, fragments: [/b]}
  - {name: b, path: /b, fragments: [/c]}
  - {name: c, path: /c, fragments: [/a, /a, /c]}
",
        expect![[r#"
            graph g
            file[a] at 5:5 "fragments": Texts(["/b"]), "path": Text("/a")
            file[b] at 6:5 "fragments": Texts(["/c"]), "path": Text("/b")
            file[c] at 7:5 "fragments": Texts(["/a", "/a", "/c"]), "path": Text("/c")
            file[b] -> file[a] automatic
            file[c] -> file[b] automatic
            g:7:5: file[c]: does not wait for file[a], which waits for it already
        "#]],
    );
}

#[test]
fn options_of_a_path() {
    let of =
        |path: &str| Options::of(Path::new(path)).map(|options| (options.file, options.directory)).expect("a path");
    assert_eq!(of("/a/b/g.yaml"), ("/a/b/g.yaml".into(), "/a/b".into()));
    let here = std::env::current_dir().expect("a directory");
    assert_eq!(of("g.yaml"), ("g.yaml".into(), here.clone()));
    assert_eq!(of("sub/g.yaml"), ("sub/g.yaml".into(), here.join("sub")));
    assert_eq!(of("-"), ("<stdin>".into(), here));
}

#[test]
fn problems_cannot_move_the_cursor() {
    let text = "graph: g\nedges:\n- {from: {kind: noop, name: \"\\e[2J\"}, to: {kind: noop, name: a}}\n\"\\e\": 1";
    let shown = show(&with(text, &options()));
    assert!(shown.contains("\\u{1b}[2J"), "{shown}");
    assert!(shown.lines().all(|line| !line.contains(char::is_control)), "{shown}");
}

#[test]
fn purging_knows_what_is_managed() {
    let text = "graph: g\nresources:\n  file:\n  - {name: /d/, purge: yes, recurse: yes}\n  - {name: /d/a/b}\n  - {name: /e}\n  \
                - {name: /d2}";
    let assembled = with(text, &options());
    let graph = assembled.graph.expect("nothing is wrong");
    let number = graph.number(&Id::new("file", "/d/")).expect("it is there");
    let shown = format!("{:?}", graph.vertices()[number].resource);
    assert!(shown.ends_with(r#"managed: {"/d/a/b"} }"#), "{shown}");
}

#[test]
fn warnings_of_kinds_have_places() {
    check_file(
        "content: x\n    path2: y",
        expect![[r#"
        graph g
        file[a] at 4:5 "content": Text("x"), "path": Text("/a")
        g:7:5: file[a]: unknown key 'path2' (did you mean 'path'?) ignored
    "#]],
    );
    check(
        "graph: g\nresources:\n  file:\n  - name: d\n    path: /d/\n    content: x",
        expect![[r#"
        graph g
        file[d] at 4:5 "content": Text("x"), "path": Text("/d/")
        g:6:14: file[d]: content: a directory has none; ignored
    "#]],
    );
}

#[test]
fn anchors_and_merge_keys_save_typing() {
    check(
        "graph: g\ncomment: &base {recurse: yes}\nresources:\n  file:\n  - {<<: *base, name: /a}\n  - {<<: *base, name: /b, recurse: no}",
        expect![[r#"
            graph g
            file[/a] at 5:5 "path": Text("/a"), "recurse": Bool(true)
            file[/b] at 6:5 "path": Text("/b"), "recurse": Bool(false)
        "#]],
    );
}

/// Ten mistakes, ten lines.
#[test]
fn everything_wrong_is_reported_together() {
    check(
        "
graph:
resource: {}
resources:
  file:
  - path: /a
  - name: b
    path: /b
    mode: [0644]
    meta: {retry: often}
  - name: c
    path: /b2
    stat: exists
  - name: c
    path: /c
  svc:
  - name: nginx
  nosuch: []
edges:
- {name: e, from: {kind: file, name: c}, to: {kind: file, name: zzz}}
- {from: {kind: svc, name: nginx}}
",
        expect![[r#"
            g:2:6: the graph's name is empty
            g:3:1: unknown key 'resource' (did you mean 'resources'?) ignored
            g:6:5: file: the name is missing
            g:9:11: file[b]: mode: expected a text, found a list
            g:10:19: file[b]: meta.retry: expected a whole number, not below 0, found 'often' (-1 stands for "for ever")
            g:13:5: file[c]: unknown key 'stat' (did you mean 'state'?) ignored
            g:14:5: file[c]: is there twice, with different parameters (also at g:11:5)
            g:16:3: unknown kind 'svc' (there are: noop, file, exec, user)
            g:18:3: unknown kind 'nosuch' (there are: noop, file, exec, user)
            g:20:3: edge[e]: to: there is no file[zzz]
            g:21:3: edge: the key 'to' is missing
        "#]],
    );
}
