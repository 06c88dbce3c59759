//! What the tools of apt say, and what it means. Texts in, decisions out; the texts are those of the C locale.

use std::collections::BTreeMap;

use super::super::trouble::{Trouble, joined};
use super::{Offer, Offers, Said};

/// What can be helped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ill {
    /// dpkg was stopped half way, some time ago.
    Interrupted,
    /// Somebody has killed the tool.
    Killed,
    /// The lists name files that the sources do not have any more.
    Stale,
}

/// What has nothing to do with any one package: part of a line, and what to tell besides.
const WHOLE: [(&str, &str); 18] = [
    ("No space left on device", "the disk is full"),
    ("have enough free space", "the disk is full"),
    ("Could not get lock", "somebody else changes packages"),
    ("Unable to acquire", "somebody else changes packages"),
    ("Unable to lock", "somebody else changes packages"),
    ("apt --fix-broken install", "what is installed does not fit together"),
    ("dpkg was interrupted", "dpkg was interrupted"),
    ("Temporary failure resolving", "no network"),
    ("Could not resolve", "no network"),
    ("Could not connect", "no network"),
    ("Unable to connect", "no network"),
    ("Cannot initiate the connection", "no network"),
    ("Network is unreachable", "no network"),
    ("Read-only file system", "the file system is read-only"),
    ("Permission denied", "not allowed"),
    ("are you root?", "needs root"),
    ("could not be parsed", "the package database or a source is damaged"),
    ("The list of sources could not be read", "a source is damaged"),
];

/// What `apt-cache policy` knows.
pub(super) fn policy(text: &str) -> Offers {
    let mut offers = Offers::new();
    let mut name = None;
    for line in text.lines() {
        if !line.starts_with(' ') {
            name = line.strip_suffix(':').map(str::to_owned);
            offers.extend(name.clone().map(|name| (name, Offer::default())));
            continue;
        }
        let Some(offer) = name.as_ref().and_then(|name| offers.get_mut(name)) else { continue };
        if let Some(candidate) = line.trim().strip_prefix("Candidate: ") {
            offer.newest = (candidate != "(none)").then(|| candidate.to_owned());
        }
        // A version's own line is indented less than its sources, or marked as the one that stands.
        let version =
            line.strip_prefix(" *** ").or_else(|| line.strip_prefix("     ").filter(|rest| !rest.starts_with(' ')));
        offer.versions.extend(version.and_then(|version| version.split(' ').next()).map(str::to_owned));
    }
    offers
}

/// Whether the lists are being changed by somebody else.
pub(super) fn locked(said: &Said) -> bool {
    !said.status.success() && said.err.contains("Could not get lock")
}

/// What `apt-get update` could not get, if anything.
pub(super) fn unfetched(said: &Said) -> Option<String> {
    let failed = |line: &&str| line.starts_with("E: ") || line.starts_with("W: Failed to fetch");
    let words = joined(said.err.lines().filter(failed).map(bare));
    if words.is_empty() && !said.status.success() {
        Some(said.last_words())
    } else {
        Some(words).filter(|w| !w.is_empty())
    }
}

fn bare(line: &str) -> &str {
    line.trim_start_matches("E: ").trim_start_matches("W: ")
}

/// Why `apt-get` has failed, and what of it can be helped.
pub(super) fn trouble(said: &Said, status: &str) -> (Option<Ill>, Trouble) {
    let lines = || said.err.lines().chain(said.out.lines());
    let mut about = about(&lines().collect::<Vec<_>>());
    about.values_mut().for_each(|words| *words = hinted(words));
    let hint = WHOLE.iter().find(|(part, _)| lines().any(|line| !line.starts_with("N: ") && line.contains(part)));
    let killed = status.starts_with("signal");
    let told = lines().filter(|line| {
        line.starts_with("E: ") || line.contains("dpkg: error") || line.starts_with("dpkg: unrecoverable")
    });
    // The sum of it all says nothing, unless nothing else does.
    let sum = |line: &&str| line.contains("Sub-process /usr/bin/dpkg returned an error code");
    let words = joined(told.clone().filter(|line| !sum(line)).map(bare));
    let words = if words.is_empty() { said.last_words() } else { words };
    let words = match hint {
        Some((_, hint)) if !words.contains(hint) => format!("{hint}: {words}"),
        _ if killed => format!("apt-get was killed ({status})"),
        _ if words.is_empty() => format!("apt-get ended with {status}"),
        _ => words,
    };
    let ill = if lines().any(|line| line.contains("dpkg was interrupted")) {
        Some(Ill::Interrupted)
    } else if killed {
        Some(Ill::Killed)
    } else {
        let gone = |line: &str| line.contains("404") || line.contains("File not found");
        lines().any(|line| line.starts_with("E: Failed to fetch") && gone(line)).then_some(Ill::Stale)
    };
    (ill, Trouble { whole: killed || hint.is_some(), words, about })
}

/// With what it means, if that is known.
fn hinted(words: &str) -> String {
    match WHOLE.iter().find(|(part, hint)| words.contains(part) && !words.contains(hint)) {
        Some((_, hint)) => format!("{hint}: {words}"),
        None => words.to_owned(),
    }
}

