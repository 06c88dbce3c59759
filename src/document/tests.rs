//! What is a document, what is not, and how soon that is known.

use std::time::{Duration, Instant};

use expect_test::{Expect, expect};
use proptest::prelude::*;

use std::path::Path;

use super::*;

/// The tree on one line, texts that are not plain in quotes.
fn show(node: Node<'_>) -> String {
    match node.value() {
        Value::Scalar(scalar) if scalar.plain => scalar.text.to_owned(),
        Value::Scalar(scalar) => format!("{:?}", scalar.text),
        Value::List(items) => format!("[{}]", items.map(show).collect::<Vec<_>>().join(", ")),
        Value::Map(pairs) => {
            let pairs: Vec<_> = pairs.map(|pair| format!("{}: {}", pair.key, show(pair.value))).collect();
            format!("{{{}}}", pairs.join(", "))
        }
    }
}

fn check(text: impl AsRef<[u8]>, expected: Expect) {
    expected.assert_eq(&match parse(text.as_ref()) {
        Ok(document) => show(document.root()),
        Err(problem) => problem.line("g").to_string(),
    });
}

/// Like [`check`], and at once.
#[allow(clippy::disallowed_methods, reason = "this is about time")]
fn refuse(text: impl AsRef<[u8]>, expected: Expect) {
    let start = Instant::now();
    let problem = parse(text.as_ref()).expect_err("it must be refused");
    // The promise is 50 ms in a release build; a test build on a busy machine gets some grace.
    assert!(start.elapsed() < Duration::from_millis(1000), "{:?}", start.elapsed());
    expected.assert_eq(&problem.line("g").to_string());
}

