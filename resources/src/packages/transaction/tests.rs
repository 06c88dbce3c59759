//! Transactions on a scripted machine: who is told what, and how often the tool runs.

use super::*;
use std::collections::BTreeSet;
use std::sync::Mutex;

/// A machine with a database of its own.
#[derive(Debug, Default)]
pub(crate) struct Scripted(Mutex<Script>);

#[derive(Debug, Default)]
struct Script {
    stand: BTreeMap<String, Found>,
    offers: Offers,
    /// Known only after the sources have been asked.
    later: Offers,
    /// Whoever is in one transaction with these fails with all others.
    poison: BTreeSet<String>,
    /// These fail alone, and are named.
    bad: BTreeSet<String>,
    whole: Option<String>,
    ran: Vec<String>,
}

impl Scripted {
    /// Another version stands, by somebody else's hand.
    pub(crate) fn put(&self, name: &str, version: &str) {
        self.0.lock().unwrap().stand.insert(name.to_owned(), stand(version, false));
    }

    pub(crate) fn found(&self, names: &[&str]) -> Founds {
        let script = self.0.lock().unwrap();
        names.iter().map(|name| ((*name).to_owned(), script.stand.get(*name).cloned().unwrap_or_default())).collect()
    }

    pub(crate) fn offers(&self, names: &[&str]) -> Offers {
        let script = self.0.lock().unwrap();
        names.iter().filter_map(|name| Some(((*name).to_owned(), script.offers.get(*name)?.clone()))).collect()
    }

    pub(crate) fn ask_sources(&self) -> Option<String> {
        let mut script = self.0.lock().unwrap();
        let later = std::mem::take(&mut script.later);
        script.offers.extend(later);
        script.ran.push("ask sources".to_owned());
        Some("no route".to_owned())
    }

    pub(crate) fn carry_out(&self, change: Change, members: &[Member]) -> Result<(), Trouble> {
        let mut script = self.0.lock().unwrap();
        let names: Vec<_> = members.iter().map(|member| member.name.as_str()).collect();
        let line = format!("{change} {}", names.join(" "));
        script.ran.push(line);
        if let Some(whole) = &script.whole {
            return Err(Trouble::whole(whole.clone()));
        }
        if names.iter().any(|name| script.poison.contains(*name)) {
            return Err(Trouble { words: "unmet dependencies".to_owned(), ..Trouble::default() });
        }
        let mut about = BTreeMap::new();
        for member in members {
            let version = match &member.wanted {
                Wanted::Uninstalled => None,
                Wanted::Version(version) => Some(version.clone()),
                _ => script.offers[&member.name].newest.clone(),
            };
            let broken = script.bad.contains(&member.name).then(|| "half-configured".to_owned());
            if broken.is_some() {
                about.insert(member.name.clone(), "its script failed".to_owned());
            }
            script.stand.insert(member.name.clone(), Found { version, broken, ..Found::default() });
        }
        if about.is_empty() { Ok(()) } else { Err(Trouble { about, words: "failed".to_owned(), whole: false }) }
    }
}

fn offer(versions: &[&str]) -> Offer {
    Offer {
        newest: versions.first().map(|&version| version.to_owned()),
        versions: versions.iter().map(|&version| version.to_owned()).collect(),
        partial: false,
    }
}

/// What became of each, and what ran.
async fn told(wanted: &[(&str, Wanted)], script: Script) -> (Vec<String>, Vec<String>) {
    let members: Vec<_> =
        wanted.iter().map(|(name, wanted)| Member { name: (*name).to_owned(), wanted: wanted.clone() }).collect();
    let catalog = Catalog::Scripted(Scripted(Mutex::new(script)));
    let (ended, _) = carried_out(&catalog, &members).await;
    let Catalog::Scripted(scripted) = catalog else { unreachable!() };
    let shown = ended.iter().map(|ended| match ended {
        Ok(Some(deed)) => deed.to_string(),
        Ok(None) => "nothing".to_owned(),
        Err(fault) => fault.to_string(),
    });
    (shown.collect(), scripted.0.into_inner().unwrap().ran)
}

fn offers(names: &[&str]) -> Offers {
    names.iter().map(|name| ((*name).to_owned(), offer(&["2", "1"]))).collect()
}

fn stand(version: &str, held: bool) -> Found {
    Found { version: Some(version.to_owned()), held, ..Found::default() }
}

#[tokio::test]
async fn who_cannot_take_part_is_told_before() {
    let script = Script {
        offers: [("virtual".to_owned(), offer(&[]))]
            .into_iter()
            .chain(offers(&["a", "held", "there", "old"]))
            .collect(),
        later: offers(&["late"]),
        stand: [("held", stand("1", true)), ("there", stand("1", false)), ("old", stand("1", false))]
            .map(|(name, found)| (name.to_owned(), found))
            .into(),
        ..Script::default()
    };
    let (told, ran) = told(
        &[
            ("a", Wanted::Installed),
            ("none", Wanted::Installed),
            ("virtual", Wanted::Newest),
            ("held", Wanted::Newest),
            ("there", Wanted::Installed),
            ("old", Wanted::Version("3".into())),
            ("late", Wanted::Version("1".into())),
        ],
        script,
    )
    .await;
    assert_eq!(ran, ["ask sources", "install a late"]);
    assert_eq!(
        told,
        [
            "installed 2, with one other package",
            "the sources of packages know none of this name (their lists could not be renewed: no route)",
            "no source offers it: it is a virtual package, or its source is gone (their lists could not be renewed: no \
             route)",
            "it is 1, the newest is 2, but is held at 1 (unhold held)",
            "nothing",
            "there is no version 3 of it, only 2, 1 (their lists could not be renewed: no route)",
            "installed 1, with one other package",
        ]
    );
}

#[tokio::test]
async fn the_guilty_are_told_from_the_innocent() {
    let names = ["a", "b", "c", "d"];
    let all = names.map(|name| (name, Wanted::Installed));
    let script = Script { offers: offers(&names), bad: ["b".to_owned()].into(), ..Script::default() };
    let (told_of, ran) = told(&all, script).await;
    assert_eq!(ran, ["install a b c d"]);
    assert_eq!(told_of[1], "its script failed");
    assert!(told_of[0].starts_with("installed 2"), "{told_of:?}");

    let script = Script { offers: offers(&names), poison: ["c".to_owned()].into(), ..Script::default() };
    let (told_of, ran) = told(&all, script).await;
    assert_eq!(ran, ["install a b c d", "install a b", "install c d", "install c", "install d"]);
    assert_eq!(told_of[2], "unmet dependencies");
    assert_eq!(told_of[3], "installed 2");
}

#[tokio::test]
async fn what_concerns_all_is_not_tried_again() {
    let names = ["a", "b", "c", "d"];
    let script = Script { offers: offers(&names), whole: Some("the disk is full".to_owned()), ..Script::default() };
    let (told, ran) = told(&names.map(|name| (name, Wanted::Installed)), script).await;
    assert_eq!(ran, ["install a b c d"]);
    assert!(told.iter().all(|told| told == "the disk is full"), "{told:?}");
}

#[tokio::test]
async fn tries_are_bounded() {
    let names: Vec<_> = (0..200).map(|number| format!("p{number}")).collect();
    let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), Wanted::Installed)).collect();
    let shown: Vec<&str> = names.iter().map(String::as_str).collect();
    let script = Script { offers: offers(&shown), poison: names.iter().cloned().collect(), ..Script::default() };
    let (told, ran) = told(&wanted, script).await;
    assert!(told.iter().all(|told| told == "unmet dependencies"));
    assert!(ran.len() <= 100, "{}", ran.len());
}
