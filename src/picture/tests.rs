//! Tests of all three forms on the same graphs.

use std::sync::Arc;

use expect_test::{Expect, expect};
use mgmt_engine::graph::{Edge, Vertex};
use mgmt_engine::id::Id;
use mgmt_engine::meta::Meta;
use mgmt_engine::resource::{Applied, Check, Drift, Fault, Look, Resource, Work};

use super::*;

/// Nothing; pictures do not look at resources.
#[derive(Debug, PartialEq)]
struct Blank;

#[derive(Debug)]
struct Never;

impl std::fmt::Display for Never {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        Ok(())
    }
}

impl Drift for Never {}

impl Resource for Blank {
    type Drift = Never;

    async fn check(&self, _: &Look) -> Result<Check<Never>, Fault> {
        Ok(Check::Converged)
    }

    async fn apply(&self, _: Never, _: &Work) -> Result<Applied, Fault> {
        Ok(Applied::Unchanged)
    }
}

fn add(graph: &mut Graph, kind: &str, name: &str) -> usize {
    let vertex = Vertex { id: Id::new(kind, name), resource: Arc::new(Blank), meta: Meta::default() };
    graph.add(vertex).expect("names differ")
}

/// A notify edge, an automatic one, and a plain one over two layers.
fn small() -> Graph {
    let mut graph = Graph::new("site \"one\"");
    let root = add(&mut graph, "file", "/srv/");
    let config = add(&mut graph, "file", "config");
    let reload = add(&mut graph, "exec", "reload");
    graph.connect(config, reload, true);
    graph.connect(root, reload, false);
    graph.seal(&[Edge { from: root, to: config, notify: false, automatic: true }]).expect("no cycle");
    graph
}

const HOSTILE: &str = "\"]; x -> y [a\\\n<script>&'#`";

/// A name that would break out of its label, if it could.
fn hostile() -> Graph {
    let mut graph = Graph::new(HOSTILE);
    add(&mut graph, "noop", HOSTILE);
    graph
}

fn check(text: &str, expected: Expect) {
    expected.assert_eq(text);
}

const STANDINGS: [Standing; 3] = [Standing::Clean, Standing::Changed, Standing::Failed];

