//! `archive`: a directory with what an archive holds, unpacked once for each version of it.
//!
//! `member` judges what may be written, `format` reads archives, `tree` writes, and `place` knows what stands and puts a
//! new directory in its place. Here it is decided what has to be done.

mod build;
mod format;
mod member;
mod place;
#[cfg(test)]
mod tests;
mod tree;

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use mgmt_engine::resource::{
    Applied, Check, Fault, Look, Promise, Promises, Resource, Signal, Stop, Urgency, Watch, Work,
};
use rustix::fs::OFlags;

use self::format::Meter;
use self::member::Judge;
use self::place::{Mark, Standing, Workshop};
use self::tree::Tree;
use crate::aside::aside;
use crate::checksum::{Checksum, Known, Stamp};
use crate::file;
use crate::host::HostRef;
use crate::kind::{Field, KindInfo, Shape};
use crate::syncs::Directory;

/// What a directory is known by that was unpacked here.
const MARK: &str = ".mgmt-archive";
/// What an archive may hold, if nobody says otherwise: so much, or so many times its own size.
const BYTES_MAX: u64 = 1 << 30;
const EXPANSION_MAX: u64 = 100;

/// The kind's table entry.
pub static INFO: KindInfo = KindInfo {
    name: "archive",
    summary: "a directory with what an archive holds",
    notes: "\
Unpacks a tar (plain, or packed by gzip, xz or zstd) or a zip that is on this machine: a file that came with the graph, or \
that a `download` has fetched. What it is is told by its first bytes. It is unpacked once, and again when the archive has \
another checksum, when it shall be unpacked in another manner, or when the directory, or what `creates` names in it, is gone.

The directory belongs to the archive. A new version is unpacked beside it, brought to stable storage, and takes its place in \
one step; the old one is then removed, with all that was changed or added in it. What has to live longer belongs elsewhere. \
A directory with files that no archive has brought is only replaced with force. A file `.mgmt-archive` in it says what was \
unpacked; members that were changed since are not looked at.

Members get the owner that mgmt runs as, or owner and group, and the permission bits and times of the archive. If any member \
could do harm, nothing is unpacked, and the error names it: paths that are absolute or lead out (..), symbolic links that \
could lead out, devices, pipes, set-user-id bits without setuid, names and paths that are too long, and more bytes than \
bytes_max altogether.

Watches the archive, the directory, and what `creates` names. A refresh does nothing.",
    example: "\
resources:
  download:
  - name: tool
    url: https://releases.example.com/tool-1.4.tar.gz
    sha256: 7d865e959b2466918c9863afca942d0fb89d7c9ac0c99bafc3749504ded97730
    path: /var/cache/tool.tar.gz
  archive:
  - name: tool
    source: /var/cache/tool.tar.gz
    path: /opt/tool
    strip: 1
    creates: bin/tool
",
    fields: FIELDS,
    build: build::build,
};

static FIELDS: &[Field] = &[
    field("source", Shape::Path, "", "The archive, on this machine."),
    field(
        "path",
        Shape::Path,
        "the name, if that is absolute",
        "The directory to unpack to. The one above it has to exist.",
    ),
    field("sha256", Shape::Text, "any", "The checksum that the archive has to have; another one is not unpacked."),
    field("creates", Shape::Text, "", "A path in the directory; it is unpacked again when this is missing."),
    field("strip", Shape::Count, "0", "Take so many names from the beginning of every path in the archive."),
    field("owner", Shape::Text, "who mgmt runs as", "A user's name, or a number, for all that is unpacked."),
    field("group", Shape::Text, "that of who mgmt runs as", "A group's name, or a number, for all that is unpacked."),
    field("setuid", Shape::Bool, "false", "Keep set-user-id and set-group-id bits. Without it they are refused."),
    field(
        "force",
        Shape::Bool,
        "false",
        "Replace a directory with files that no archive has brought, with all of them.",
    ),
    field(
        "bytes_max",
        Shape::Count,
        "1 GiB, or a hundred times the archive if that is more",
        "What all members together may have, unpacked.",
    ),
];

