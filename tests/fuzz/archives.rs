//! Archives: whatever one holds, what would be unpacked stays below its directory.

use std::io::Cursor;
use std::path::Component;

use mgmt_resources::archive::examine;

/// What members may have together.
const BYTES_MAX: u64 = 1 << 20;

/// Reads an archive as it would be unpacked.
pub fn archive(bytes: &[u8]) {
    let Ok(paths) = examine(Cursor::new(bytes), BYTES_MAX) else { return };
    for path in paths {
        assert!(path.components().all(|part| matches!(part, Component::Normal(_))), "{}", path.display());
    }
}

/// Reads an archive.
pub fn read_archive(bytes: &[u8]) -> Box<dyn FnOnce()> {
    let bytes = bytes.to_vec();
    Box::new(move || drop(examine(Cursor::new(bytes), BYTES_MAX)))
}
