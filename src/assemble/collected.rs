//! Exports of all hosts to resources of this one: what each item takes, under which name, to which path.
//!
//! Promises: whatever another host exports, this host's own resources stand as they are and the graph is built; what
//! cannot be taken is skipped, with the reason. The same exports give the same vertices, in the same order.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mgmt_engine::id::Id;
use mgmt_resources::KindInfo;
use mgmt_resources::kind::{Params, Value as Typed, normal};

use super::collect::Item;
use super::exchanged::{Exported, Skipped, Taken};
use super::resources::{Declared, Form};
use super::vertices::{Builder, Kept, Vertices};
use super::{meta, trust};
use crate::diagnostic::Printable;
use crate::exchange::record;

/// A vertex's name: an exporter's, and where it comes from.
const NAME_MAX: usize = 1024;
/// Skipped exports that are remembered one by one. More of them tell nobody more.
const SKIPPED_MAX: usize = 1_000;
/// Characters of a reason: it quotes what another host wrote.
const WHY_CHARS_MAX: usize = 400;
/// Vertices that other hosts can bring into a graph, so that they cannot fill this host.
const TAKEN_MAX: usize = 100_000;

/// What is collected, beside what is this host's own.
pub(super) struct Collected<'a, 'd> {
    builder: &'a Builder<'a>,
    items: &'a [Item],
    /// Who owns a path, for people. In order, so that what lies below a path is found.
    owners: BTreeMap<PathBuf, String>,
    /// Who claims what else.
    claims: BTreeMap<String, String>,
    ids: HashSet<Id>,
    pub(super) kept: Vec<Kept<'d>>,
    pub(super) taken: Vec<Taken>,
    pub(super) skipped: Vec<Skipped>,
    /// Paths that exports have which cannot be taken now: no reason to purge what stands there.
    pub(super) spared: BTreeSet<PathBuf>,
}

/// An export, wherever it was learnt of.
struct Offer<'o> {
    host: &'o str,
    id: &'o Id,
    said: Said<'o>,
}