const fn field(name: &'static str, shape: Shape, default: &'static str, doc: &'static str) -> Field {
    Field { name, shape, default, doc }
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq)]
struct Archive {
    source: PathBuf,
    path: PathBuf,
    sha256: Option<Checksum>,
    creates: Option<PathBuf>,
    strip: usize,
    owner: Option<String>,
    group: Option<String>,
    setuid: bool,
    force: bool,
    bytes_max: Option<u64>,
    host: HostRef,
    seen: Seen,
}

/// The checksum of the archive as it was last read. Always equal: it is not wanted, but known.
#[derive(Debug, Clone, Default)]
struct Seen(Arc<Known>);

impl PartialEq for Seen {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// Why it has to be unpacked.
#[derive(Debug, PartialEq, Eq)]
enum Why {
    Missing,
    Empty,
    Foreign,
    Other {
        is: Checksum,
        wanted: Checksum,
    },
    Manner,
    Lost(PathBuf),
    /// It need not be, but what is left of an interrupted unpacking has to go.
    Rubbish,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = |sum: &Checksum| sum.to_string().chars().take(12).collect::<String>();
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Empty => f.write_str("empty"),
            Self::Foreign => f.write_str("a directory that no archive has brought stands there"),
            Self::Other { is, wanted } => {
                write!(f, "unpacked from {}, and the archive is {}", short(is), short(wanted))
            }
            Self::Manner => f.write_str("unpacked in another manner"),
            Self::Lost(path) => write!(f, "{} is missing in it", path.display()),
            Self::Rubbish => f.write_str("an interrupted unpacking has left files beside it"),
        }
    }
}

/// What has to be done, and where.
#[derive(Debug)]
struct Drift {
    path: PathBuf,
    why: Why,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.why.fmt(f)
    }
}

impl mgmt_engine::resource::Drift for Drift {
    fn promises(&self) -> Vec<(PathBuf, Promise)> {
        match self.why {
            Why::Rubbish => Vec::new(),
            _ => vec![(self.path.clone(), Promise::Anything)],
        }
    }
}

/// A look that takes longer than a worker thread may be kept, or a fault.
enum Trouble {
    Slow,
    Fault(Fault),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Archive {
    /// How it is unpacked, as far as the result depends on it.
    fn manner(&self) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let (owner, group) = (text(&self.owner), text(&self.group));
        format!("strip={} owner={owner} group={group} setuid={}", self.strip, self.setuid)
    }

