//! From parameters to an [`Archive`]: what is required, what goes together, and what others may know of it.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use super::{Archive, Seen};
use crate::checksum::Checksum;
use crate::host::HostRef;
use crate::kind::{Anchor, Built, Context, Facets, Params, Problem, normal};

/// More names than a path may have.
const STRIP_MAX: u64 = 100;

pub(super) fn build(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let mut problems = Vec::new();
    let named = context.called.starts_with('/').then(|| context.called.to_owned());
    let (source, path) = (params.filled("source"), params.filled("path").or(named));
    for (field, given) in [("source", &source), ("path", &path)] {
        if given.is_none() {
            problems.push(Problem::new(field, "is required"));
        }
    }
    let (source, path) = (source.unwrap_or_default(), path.unwrap_or_default());
    let (source, path) = (normal(Path::new(&source)), normal(Path::new(&path)));
    if problems.is_empty() && path.parent().is_none() {
        problems.push(Problem::new("path", "is the root directory, which cannot be replaced"));
    } else if problems.is_empty() && source.starts_with(&path) {
        problems.push(Problem::new("source", "lies in the directory, which is replaced with all that is in it"));
    }
    let mut wrong = |field, why: &str| problems.push(Problem::new(field, why));
    let sha256 =
        params.filled("sha256").and_then(|text| Checksum::parse(&text).map_err(|why| wrong("sha256", why)).ok());
    let creates = params.filled("creates").map(PathBuf::from);
    if creates.as_ref().is_some_and(|path| !path.components().all(|part| matches!(part, Component::Normal(_)))) {
        wrong("creates", "is a path in the directory: relative, without ..");
    }
    let strip = params.count("strip").unwrap_or_default();
    if strip > STRIP_MAX {
        wrong("strip", "is too much: 100 is the most");
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let archive = Archive {
        source,
        path,
        sha256,
        creates,
        strip: usize::try_from(strip).unwrap_or_default(),
        owner: params.filled("owner"),
        group: params.filled("group"),
        setuid: params.bool("setuid").unwrap_or(false),
        force: params.bool("force").unwrap_or(false),
        bytes_max: params.count("bytes_max"),
        host: HostRef(Arc::clone(context.host)),
        seen: Seen::default(),
    };
    let facets = facets(&archive);
    Ok(Built { resource: Arc::new(archive), facets, warnings: Vec::new() })
}

fn facets(archive: &Archive) -> Facets {
    let (path, source) = (&archive.path, &archive.source);
    let mut wants = vec![
        Anchor::Parent(path.clone()),
        Anchor::Shipped(path.clone()),
        Anchor::Path(source.clone()),
        Anchor::Parent(source.clone()),
    ];
    let named = |name: &&String| !name.bytes().all(|byte| byte.is_ascii_digit());
    wants.extend(archive.owner.iter().filter(named).cloned().map(Anchor::User));
    wants.extend(archive.group.iter().filter(named).cloned().map(Anchor::Group));
    Facets { owns: Some(path.clone()), provides: vec![Anchor::Path(path.clone())], wants, ..Facets::default() }
}
