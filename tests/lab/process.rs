//! What the kernel knows of a process.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Pid;

/// What must not grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holdings {
    pub(crate) descriptors: usize,
    pub(crate) watches: usize,
    pub(crate) threads: usize,
    pub(crate) memory_kib: u64,
}

/// A process, by number.
#[derive(Debug, Clone)]
pub(crate) struct Process(PathBuf);

impl Process {
    pub(crate) fn new(pid: u32) -> Self {
        Self(Path::new("/proc").join(pid.to_string()))
    }

    fn list(&self, name: &str) -> Vec<PathBuf> {
        fs::read_dir(self.0.join(name)).unwrap().map(|entry| entry.unwrap().path()).collect()
    }

    pub(crate) fn holdings(&self) -> Holdings {
        let infos = self.list("fdinfo");
        let watches = |path: &PathBuf| {
            let info = fs::read_to_string(path).unwrap_or_default();
            info.lines().filter(|line| line.starts_with("inotify ")).count()
        };
        Holdings {
            descriptors: infos.len(),
            watches: infos.iter().map(watches).sum(),
            threads: self.list("task").len(),
            memory_kib: self.number(&self.0, "VmRSS:"),
        }
    }

    /// The most memory it has had, in KiB.
    pub(crate) fn memory_peak_kib(&self) -> u64 {
        self.number(&self.0, "VmHWM:")
    }

    /// Begins to count anew what is the most.
    pub(crate) fn forget_peak(&self) {
        fs::write(self.0.join("clear_refs"), "5").unwrap();
    }

    /// How often each thread has gone to sleep, and so been woken.
    pub(crate) fn sleeps(&self) -> BTreeMap<PathBuf, u64> {
        let tasks = self.list("task");
        tasks.into_iter().map(|task| (task.clone(), self.number(&task, "voluntary_ctxt_switches:"))).collect()
    }

    fn number(&self, of: &Path, key: &str) -> u64 {
        let status = fs::read_to_string(of.join("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").parse().unwrap_or_default()
    }
}

/// The processes that run with this in their command line. Tests put a number of their own there.
pub(crate) fn with(text: &str) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let found = entries.filter(|entry| {
        let of = |name: &str| fs::read(entry.path().join(name)).unwrap_or_default();
        // A zombie has no command line any more, unless it has become one since.
        String::from_utf8_lossy(&of("cmdline")).contains(text) && !String::from_utf8_lossy(&of("stat")).contains(") Z ")
    });
    found.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Whether there is one.
pub(crate) fn any_with(text: &str) -> bool {
    !with(text).is_empty()
}
