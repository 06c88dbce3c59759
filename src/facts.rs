//! What is known of this host.
//!
//! Read from files below a root directory and a few system calls; parsing is in pure functions. Promises an answer in
//! every case: what cannot be found out is absent, and never an error. Asks no service and starts no program. What kinds of
//! resource decide by is theirs to find out ([`Machine`]), and shown here.

mod parse;

use std::path::Path;

use mgmt_resources::machine::{Machine, Root};
use serde::Serialize;

/// What is known of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// Its name.
    pub hostname: String,
    /// The distribution.
    pub os: Os,
    /// The kernel's release.
    pub kernel: String,
    /// The machine's architecture, as the kernel calls it.
    pub architecture: String,
    /// What runs as the first process.
    pub init: Option<String>,
    /// The program that installs packages, guessed by what is there.
    pub package_manager: Option<&'static str>,
    /// Processors this program may use at once.
    pub cpus: Option<usize>,
    /// Memory of the machine, in bytes.
    pub memory: Option<u64>,
    /// Who runs this program.
    pub uid: u32,
    /// The name of who runs this program.
    pub user: Option<String>,
    /// The container it runs in, if it shows.
    pub container: Option<String>,
    /// The hypervisor it runs under, if it shows.
    pub virtualization: Option<&'static str>,
}

/// A distribution, from `os-release`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Os {
    /// One word, such as `debian`.
    pub id: Option<String>,
    /// For people.
    pub name: Option<String>,
    /// Such as `13`.
    pub version: Option<String>,
}

impl Facts {
    /// Those of this machine.
    pub fn gather() -> Self {
        Self::below(Path::new("/"))
    }

    /// Those that files below `root` tell; what only the kernel knows is this machine's.
    fn below(root: &Path) -> Self {
        let Machine { os, init, package_manager } = Machine::below(root);
        let root = Root(root);
        let uname = rustix::system::uname();
        let kernel = uname.release().to_string_lossy().into_owned();
        let uid = rustix::process::geteuid().as_raw();
        Self {
            hostname: hostname(),
            os: Os { id: os.id, name: os.name, version: os.version },
            architecture: uname.machine().to_string_lossy().into_owned(),
            init,
            package_manager,
            cpus: std::thread::available_parallelism().ok().map(usize::from),
            memory: root.text("proc/meminfo").and_then(|text| parse::memory(&text)),
            uid,
            user: root.text("etc/passwd").and_then(|text| parse::user(&text, uid)),
            container: container(root, &kernel),
            virtualization: virtualization(root),
            kernel,
        }
    }
}

/// This machine's name, as the kernel has it.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn container(root: Root<'_>, kernel: &str) -> Option<String> {
    // Every container manager that follows the common interface writes its name here.
    if let Some(name) = root.line("run/systemd/container") {
        return Some(name);
    }
    let hint = if root.exists("run/.containerenv") {
        "podman"
    } else if root.exists(".dockerenv") {
        "docker"
    } else if kernel.to_lowercase().contains("microsoft") {
        "wsl"
    } else {
        return None;
    };
    Some(hint.to_owned())
}

fn virtualization(root: Root<'_>) -> Option<&'static str> {
    if root.line("sys/hypervisor/type").as_deref() == Some("xen") {
        return Some("xen");
    }
    let read = |name: &str| root.line(&format!("sys/class/dmi/id/{name}")).unwrap_or_default();
    parse::hypervisor(&read("sys_vendor"), &read("product_name")).or_else(|| {
        let cpus = root.text("proc/cpuinfo")?;
        parse::is_virtual(&cpus).then_some("other")
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A directory with these files in it.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a temporary directory");
        for (name, text) in files {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().expect("below the root")).expect("a directory");
            fs::write(path, text).expect("a file");
        }
        root
    }

    #[test]
    fn a_debian_with_systemd_under_kvm() {
        let uid = rustix::process::geteuid().as_raw();
        let root = root(&[
            ("usr/lib/os-release", "ID=debian\nPRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_ID=\"13\"\n"),
            ("run/systemd/system/x", ""),
            ("usr/bin/apt-get", ""),
            ("proc/meminfo", "MemTotal:        1024 kB\n"),
            ("sys/class/dmi/id/sys_vendor", "QEMU\n"),
            ("etc/passwd", &format!("me:x:{uid}:0::/:/bin/sh\n")),
        ]);
        symlink("../usr/lib/os-release", root.path().join("etc/os-release")).expect("a link");
        let facts = Facts::below(root.path());
        assert_eq!(facts.os.id.as_deref(), Some("debian"));
        assert_eq!(facts.os.name.as_deref(), Some("Debian GNU/Linux 13 (trixie)"));
        assert_eq!(facts.os.version.as_deref(), Some("13"));
        assert_eq!(facts.init.as_deref(), Some("systemd"));
        assert_eq!(facts.package_manager, Some("apt"));
        assert_eq!(facts.memory, Some(1024 * 1024));
        assert_eq!(facts.virtualization, Some("kvm"));
        assert_eq!(facts.container, None);
        assert_eq!((facts.uid, facts.user.as_deref()), (uid, Some("me")));
    }

    #[test]
    fn an_alpine_in_a_container() {
        let root = root(&[
            ("etc/os-release", "ID=alpine\n"),
            ("sbin/apk", ""),
            ("run/.containerenv", ""),
            ("proc/1/comm", "sh\n"),
            ("proc/cpuinfo", "flags\t: fpu hypervisor sse\n"),
        ]);
        let facts = Facts::below(root.path());
        assert_eq!((facts.os.id.as_deref(), facts.os.name), (Some("alpine"), None));
        assert_eq!(facts.init.as_deref(), Some("sh"));
        assert_eq!(facts.package_manager, Some("apk"));
        assert_eq!(facts.container.as_deref(), Some("podman"));
        assert_eq!(facts.virtualization, Some("other"));
    }

    #[test]
    fn nothing_is_known_of_an_empty_root_and_that_is_no_error() {
        let facts = Facts::below(root(&[]).path());
        assert_eq!((facts.os, facts.init, facts.package_manager), (Os::default(), None, None));
        assert_eq!((facts.memory, facts.user, facts.virtualization), (None, None, None));
        assert!(!facts.kernel.is_empty() && !facts.architecture.is_empty());
    }
}
