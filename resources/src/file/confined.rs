//! Whether a path that somebody else has named may be one, by its text alone. Pure. What stands on the way is another
//! question, asked each time it is gone.

use std::path::{Path, PathBuf};

use super::never;
use super::strays;
use crate::kind::normal;

/// The longest name that file systems take.
const NAME_BYTES_MAX: usize = 255;
/// The longest path that the kernel takes, with the zero byte at its end.
const PATH_BYTES_MAX: usize = 4096;

/// Why `text`, a path as it was written, may not be one below `beneath`. Nothing that could be read in two ways passes.
pub(super) fn refusal(text: &str, beneath: &Path, protected: &[PathBuf]) -> Option<String> {
    if text.contains('\0') {
        // The rules for all paths say so.
        return None;
    }
    let path = normal(Path::new(text));
    let below = beneath.display();
    // A slash at the end says that it is a directory.
    let parts: Vec<&str> = text.strip_suffix('/').unwrap_or(text).split('/').collect();
    if parts.contains(&"..") {
        return Some(format!("{text} has a part \"..\", and must stay below {below}: write it without"));
    }
    if !text.starts_with('/') || path == beneath || !path.starts_with(beneath) {
        return Some(format!("{text} does not lie below {below}, where it has to stay"));
    }
    if parts.last() == Some(&"") || parts.contains(&".") {
        return Some(format!("{text} has a part that is empty or \".\": write it without"));
    }
    if parts.iter().any(|part| part.len() > NAME_BYTES_MAX) || text.len() >= PATH_BYTES_MAX {
        return Some(format!("a name in it is longer than {NAME_BYTES_MAX} bytes, or all of it than {PATH_BYTES_MAX}"));
    }
    if parts.iter().any(|part| strays::is_temporary(part.as_ref())) {
        return Some(format!("{text} has a name that this program gives to its temporary files"));
    }
    let protected = protected.iter().find(|protected| never::touches(&path, protected))?;
    Some(format!("this program lives by {}, and somebody else has named {text}", protected.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> bool {
        refusal(text, Path::new("/p"), &[PathBuf::from("/p/state"), PathBuf::from("/p/etc/graph.yaml")]).is_some()
    }

    #[test]
    fn what_lies_strictly_below_may_be_one() {
        for text in ["/p/a", "/p/a/", "/p/a/b", "/p//a", "/p/..a", "/p/...", "/p/a..", "/p/.a", "/p/ä\n", "/p/stat"] {
            assert!(!refused(text), "{text}");
        }
        assert!(!refused(&format!("/p/{}", "x".repeat(255))));
        assert!(refusal("/a", Path::new("/"), &[]).is_none());
    }

    #[test]
    fn what_could_lead_out_is_refused() {
        for text in ["/", "/p", "/p/", "/p//", "/q", "/pq", "/pq/a", "p/a", "a", ""] {
            assert!(refused(text), "{text}: elsewhere");
        }
        for text in ["/p/..", "/p/../", "/p/../x", "/p/a/../b", "/p/a/..", "/../p/a", "/q/../p/a"] {
            assert!(refused(text), "{text}: goes up");
        }
        for text in ["/p/.", "/p/./", "/p/a/.", "/p/./a", "/p/a//", "/p/a/b//"] {
            assert!(refused(text), "{text}: empty or dot");
        }
        assert!(refused(&format!("/p/{}", "x".repeat(256))));
        assert!(refused(&format!("/p/{}/x", "x".repeat(256))));
        assert!(refused(&format!("/p{}", "/x".repeat(2047))), "too long in all");
    }

    #[test]
    fn what_the_program_lives_by_is_refused() {
        for text in ["/p/state", "/p/state/", "/p/state/x", "/p/etc/graph.yaml", "/p/etc/", "/p/.mgmt~12-3"] {
            assert!(refused(text), "{text}");
        }
        assert!(refusal("/state", Path::new("/"), &[PathBuf::from("/state/a")]).is_some());
    }
}
