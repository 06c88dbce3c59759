//! What was collected last, on disk: it stays in force while there is no mesh, over restarts.
//!
//! One file of JSON lines, replaced whole: a head, a line an entry, and a sum over both. What is damaged counts as
//! nothing known, which removes nothing. Must not know what an entry means.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mgmt_consensus::ClusterId;
use mgmt_consensus::mutant::{self, Mutant};
use mgmt_engine::Clock;
use mgmt_store::view::Collect;
use mgmt_store::{Key, Revision, Value, View};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Sight;

/// The file's name in the state directory.
const NAME: &str = "collected";
/// That of the mark beside it: more has been gone by since it was written.
const OUTDATED: &str = "outdated";
const VERSION: u32 = 1;
/// Longer files are not ours: the largest store, as this is written.
const BYTES_MAX: u64 = 512 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Head {
    v: u32,
    cluster: String,
    revision: u64,
    at_ms: u64,
    asked: Vec<Asked>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Asked {
    kind: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Line {
    Entry {
        key: String,
        value: String,
        /// Of a mesh before this one.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        inherited: bool,
    },
    Sum {
        sum: String,
    },
}

/// Where it is kept. Copies are the same place.
#[derive(Debug, Clone)]
pub struct Memory {
    path: PathBuf,
    newest: Arc<Mutex<Newest>>,
    /// The last turn that was kept. Held while it is written: one file is not written by two at once.
    kept: Arc<Mutex<u64>>,
}

/// When something became known, for whoever keeps it: what is older than what is kept is not kept any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn(pub u64);

/// What became known last. Held while the mark is made or taken away.
#[derive(Debug, Default)]
struct Newest {
    turn: u64,
    marked: bool,
}

/// What was kept.
#[derive(Debug, Clone, Default)]
pub struct Remembered {
    /// Of which mesh.
    cluster: Option<String>,
    /// When it was known to be so.
    pub at: Option<SystemTime>,
    sight: Sight,
    /// What of it was taken along from a mesh before that one.
    inherited: BTreeMap<Key, Value>,
}

impl Remembered {
    /// Reads what was kept.
    ///
    /// # Errors
    /// It cannot be read, or it is damaged.
    pub fn parse(mut lines: impl BufRead) -> io::Result<Self> {
        let damaged = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let (mut sum, mut line) = (Sha256::new(), String::new());
        lines.read_line(&mut line)?;
        sum.update(&line);
        let head: Head = serde_json::from_str(&line)?;
        if head.v != VERSION {
            return Err(damaged("it was written by another version of this program"));
        }
        let (mut entries, mut old) = (Vec::new(), BTreeMap::new());
        loop {
            line.clear();
            if lines.read_line(&mut line)? == 0 {
                return Err(damaged("its end is missing"));
            }
            match serde_json::from_str(&line)? {
                Line::Sum { sum: told } => {
                    if told != hex(sum) {
                        return Err(damaged("it is damaged"));
                    }
                    break;
                }
                Line::Entry { key, value, inherited } => {
                    let value = STANDARD.decode(value).map_err(|_| damaged("an entry is damaged"))?;
                    let (key, value) = (Key::parse(&key).map_err(|_| damaged("a key is damaged"))?, Value::from(value));
                    if inherited {
                        old.insert(key.clone(), value.clone());
                    }
                    entries.push((key, value));
                    sum.update(&line);
                }
            }
        }
        let asked = head.asked.into_iter().map(|Asked { kind, name, hosts }| Collect { kind, name, hosts }).collect();
        let view = View::remembered(Revision(head.revision), entries);
        let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(head.at_ms);
        Ok(Self { cluster: Some(head.cluster), at: Some(at), sight: Sight { asked, view }, inherited: old })
    }

    /// What was known then.
    #[must_use]
    pub fn sight(&self) -> Sight {
        self.sight.clone()
    }

    /// What is taken along into this mesh: of the same one only what it inherited itself, since its store knows better.
    #[must_use]
    pub fn inherited(&self, cluster: ClusterId) -> BTreeMap<Key, Value> {
        if self.cluster.as_deref() == Some(&cluster.to_string()) {
            return self.inherited.clone();
        }
        self.sight.view.entries().map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}

impl Memory {
    /// In the state directory of an agent.
    #[must_use]
    pub fn in_directory(directory: &Path) -> Self {
        Self { path: directory.join(NAME), newest: Arc::default(), kept: Arc::default() }
    }

    /// For what is known now.
    #[must_use]
    pub fn turn(&self) -> Turn {
        let mut newest = self.newest();
        newest.turn += 1;
        Turn(newest.turn)
    }

    /// For what is known now, and gone by before it is kept: whoever loads what is kept until then does not take it for
    /// all there was. No sync: what a crash of the machine takes with the mark, it takes with all that was done later on
    /// the same file system.
    ///
    /// # Errors
    /// What kept the mark from being made; the turn all the same.
    pub fn outdate(&self) -> Result<Turn, (Turn, io::Error)> {
        let mut newest = self.newest();
        newest.turn += 1;
        let turn = Turn(newest.turn);
        if !newest.marked {
            let mut options = OpenOptions::new();
            let made = options.write(true).create(true).truncate(false).mode(0o600).open(self.mark());
            made.map_err(|error| (turn, error))?;
            newest.marked = true;
        }
        Ok(turn)
    }

    fn mark(&self) -> PathBuf {
        self.path.with_extension(OUTDATED)
    }

    fn newest(&self) -> MutexGuard<'_, Newest> {
        // Nothing in here panics half way: what a poisoned lock guards is whole.
        self.newest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was kept. What cannot be read is said, and counts as nothing.
    #[must_use]
    pub fn load(&self) -> Remembered {
        match self.read() {
            Ok(mut remembered) => {
                if self.mark().exists() && !mutant::is(Mutant::StaleMemoryTrusted) {
                    // What there is of each is not known to be all of it.
                    remembered.sight.asked.clear();
                }
                remembered
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Remembered::default(),
            Err(error) => {
                tracing::warn!(
                    "cannot read what was collected from {}: {error}; nothing is known until the mesh is here",
                    self.path.display()
                );
                Remembered::default()
            }
        }
    }

    fn read(&self) -> io::Result<Remembered> {
        Remembered::parse(BufReader::new(File::open(&self.path)?.take(BYTES_MAX)))
    }

    /// Replaces what is kept: whole or not at all. `view`: what of it this mesh has; the rest is of one before.
    ///
    /// # Errors
    /// What kept it from being written.
    pub fn keep(&self, turn: Turn, cluster: ClusterId, sight: &Sight, view: &View) -> io::Result<()> {
        // Nothing in here panics half way with the number changed.
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if turn.0 < *kept {
            return Ok(());
        }
        self.write(cluster, sight, view)?;
        *kept = turn.0;
        let mut newest = self.newest();
        if newest.marked && newest.turn == turn.0 {
            std::fs::remove_file(self.mark())?;
            newest.marked = false;
        }
        Ok(())
    }

    fn write(&self, cluster: ClusterId, sight: &Sight, view: &View) -> io::Result<()> {
        let temporary = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        let mut out = BufWriter::new(file);
        let mut sum = Sha256::new();
        let mut put = |mut line: Vec<u8>| -> io::Result<()> {
            line.push(b'\n');
            sum.update(&line);
            out.write_all(&line)
        };
        let since = Clock::wall().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let asked = sight.asked.iter().cloned().map(|Collect { kind, name, hosts }| Asked { kind, name, hosts });
        let head = Head {
            v: VERSION,
            cluster: cluster.to_string(),
            revision: sight.view.revision().0,
            at_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
            asked: asked.collect(),
        };
        put(serde_json::to_vec(&head)?)?;
        for (key, value) in sight.view.entries() {
            let inherited = view.get(key).is_none();
            let entry = Line::Entry { key: key.to_string(), value: STANDARD.encode(value), inherited };
            put(serde_json::to_vec(&entry)?)?;
        }
        let end = serde_json::to_string(&Line::Sum { sum: hex(sum) })?;
        writeln!(out, "{end}")?;
        let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_data()?;
        std::fs::rename(&temporary, &self.path)
    }
}

fn hex(sum: Sha256) -> String {
    crate::control::mesh::hex(&sum.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight() -> Sight {
        let entry = |key: &str, value: &[u8]| (Key::parse(key).unwrap(), Value::from(value));
        let entries = [entry("x/a/file/one", b"{}"), entry("x/b/file/two \u{fc}", b"\xff\x00")];
        let asked = vec![Collect { kind: "file".into(), name: None, hosts: vec!["a*".into()] }];
        Sight { asked, view: View::remembered(Revision(7), entries) }
    }

    #[test]
    fn what_is_kept_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::in_directory(directory.path());
        assert!(memory.load().at.is_none());
        let cluster = ClusterId::draw(|| 1);
        memory.keep(memory.turn(), cluster, &sight(), &sight().view).unwrap();
        let loaded = memory.load();
        assert_eq!((loaded.sight(), loaded.sight().view.revision()), (sight(), Revision(7)));
        assert!(loaded.inherited(cluster).is_empty(), "its store knows better");
        memory.keep(memory.turn(), cluster, &sight(), &View::default()).unwrap();
        assert_eq!(memory.load().inherited(cluster).len(), 2, "of which its store knows nothing");
        assert_eq!(loaded.inherited(ClusterId::draw(|| 2)).len(), 2);
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&memory.path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_is_older_replaces_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::in_directory(directory.path());
        let (cluster, old, new) = (ClusterId::draw(|| 1), memory.turn(), memory.clone().turn());
        memory.keep(new, cluster, &sight(), &sight().view).unwrap();
        memory.clone().keep(old, cluster, &Sight::default(), &View::default()).unwrap();
        assert_eq!(memory.load().sight(), sight());
        memory.keep(memory.turn(), cluster, &Sight::default(), &View::default()).unwrap();
        assert_eq!(memory.load().sight(), Sight::default());
    }

    #[test]
    fn what_is_outdated_is_not_all_there_was() {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::in_directory(directory.path());
        let known = || {
            let loaded = Memory::in_directory(directory.path()).load().sight();
            (loaded.view == sight().view, loaded.asked == sight().asked)
        };
        let keep = |turn| memory.keep(turn, ClusterId::draw(|| 1), &sight(), &sight().view).unwrap();
        keep(memory.outdate().unwrap());
        assert_eq!(known(), (true, true));
        let (second, third) = (memory.outdate().unwrap(), memory.outdate().unwrap());
        assert_eq!(known(), (true, false));
        keep(second);
        assert_eq!(known(), (true, false), "more is gone by already");
        keep(third);
        assert_eq!(known(), (true, true));
    }

    #[test]
    fn what_is_damaged_is_nothing_known() {
        let directory = tempfile::tempdir().unwrap();
        let memory = Memory::in_directory(directory.path());
        memory.keep(memory.turn(), ClusterId::draw(|| 1), &sight(), &sight().view).unwrap();
        let whole = std::fs::read(&memory.path).unwrap();
        for end in 0..whole.len() {
            std::fs::write(&memory.path, &whole[..end]).unwrap();
            assert_eq!(memory.read().is_ok(), end == whole.len() - 1, "cut at {end}");
        }
        for at in 0..whole.len() - 1 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&memory.path, &bytes).unwrap();
            assert!(memory.read().is_err(), "changed at {at}: {:?}", String::from_utf8_lossy(&bytes));
        }
    }
}
