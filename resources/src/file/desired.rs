//! What is wanted of a path: parameters turned into one value that makes sense. Pure, except that it looks up which
//! file systems are remote. Must not know what stands there now.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::confined;
use super::contents::Made;
use super::modes::Mode;
use crate::kind::{Anchor, Context, Facets, Params, Problem, normal};

/// Permission bits of a new file whose mode is not given.
pub(super) const FILE_MODE: u32 = 0o644;
/// Permission bits of a new directory whose mode is not given.
pub(super) const DIRECTORY_MODE: u32 = 0o755;

/// What is wanted of one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Desired {
    /// Normalised.
    pub(super) path: PathBuf,
    /// The directory that `path` is an entry of.
    pub(super) parent: PathBuf,
    /// Whatever is done at the path, it is not done outside of this directory, which the path lies below.
    pub(super) beneath: Option<PathBuf>,
    pub(super) want: Want,
    /// Made where nothing stands. Otherwise only what stands is corrected.
    pub(super) create: bool,
    pub(super) mode: Option<Mode>,
    pub(super) owner: Option<String>,
    pub(super) group: Option<String>,
    pub(super) recurse: bool,
    pub(super) force: bool,
    pub(super) purge: bool,
    pub(super) durable: bool,
    /// Paths below a purged directory that other resources manage.
    pub(super) managed: Arc<BTreeSet<PathBuf>>,
    /// Those of them whose members are managed, too.
    pub(super) trees: Arc<BTreeSet<PathBuf>>,
    /// The path or what it is made of lies on a file system that may take its time: never on a worker thread.
    pub(super) slow: bool,
}

/// What shall stand there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Want {
    /// Nothing. The path was written as that of a directory, or not.
    Nothing { directory: bool },
    /// A regular file.
    File(Contents),
    /// A directory, with copies of the members of this one if `recurse`.
    Directory(Option<PathBuf>),
    /// A symbolic link with this text.
    Link(PathBuf),
}

/// What a file shall contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Contents {
    /// Whatever it does.
    Unmanaged,
    /// These bytes.
    Given(Arc<[u8]>),
    /// The same as this file.
    Copy(PathBuf),
    /// These files, and the files of these directories, one after the other.
    Fragments(Vec<PathBuf>),
    /// Whatever this makes.
    Made(Made),
}

/// Parameters as taken, before they are weighed against each other.
struct Taken {
    path: String,
    content: Option<Vec<u8>>,
    source: Option<String>,
    fragments: Vec<String>,
    state: Option<String>,
    symlink: bool,
}

/// Turns parameters into what is wanted, with warnings about those that are ignored.
pub(super) fn desired(params: &mut Params, context: &Context<'_>) -> Result<(Desired, Vec<Problem>), Vec<Problem>> {
    let (mut problems, mut warnings) = (Vec::new(), Vec::new());
    let path = path(params, context, &mut problems);
    let taken = Taken {
        path,
        content: params.bytes("content"),
        source: params.filled("source"),
        fragments: params.texts("fragments"),
        state: params.filled("state"),
        symlink: params.bool("symlink").unwrap_or(false),
    };
    let mode = params.filled("mode").and_then(|text| match Mode::parse(&text) {
        Ok(mode) => Some(mode),
        Err(message) => {
            problems.push(Problem::new("mode", message));
            None
        }
    });
    let path = normal(Path::new(&taken.path));
    if let Some(beneath) = context.beneath
        && let Some(why) = confined::refusal(&taken.path, beneath, &context.host.protected)
    {
        problems.push(Problem::new("path", why));
    }
    let recurse = params.bool("recurse").unwrap_or(false);
    let purge = params.bool("purge").unwrap_or(false);
    let want = want(&taken, recurse, &mut problems, &mut warnings);
    if let Some(problem) = nested(&path, &want, purge) {
        problems.push(problem);
    }
    let absent = matches!(want, Want::Nothing { .. });
    let Some(parent) = path.parent().map(Path::to_path_buf).filter(|_| problems.is_empty()) else {
        if problems.is_empty() {
            problems.push(Problem::new("path", "the root directory cannot be managed"));
        }
        return Err(problems);
    };
    let directory = matches!(want, Want::Directory(_));
    // Its members were to be like those of a source; without one, all of them would go.
    let sourceless = taken.source.is_some() && matches!(want, Want::Directory(None));
    if purge && !(directory && recurse) {
        warnings.push(Problem::new("purge", "ignored: only a directory with recurse is purged"));
    } else if purge && sourceless {
        warnings.push(Problem::new("purge", "ignored: source is ignored, and everything would be removed"));
    }
    if matches!(want, Want::Link(_)) && mode.is_some() {
        warnings.push(Problem::new("mode", "ignored: a symbolic link has no mode of its own"));
    }
    let desired = Desired {
        slow: super::mounts::any_remote(std::iter::once(path.as_path()).chain(want.sources())),
        parent,
        create: !absent && (taken.state.is_some() || context.first_dialect),
        mode: mode.filter(|_| !matches!(want, Want::Link(_))),
        owner: params.filled("owner"),
        group: params.filled("group"),
        recurse,
        force: params.bool("force").unwrap_or(false),
        purge: purge && recurse && directory && !sourceless,
        beneath: context.beneath.map(Path::to_path_buf),
        durable: params.bool("durable").unwrap_or(true),
        managed: Arc::clone(context.managed),
        trees: Arc::clone(context.trees),
        path,
        want,
    };
    Ok((desired, warnings))
}

