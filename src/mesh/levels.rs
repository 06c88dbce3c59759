//! Feature levels: what this program understands, what the mesh uses, and what is said where the two do not meet.
//!
//! Hosts of two versions live in one mesh while it is upgraded. The level that is in force is in the store, rises once all
//! members understand it, and never falls. A program that does not understand it stops: what it has not learnt yet it
//! would do otherwise than the others. Each host writes the level down beside its papers, so that an older program finds it
//! there before it looks at anything else.

use std::sync::Arc;

use mgmt_store::record::Versions;
use mgmt_store::{Keyspace, Revision, Shared};

use super::place::{Part, Place};

/// What this program understands.
pub const VERSIONS: Versions = Versions { min: 0, max: 1 };

/// What is said on a host whose program does not understand the level of its mesh.
#[must_use]
pub fn outdated(level: u32, versions: Versions) -> String {
    let Versions { min, max } = versions;
    let remedy = if level > max {
        "bring mgmt on this host up to date; what it has is as it was"
    } else {
        "bring this host to a version in between first, so that the mesh can rise; what it has is as it was"
    };
    format!("the mesh uses feature level {level}, and this program understands {min} to {max}: {remedy}")
}

/// What a host is told that is not let in.
#[must_use]
pub fn not_let_in(host: &str, level: u32, versions: Versions) -> String {
    let Versions { min, max } = versions;
    let remedy = if level > max {
        format!("bring mgmt on {host} up to date, and join again")
    } else {
        format!("bring the mesh up to date first, or {host} to a version in between")
    };
    format!("this mesh uses feature level {level}, and the mgmt of {host} understands {min} to {max}: {remedy}")
}

/// The level of the mesh that this host was in last, if it was in one.
///
/// # Errors
/// The file cannot be read, or says something else.
pub fn remembered(place: &Place) -> std::io::Result<Option<u32>> {
    let Some(text) = place.load(Part::Level)? else { return Ok(None) };
    let level = text.trim().parse();
    let strange = |_| {
        let why = format!("{} does not hold a feature level", place.path(Part::Level).display());
        std::io::Error::new(std::io::ErrorKind::InvalidData, why)
    };
    level.map(Some).map_err(strange)
}

/// Writes the level down whenever it rises, for as long as it is polled.
pub async fn remember(shared: Arc<Shared>, place: Place) {
    let (mut written, mut seen) = (None, Revision(0));
    loop {
        seen = shared.changed_since(seen).await;
        let level = shared.read(Keyspace::feature_level);
        if written == Some(level) {
            continue;
        }
        if write(&place, level) {
            written = Some(level);
        }
    }
}

/// Whether it could be written down. Without it an older program finds out a little later, when it comes upon the level.
pub fn write(place: &Place, level: u32) -> bool {
    let written = place.save(Part::Level, &level.to_string());
    written.inspect_err(|error| tracing::warn!("cannot write down the feature level of the mesh: {error}")).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_names_both_and_the_remedy() {
        let old = Versions { min: 0, max: 1 };
        assert_eq!(
            outdated(2, old),
            "the mesh uses feature level 2, and this program understands 0 to 1: bring mgmt on this host up to date; what \
             it has is as it was"
        );
        assert_eq!(
            not_let_in("web1", 2, old),
            "this mesh uses feature level 2, and the mgmt of web1 understands 0 to 1: bring mgmt on web1 up to date, and \
             join again"
        );
        let new = Versions { min: 3, max: 4 };
        assert!(outdated(2, new).contains("a version in between"));
        assert!(not_let_in("web1", 2, new).contains("or web1 to a version in between"));
    }

    #[test]
    fn it_is_remembered_as_it_was_written() {
        let scratch = tempfile::tempdir().unwrap();
        let place = Place::open(scratch.path()).unwrap();
        assert_eq!(remembered(&place).unwrap(), None);
        assert!(write(&place, 7));
        assert_eq!(remembered(&place).unwrap(), Some(7));
        place.save(Part::Level, "high").unwrap();
        assert!(remembered(&place).unwrap_err().to_string().ends_with("level does not hold a feature level"));
    }
}
