//! `mgmt snapshot`: saves what the mesh holds, and founds a mesh from it.

use std::io::Write;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Exit, Failure, args, print};
use crate::control::find;
use crate::control::mesh::Ask;
use crate::events::rfc3339;
use crate::mesh::backup::{self, BackupError, Head, Restored};
use crate::mesh::recovery::RecoveryError;
use crate::state::{Home, State};

/// Runs one of its verbs.
///
/// # Errors
/// There is no agent or mesh to ask, it could not do it, or output cannot be written.
pub fn run(verb: &args::Snapshot, out: &mut dyn Write) -> Result<Exit, Failure> {
    match verb {
        args::Snapshot::Save(args) => {
            // The agent stands in another directory.
            let file = std::path::absolute(&args.file)
                .map_err(|e| Failure::new(Exit::Usage, format!("{}: {e}", args.file.display())))?;
            let saved = find(&args.place)?.mesh(Ask::Save { file })?;
            tell(args.json, saved, "saved", out)
        }
        args::Snapshot::Inspect(args) => {
            let head = backup::inspect(&args.file).map_err(|e| failure(&e))?;
            tell(args.json, told(&head), "whole", out)
        }
        args::Snapshot::Restore(args) => {
            let home = Home::of(&args.place)?;
            let state = State::take(&home, None)?;
            let restored = super::cluster::block_on(backup::restore(state.directory(), &args.file))?;
            let Restored { head, at, aside } = restored.map_err(|e| failure(&e))?;
            let mut value = told(&head);
            value["goes_on_at"] = at.into();
            value["aside"] = aside.display().to_string().into();
            tell(args.json, value, "restored", out)
        }
    }
}

/// What a file says of itself.
pub(crate) fn told(head: &Head) -> Value {
    json!({
        "cluster": head.cluster,
        "host": head.host,
        "revision": head.revision,
        "keys": head.keys,
        "maps": head.maps,
        "exports": head.exports,
        "bytes": head.bytes,
        "at": rfc3339(UNIX_EPOCH + Duration::from_millis(head.unix_ms)),
    })
}

/// What went wrong, with its exit code.
pub(crate) fn failure(error: &BackupError) -> Failure {
    let exit = match error {
        BackupError::File { source, .. } => match source.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::AlreadyExists => Exit::Usage,
            std::io::ErrorKind::PermissionDenied => Exit::NotAllowed,
            _ => Exit::Disk,
        },
        BackupError::Damaged { .. } | BackupError::Newer { .. } | BackupError::FeatureLevel { .. } => Exit::Failed,
        BackupError::NotEmpty { .. } | BackupError::NotAlone(_) => Exit::CannotCreate,
        BackupError::State(RecoveryError::Salvage(_)) => Exit::Unavailable,
        BackupError::State(_) | BackupError::Decode(_) => Exit::Disk,
    };
    let hint = if exit == Exit::Unavailable { "; found a mesh first: mgmt cluster init" } else { "" };
    Failure::new(exit, format!("{error}{hint}"))
}

fn tell(as_json: bool, value: Value, done: &str, out: &mut dyn Write) -> Result<Exit, Failure> {
    if as_json {
        print::json(&print::versioned(value), out)?;
        return Ok(Exit::Done);
    }
    let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
    let mut said = format!(
        "{done}: revision {} of cluster {}, from {} at {}: {} keys, {} map entries, {} exports, {} bytes\n",
        value["revision"],
        text("cluster"),
        text("host"),
        text("at"),
        value["keys"],
        value["maps"],
        value["exports"],
        value["bytes"]
    );
    if !value["goes_on_at"].is_null() {
        said += &format!("revisions go on at {}; what was here before is in {}\n", value["goes_on_at"], text("aside"));
    }
    print::text(&said, out)?;
    Ok(Exit::Done)
}