/// What is said of single packages: by dpkg in two lines, by apt in one.
fn about(lines: &[&str]) -> BTreeMap<String, String> {
    let mut about = BTreeMap::new();
    let mut unmet = false;
    for (number, line) in lines.iter().enumerate() {
        unmet = line.starts_with("The following packages have unmet dependencies") || (unmet && line.starts_with(' '));
        if let Some((name, why)) = line.split_once(" : ").filter(|_| unmet && line.starts_with(' ')) {
            put(&mut about, name.trim(), why.trim());
        }
        let reason = lines.get(number + 1).filter(|next| next.starts_with(' ')).map_or("", |next| next.trim());
        if let Some(rest) = line.strip_prefix("dpkg: error processing package ") {
            let name = rest.split(' ').next().unwrap_or_default();
            put(&mut about, name, if reason.is_empty() { line } else { reason });
        } else if let Some(rest) = line.strip_prefix("dpkg: error processing archive ") {
            let file = rest.split(' ').next().unwrap_or_default();
            put(&mut about, of_file(file), if reason.is_empty() { line } else { reason });
        } else if let Some(rest) = line.strip_prefix("E: Failed to fetch ") {
            let url = rest.split(' ').next().unwrap_or_default();
            put(&mut about, of_file(url), bare(line));
        }
    }
    about
}

fn put(about: &mut BTreeMap<String, String>, name: &str, words: &str) {
    // A package is named with its architecture where it could stand in several.
    let plain = name.split(':').next().unwrap_or(name);
    for name in [name, plain].into_iter().filter(|name| !name.is_empty()) {
        about.entry(name.to_owned()).or_insert_with(|| joined([words]));
    }
}

/// The package of `…/NAME_VERSION_ARCHITECTURE.deb`.
fn of_file(path: &str) -> &str {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split('_').next().unwrap_or(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    fn said(code: i32, err: &str) -> Said {
        Said { status: ExitStatus::from_raw(code << 8), out: String::new(), err: err.to_owned() }
    }

    #[test]
    fn a_policy_names_candidates_and_versions() {
        let text = "\
bash:
  Installed: 5.2.15-2+b8
  Candidate: 5.2.15-2+b13
  Version table:
     5.2.15-2+b13 500
        500 http://deb.example.org/debian bookworm/main amd64 Packages
 *** 5.2.15-2+b8 100
        100 /var/lib/dpkg/status
libc6:i386:
  Installed: (none)
  Candidate: (none)
  Version table:
";
        let offers = policy(text);
        assert_eq!(offers["bash"].newest.as_deref(), Some("5.2.15-2+b13"));
        assert_eq!(offers["bash"].versions, ["5.2.15-2+b13", "5.2.15-2+b8"]);
        assert_eq!(offers["libc6:i386"], Offer::default());
        assert_eq!(offers.len(), 2);
        assert!(policy("  Candidate: 1\nx\n\n:::\n").len() <= 1);
    }

    #[test]
    fn troubles_are_told_in_the_tools_words() {
        let text = "\
dpkg: error processing package bad (--configure):
 installed bad package post-installation script subprocess returned error exit status 1
Errors were encountered while processing:
 bad
E: Sub-process /usr/bin/dpkg returned an error code (1)
";
        let (ill, told) = trouble(&said(100, text), "exit status 100");
        assert_eq!((ill, told.whole), (None, false));
        let about = "installed bad package post-installation script subprocess returned error exit status 1";
        assert_eq!(told.of("bad"), about);

        let text = "The following packages have unmet dependencies:\n torn : Depends: nowhere but it is not installable\n\
                    E: Unable to correct problems, you have held broken packages.\n other : said later\n";
        let (ill, told) = trouble(&said(100, text), "exit status 100");
        assert_eq!((ill, told.whole, told.about.len()), (None, false, 1));
        assert_eq!(told.of("torn"), "Depends: nowhere but it is not installable");

        let text = "dpkg: error processing archive /var/cache/apt/archives/big_1.0_all.deb (--unpack):\n cannot copy: failed \
                    to write (No space left on device)\n";
        let (_, told) = trouble(&said(100, text), "exit status 100");
        assert!(told.whole);
        assert_eq!(told.of("big"), "the disk is full: cannot copy: failed to write (No space left on device)");

        let text = "E: Failed to fetch file:/srv/r/./a_1.0_all.deb  File not found - /srv/r/./a_1.0_all.deb (2: No such \
                    file or directory)\nE: Unable to fetch some archives, maybe run apt-get update?\n";
        let (ill, told) = trouble(&said(100, text), "exit status 100");
        assert_eq!((ill, told.whole), (Some(Ill::Stale), false));
        assert!(told.of("a").starts_with("Failed to fetch file:/srv/r/./a_1.0_all.deb"), "{told:?}");

        let text = "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem. \n";
        let (ill, told) = trouble(&said(100, text), "exit status 100");
        assert_eq!((ill, told.whole), (Some(Ill::Interrupted), true));

        let text = "E: You don't have enough free space in /var/cache/apt/archives/.\n";
        let (ill, told) = trouble(&said(100, text), "exit status 100");
        assert_eq!((ill, told.whole), (None, true));
        assert_eq!(told.words, "the disk is full: You don't have enough free space in /var/cache/apt/archives/.");

        let (ill, told) = trouble(&said(0, ""), "signal 9");
        assert_eq!((ill, told.words.as_str()), (Some(Ill::Killed), "apt-get was killed (signal 9)"));
        let (_, told) = trouble(&said(1, ""), "exit status 1");
        assert_eq!(told.words, "apt-get ended with exit status 1");
    }

    #[test]
    fn what_was_not_fetched_is_told() {
        assert_eq!(unfetched(&said(0, "")), None);
        let text =
            "W: Failed to fetch http://x/InRelease  Could not connect\nW: Some index files failed to download.\n";
        assert_eq!(unfetched(&said(0, text)).as_deref(), Some("Failed to fetch http://x/InRelease  Could not connect"));
        assert!(locked(&said(100, "E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1\n")));
    }
}
