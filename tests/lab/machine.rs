//! What a test needs of the machine, and what is said when it lacks something.

use std::io::Write as _;
use std::path::Path;

/// Something that not every machine has.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Need {
    /// To be root.
    Root,
    /// A program in `PATH`.
    Program(&'static str),
    /// Free loop devices.
    Loop,
    /// strace that may trace and kill.
    Strace,
    /// User namespaces with limits of their own.
    UserNamespaces,
}

/// What every test that mounts a file system from an image needs.
pub(crate) const EXT4: &[Need] = &[Need::Root, Need::Loop, Need::Program("mkfs.ext4"), Need::Program("xfs_io")];
/// The same with XFS.
pub(crate) const XFS: &[Need] = &[Need::Root, Need::Loop, Need::Program("mkfs.xfs"), Need::Program("xfs_io")];

impl Need {
    /// Why it is not there; `None` if it is.
    fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!rustix::process::geteuid().is_root()).then(|| "root".to_owned()),
            Self::Program(name) => (!in_path(name)).then(|| name.to_owned()),
            Self::Loop => (!Path::new("/dev/loop-control").exists()).then(|| "loop devices".to_owned()),
            Self::Strace => {
                (!runs("strace", &["-f", "-o", "/dev/null", "true"])).then(|| "strace that may trace".into())
            }
            Self::UserNamespaces => {
                let set = "echo 50 > /proc/sys/user/max_inotify_watches";
                (!runs("unshare", &["-U", "-r", "sh", "-c", set])).then(|| "user namespaces with own limits".into())
            }
        }
    }
}

fn in_path(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(name).is_file())
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    std::process::Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Whether the test that calls from inside `place` may run. Panics instead of skipping if nothing may be missing.
pub(crate) fn has(place: &str, needs: &[&[Need]]) -> bool {
    let name = place.trim_end_matches("::here").trim_start_matches("lab::");
    let lab = std::env::var("MGMT_LAB").unwrap_or_default();
    let missing = if lab.is_empty() {
        "set MGMT_LAB=1 (needs root)".to_owned()
    } else {
        let missing: Vec<_> = needs.iter().copied().flatten().filter_map(|need| need.missing()).collect();
        if missing.is_empty() {
            return true;
        }
        assert!(lab != "require", "{name} needs {}", missing.join(", "));
        format!("needs {}", missing.join(", "))
    };
    aloud(&format!("skipped: {name}: {missing}"));
    false
}

/// Says a figure that a reader of the test's output wants to know.
pub(crate) fn say(text: &str) {
    aloud(&format!("lab: {text}"));
}

/// Not by a macro: the harness keeps to itself what those print of a test that passes.
fn aloud(line: &str) {
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}