    /// Opens the archive; `None` if there is none.
    fn open(&self) -> Result<Option<File>, Fault> {
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
        let opened = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(&self.source);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Fault::path("read the archive", &self.source, error)),
        };
        match file.metadata() {
            Ok(of) if of.is_file() => Ok(Some(file)),
            Ok(_) => Err(Fault::path("read the archive", &self.source, "it is not a regular file")),
            Err(error) => Err(Fault::path("look at", &self.source, error)),
        }
    }

    fn missing(&self) -> Fault {
        Fault::path("read the archive", &self.source, "no such file")
    }

    /// The checksum of the archive, if it is one that is wanted.
    fn checksum(&self, file: &File, mark: Option<&Mark>, patient: bool) -> Result<Checksum, Trouble> {
        let fault = |error| Fault::path("read the archive", &self.source, error);
        let stamp = Stamp::of(file).map_err(fault)?.to_string();
        let unread = mark.filter(|mark| mark.stamp == stamp).map(|mark| mark.checksum);
        let known = unread.or(self.seen.0.quickly(file).map_err(fault)?);
        let checksum = match (known, patient) {
            (Some(known), _) => known,
            (None, false) => return Err(Trouble::Slow),
            (None, true) => self.seen.0.of(file).map_err(fault)?,
        };
        match self.sha256.filter(|wanted| *wanted != checksum) {
            Some(wanted) => {
                let why = format!("its checksum is {checksum}, not {wanted}");
                Err(Fault::path("unpack", &self.source, why).into())
            }
            None => Ok(checksum),
        }
    }

    /// Why it has to be unpacked, if it has to.
    fn why(&self, patient: bool, standing: Standing) -> Result<Option<Why>, Trouble> {
        let archive = self.open()?;
        let Standing::Marked(mark) = standing else {
            let archive = archive.ok_or_else(|| self.missing())?;
            let why = match standing {
                Standing::Nothing => Why::Missing,
                Standing::Empty => Why::Empty,
                Standing::Other => {
                    return Err(Fault::path("unpack to", &self.path, "it stands there, and is no directory").into());
                }
                _ if self.force => Why::Foreign,
                _ => {
                    let why = "files that no archive has brought are there; force replaces it with all that is in it";
                    return Err(Fault::path("unpack to", &self.path, why).into());
                }
            };
            self.checksum(&archive, None, patient)?;
            return Ok(Some(why));
        };
        // What is wanted is there, whatever the archive is by now.
        let as_wanted = self.sha256 == Some(mark.checksum);
        let why = match archive {
            _ if mark.manner != self.manner() => Why::Manner,
            Some(archive) if !as_wanted => {
                let wanted = self.checksum(&archive, Some(&mark), patient)?;
                if wanted == mark.checksum {
                    return Ok(self.lost());
                }
                return Ok(Some(Why::Other { is: mark.checksum, wanted }));
            }
            // One that is gone again cannot differ.
            _ => return Ok(self.lost()),
        };
        let archive = self.open()?.ok_or_else(|| self.missing())?;
        self.checksum(&archive, Some(&mark), patient)?;
        Ok(Some(why))
    }

    fn lost(&self) -> Option<Why> {
        let creates = self.creates.as_ref()?;
        std::fs::symlink_metadata(self.path.join(creates)).is_err().then(|| Why::Lost(creates.clone()))
    }

    fn look(&self, patient: bool, fresh: bool) -> Result<Check<Drift>, Trouble> {
        let standing = if fresh { Standing::Nothing } else { place::standing(&self.path)? };
        let why = match self.why(patient, standing)? {
            None if place::workshop(&self.path).exists() => Why::Rubbish,
            None => return Ok(Check::Converged),
            Some(why) => why,
        };
        if !fresh {
            file::replaceable(&self.host, &self.path)?;
        }
        Ok(Check::Drifted(Drift { path: self.path.clone(), why }))
    }

    /// Unpacks it. Blocks, except while it syncs.
    async fn unpack(&self, work: &Work) -> Result<Applied, Fault> {
        let fault = |error| Fault::path("read the archive", &self.source, error);
        let file = self.open()?.ok_or_else(|| self.missing())?;
        let checksum = self.checksum(&file, None, true).map_err(|trouble| match trouble {
            Trouble::Fault(fault) => fault,
            Trouble::Slow => unreachable!("a patient look takes its time"),
        })?;
        let stamp = Stamp::of(&file).map_err(fault)?;
        let replaces = place::standing(&self.path)? != Standing::Nothing;
        let workshop = Workshop::open(place::workshop(&self.path), &work.stop)?;
        let (user, group) = self.ids()?;
        let tree = Tree::new(workshop.directory()?, user, group);
        let bytes_max = self.bytes_max.unwrap_or_else(|| BYTES_MAX.max(stamp.size().saturating_mul(EXPANSION_MAX)));
        (&file).seek(io::SeekFrom::Start(0)).map_err(fault)?;
        let unpacked = fill(&file, tree, bytes_max, self.strip, self.setuid, &work.stop);
        let tree = unpacked.map_err(|fault| Fault::new(format!("{}: {fault}", self.source.display())))?;
        if Stamp::of(&file).map_err(fault)? != stamp {
            return Err(Fault::path("unpack", &self.source, "it was changed meanwhile"));
        }
        let count = tree.count;
        workshop.mark(&Mark { checksum, stamp: stamp.to_string(), manner: self.manner() })?;
        let directory = tree.finish()?;
        let synced = self.host.syncs.file_system(directory.into()).await;
        synced.map_err(|error| Fault::path("sync", &self.path, error))?;
        // Asked again, because the look was a while ago.
        file::replaceable(&self.host, &self.path)?;
        if replaces {
            file::clear_of_mounts(&self.path)?;
        }
        workshop.take_place(&self.path, replaces)?;
        let parent = self.path.parent().unwrap_or(Path::new("/")).to_path_buf();
        let synced = self.host.syncs.sync(None, Directory::Named(parent)).await;
        synced.map_err(|error| Fault::path("sync", &self.path, error))?;
        Ok(Applied::changed(format!("unpacked, {count} members")))
    }

    fn ids(&self) -> Result<(Option<u32>, Option<u32>), Fault> {
        let accounts = &self.host.accounts;
        let user = self.owner.as_deref().map(|name| accounts.uid(name)).transpose()?;
        Ok((user, self.group.as_deref().map(|name| accounts.gid(name)).transpose()?))
    }

    /// What earlier repairs of a plan make of this: whether nothing will stand yet, or why that cannot be told.
    fn outlook(&self, promises: &Promises) -> Result<bool, String> {
        let unknown = |who: &str| format!("{who} would change first");
        if let Some((_, _, who)) = promises.of(&self.source) {
            return Err(unknown(who));
        }
        match promises.of(&self.path) {
            None => Ok(false),
            Some((_, Promise::Directory, _)) => Ok(true),
            Some((_, _, who)) => Err(unknown(who)),
        }
    }
}

