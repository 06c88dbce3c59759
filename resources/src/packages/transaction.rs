//! One transaction for many: who may take part, and what became of each.
//!
//! Promises: a member that cannot be done takes no other with it. Whom the sources do not know, who is held, or whose
//! version there is not, is told so before. If the tool fails, who is as wanted counts as done; the guilty ones are told
//! apart, by name if the tool named them, otherwise by trying again in halves. Each is judged by the database alone.

use std::collections::BTreeMap;
use std::fmt;

use mgmt_engine::resource::Fault;

use super::catalog::Catalog;
use super::hub::Seen;
use super::trouble::Trouble;
use super::{Deed, Found, Lack, Offer, Offers, Wanted};

/// Runs of the tool for one transaction. Enough to find three guilty ones among a thousand by halves.
const RUNS_MAX: u32 = 40;
/// How many versions of a package are named to whoever wants another.
const VERSIONS_SHOWN: usize = 5;

/// One package of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) wanted: Wanted,
}

/// What a transaction does. Tools do only one of them at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// Installs, and changes versions.
    Install,
    /// Removes.
    Remove,
}

impl Member {
    pub(super) fn change(&self) -> Change {
        if self.wanted == Wanted::Uninstalled { Change::Remove } else { Change::Install }
    }

    /// What is missing, by what stands and what can be had.
    fn lack(&self, found: &Founds, offers: &Offers) -> Option<Lack> {
        let newest = offers.get(&self.name).and_then(|offer| offer.newest.as_deref());
        self.wanted.lack(found.get(&self.name).unwrap_or(&Found::default()), newest)
    }
}

type Founds = BTreeMap<String, Found>;
type Ended = Result<Option<Deed>, Fault>;

/// A transaction that is being carried out.
struct Transaction<'t> {
    catalog: &'t Catalog,
    change: Change,
    before: Founds,
    offers: Offers,
    /// What was seen last of each.
    after: Founds,
    runs: u32,
    ended: BTreeMap<String, Ended>,
}

/// Carries out a transaction of members that ask for the same change; what became of each, in their order, and what was
/// seen of them last.
pub(super) async fn carried_out(catalog: &Catalog, members: &[Member]) -> (Vec<Ended>, Vec<(String, Seen)>) {
    let change = members.first().map_or(Change::Install, Member::change);
    let begun = Transaction::begin(catalog, change, members).await;
    let mut done = match begun {
        Err(fault) => return (members.iter().map(|_| Err(fault.clone())).collect(), Vec::new()),
        Ok((mut transaction, able)) => {
            transaction.run(able).await;
            transaction
        }
    };
    let forgotten = || Err(Fault::new("the transaction ended without a word about it"));
    let ended = members.iter().map(|member| done.ended.remove(&member.name).unwrap_or_else(forgotten)).collect();
    let offers = done.offers;
    let seen = done.after.into_iter().map(|(name, found)| {
        let newest = offers.get(&name).and_then(|offer| offer.newest.clone());
        (name, Seen { found, newest })
    });
    (ended, seen.collect())
}

impl<'t> Transaction<'t> {
    /// Looks at what stands and what can be had, and sorts out who needs or can have nothing.
    async fn begin(
        catalog: &'t Catalog,
        change: Change,
        members: &[Member],
    ) -> Result<(Transaction<'t>, Vec<Member>), Fault> {
        let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
        let before = catalog.found(&names).await?;
        let (offers, after, ended) = (Offers::new(), before.clone(), BTreeMap::new());
        let mut this = Self { catalog, change, before, offers, after, runs: 0, ended };
        let mut trouble = None;
        if change == Change::Install {
            this.offers = catalog.offers(&names).await?;
            if members.iter().any(|member| this.unable(member, None).is_some_and(|why| why.may_pass)) {
                trouble = catalog.ask_sources().await;
                this.offers = catalog.offers(&names).await?;
            }
        }
        let mut able = Vec::new();
        for member in members {
            if member.lack(&this.before, &this.offers).is_none() {
                this.ended.insert(member.name.clone(), Ok(None));
            } else if let Some(unable) = this.unable(member, trouble.as_deref()) {
                this.ended.insert(member.name.clone(), Err(Fault::new(unable.words)));
            } else {
                able.push(member.clone());
            }
        }
        Ok((this, able))
    }

