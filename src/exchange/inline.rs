//! What this host exports, ready to be published: as records, with the contents of files that exist only here.

use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use mgmt_resources::kind::{Params, Value};
use mgmt_store::HostName;
use mgmt_store::limits::VALUE_BYTES_MAX;
use mgmt_store::world::Exports;

use super::record;
use crate::assemble::Exported;

/// All that is exported, as one set; or why it cannot be published, all reasons. Then nothing of it is: what was
/// published before stays in force.
///
/// # Errors
/// Sentences, each with the resource it is about.
pub fn exports(host: &HostName, exported: &[Exported]) -> Result<Exports, Vec<String>> {
    let mut exports = Exports::of(host.clone());
    let mut wrong = Vec::new();
    for export in exported {
        let added = inlined(&export.params).map_err(|why| format!("{}: {why}", export.id)).and_then(|params| {
            let bytes = record::encode(&params, export.sensitive);
            exports.add(export.id.kind.as_str(), &export.id.name, &bytes).map_err(|error| error.to_string())
        });
        wrong.extend(added.err());
    }
    if wrong.is_empty() { Ok(exports) } else { Err(wrong) }
}

/// The files that exports are made of, for whoever watches them.
pub fn sources(exported: &[Exported]) -> impl Iterator<Item = PathBuf> {
    exported.iter().filter_map(|export| source(&export.params).map(Path::to_owned))
}

/// The file whose contents are exported, if it is not the text of a symbolic link.
fn source(params: &Params) -> Option<&Path> {
    let given = |wanted: &str| params.iter().find_map(|(field, value)| (field == wanted).then_some(value));
    match (given("source"), given("symlink")) {
        (_, Some(Value::Bool(true))) => None,
        (Some(Value::Text(source)), _) if !source.is_empty() => Some(Path::new(source)),
        _ => None,
    }
}

fn inlined(params: &Params) -> Result<Params, String> {
    let Some(source) = source(params) else { return Ok(params.clone()) };
    let cannot = |error: std::io::Error| format!("cannot read source {}: {error}", source.display());
    // Opened so that neither a pipe nor a device can hold this up.
    let nonblock = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(nonblock).open(source).map_err(cannot)?;
    if !file.metadata().map_err(cannot)?.is_file() {
        return Err(format!("source {} is not a regular file", source.display()));
    }
    let mut bytes = Vec::new();
    file.take(VALUE_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(cannot)?;
    if bytes.len() > VALUE_BYTES_MAX {
        let source = source.display();
        return Err(format!("source {source} has more than the {VALUE_BYTES_MAX} bytes that can be exported"));
    }
    let mut inlined = Params::default();
    for (field, value) in params.iter().filter(|(field, _)| *field != "source") {
        inlined.set(field, value.clone());
    }
    inlined.set("content", String::from_utf8(bytes).map_or_else(|e| Value::Bytes(e.into_bytes()), Value::Text));
    Ok(inlined)
}
