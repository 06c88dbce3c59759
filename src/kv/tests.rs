//! Tests of what is judged and said here; what takes a mesh is tried with real processes.

use expect_test::expect;
use mgmt_engine::resource::Drift as _;
use mgmt_resources::Host;
use mgmt_resources::watches::Watches;

use super::*;
use crate::assemble::{self, Options};

fn value(text: &str) -> Value {
    text.as_bytes().into()
}

#[test]
fn what_is_wrong_is_a_sentence() {
    let judge = |want, there: Option<&str>| {
        let key = Key::parse("k/x").expect("it is a key");
        let kv = Kv { place: Place::Key(key), want, way: Way::of(Link::new()) };
        match kv.judge(there.map(value)) {
            Ok(None) => "right".to_owned(),
            Ok(Some(wrong)) => wrong.to_string(),
            Err(fault) => format!("fault: {fault}"),
        }
    };
    let lines = [
        judge(Want::Value(value("y")), Some("x")),
        judge(Want::Value(value("y\n")), None),
        judge(Want::Value(value("y")), Some("y")),
        judge(Want::Value(value("")), Some(&"long ".repeat(20))),
        judge(Want::Gone, Some("x")),
        judge(Want::Gone, None),
        judge(Want::AtLeast(7), None),
        judge(Want::AtLeast(7), Some("-8")),
        judge(Want::AtLeast(7), Some("10")),
        judge(Want::AtLeast(7), Some("seven")),
    ];
    expect![[r#"
        key is "x", wanted "y"
        key is not there, wanted "y\n"
        right
        key is "long long long long long long long long long long long long ".. (100 bytes), wanted ""
        key is "x", wanted none
        right
        key is not there, wanted 7 or more
        key is "-8", wanted 7 or more
        right
        fault: key is "seven", which is no whole number: it cannot be compared, and is left alone"#]]
    .assert_eq(&lines.join("\n"));
    let binary = Wrong { there: Some([0xff, 0].as_slice().into()), want: Want::Gone };
    assert_eq!(binary.to_string(), "key is 2 bytes that are no text, wanted none");
    assert_eq!(binary.change().and_then(|change| change.before), Some(vec![0xff, 0]));
    assert!(binary.promises().is_empty(), "no path of this host becomes another");
}

#[test]
fn parameters_are_checked() {
    let host = Arc::new(Host::with(Watches::start().expect("the test needs an inotify instance")));
    let said = |item: &str| {
        let text = format!("graph: g\nresources:\n  kv:\n  - {item}\n");
        let options = Options { file: "g".to_owned(), ..Options::default() };
        let assembled = assemble::assemble_bytes(text.as_bytes(), &options, crate::kinds::KINDS, &host);
        assert_eq!(assembled.graph.is_some(), assembled.needs_mesh, "whatever is good needs a mesh");
        format!("{item}\n{}", assembled.problems)
    };
    let long = "x".repeat(5000);
    let lines = [
        said("{name: a/b, value: 7, skiplessthan: yes}"),
        said("{name: a, key: m, value: '', mapped: true}"),
        said("{name: a}"),
        said("{name: a, value: 7.5, skiplessthan: true}"),
        said("{name: a, skiplessthan: true}"),
        said("{name: a/b, mapped: true}"),
        said("{name: a, key: \"a\\tb\"}"),
        said(&format!("{{name: a, key: {long}}}")).replace(&long, "LONG"),
    ];
    expect![[r#"
        {name: a/b, value: 7, skiplessthan: yes}
        {name: a, key: m, value: '', mapped: true}
        {name: a}
        {name: a, value: 7.5, skiplessthan: true}
        g:4:22: kv[a]: value: has to be a whole number with skiplessthan
        {name: a, skiplessthan: true}
        g:4:29: kv[a]: skiplessthan: needs a value to raise the key to
        {name: a/b, mapped: true}
        g:4:5: kv[a/b]: key: the name of a map has no slash
        {name: a, key: "a\tb"}
        g:4:20: kv[a]: key: a key contains no control characters
        {name: a, key: LONG}
        g:4:20: kv[a]: key: a key of 5002 bytes is too long, 4096 are allowed
    "#]]
    .assert_eq(&lines.concat());
}

#[test]
fn what_it_is_the_way_to_is_no_parameter() {
    let kv = |want| Kv { place: Place::Entry("m".to_owned()), want, way: Way::of(Link::new()) };
    assert_eq!(kv(Want::Gone), kv(Want::Gone));
    assert_ne!(kv(Want::Gone), kv(Want::AtLeast(0)));
}

#[tokio::test]
async fn it_waits_for_a_mesh_that_may_come_and_fails_where_none_is() {
    let link = Link::new();
    let kv = Kv { place: Place::Entry("m".to_owned()), want: Want::Gone, way: Way::of(link.clone()) };
    let look = Look::because(Cause::First);
    assert_eq!(kv.check(&look).await, Ok(Check::Later("a part in the mesh".into())));
    let planned = kv.check(&Look { purpose: Purpose::Plan, ..look.clone() }).await;
    assert_eq!(planned, Ok(Check::Unknown("there is no view of the mesh here".to_owned())));
    link.set(None);
    let fault = kv.check(&look).await.expect_err("there is none").to_string();
    expect!["this run has no part in a mesh, and keys are in the mesh: it takes `mgmt run`, and not --no-network"]
        .assert_eq(&fault);
    assert!(kv.apply(Wrong { there: None, want: Want::Gone }, &Work::because(Cause::First)).await.is_err());
}