/// Reads an archive into a tree.
fn fill(
    archive: impl Read + Seek,
    mut tree: Tree,
    bytes_max: u64,
    strip: usize,
    setuid: bool,
    stop: &Stop,
) -> Result<Tree, Fault> {
    let stop = stop.clone();
    let meter = Meter::new(bytes_max, move || stop.urgency() != Urgency::None);
    let mut judge = Judge::new(strip, setuid);
    format::members(archive, &meter, &mut |raw, contents| match judge.admit(raw)? {
        Some(member) => tree.put(&member, contents),
        None => Ok(()),
    })?;
    Ok(tree)
}

/// Reads an archive as if it were unpacked, and writes nothing: the paths of what would be. For whoever wants to know
/// what a hostile one does.
///
/// # Errors
/// It would not be unpacked.
pub fn examine(archive: impl Read + Seek, bytes_max: u64) -> Result<Vec<PathBuf>, Fault> {
    let (mut judge, mut paths) = (Judge::new(0, false), Vec::new());
    format::members(archive, &Meter::new(bytes_max, || false), &mut |raw, contents| {
        if let Some(member) = judge.admit(raw)? {
            io::copy(contents, &mut io::sink()).map_err(|error| member::refused(&raw.name, &error))?;
            paths.push(member.path);
        }
        Ok(())
    })?;
    Ok(paths)
}

impl Resource for Archive {
    type Drift = Drift;

    fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        let mut paths = vec![self.source.clone(), self.path.clone(), self.path.join(MARK)];
        paths.extend(self.creates.as_ref().map(|creates| self.path.join(creates)));
        let held: Result<Vec<_>, Fault> = paths.iter().map(|path| self.host.watches.path(path, signal)).collect();
        Ok(Watch::Held(Box::new(held?)))
    }

    async fn check(&self, look: &Look) -> Result<Check<Drift>, Fault> {
        let fresh = match self.outlook(&look.promises) {
            Ok(fresh) => fresh,
            Err(why) => return Ok(Check::Unknown(why)),
        };
        match self.look(false, fresh) {
            Ok(found) => return Ok(found),
            Err(Trouble::Fault(fault)) => return Err(fault),
            Err(Trouble::Slow) => {}
        }
        let this = self.clone();
        aside(move || this.look(true, fresh)).await?.map_err(|trouble| match trouble {
            Trouble::Fault(fault) => fault,
            Trouble::Slow => unreachable!("a patient look takes its time"),
        })
    }

    async fn apply(&self, drift: Drift, work: &Work) -> Result<Applied, Fault> {
        let (this, work) = (self.clone(), work.clone());
        let runtime = tokio::runtime::Handle::current();
        aside(move || match drift.why {
            Why::Rubbish => {
                place::clear(&place::workshop(&this.path), &work.stop)?;
                Ok(Applied::changed("removed what an interrupted unpacking has left"))
            }
            _ => runtime.block_on(this.unpack(&work)),
        })
        .await?
    }
}
