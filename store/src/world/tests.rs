//! What every [`World`] must do.

use std::collections::BTreeSet;

use super::*;
use crate::view::Collect;

fn all(kind: &str) -> Interest {
    let collect = Collect { kind: kind.to_owned(), name: None, hosts: Vec::new() };
    Interest { collects: vec![collect], ..Interest::default() }
}

fn exports(host: &str, items: &[(&str, &str, &str)]) -> Exports {
    let mut exports = Exports::of(HostName::parse(host).unwrap());
    for (kind, name, value) in items {
        exports.add(kind, name, value.as_bytes()).unwrap();
    }
    exports
}

fn shown(view: &View) -> Vec<String> {
    let show = |export: crate::view::Export<'_>| {
        let value = String::from_utf8_lossy(export.value).into_owned();
        format!("{}[{}]@{}={value}", export.kind, export.name, export.host)
    };
    view.exports().map(show).collect()
}

/// Waits until a host sees this, and nothing that it must not see on the way.
async fn sees(world: &impl World, last: &mut View, expected: &[&str]) {
    while shown(last) != expected {
        let next = world.changed(last).await;
        assert!(next.revision() >= last.revision(), "a view never goes back");
        assert!(next != *last);
        *last = next;
    }
}

async fn published<W: World>(world: &W, exports: &Exports) -> Published {
    world.publish(exports).await.unwrap_or_else(|error| panic!("publish: {error}"))
}

/// Runs the suite on hosts of one mesh that is still empty.
pub(crate) async fn passes<W: World>(host: impl Fn(&str) -> W) {
    let (a, b) = (host("a"), host("b"));
    let (mut at_a, mut at_b) = (a.view(), b.view());
    assert_eq!(shown(&at_a), [""; 0], "who follows nothing sees nothing");
    a.follow(all("file"));
    b.follow(all("file"));

    let two = exports("a", &[("file", "/1", "one"), ("file", "/2", "two"), ("msg", "x", "hello")]);
    assert!(matches!(published(&a, &two).await, Published::Changed(_)));
    sees(&a, &mut at_a, &["file[/1]@a=one", "file[/2]@a=two"]).await;
    sees(&b, &mut at_b, &["file[/1]@a=one", "file[/2]@a=two"]).await;

    assert_eq!(published(&a, &two).await, Published::Unchanged, "an equal set changes nothing");
    assert_eq!(b.view(), at_b);

    // Another kind: a change that these hosts do not care for.
    published(&b, &exports("b", &[("msg", "y", "hello")])).await;
    assert_eq!(b.view(), at_b);
    assert_eq!(a.view(), at_a);

    published(&b, &exports("b", &[("file", "/3", "three")])).await;
    sees(&a, &mut at_a, &["file[/1]@a=one", "file[/2]@a=two", "file[/3]@b=three"]).await;

    replaced_in_one_step(&a, &b).await;
    narrowed(&a, &b).await;

    published(&a, &exports("a", &[])).await;
    published(&b, &exports("b", &[])).await;
    a.follow(all("file"));
    sees(&a, &mut at_a, &[]).await;
    assert_eq!(published(&b, &exports("b", &[])).await, Published::Unchanged);
}

/// One name goes, one comes and one changes: who looks sees the old or the new.
async fn replaced_in_one_step<W: World>(a: &W, b: &W) {
    let before = ["file[/1]@a=one", "file[/2]@a=two", "file[/3]@b=three"];
    let after = ["file[/2]@a=TWO", "file[/3]@b=three", "file[/4]@a=four"];
    let next = exports("a", &[("file", "/2", "TWO"), ("file", "/4", "four")]);
    let looking = async {
        let mut view = b.view();
        let mut seen = BTreeSet::new();
        loop {
            let mut shown = shown(&view);
            shown.sort();
            let done = shown == after;
            seen.insert(shown);
            if done {
                return seen;
            }
            view = b.changed(&view).await;
        }
    };
    let (seen, result) = tokio::join!(looking, published(a, &next));
    assert!(matches!(result, Published::Changed(_)));
    let whole = BTreeSet::from([before, after].map(|items| items.map(str::to_owned).to_vec()));
    assert!(seen.is_subset(&whole), "half of a publication was seen: {seen:?}");
}

/// By host, and by name; and what is followed can be changed.
async fn narrowed<W: World>(a: &W, b: &W) {
    let only = |name: Option<&str>, hosts: &[&str]| {
        let hosts = hosts.iter().map(|host| (*host).to_owned()).collect();
        let collect = Collect { kind: "file".to_owned(), name: name.map(str::to_owned), hosts };
        Interest { collects: vec![collect], ..Interest::default() }
    };
    b.follow(only(None, &["b"]));
    assert_eq!(shown(&b.view()), ["file[/3]@b=three"]);
    b.follow(only(Some("/4*"), &[]));
    let mut view = b.view();
    assert_eq!(shown(&view), ["file[/4]@a=four"]);
    let next = exports("a", &[("file", "/4", "four"), ("file", "/40", "forty"), ("file", "/5", "five")]);
    published(a, &next).await;
    sees(b, &mut view, &["file[/4]@a=four", "file[/40]@a=forty"]).await;
}