/// The path as written: `path`, or `dirname` and `basename`, or a name that is a path.
fn path(params: &mut Params, context: &Context<'_>, problems: &mut Vec<Problem>) -> String {
    let (dirname, basename) = (params.filled("dirname"), params.filled("basename"));
    let path = match (params.filled("path"), dirname, basename) {
        (Some(path), None, None) => path,
        (Some(path), ..) => {
            problems.push(Problem::new("path", "give either path, or dirname and basename"));
            path
        }
        (None, Some(dirname), Some(basename)) => {
            if basename.trim_end_matches('/').contains('/') || ["", ".", ".."].contains(&basename.trim_end_matches('/'))
            {
                problems.push(Problem::new("basename", "must be one name; the directory belongs into dirname"));
            }
            format!("{dirname}/{basename}")
        }
        (None, None, None) if context.name.starts_with('/') => context.name.to_owned(),
        (None, None, None) => {
            problems.push(Problem::new("path", "is missing"));
            return "/".to_owned();
        }
        (None, Some(_), None) => {
            problems.push(Problem::new("basename", "is missing: dirname is of no use alone"));
            return "/".to_owned();
        }
        (None, None, Some(_)) => {
            problems.push(Problem::new("dirname", "is missing: basename is of no use alone"));
            return "/".to_owned();
        }
    };
    if !path.starts_with('/') {
        problems.push(Problem::new("path", format!("{path} is not absolute")));
    }
    if path.contains('\0') {
        problems.push(Problem::new("path", "contains a NUL"));
    }
    path
}

fn want(taken: &Taken, recurse: bool, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) -> Want {
    let directory = taken.path.ends_with('/');
    let given = [taken.content.is_some(), taken.source.is_some(), !taken.fragments.is_empty()];
    if given.iter().filter(|given| **given).count() > 1 {
        problems.push(Problem::new("content", "give only one of content, source and fragments"));
    }
    if taken.state.as_deref() == Some("absent") {
        return Want::Nothing { directory };
    }
    if taken.symlink {
        return link(taken, problems, warnings);
    }
    if directory {
        return Want::Directory(directory_source(taken, recurse, warnings));
    }
    Want::File(match (&taken.content, &taken.source) {
        (Some(content), _) => Contents::Given(content.as_slice().into()),
        (None, Some(source)) => {
            if source.ends_with('/') {
                problems.push(Problem::new("source", "is a directory, but path is a file: end path with a slash, too"));
            }
            Contents::Copy(normal(Path::new(source)))
        }
        (None, None) if taken.fragments.is_empty() => Contents::Unmanaged,
        (None, None) => Contents::Fragments(taken.fragments.iter().map(|part| normal(Path::new(part))).collect()),
    })
}

