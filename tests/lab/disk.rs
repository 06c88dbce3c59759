//! Small real file systems that can be cut off, filled and made read-only. They go away with their test.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::scratch::Scratch;
use crate::wait::until;

/// The kinds there are, with the smallest image that mkfs accepts or a test needs, in MiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
}

impl Kind {
    const fn mebibytes(self) -> u32 {
        match self {
            Self::Ext4 => 64,
            Self::Xfs => 320,
        }
    }
}

/// Runs a program that has to succeed.
#[track_caller]
fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Something mounted, until this is dropped.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// Mounts with these arguments of mount(8) at `point`, which is made.
    pub(crate) fn new(arguments: &[&str], point: &Path) -> Self {
        if !point.exists() {
            fs::create_dir(point).unwrap();
        }
        run("mount", &[arguments, &[point.to_str().unwrap()]].concat());
        Self(point.to_owned())
    }

    /// A file system in memory of this size.
    pub(crate) fn memory(point: &Path, mebibytes: u32) -> Self {
        Self::new(&["-t", "tmpfs", "-o", &format!("mode=755,size={mebibytes}m"), "mgmt-lab"], point)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn read_only(&self, yes: bool) {
        let how = if yes { "remount,ro" } else { "remount,rw" };
        // Busy for as long as anybody has a file open for writing there: a child that another test is just starting has
        // ours until it executes its program. Whoever pauses an agent first does so when it is idle.
        until("the file system lets itself be remounted", || {
            let output = Command::new("mount").args(["-o", how]).arg(&self.0).output().unwrap();
            let busy = String::from_utf8_lossy(&output.stderr).contains("busy");
            assert!(output.status.success() || busy, "{output:?}");
            output.status.success()
        });
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let unmount = |lazily: &[&str]| Command::new("umount").args(lazily).arg(&self.0).status().unwrap().success();
        // Somebody may still be in it if the test has failed.
        assert!(unmount(&[]) || unmount(&["-l"]) || std::thread::panicking(), "{} stays mounted", self.0.display());
    }
}

/// A real file system on a loop device, whose image is in memory.
pub(crate) struct Disk {
    // Unmounted in this order.
    mounted: Option<Mount>,
    image: PathBuf,
    _store: Mount,
    point: PathBuf,
}

impl Disk {
    /// Makes one in a scratch directory, and mounts it.
    pub(crate) fn new(scratch: &Scratch, kind: Kind) -> Self {
        Self::of(scratch, kind, kind.mebibytes())
    }

    /// One of so many MiB. Memory is taken by what is written to it.
    pub(crate) fn of(scratch: &Scratch, kind: Kind, mebibytes: u32) -> Self {
        let store = Mount::memory(&scratch.path("store"), mebibytes + 8);
        let image = store.path().join("image");
        fs::File::create(&image).unwrap().set_len(u64::from(mebibytes) << 20).unwrap();
        let name = image.to_str().unwrap();
        match kind {
            Kind::Ext4 => run("mkfs.ext4", &["-q", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", name]),
            Kind::Xfs => run("mkfs.xfs", &["-q", name]),
        }
        let mut disk = Self { mounted: None, image, _store: store, point: scratch.path("disk") };
        disk.mount();
        disk
    }

    fn mount(&mut self) {
        self.mounted = Some(Mount::new(&["-o", "loop", self.image.to_str().unwrap()], &self.point));
    }

    pub(crate) fn path(&self) -> &Path {
        &self.point
    }

    pub(crate) fn read_only(&self, yes: bool) {
        self.mounted.as_ref().unwrap().read_only(yes);
    }

    /// The power fails: whatever is not on the medium is gone, and every access fails from now on.
    pub(crate) fn cut(&self) {
        run("xfs_io", &["-x", "-c", "shutdown", self.point.to_str().unwrap()]);
    }

    /// The power is back. Nobody may hold anything open there.
    pub(crate) fn power(&mut self) {
        self.mounted = None;
        self.mount();
    }

    fn filler(&self) -> PathBuf {
        self.point.join("filler")
    }

    /// Fills it to the last block.
    pub(crate) fn fill(&self) {
        let mut filler = fs::OpenOptions::new().create(true).append(true).open(self.filler()).unwrap();
        for piece in [1 << 20, 4096, 512] {
            // What cannot be written back for lack of space is found out by the sync.
            while filler.write_all(&vec![b'x'; piece]).is_ok() {}
            let _full = filler.sync_all();
        }
    }

    /// Gives the space back.
    pub(crate) fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
        run("sync", &["-f", self.point.to_str().unwrap()]);
    }
}
