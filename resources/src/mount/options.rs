//! Options of mounts: which of those that are wanted a mount lacks, as far as the kernel shows them. Pure.

use super::table::Mounted;

/// Options that the kernel shows for what they exclude, or not at all when they are the default.
const OPPOSITES: [(&str, &str); 7] = [
    ("rw", "ro"),
    ("suid", "nosuid"),
    ("dev", "nodev"),
    ("exec", "noexec"),
    ("diratime", "nodiratime"),
    ("async", "sync"),
    ("symfollow", "nosymfollow"),
];
/// Options that are shown as themselves.
const SHOWN: [&str; 9] =
    ["ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "sync", "nosymfollow", "strictatime"];

/// The wanted options that a mount is known to lack. Of what the kernel does not show nothing is known.
pub(super) fn missing(wanted: &[String], mounted: &Mounted) -> Vec<String> {
    wanted.iter().filter(|option| lacks(option, mounted)).cloned().collect()
}

fn lacks(option: &str, mounted: &Mounted) -> bool {
    let shown = |option: &str| mounted.options.iter().any(|one| one == option);
    if let Some((_, opposite)) = OPPOSITES.iter().find(|(option_, _)| *option_ == option) {
        return shown(opposite);
    }
    if SHOWN.contains(&option) {
        return match option {
            // The kernel shows nothing where times are strict.
            "strictatime" => shown("noatime") || shown("relatime"),
            option => !shown(option),
        };
    }
    let Some((key, value)) = option.split_once('=') else { return false };
    let is = mounted.own.iter().find_map(|one| one.strip_prefix(key)?.strip_prefix('='));
    match (is, number(key, value)) {
        (None, _) => false,
        (Some(is), None) => is != value && number(key, is).is_none() && is_word(value),
        (Some(is), Some(wanted)) => number(key, is).is_some_and(|is| is != wanted),
    }
}

/// Values that are neither a number nor a part of something are compared as they are.
fn is_word(value: &str) -> bool {
    value.bytes().all(|byte| byte.is_ascii_alphabetic())
}

/// A number as it is written: with a unit, or octal where it is a mode.
fn number(key: &str, text: &str) -> Option<u64> {
    if key.ends_with("mode") || key.ends_with("mask") {
        return u64::from_str_radix(text, 8).ok();
    }
    let (digits, unit) = match text.char_indices().next_back()? {
        (at, 'k' | 'K') => (&text[..at], 1 << 10),
        (at, 'm' | 'M') => (&text[..at], 1 << 20),
        (at, 'g' | 'G') => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lacking(wanted: &str, options: &str, own: &str) -> String {
        let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        let mounted = Mounted {
            source: "tmpfs".to_owned(),
            fstype: "tmpfs".to_owned(),
            options: list(options).into_iter().chain(list(own)).collect(),
            own: list(own),
        };
        missing(&list(wanted), &mounted).join(",")
    }

    #[test]
    fn what_the_kernel_shows_is_compared() {
        assert_eq!(lacking("defaults", "rw,relatime", "rw"), "");
        assert_eq!(lacking("ro,noatime,nosuid", "rw,noatime", "rw"), "ro,nosuid");
        assert_eq!(lacking("rw", "ro,relatime", "rw"), "rw");
        assert_eq!(lacking("exec,dev,suid", "rw,noexec", "rw"), "exec");
        assert_eq!(lacking("strictatime", "rw,relatime", "rw"), "strictatime");
        assert_eq!(lacking("size=10m,mode=0755", "rw", "rw,size=10240k,mode=755"), "");
        assert_eq!(lacking("size=20m,mode=700", "rw", "rw,size=10240k,mode=755"), "size=20m,mode=700");
        assert_eq!(lacking("data=journal", "rw", "rw,data=ordered"), "data=journal");
        assert_eq!(lacking("size=50%,x-systemd.automount,_netdev,uid=0", "rw", "rw,size=10240k"), "");
    }
}
