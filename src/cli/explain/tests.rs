//! Tests of the texts, and that they name what the reader of graph files knows.

use std::collections::BTreeSet;

use expect_test::{Expect, expect};
use mgmt_resources::noop;

use super::topics::Word;
use super::*;
use crate::kinds::KINDS;

fn explained(topic: Option<&str>, json: bool, width: usize) -> Result<String, Failure> {
    let args = args::Explain { topic: topic.map(str::to_owned), json };
    let mut out = Vec::new();
    explain(&args, &[&noop::INFO], width, &mut out)?;
    Ok(String::from_utf8(out).expect("texts are text"))
}

fn check(topic: Option<&str>, json: bool, expected: Expect) {
    expected.assert_eq(&explained(topic, json, 60).expect("the topic exists"));
}

#[test]
fn the_list_names_kinds_and_topics() {
    check(
        None,
        false,
        expect![[r#"
            Kinds of resource:
              noop     does nothing; an anchor for edges

            Other topics:
              meta     meta parameters: how any resource is treated
              graph    the graph file: its keys, edges, and what every
                       resource may have
              edges    what waits for what, without being told
              collect  resources of other hosts: how to export and to
                       collect them

            More about one:  mgmt explain noop
        "#]],
    );
}

#[test]
fn a_kind_is_explained_from_its_table() {
    check(
        Some("Noop"),
        false,
        expect![[r#"
            noop: does nothing; an anchor for edges

            Always as wanted. Nothing is watched; a refresh does
            nothing.

            Parameters:
              comment         Text. For the reader of the file.

            Every resource also takes: name, meta, after, notify, hosts,
            sensitive (mgmt explain graph).

            Example:
              resources:
                noop:
                - name: all-users-exist
                  comment: edges from every user meet here
        "#]],
    );
}

#[test]
fn programs_read_a_kind() {
    check(
        Some("noop"),
        true,
        expect![[r#"
        {
          "format_version": 1,
          "kind": {
            "name": "noop",
            "summary": "does nothing; an anchor for edges",
            "notes": [
              "Always as wanted. Nothing is watched; a refresh does nothing."
            ],
            "parameters": [
              {
                "name": "comment",
                "shape": "text",
                "choices": null,
                "default": null,
                "doc": "For the reader of the file."
              }
            ],
            "example": "resources:\n  noop:\n  - name: all-users-exist\n    comment: edges from every user meet here\n"
          }
        }
    "#]],
    );
}

#[test]
fn nothing_is_wider_than_asked_for() {
    let kinds = KINDS.iter().map(|info| info.name);
    for topic in kinds.chain(TOPICS.map(|(name, _)| name)) {
        for width in [80, 100] {
            let args = args::Explain { topic: Some(topic.to_owned()), json: false };
            let mut out = Vec::new();
            explain(&args, KINDS, width, &mut out).expect("the topic exists");
            let text = String::from_utf8(out).expect("texts are text");
            // Examples are shown as they are.
            let prose = text.split("\nExample:").next().unwrap_or_default();
            let long: Vec<_> = prose.lines().filter(|line| line.chars().count() > width).collect();
            assert!(long.is_empty(), "{topic}: {long:?}");
        }
    }
}

#[test]
fn unknown_topics_are_usage_errors_with_a_suggestion() {
    for (topic, message) in [
        ("metta", "unknown topic 'metta' (did you mean 'meta'?)"),
        ("nopo", "unknown kind 'nopo' (did you mean 'noop'? there are: noop)"),
        ("service", "unknown kind 'svc' (there are: noop)"),
        ("augeas", "the kind 'augeas' is left out of this program for good (use `file` or `line`)"),
    ] {
        assert_eq!(explained(Some(topic), false, 80), Err(Failure::new(Exit::Usage, message)), "{topic}");
    }
}

#[test]
fn the_tables_name_exactly_what_is_read() {
    fn names(words: &[Word]) -> BTreeSet<&str> {
        words.iter().map(|word| word.name).collect()
    }
    assert_eq!(names(&topics::META), assemble::META_KEYS.into_iter().collect());
    assert_eq!(names(&format::TOP), assemble::TOP_KEYS.into_iter().collect());
    assert_eq!(names(&collect::ITEM), assemble::COLLECT_KEYS.into_iter().collect());
    assert_eq!(names(&format::RESOURCE), assemble::COMMON_KEYS.into_iter().collect());
}
