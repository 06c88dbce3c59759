//! Everything that can be seen of a tree without reading clocks: what a plan must leave as it is.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// Of one entry: type and mode, owner, group, size, times of change, inode, and what is in it.
pub(crate) type Entry = (u32, u32, u32, u64, (i64, i64), (i64, i64), u64, Vec<u8>);

/// The whole tree below `root`, itself included.
pub(crate) fn tree(root: &Path) -> BTreeMap<PathBuf, Entry> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(path) = left.pop() {
        // An ordinary user does not see what lies in a directory that may be read but not searched.
        let Ok(stat) = fs::symlink_metadata(&path) else { continue };
        let contents = if stat.is_file() {
            // What may not be read cannot be compared, and its times tell.
            fs::read(&path).unwrap_or_default()
        } else if stat.is_symlink() {
            fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes()
        } else {
            Vec::new()
        };
        if stat.is_dir() {
            left.extend(fs::read_dir(&path).into_iter().flatten().map(|entry| entry.unwrap().path()));
        }
        let times = ((stat.mtime(), stat.mtime_nsec()), (stat.ctime(), stat.ctime_nsec()));
        found.insert(path, (stat.mode(), stat.uid(), stat.gid(), stat.size(), times.0, times.1, stat.ino(), contents));
    }
    found
}