fn link(taken: &Taken, problems: &mut Vec<Problem>, warnings: &mut Vec<Problem>) -> Want {
    if taken.source.is_none() {
        problems.push(Problem::new("source", "is missing: it says where the symbolic link points"));
    }
    if taken.content.is_some() || !taken.fragments.is_empty() {
        warnings.push(Problem::new("content", "ignored: a symbolic link has no contents"));
    }
    if taken.path.ends_with('/') {
        warnings.push(Problem::new("path", "the slash at the end is ignored: it shall be a symbolic link"));
    }
    Want::Link(taken.source.clone().unwrap_or_default().into())
}

fn directory_source(taken: &Taken, recurse: bool, warnings: &mut Vec<Problem>) -> Option<PathBuf> {
    if taken.content.is_some() {
        warnings.push(Problem::new("content", "ignored: path ends with a slash, so it is a directory"));
    }
    if !taken.fragments.is_empty() {
        warnings.push(Problem::new("fragments", "ignored: path ends with a slash, so it is a directory"));
    }
    let source = taken.source.as_deref()?;
    // A source that does not exist yet may become a directory; without the slash only what stands there can tell.
    let normal = normal(Path::new(source));
    if !source.ends_with('/') && std::fs::metadata(&normal).is_ok_and(|of| !of.is_dir()) {
        warnings.push(Problem::new("source", "ignored: path ends with a slash, but source is not a directory"));
        return None;
    }
    if !recurse {
        warnings.push(Problem::new("source", "ignored: a directory's members are copied only with recurse"));
        return None;
    }
    Some(normal)
}

/// A source that the resource would change, and then copy again.
fn nested(path: &Path, want: &Want, purge: bool) -> Option<Problem> {
    let wrong = match want {
        Want::Link(target) => normal(target) == path,
        Want::Directory(Some(source)) => path.starts_with(source) || (purge && source.starts_with(path)),
        other => other.sources().any(|source| source == path),
    };
    wrong.then(|| Problem::new("source", "is the path itself, or one of them lies in the other"))
}

impl Want {
    /// The paths it is copied from.
    pub(super) fn sources(&self) -> impl Iterator<Item = &Path> {
        let (one, many): (Option<&PathBuf>, &[PathBuf]) = match self {
            Self::File(Contents::Copy(source)) | Self::Directory(Some(source)) => (Some(source), &[]),
            Self::File(Contents::Fragments(parts)) => (None, parts),
            _ => (None, &[]),
        };
        one.into_iter().chain(many).map(PathBuf::as_path)
    }
}

impl Desired {
    /// Members are compared, copied or purged.
    pub(super) fn is_tree(&self) -> bool {
        match &self.want {
            Want::Directory(source) => self.recurse && (source.is_some() || self.purge),
            _ => false,
        }
    }

    /// The last part of the path.
    pub(super) fn name(&self) -> OsString {
        self.path.file_name().map(OsString::from).unwrap_or_default()
    }

    /// Permission bits of what is made anew.
    pub(super) fn new_mode(&self) -> u32 {
        let directory = matches!(self.want, Want::Directory(_));
        let default = if directory { DIRECTORY_MODE } else { FILE_MODE };
        self.mode.as_ref().map_or(default, |mode| mode.bits(default, directory))
    }

    /// What this is to other resources of the graph.
    pub(super) fn facets(&self) -> Facets {
        let mut wants = vec![Anchor::Parent(self.path.clone())];
        wants.extend(self.want.sources().map(|source| Anchor::Path(source.to_path_buf())));
        wants.extend(self.owner.iter().cloned().map(Anchor::User));
        wants.extend(self.group.iter().cloned().map(Anchor::Group));
        Facets {
            owns: Some(self.path.clone()),
            purges: self.purge.then(|| self.path.clone()),
            fills: (self.recurse && matches!(self.want, Want::Directory(Some(_)))).then(|| self.path.clone()),
            provides: vec![Anchor::Path(self.path.clone())],
            wants,
            ..Facets::default()
        }
    }
}
