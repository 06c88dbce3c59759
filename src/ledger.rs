//! Refreshes that are owed, on disk: a crash between a change and the refresh it asks for loses neither.
//!
//! One text file, a line a vertex, replaced whole by rename. Read once, at the start.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use mgmt_engine::Id;
use mgmt_engine::runner::Ledger;

/// Longer files are not ours.
const BYTES_MAX: u64 = 16 << 20;

/// The file of debts.
#[derive(Debug)]
pub struct Owed {
    path: PathBuf,
}

impl Owed {
    /// In this state directory.
    pub fn in_directory(directory: &Path) -> Self {
        Self { path: directory.join("owed") }
    }

    /// What an earlier run of the program still owed. What cannot be read is said, and counts as nothing.
    pub fn load(&self) -> BTreeSet<Id> {
        match self.read() {
            Ok(ids) => ids,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => {
                tracing::warn!("cannot read pending refreshes from {}: {error}", self.path.display());
                BTreeSet::new()
            }
        }
    }

    fn read(&self) -> io::Result<BTreeSet<Id>> {
        let file = File::open(&self.path)?;
        let mut ids = BTreeSet::new();
        for line in BufReader::new(io::Read::take(file, BYTES_MAX)).lines() {
            let line = line?;
            match Id::parse(&line) {
                Some(id) => drop(ids.insert(id)),
                None => tracing::warn!("ignoring a line of {} that names no resource", self.path.display()),
            }
        }
        Ok(ids)
    }
}

impl Ledger for Owed {
    fn keep(&self, owed: &[Id], durable: bool) -> io::Result<()> {
        let temporary = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let mut text = String::new();
        for id in owed {
            text.push_str(&id.to_string());
            text.push('\n');
        }
        file.write_all(text.as_bytes())?;
        // What takes the place of a synced list has to be whole after a power cut, even if it is not urgent.
        if durable || !owed.is_empty() {
            file.sync_data()?;
        }
        std::fs::rename(&temporary, &self.path)?;
        if durable && let Some(directory) = self.path.parent() {
            File::open(directory)?.sync_all()?;
        }
        Ok(())
    }

    fn lost(&self, error: &io::Error) {
        tracing::error!(
            "cannot remember pending refreshes in {}: {error}; a crash now could lose one",
            self.path.display()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let owed = Owed::in_directory(directory.path());
        assert!(owed.load().is_empty());
        let ids = [Id::new("exec", "reload [a]"), Id::new("svc", "nginx")];
        owed.keep(&ids, true).unwrap();
        assert_eq!(owed.load(), BTreeSet::from(ids));
        owed.keep(&[], false).unwrap();
        assert!(owed.load().is_empty());
    }
}