    /// Why there is no use in trying.
    fn unable(&self, member: &Member, trouble: Option<&str>) -> Option<Unable> {
        let default = Found::default();
        let found = self.before.get(&member.name).unwrap_or(&default);
        let lack = member.lack(&self.before, &self.offers)?;
        if let (true, Some(version)) = (found.held && !matches!(lack, Lack::Broken(_) | Lack::Gone(_)), &found.version)
        {
            let hint = self.catalog.unhold(&member.name);
            return Some(Unable::for_good(format!("it {lack}, but is held at {version} ({hint})")));
        }
        if self.change == Change::Remove || matches!(lack, Lack::Broken(_) | Lack::Gone(_)) {
            return None;
        }
        let after =
            trouble.map(|trouble| format!(" (their lists could not be renewed: {trouble})")).unwrap_or_default();
        let Some(Offer { newest, versions, partial }) = self.offers.get(&member.name) else {
            return Some(Unable::may_pass(format!("the sources of packages know none of this name{after}")));
        };
        match &member.wanted {
            Wanted::Version(wanted)
                if !partial && !versions.iter().any(|version| super::same_version(version, wanted)) =>
            {
                let shown: Vec<_> = versions.iter().take(VERSIONS_SHOWN).map(String::as_str).collect();
                let shown = if shown.is_empty() { "none".to_owned() } else { shown.join(", ") };
                Some(Unable::may_pass(format!("there is no version {wanted} of it, only {shown}{after}")))
            }
            Wanted::Version(_) => None,
            _ if newest.is_none() => {
                let words = "no source offers it: it is a virtual package, or its source is gone";
                Some(Unable::may_pass(format!("{words}{after}")))
            }
            _ => None,
        }
    }

    /// Runs the tool until everybody is done or told why not.
    async fn run(&mut self, able: Vec<Member>) {
        let mut groups = vec![able];
        while let Some(group) = groups.pop() {
            if group.is_empty() {
                continue;
            }
            self.runs += 1;
            let trouble = self.catalog.carry_out(self.change, &group).await.err();
            let names: Vec<&str> = group.iter().map(|member| member.name.as_str()).collect();
            let after = match self.catalog.found(&names).await {
                Ok(after) => after,
                Err(fault) => {
                    self.ended.extend(names.iter().map(|name| ((*name).to_owned(), Err(fault.clone()))));
                    continue;
                }
            };
            self.after.extend(after.clone());
            let left = self.judge(&group, &after, trouble.as_ref());
            let Some(trouble) = trouble else { continue };
            groups.extend(self.again(left, group.len(), &trouble));
        }
    }

    /// Tells who is done, and who never will be; the rest are left.
    fn judge(&mut self, group: &[Member], after: &Founds, trouble: Option<&Trouble>) -> Vec<Member> {
        let mut left = Vec::new();
        for member in group {
            let now = after.get(&member.name).cloned().unwrap_or_default();
            let lack = member.lack(after, &self.offers);
            let ended = match (lack, trouble) {
                (None, _) => {
                    let was = self.before.get(&member.name).and_then(|found| found.version.clone());
                    Ok(Some(Deed { was, now: now.version, beside: group.len() - 1 }))
                }
                (Some(lack), None) => Err(Fault::new(format!("it {lack}, although the transaction went well"))),
                (Some(_), Some(trouble)) => match trouble.about.get(&member.name) {
                    Some(about) => Err(Fault::new(about.clone())),
                    None => {
                        left.push(member.clone());
                        continue;
                    }
                },
            };
            self.ended.insert(member.name.clone(), ended);
        }
        left
    }

    /// Who tries again with whom, after a run of so many has failed.
    fn again(&mut self, left: Vec<Member>, of: usize, trouble: &Trouble) -> Vec<Vec<Member>> {
        let guilty_known = left.len() < of && !trouble.about.is_empty();
        if left.is_empty() {
            return Vec::new();
        }
        if trouble.whole || of == 1 || self.runs >= RUNS_MAX {
            let fault = |member: &Member| Fault::new(trouble.of(&member.name));
            self.ended.extend(left.iter().map(|member| (member.name.clone(), Err(fault(member)))));
            return Vec::new();
        }
        if guilty_known || left.len() == 1 {
            // The guilty ones are out.
            return vec![left];
        }
        let half = left.len() / 2;
        vec![left[half..].to_vec(), left[..half].to_vec()]
    }
}

/// Why a member takes no part.
struct Unable {
    words: String,
    /// Newer lists of the sources may know better.
    may_pass: bool,
}

impl Unable {
    fn for_good(words: String) -> Self {
        Self { words, may_pass: false }
    }

    fn may_pass(words: String) -> Self {
        Self { words, may_pass: true }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Install => "install",
            Self::Remove => "remove",
        })
    }
}

#[cfg(test)]
pub(super) mod tests;
