//! Views as a function of the state, and brought forward by events.

use proptest::prelude::*;

use super::*;

fn interest() -> Interest {
    let collect = |kind: &str, name: Option<&str>, hosts: &[&str]| Collect {
        kind: kind.to_owned(),
        name: name.map(str::to_owned),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
    };
    Interest {
        collects: vec![collect("file", None, &["web*"]), collect("msg", Some("a*"), &[])],
        keys: BTreeSet::from(["k/a".parse().unwrap(), "m/ns/db".parse().unwrap()]),
        maps: BTreeSet::from(["map".to_owned()]),
    }
}

const KEYS: [&str; 13] = [
    "k/a",
    "k/ab",
    "m/map/web1",
    "m/map/db",
    "m/maps/db",
    "m/ns/db",
    "m/ns/web1",
    "x/web1",
    "x/web1/file//a",
    "x/web2/file//a",
    "x/db/file//a",
    "x/db/msg/a1",
    "x/db/msg/b1",
];

#[test]
fn what_it_asks_for() {
    let interest = interest();
    let wanted = KEYS.into_iter().filter(|key| interest.matches(&key.parse().unwrap()));
    let expected = ["k/a", "m/map/web1", "m/map/db", "m/ns/db", "x/web1/file//a", "x/web2/file//a", "x/db/msg/a1"];
    assert_eq!(wanted.collect::<Vec<_>>(), expected);
}

fn event(revision: u64, key: &str, value: Option<u8>) -> Event {
    let change = match value {
        None => Change::Delete,
        Some(byte) => Change::Put(Entry {
            value: Arc::from([byte]),
            create: Revision(revision),
            modify: Revision(revision),
            version: 1,
            lease: None,
        }),
    };
    Event { revision: Revision(revision), key: key.parse().unwrap(), change }
}

proptest! {
    #[test]
    fn forward_by_events_is_as_from_the_state(
        changes in prop::collection::vec((0..KEYS.len(), prop::option::weighted(0.7, 0u8..3)), 0..60),
        stops in prop::collection::vec(1usize..10, 0..20),
    ) {
        let interest = interest();
        let mut keys: Pages<Key, Entry> = Pages::default();
        let mut view = View::default();
        let mut events = Vec::new();
        let mut stops = stops.into_iter();
        let mut stop = stops.next();
        for (number, (key, value)) in changes.into_iter().enumerate() {
            let event = event(number as u64 + 1, KEYS[key], value);
            match &event.change {
                Change::Put(entry) => _ = keys.insert(event.key.clone(), entry.clone()),
                Change::Delete => _ = keys.remove(event.key.as_str()),
            }
            events.push(event);
            if stop.is_some_and(|stop| events.len() > stop) {
                let through = Revision(number as u64 + 1);
                let before = view.clone();
                // Events that the view has already are passed over.
                view = view.after(&events, through, &interest);
                let anew = View::of_keys(through, &keys, &interest);
                prop_assert_eq!(&view, &anew);
                prop_assert_eq!(view.content.print, anew.content.print);
                prop_assert_eq!(view.revision(), through);
                let same = before.content.entries == view.content.entries;
                prop_assert_eq!(before == view, same);
                if view.content.print == before.content.print {
                    prop_assert!(same);
                }
                stop = stops.next();
            }
        }
    }
}

#[test]
fn what_concerns_nobody_copies_nothing() {
    let interest = interest();
    let view = View::default().after(&[event(1, "k/a", Some(1))], Revision(1), &interest);
    let next = view.after(&[event(2, "k/a", Some(1)), event(3, "k/b", Some(1))], Revision(4), &interest);
    assert!(Arc::ptr_eq(&view.content, &next.content));
    assert_eq!(next.revision(), Revision(4));
}
