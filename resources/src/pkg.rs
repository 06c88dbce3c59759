//! `pkg`: keeps a package installed, away, the newest there is, or in one version.
//!
//! Knows what is wanted of one package. How packages are looked at and changed, and who goes together, is what
//! [`packages`](crate::packages) decides.

use std::fmt;
use std::sync::Arc;

use mgmt_engine::resource::{Applied, Check, Drift, Fault, Look, Resource, Signal, Urgency, Watch, Work};

use crate::host::{Host, HostRef};
use crate::kind::{Built, Context, Facets, Field, KindInfo, Params, Problem, Shape, Shipped};
use crate::machine::Machine;
use crate::packages::{Lack, Provider, Wanted};

/// The kind's table entry.
pub static INFO: KindInfo = KindInfo {
    name: "pkg",
    summary: "installs, updates or removes a package",
    notes: "\
The name of the resource is the package's, with its architecture where it is not the machine's own (`libc6:i386`). \
`newest` follows the lists of the sources: whoever renews them (`apt-get update`, by hand or by the distribution's timer) \
has the package renewed.

Works with the distribution's own tool: apt-get, or dnf. Without a known one, or where asked to, with PackageKit over the \
system bus. No question is asked: a configuration file that somebody has changed stays as it is, recommended packages come \
as the distribution has it, and what a removed package leaves of its configuration is left. A package that others need \
takes them along when it is removed, as the tool does.

Packages that are due at the same time go into one transaction; one runs at a time, and each package is reported for \
itself. One that cannot be had, is held, or fails, keeps no other from its place; `autogroup: false` in `meta` gives a \
package a transaction of its own. Sources are asked again, at most once an hour, when they know no package of a name. \
A tool that waits for another one's lock is waited for. One that runs is never killed, not even when mgmt is stopped: it \
goes on to its end, and the next start finds what it has made. A dpkg that was interrupted before is let go on. With apt, a \
unit of systemd that the package brought, and that somebody has deleted, is brought again; other files of it are not \
looked at.

Watches the database of packages, for `newest` the lists of sources too, and the daemon's signals with PackageKit. A \
refresh does nothing.",
    example: "\
resources:
  pkg:
  - name: nginx
    state: installed
  - name: openssl
    state: newest
  - name: telnetd
    state: uninstalled
",
    fields: &[
        Field {
            name: "state",
            shape: Shape::Text,
            default: "installed",
            doc: "installed (in any version), uninstalled, newest, or a version: exactly this one, be it older.",
        },
        Field {
            name: "provider",
            shape: Shape::Choice(&["auto", "apt", "dnf", "packagekit"]),
            default: "auto",
            doc: "What installs it. auto: the distribution's own tool, or PackageKit where that is not known.",
        },
    ],
    build,
};

/// Longer names are mistakes.
const NAME_BYTES_MAX: usize = 200;
const VERSION_BYTES_MAX: usize = 200;

#[derive(Debug, PartialEq)]
struct Pkg {
    package: String,
    wanted: Wanted,
    provider: Provider,
    /// Why it is a provider that nobody has asked for.
    unknown_tool: Option<String>,
    grouped: bool,
    host: HostRef,
}

/// What is wrong with it. Packages bring and take whatever they like, which is the default promise.
#[derive(Debug, PartialEq, Eq)]
struct Wrong(Lack);

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Drift for Wrong {}

impl Resource for Pkg {
    type Drift = Wrong;

    fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        let Host { packages, watches, .. } = &*self.host;
        Ok(Watch::Held(packages.watch(watches, self.provider, &self.package, &self.wanted, signal)?))
    }

    async fn check(&self, _: &Look) -> Result<Check<Wrong>, Fault> {
        let lack = self.host.packages.lack(self.provider, &self.package, &self.wanted).await;
        let lack = lack.map_err(|fault| match &self.unknown_tool {
            Some(tool) => Fault::new(format!("{tool}, and {fault}")),
            None => fault,
        })?;
        Ok(lack.map_or(Check::Converged, |lack| Check::Drifted(Wrong(lack))))
    }

    async fn apply(&self, _: Wrong, work: &Work) -> Result<Applied, Fault> {
        let packages = &self.host.packages;
        let deed = tokio::select! {
            biased;
            deed = packages.change(self.provider, &self.package, &self.wanted, !self.grouped) => deed?,
            () = work.stop.reached(Urgency::Cancel) => {
                return Err(Fault::new("nobody waits for it any more; a transaction that has begun goes on to its end"));
            }
        };
        Ok(deed.map_or(Applied::Unchanged, |deed| Applied::changed(deed.to_string())))
    }
}

