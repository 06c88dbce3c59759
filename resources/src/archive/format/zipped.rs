//! Members of a zip.

use std::io::{Read, Seek};

use mgmt_engine::resource::Fault;
use zip::ZipArchive;
use zip::result::ZipError;

use super::super::member::{MEMBERS_MAX, PATH_BYTES_MAX, Raw, Sort, refused};
use super::{Meter, Take, unreadable};

/// Of the mode bits that Unix systems put into a zip: what sort of thing it is.
const SORT_MASK: u32 = 0o170_000;
const SYMLINK: u32 = 0o120_000;
const DIRECTORY: u32 = 0o040_000;
const FILE: u32 = 0o100_000;

pub(super) fn members(archive: impl Read + Seek, meter: &Meter, take: Take<'_>) -> Result<(), Fault> {
    let mut archive = ZipArchive::new(archive).map_err(|error| broken(&error))?;
    if archive.len() as u64 > MEMBERS_MAX {
        return Err(Fault::new(format!("the archive has more than {MEMBERS_MAX} members")));
    }
    for at in 0..archive.len() {
        let entry = archive.by_index(at).map_err(|error| broken(&error))?;
        let name = entry.name_raw().to_vec();
        let said = entry.unix_mode().unwrap_or_default();
        let sort = match said & SORT_MASK {
            _ if name.ends_with(b"/") => Sort::Directory,
            DIRECTORY => Sort::Directory,
            SYMLINK => Sort::Symlink,
            0 | FILE => Sort::File,
            _ => Sort::Never("neither a file nor a directory nor a link"),
        };
        // From systems without permission bits there are none.
        let usual = if sort == Sort::Directory { 0o755 } else { 0o644 };
        let mode = if said & 0o7777 == 0 { usual } else { said & 0o7777 };
        let mut raw = Raw { name, sort, mode, ..Raw::default() };
        let mut contents = meter.of(entry);
        if sort == Sort::Symlink {
            let mut target = contents.by_ref().take(PATH_BYTES_MAX as u64 + 1);
            target.read_to_end(&mut raw.target).map_err(|error| refused(&raw.name, &error))?;
        }
        take(&raw, &mut contents)?;
    }
    Ok(())
}

fn broken(error: &ZipError) -> Fault {
    match error {
        ZipError::Io(error) => unreadable(error),
        other => Fault::new(format!("cannot read the archive: {other}")),
    }
}
