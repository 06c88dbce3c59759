//! The table entry of `mount`, and its parameters turned into what is wanted.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::fstab::Entry;
use super::{Mount, Want, What, is_protected};
use crate::file::edited::EditedFile;
use crate::host::HostRef;
use crate::kind::{Anchor, Built, Context, Facets, Field, KindInfo, Params, Problem, Shape, normal};

const FSTAB: &str = "/etc/fstab";

/// The kind's table entry.
pub static INFO: KindInfo = KindInfo {
    name: "mount",
    summary: "a file system that is mounted, now and after a reboot",
    notes: "\
Mounts a file system at a path, and, with persist, keeps its line in /etc/fstab; all other lines stay as they are, byte for \
byte. The directory has to exist: a file resource makes it, and comes first. What lies below the path comes after the mount.

One that is mounted with other options is mounted again with these, as far as the kernel shows them; of the others nothing \
is known. What else is mounted at the path is a failure, and is not taken away. Mounting and unmounting get a minute each; a \
server that does not answer by then is a failure. One that is busy is never unmounted by force: the failure names who uses \
it. The root directory, and what this program lives by, are never unmounted.

unmounted leaves /etc/fstab alone, absent removes the line as well. Watches the kernel's table of mounts and /etc/fstab. A \
refresh does nothing.",
    example: "\
resources:
  file:
  - name: data
    path: /srv/data/
    state: exists
  mount:
  - name: /srv/data
    device: UUID=0a1b2c3d-0000-4000-8000-000000000000
    fstype: ext4
    options: [noatime, nodev]
",
    fields: FIELDS,
    build,
};

static FIELDS: &[Field] = &[
    field("path", Shape::Path, "the name, if that is absolute", "Where it is mounted."),
    field(
        "device",
        Shape::Text,
        "",
        "What is mounted: a device, UUID=, LABEL=, SERVER:/PATH, or a word such as tmpfs.",
    ),
    field("fstype", Shape::Text, "auto", "The type of the file system."),
    field("options", Shape::Texts, "defaults", "Its options, as mount(8) has them."),
    field(
        "state",
        Shape::Choice(&["mounted", "unmounted", "absent"]),
        "mounted",
        "Whether it is mounted. absent: nor in /etc/fstab.",
    ),
    field("persist", Shape::Bool, "true", "With mounted: keep its line in /etc/fstab."),
];

const fn field(name: &'static str, shape: Shape, default: &'static str, doc: &'static str) -> Field {
    Field { name, shape, default, doc }
}

pub(super) fn build(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let mut problems = Vec::new();
    let path = path(params, context, &mut problems);
    let state = params.text("state").unwrap_or_else(|| "mounted".to_owned());
    let persist = params.bool("persist").unwrap_or(true);
    let what = what(params, &mut problems);
    if state == "mounted" && what.is_none() && problems.is_empty() {
        problems.push(Problem::new("device", "is missing: it says what is mounted"));
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let host = HostRef(Arc::clone(context.host));
    let entry = |what| EditedFile::new(Path::new(FSTAB), Entry { path: path.clone(), what }, host.clone());
    let (want, persisted) = match (state.as_str(), what) {
        ("absent", _) => (Want::Unmounted, Some(entry(None))),
        ("mounted", Some(what)) => (Want::Mounted(what.clone()), persist.then(|| entry(Some(what)))),
        _ => (Want::Unmounted, None),
    };
    let facets = facets(&path, &want, persisted.is_some());
    Ok(Built { resource: Arc::new(Mount { path, want, persisted }), facets, warnings: Vec::new() })
}

fn path(params: &mut Params, context: &Context<'_>, problems: &mut Vec<Problem>) -> PathBuf {
    let path = params.filled("path").unwrap_or_else(|| context.called.to_owned());
    let normal = normal(Path::new(&path));
    if !path.starts_with('/') || path.contains('\0') {
        problems.push(Problem::new("path", format!("{} is not absolute", path.escape_debug())));
    } else if is_protected(&normal, context.host) {
        problems.push(Problem::new("path", "is the root directory, or holds what this program lives by"));
    }
    normal
}

fn what(params: &mut Params, problems: &mut Vec<Problem>) -> Option<What> {
    let device = params.filled("device");
    let fstype = params.filled("fstype").unwrap_or_else(|| "auto".to_owned());
    let options = params.texts("options");
    let options: Vec<String> =
        options.iter().flat_map(|list| list.split(',')).map(|one| one.trim().to_owned()).collect();
    let blank = |text: &str| text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control());
    if blank(&fstype) || fstype.starts_with('-') {
        problems.push(Problem::new("fstype", "has to be one word"));
    }
    if options.iter().any(|option| blank(option) || option == "remount") {
        problems.push(Problem::new("options", "have to be words without blanks, and remount is not among them"));
    }
    if device.as_deref().is_some_and(|device| device.contains(char::is_control) || device.starts_with('-')) {
        problems.push(Problem::new("device", "has to be one line, and does not start with a hyphen"));
    }
    Some(What { device: device?, fstype, options })
}

fn facets(path: &Path, want: &Want, persisted: bool) -> Facets {
    let claims = Some(format!("the mount point {}", path.display()));
    let mut wants = vec![Anchor::Path(path.to_path_buf()), Anchor::Parent(path.to_path_buf())];
    wants.push(Anchor::Shipped(path.to_path_buf()));
    if persisted {
        wants.push(Anchor::Path(FSTAB.into()));
    }
    let Want::Mounted(what) = want else { return Facets { wants, claims, ..Facets::default() } };
    if what.device.starts_with('/') {
        let device = normal(Path::new(&what.device));
        wants.extend([Anchor::Path(device.clone()), Anchor::Shipped(device)]);
    }
    Facets { provides: vec![Anchor::Path(path.to_path_buf())], wants, claims, ..Facets::default() }
}