fn build(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let mut problems = Vec::new();
    let package = context.called.to_owned();
    problems.extend(misnamed(&package).map(|why| Problem::new("name", format!("'{package}' {why}"))));
    let wanted = wanted(&params.filled("state").unwrap_or_else(|| "installed".to_owned()));
    let provider = params.filled("provider");
    let auto = provider.as_deref().is_none_or(|provider| provider == "auto");
    let provider = match provider.as_deref() {
        Some("apt") => Provider::Apt,
        Some("dnf") => Provider::Dnf,
        Some("packagekit") => Provider::PackageKit,
        _ => Provider::of(&context.host.machine),
    };
    let wanted = match wanted {
        Ok(wanted) if problems.is_empty() => wanted,
        Ok(_) => return Err(problems),
        Err(problem) => {
            problems.push(problem);
            return Err(problems);
        }
    };
    let unknown_tool = auto.then(|| unknown_tool(&context.host.machine)).flatten();
    let ships = (wanted != Wanted::Uninstalled).then(|| {
        let (name, paths) = (package.clone(), context.host.packages.ships(provider, &package).into());
        Shipped { name, paths }
    });
    let claims = Some(format!("the package {package}"));
    let host = HostRef(Arc::clone(context.host));
    let resource = Arc::new(Pkg { package, wanted, provider, unknown_tool, grouped: context.grouped, host });
    Ok(Built { resource, facets: Facets { ships, claims, ..Facets::default() }, warnings: Vec::new() })
}

/// What to say of a machine whose own tool is none that is known here.
fn unknown_tool(machine: &Machine) -> Option<String> {
    match machine.package_manager {
        Some("apt" | "dnf") => None,
        Some(other) => Some(format!("{other} is not known here (but apt and dnf are)")),
        None => Some("this machine has no package tool (apt, dnf)".to_owned()),
    }
}

/// Why this cannot be the name of a package. Tools take some names for patterns, options, or removals.
fn misnamed(name: &str) -> Option<&'static str> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_' | ':');
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Some("is no package's name: it needs 1 to 200 characters");
    }
    if let Some((_, architecture)) = name.split_once(':')
        && (architecture.is_empty() || architecture.contains(':'))
    {
        return Some("is no package's name: one architecture may follow a colon");
    }
    if !name.chars().all(good) {
        return Some("is no package's name: that has letters, digits, and + - . _ (a version belongs into state)");
    }
    let ends = !name.starts_with(|c: char| c.is_ascii_alphanumeric()) || name.ends_with(['-', '.', '_', ':']);
    ends.then_some("is no package's name: it begins with a letter or digit, and does not end with - . _")
}

/// What a state asks for.
fn wanted(state: &str) -> Result<Wanted, Problem> {
    Ok(match state {
        "installed" => Wanted::Installed,
        "uninstalled" => Wanted::Uninstalled,
        "newest" => Wanted::Newest,
        version if is_version(version) => Wanted::Version(version.to_owned()),
        other => {
            let known = "installed, uninstalled, newest, or a version, which has a digit and no blank";
            let meant = match other {
                "latest" | "upgraded" | "updated" => " (did you mean newest?)",
                "absent" | "removed" | "purged" | "deinstalled" => " (did you mean uninstalled?)",
                "present" | "exists" => " (did you mean installed?)",
                _ => "",
            };
            return Err(Problem::new("state", format!("'{other}' is none of {known}{meant}")));
        }
    })
}

fn is_version(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_' | ':' | '~' | '^');
    let starts = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    starts && text.len() <= VERSION_BYTES_MAX && text.chars().all(good) && text.contains(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kind::Value;
    use crate::watches::Watches;

    fn built(name: &str, state: Option<&str>) -> Result<Built, Vec<String>> {
        let mut params = Params::default();
        if let Some(state) = state {
            params.set("state", Value::Text(state.to_owned()));
        }
        let machine = Machine { package_manager: Some("apt"), ..Machine::default() };
        let host = Arc::new(Host { machine, ..Host::with(Watches::shared()) });
        let context = Context::of(&host, name);
        let told = |problem: Problem| format!("{}: {}", problem.field, problem.message);
        build(&mut params, &context).map_err(|problems| problems.into_iter().map(told).collect())
    }

    #[test]
    fn states_are_words_or_versions() {
        for (state, expected) in [
            ("installed", Wanted::Installed),
            ("uninstalled", Wanted::Uninstalled),
            ("newest", Wanted::Newest),
            ("1:2.3-4+deb12u1~x", Wanted::Version("1:2.3-4+deb12u1~x".to_owned())),
            ("1", Wanted::Version("1".to_owned())),
        ] {
            assert_eq!(wanted(state).unwrap(), expected, "{state}");
        }
        let told = |state: &str| wanted(state).unwrap_err().message;
        assert!(told("latest").ends_with("(did you mean newest?)"));
        assert!(told("absent").ends_with("(did you mean uninstalled?)"));
        for bad in ["", "1 2", "-1", "1;2", "1=2", "instaled", "1\n"] {
            assert!(wanted(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn names_that_tools_take_for_something_else_are_refused() {
        for good in ["g++", "libc6:i386", "lib32stdc++6", "python3.11", "NetworkManager", "xorg-x11_x"] {
            assert_eq!(misnamed(good), None, "{good}");
        }
        for bad in ["", "-y", "foo-", "foo=1", "foo/stable", "foo*", "^foo", "foo bar", "a:b:c", "a:", ".", "ä", "a\nb"]
        {
            assert!(misnamed(bad).is_some(), "{bad}");
        }
        let told = built("foo=1", Some("nonsense")).unwrap_err();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].starts_with("name: 'foo=1' is no package's name"), "{told:?}");
    }

    #[test]
    fn what_stays_away_ships_nothing() {
        assert_eq!(built("nosuch", Some("uninstalled")).unwrap().facets.ships, None);
        assert_eq!(built("nosuch", None).unwrap().facets.ships.unwrap().name, "nosuch");
    }
}