#[test]
fn graphviz() {
    check(
        &dot(&small(), None),
        expect![[r#"
        digraph "site \"one\"" {
        	rankdir=LR;
        	node [shape=box, style="rounded,filled", fillcolor=white, fontname="sans-serif"];
        	edge [fontname="sans-serif", fontsize=10];
        	v0 [label="file[/srv/]"];
        	v1 [label="file[config]"];
        	v2 [label="exec[reload]"];
        	v1 -> v2 [label="notify", style=bold];
        	v0 -> v2;
        	v0 -> v1 [style=dashed];
        }
    "#]],
    );
    check(
        &dot(&small(), Some(&STANDINGS)),
        expect![[r##"
        digraph "site \"one\"" {
        	rankdir=LR;
        	node [shape=box, style="rounded,filled", fillcolor=white, fontname="sans-serif"];
        	edge [fontname="sans-serif", fontsize=10];
        	v0 [label="file[/srv/]", fillcolor="#d5f0d5", tooltip="clean"];
        	v1 [label="file[config]", fillcolor="#8fd694", tooltip="changed"];
        	v2 [label="exec[reload]", fillcolor="#f28b82", tooltip="failed"];
        	v1 -> v2 [label="notify", style=bold];
        	v0 -> v2;
        	v0 -> v1 [style=dashed];
        }
    "##]],
    );
    check(
        &dot(&hostile(), None),
        expect![[r#"
        digraph "\"]; x -> y [a\\ <script>&'#`" {
        	rankdir=LR;
        	node [shape=box, style="rounded,filled", fillcolor=white, fontname="sans-serif"];
        	edge [fontname="sans-serif", fontsize=10];
        	v0 [label="noop[\"]; x -> y [a\\ <script>&'#`]"];
        }
    "#]],
    );
}

#[test]
fn mermaid_charts() {
    check(
        &mermaid(&small(), None),
        expect![[r#"
        flowchart LR
            v0["file[/srv/]"]
            v1["file[config]"]
            v2["exec[reload]"]
            v1 ==>|notify| v2
            v0 --> v2
            v0 -.-> v1
    "#]],
    );
    check(
        &mermaid(&small(), Some(&[Standing::Clean, Standing::WouldChange, Standing::Held])),
        expect![[r#"
        flowchart LR
            v0["file[/srv/]"]:::clean
            v1["file[config]"]:::would_change
            v2["exec[reload]"]:::held_back
            v1 ==>|notify| v2
            v0 --> v2
            v0 -.-> v1
            classDef clean fill:#d5f0d5,color:#000
            classDef would_change fill:#a8cdf5,color:#000
            classDef held_back fill:#d0d0d0,color:#000
    "#]],
    );
    check(
        &mermaid(&hostile(), None),
        expect![[r#"
        flowchart LR
            v0["noop[#quot;]; x -#gt; y [a#92; #lt;script#gt;#amp;'#35;#96;]"]
    "#]],
    );
}

#[test]
fn svg_pictures() {
    check(
        &svg(&small(), Some(&STANDINGS)).expect("it is small"),
        expect![[r##"
        <svg xmlns="http://www.w3.org/2000/svg" width="462" height="78" viewBox="0 0 462 78" font-family="monospace" font-size="12">
        <title>site &quot;one&quot;</title>
        <defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 0 8 4 0 8z" fill="#555"/></marker></defs>
        <rect width="100%" height="100%" fill="#fff"/>
        <path d="M282.5 28.0 C310.5 28.0 310.5 39.0 338.5 39.0" fill="none" stroke="#555" stroke-width="2.5" marker-end="url(#tip)"/>
        <text x="310.5" y="29.5" text-anchor="middle" font-size="10" fill="#555">notify</text>
        <path d="M116.5 39.0 C172.0 39.0 172.0 60.0 227.5 60.0 C283.0 60.0 283.0 39.0 338.5 39.0" fill="none" stroke="#555" marker-end="url(#tip)"/>
        <path d="M116.5 39.0 C144.5 39.0 144.5 28.0 172.5 28.0" fill="none" stroke="#555" stroke-dasharray="5 4" marker-end="url(#tip)"/>
        <g><title>clean</title><rect x="14.0" y="25.0" width="102.5" height="28" rx="5" fill="#d5f0d5" stroke="#333"/><text x="24.0" y="43.0" textLength="82.5" lengthAdjust="spacingAndGlyphs">file[/srv/]</text></g>
        <g><title>changed</title><rect x="172.5" y="14.0" width="110.0" height="28" rx="5" fill="#8fd694" stroke="#333"/><text x="182.5" y="32.0" textLength="90.0" lengthAdjust="spacingAndGlyphs">file[config]</text></g>
        <g><title>failed</title><rect x="338.5" y="25.0" width="110.0" height="28" rx="5" fill="#f28b82" stroke="#333"/><text x="348.5" y="43.0" textLength="90.0" lengthAdjust="spacingAndGlyphs">exec[reload]</text></g>
        </svg>
    "##]],
    );
    let picture = svg(&hostile(), None).expect("it is small");
    assert!(!picture.contains("<script>") && picture.contains("&lt;script&gt;&amp;&#39;#`"), "{picture}");
    assert!(svg(&Graph::new(""), None).expect("it is small").ends_with("</svg>\n"));
}

#[test]
fn what_nobody_could_read_is_not_drawn() {
    let mut graph = Graph::new("big");
    for number in 0..=VERTICES_MAX {
        add(&mut graph, "noop", &number.to_string());
    }
    let refused = svg(&graph, None).expect_err("it is too big");
    assert!(refused.to_string().contains("dot"), "{refused}");
}

#[test]
fn every_standing_has_its_own_colour() {
    let fills: std::collections::BTreeSet<_> = Standing::ALL.into_iter().map(fill).collect();
    assert_eq!(fills.len(), Standing::ALL.len());
}

#[test]
fn long_names_are_cut() {
    let mut graph = Graph::new("long");
    add(&mut graph, "noop", &"ä".repeat(1000));
    assert_eq!(label(&graph, 0).chars().count(), LABEL_MAX + 1);
}