#[test]
fn scalars_keep_their_text() {
    check(
        "a: 0741\nb: '0741'\nc: yes\nd: \"x\\ny\"\ne:\nf: ~\ng: |\n  hello\nh: !!str 5",
        expect![[r#"{a: 0741, b: "0741", c: yes, d: "x\ny", e: , f: ~, g: "hello\n", h: "5"}"#]],
    );
    check("- a\n- - b\n  - []\n- {}\n", expect!["[a, [b, []], {}]"]);
    check("{\"json\": [1, true, null]}", expect!["{json: [1, true, null]}"]);
    check("\u{feff}a: b", expect!["{a: b}"]);
    check("a: b\r\nc: d\r\n", expect!["{a: b, c: d}"]);
    check("--- \na: !foo b\n...\n", expect!["{a: b}"]);
}

#[test]
fn places_count_from_one() {
    let document = parse("---\na: b\nlist:\n- x: 'é' # é\n".as_bytes()).expect("a document");
    let Value::Map(pairs) = document.root().value() else { panic!("a map") };
    let list = pairs.last().expect("two pairs");
    assert_eq!((list.place.line, list.place.column), (3, 1));
    let Value::List(mut items) = list.value.value() else { panic!("a list") };
    let item = items.next().expect("an item");
    assert_eq!((item.place().line, item.place().column), (4, 3));
}

#[test]
fn aliases_and_merge_keys_work() {
    check("a: &x {b: c}\nd: *x\ne: [*x, *x]", expect!["{a: {b: c}, d: {b: c}, e: [{b: c}, {b: c}]}"]);
    check("a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  b: 3", expect!["{a: {b: 1, c: 2}, d: {b: 3, c: 2}}"]);
    check(
        "a: &x {b: 1}\ny: &y {b: 2, c: 3}\nd: {<<: [*x, *y], e: 4}",
        expect!["{a: {b: 1}, y: {b: 2, c: 3}, d: {e: 4, b: 1, c: 3}}"],
    );
    check("a: &x {b: 1}\nc: &c {<<: *x, d: 2}\ne: {<<: *c}", expect!["{a: {b: 1}, c: {d: 2, b: 1}, e: {d: 2, b: 1}}"]);
    check("a: &k key\n*k : v", expect!["{a: key, key: v}"]);
    check("'<<': 1", expect!["{<<: 1}"]);
    check("<<: 1", expect!["g:1:5: `<<` wants a map, or a list of maps"]);
    check("a: &x [*x]", expect!["g:1:8: an alias inside of what it stands for"]);
    check("a: *x", expect!["g:1:4: not YAML: while parsing node, found unknown anchor"]);
}

#[test]
fn what_is_no_document() {
    check("", expect!["g: is empty (the least a graph file has is `graph: NAME`)"]);
    check("# only\n# comments\n", expect!["g: is empty (the least a graph file has is `graph: NAME`)"]);
    check(b"a: b\nc: \xff\xfe", expect!["g:2:4: is not UTF-8 text"]);
    check(b"\x7fELF\0\0", expect!["g:1:5: is binary, not text"]);
    check("a: b\n---\nc: d", expect!["g:2:1: a second document starts here: a graph file is one"]);
    check("a: 1\nb: 2\na: 3", expect!["g:3:1: the key 'a' is there twice (also at 1:1)"]);
    check(
        "a: \"unfinished",
        expect!["g:1:4: not YAML: while scanning a quoted scalar, found unexpected end of stream"],
    );
    check(
        "a: [1, 2",
        expect![[
            r#"g:2:1: not YAML: while parsing a flow sequence, expected ',' or ']' (inside [ ], a text with brackets or commas needs quotes: ["file[motd]"])"#
        ]],
    );
    check("a: b\n  c: d", expect!["g:2:4: not YAML: mapping values are not allowed in this context"]);
    check("? [a]\n: b", expect!["g:1:3: a key must be a text, not a list or a map"]);
    check("a: !!binary aGVsbG8=", expect!["g:1:4: `!!binary` is not supported (name a file by `source`)"]);
    check(
        "after: [file[motd]]",
        expect![[
            r#"g:1:13: not YAML: while parsing a flow sequence, expected ',' or ']' (inside [ ], a text with brackets or commas needs quotes: ["file[motd]"])"#
        ]],
    );
    check("a:\n\t- b", expect!["g:2:2: not YAML: tabs disallowed within this context (block indentation)"]);
}

#[test]
fn bounds_hold() {
    let mut laughs = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for n in 1..40 {
        let alias = format!("*a{}", n - 1);
        laughs += &format!("a{n}: &a{n} [{}]\n", vec![alias; 9].join(", "));
    }
    refuse(laughs, expect!["g:6:10: aliases stand for more than 100000 nodes in all"]);
    let long = format!("a: &a '{}'\nb: [{}]", "x".repeat(1 << 20), vec!["*a"; 40].join(", "));
    refuse(long, expect!["g:2:69: aliases stand for more than 16 MiB of text in all"]);
    let merges: String = (1..30).map(|n| format!("m{n}: &m{n} {{<<: *m{}, k{n}: 1}}\n", n - 1)).collect();
    assert!(parse(format!("m0: &m0 {{}}\n{merges}").as_bytes()).is_ok());
    assert!(parse(format!("{}{}", "[".repeat(64), "]".repeat(64)).as_bytes()).is_ok());
    refuse(format!("{}{}", "[".repeat(65), "]".repeat(65)), expect!["g:1:65: nested deeper than 64"]);
    refuse("[".repeat(1 << 20), expect!["g:1:256: nested deeper than 64"]);
    refuse("- ".repeat(65), expect!["g:1:129: nested deeper than 64"]);
    refuse("- ".repeat(1 << 20), expect!["g:1:129: nested deeper than 64"]);
    refuse(
        format!("- [{}]", "x,".repeat(MARKS_MAX)),
        expect![
            "g: has more than 2000000 brackets, commas, colons and quotes (long contents belong in a file of their own, named by `source`)"
        ],
    );
    refuse(
        vec![b' '; BYTES_MAX + 1],
        expect!["g: is bigger than 16 MiB (long contents belong in a file of their own, named by `source`)"],
    );
}

#[test]
fn files_are_read_without_waiting() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let refused = |name: &str| read(&path(name)).expect_err("it must be refused").line("g").to_string();
    std::fs::write(path("good"), "graph: a").expect("written");
    assert_eq!(read(&path("good")).expect("it is read"), b"graph: a");
    assert_eq!(refused("missing"), "g: there is no such file");
    assert_eq!(refused("."), "g: is a directory, not a graph file");
    assert_eq!(refused("good/x"), "g: a part of its path is not a directory");
    let big = std::fs::File::create(path("big")).expect("created");
    big.set_len(1 << 30).expect("sparse");
    assert!(refused("big").starts_with("g: is bigger than 16 MiB"));
    rustix::fs::mknodat(rustix::fs::CWD, path("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a pipe");
    assert_eq!(refused("pipe"), "g: is not a regular file");
    let zero = read(Path::new("/dev/zero")).expect_err("it must be refused");
    assert_eq!(zero.message, "is not a regular file");
}

/// Walks the whole tree.
fn walk(node: Node<'_>) -> usize {
    match node.value() {
        Value::Scalar(_) => 1,
        Value::List(items) => 1 + items.map(walk).sum::<usize>(),
        Value::Map(pairs) => 1 + pairs.map(|pair| walk(pair.value)).sum::<usize>(),
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(document) = parse(&bytes) {
            walk(document.root());
        }
    }

    #[test]
    fn no_text_of_yaml_characters_panics(text in "[-a&*!|>'\"%@`{}\\[\\]:,?#~<. \\n\\t]{0,200}") {
        if let Ok(document) = parse(text.as_bytes()) {
            walk(document.root());
        }
    }
}