enum Said<'o> {
    /// This host says it itself.
    Own(&'o Exported),
    /// Bytes of another.
    Bytes(&'o [u8]),
}

/// Why it is not taken, and the path it would have had.
struct No(String, Option<PathBuf>);

impl<'a> Collected<'a, '_> {
    pub(super) fn beside(own: &[Kept<'_>], builder: &'a Builder<'a>, vertices: &'a Vertices) -> Self {
        let (mut owners, mut claims) = (BTreeMap::new(), BTreeMap::new());
        let mut ids = HashSet::new();
        if !vertices.items.is_empty() {
            ids = own.iter().map(|(declared, _)| declared.id.clone()).collect();
            let owned = own.iter().filter_map(|(d, built)| Some((built.facets.owns.clone()?, d.id.to_string())));
            owners = owned.collect();
            let claimed = own.iter().filter_map(|(d, built)| Some((built.facets.claims.clone()?, d.id.to_string())));
            claims = claimed.collect();
        }
        let (kept, taken, skipped, spared) = Default::default();
        Self { builder, items: &vertices.items, owners, claims, ids, kept, taken, skipped, spared }
    }

    /// Takes what the items want, host by host in the order of their names: of two that would have one path, the first
    /// has it.
    pub(super) fn gather(&mut self, own: &[Exported]) {
        if self.items.is_empty() {
            return;
        }
        let options = self.builder.options;
        let here = options.hostname.as_str();
        let mut hosts: BTreeMap<&str, Vec<(Id, Said<'_>)>> = BTreeMap::new();
        // What this host has published counts less than what its file says.
        for export in options.sight.view.exports().filter(|export| export.host != here) {
            let offer = (Id::new(export.kind, export.name), Said::Bytes(export.value));
            hosts.entry(export.host).or_default().push(offer);
        }
        let mut own: Vec<_> = own.iter().map(|export| (export.id.clone(), Said::Own(export))).collect();
        own.sort_by(|a, b| a.0.cmp(&b.0));
        hosts.insert(here, own);
        for (host, offers) in hosts {
            for (id, said) in offers {
                self.offer(&Offer { host, id: &id, said });
            }
        }
    }

    /// Lets every item that wants it take it: those that would put it into the same place are one, which trusts as far as
    /// all of them together.
    fn offer(&mut self, offer: &Offer<'_>) {
        let mut wanted: Vec<Cow<'_, Item>> = Vec::new();
        for item in self.items {
            if item.kind != offer.id.kind || !item.takes(&offer.id.name, offer.host) {
                continue;
            }
            match wanted.iter_mut().find(|before| before.pattern == item.pattern) {
                Some(before) if before.trusts_like(item) => {}
                Some(before) => before.to_mut().trust_like(item),
                None => wanted.push(Cow::Borrowed(item)),
            }
        }
        for (nth, item) in wanted.iter().enumerate() {
            if let Err(No(why, path)) = self.take(offer, item, nth > 0) {
                self.spared.extend(path);
                if self.skipped.len() < SKIPPED_MAX {
                    let (host, id) = (offer.host.to_owned(), offer.id.clone());
                    self.skipped.push(Skipped { host, id, item: item.place, why: cut(why) });
                }
            }
        }
    }

    fn take(&mut self, offer: &Offer<'_>, item: &Item, other: bool) -> Result<(), No> {
        let place = item.pattern.as_deref();
        let (params, left_out, sensitive) = match &offer.said {
            Said::Own(export) => (export.params.clone(), Vec::new(), export.sensitive),
            Said::Bytes(bytes) => {
                let guess = || place.and_then(|place| guess(place, bytes));
                let record = record::decode(bytes, item.info).map_err(|why| No(why, guess()))?;
                let (params, left_out) = trust::carried(item, &record.params).map_err(|why| No(why, guess()))?;
                (params, left_out, record.sensitive)
            }
        };
        let params = settle(item.info, params, &offer.id.name, place).map_err(|why| No(why, None))?;
        let no = |why: String| No(why, path_of(&params));
        if self.taken.len() == TAKEN_MAX {
            return Err(no(format!("this host takes no more than {TAKEN_MAX} resources of others")));
        }
        let mut name = format!("{}@{}", offer.id.name, offer.host);
        if let Some(place) = place.filter(|_| other) {
            name = format!("{name}#{}", place.display());
        }
        if name.len() > NAME_MAX || name.chars().any(char::is_control) {
            return Err(no("its name is too long, or has control characters".to_owned()));
        }
        let id = Id { kind: item.kind.clone(), name: name.into() };
        if self.ids.contains(&id) {
            return Err(no(format!("this host has a {id} of its own")));
        }
        let (declared, built) = self.built(item, (id.clone(), &offer.id.name), params, sensitive)?;
        let path = built.facets.owns.clone();
        if let Some((claim, owner)) = built.facets.claims.as_ref().and_then(|claim| self.claims.get_key_value(claim)) {
            return Err(No(format!("{claim} is that of {owner}"), path));
        }
        self.may_own(&id, path.as_deref())?;
        self.claims.extend(built.facets.claims.clone().map(|claim| (claim, id.to_string())));
        self.ids.insert(id.clone());
        let (host, name) = (offer.host.to_owned(), offer.id.name.to_string());
        let left_out = left_out.into_iter().map(cut).collect();
        self.taken.push(Taken { id, host, name, path, left_out });
        self.kept.push((declared, built));
        Ok(())
    }

    fn built(
        &self,
        item: &Item,
        (id, called): (Id, &str),
        params: Params,
        sensitive: bool,
    ) -> Result<Kept<'static>, No> {
        let mut meta = meta::defaults(self.builder.options);
        meta.sensitive = sensitive;
        let path = path_of(&params);
        let mut declared = Declared::of(id, item.info, Form::Collected(params.clone()), item.place, meta);
        declared.params = params;
        declared.called = Some(called.to_owned());
        declared.beneath.clone_from(&item.pattern);
        let nothing = Arc::new(BTreeSet::new());
        match self.builder.one(&mut declared, (&nothing, &nothing)) {
            (Some(built), _) => Ok((declared, built)),
            (None, wrong) => {
                let wrong = wrong.iter().map(|wrong| match wrong.field {
                    "" => wrong.message.clone(),
                    field => format!("{field}: {}", wrong.message),
                });
                Err(No(wrong.collect::<Vec<_>>().join("; "), path))
            }
        }
    }

    /// Notes who owns the path from now on, if nobody does yet.
    fn may_own(&mut self, id: &Id, path: Option<&Path>) -> Result<(), No> {
        let Some(path) = path else { return Ok(()) };
        if let Some(owner) = self.owners.get(path) {
            return Err(No(format!("its path {} is that of {owner}", path.display()), None));
        }
        // A file would stand where a directory has to be.
        let mut below = self.owners.range::<Path, _>((Bound::Excluded(path), Bound::Unbounded));
        if let Some((_, owner)) = below.next().filter(|(other, _)| other.starts_with(path)) {
            return Err(No(format!("its path {} is above that of {owner}", path.display()), None));
        }
        let lives_by = |own: &PathBuf| path.starts_with(own) || own.starts_with(path);
        if self.builder.host.protected.iter().any(lives_by) {
            return Err(No(format!("this program lives by its path {}", path.display()), None));
        }
        self.owners.insert(path.to_owned(), id.to_string());
        Ok(())
    }
}

/// What is told of a reason.
fn cut(mut why: String) -> String {
    if let Some((end, _)) = why.char_indices().nth(WHY_CHARS_MAX) {
        why.truncate(end);
        why.push('…');
    }
    why
}

/// The path that is given, as far as one is.
fn path_of(params: &Params) -> Option<PathBuf> {
    params.iter().find_map(|(field, value)| match value {
        Typed::Text(path) if field == "path" => Some(normal(Path::new(path))),
        _ => None,
    })
}

/// The parameters with the path they have here.
fn settle(info: &KindInfo, params: Params, name: &str, place: Option<&Path>) -> Result<Params, String> {
    if info.name != "file" {
        return Ok(params);
    }
    let text = |field: &str| {
        params.iter().find_map(|(given, value)| match value {
            Typed::Text(text) if given == field && !text.is_empty() => Some(text.as_str()),
            _ => None,
        })
    };
    let path = match (text("path"), text("dirname"), text("basename")) {
        (Some(path), ..) => path.to_owned(),
        (None, Some(dirname), Some(basename)) => format!("{dirname}/{basename}"),
        _ if name.starts_with('/') => name.to_owned(),
        _ => return Err("it says no path".to_owned()),
    };
    if path.ends_with('/') {
        return Err("it is a directory, and only files are collected".to_owned());
    }
    let Some(place) = place else { return Ok(params) };
    let last = path.rsplit('/').next().unwrap_or_default();
    if !is_name(last) {
        return Err(format!("its path {} does not end in the name of a file", Printable(&path)));
    }
    let mut settled = Params::default();
    for (field, value) in params.iter().filter(|(field, _)| !["path", "dirname", "basename"].contains(field)) {
        settled.set(field, value.clone());
    }
    let here = place.join(last);
    let here = here.to_str().ok_or_else(|| "the pattern is no text".to_owned())?;
    settled.set("path", Typed::Text(here.to_owned()));
    Ok(settled)
}

/// Whether it names a file, and nothing that could be mistaken for something else.
fn is_name(last: &str) -> bool {
    !matches!(last, "" | "." | "..") && !last.contains(char::is_control)
}

/// Where an export that is not understood would stand: what stands there already is not purged for that.
fn guess(place: &Path, bytes: &[u8]) -> Option<PathBuf> {
    let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
    let text = |field: &str| value.get("params")?.get(field)?.as_str();
    let last = text("path").or_else(|| text("basename"))?.rsplit('/').next()?;
    is_name(last).then(|| place.join(last))
}
