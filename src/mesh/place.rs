//! What a member keeps on disk besides its log: certificate, key, authorities, addresses. All of it 0600.
//!
//! Each file is whole or as it was before: written beside, synced, renamed, and the folder synced. Must not know what a
//! certificate says.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The longest file that is read: the address book of a mesh of ten thousand hosts.
const BYTES_MAX: u64 = 8 << 20;
const NOFOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;

/// One of the files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// This host's certificate.
    Certificate,
    /// Its key, which never leaves this host.
    Key,
    /// The certificates of the authorities that are believed.
    Authorities,
    /// The key of the authority: on masters alone.
    AuthorityKey,
    /// Where the others were last.
    Addresses,
    /// The token by which other processes of the same user on this machine, or of the same bootstrap secret, are let in.
    HouseToken,
    /// The port that was used last.
    Port,
    /// What the tokens are made from by which others see that this host was started again.
    ResetSecret,
    /// What this host has promised while it founds together with others.
    Promise,
    /// The feature level of the mesh, for a program that does not understand what else is here.
    Level,
}

impl Part {
    const fn name(self) -> &'static str {
        match self {
            Self::Certificate => "certificate.pem",
            Self::Key => "key.pem",
            Self::Authorities => "authorities.pem",
            Self::AuthorityKey => "authority-key.pem",
            Self::Addresses => "addresses.json",
            Self::HouseToken => "house-token",
            Self::Port => "port",
            Self::ResetSecret => "reset-secret",
            Self::Promise => "promise.json",
            Self::Level => "level",
        }
    }
}

/// `PREFIX/HOSTNAME/mesh`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(PathBuf);

impl Place {
    /// In a state directory, made if it is not there. One that others may look into is closed to them.
    ///
    /// # Errors
    /// What the system says.
    pub fn open(state: &Path) -> io::Result<Self> {
        let path = state.join("mesh");
        match DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        if std::fs::symlink_metadata(&path)?.permissions().mode() & 0o077 != 0 {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700))?;
        }
        Ok(Self(path))
    }

    /// Where a part lies.
    #[must_use]
    pub fn path(&self, part: Part) -> PathBuf {
        self.0.join(part.name())
    }

    /// What is there, if anything is.
    ///
    /// # Errors
    /// What the system says, and a file that is longer than any of ours.
    pub fn load(&self, part: Part) -> io::Result<Option<String>> {
        let file = match OpenOptions::new().read(true).custom_flags(NOFOLLOW).open(self.path(part)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = String::new();
        file.take(BYTES_MAX + 1).read_to_string(&mut text)?;
        if text.len() as u64 > BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{} is too long", part.name())));
        }
        Ok(Some(text))
    }

    /// Replaces a part; it survives a power cut once this returns.
    ///
    /// # Errors
    /// What the system says; what was there before is there still.
    pub fn save(&self, part: Part, text: &str) -> io::Result<()> {
        // What cannot be read is replaced.
        if matches!(self.load(part), Ok(Some(there)) if there == text) {
            // Synced before it had its name; of the name that is not known. Whoever joins saves its key twice, and waits.
            return File::open(&self.0)?.sync_all();
        }
        let path = self.path(part);
        let beside = path.with_extension("new");
        self.gone(&beside)?;
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).custom_flags(NOFOLLOW).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&beside, &path)?;
        File::open(&self.0)?.sync_all()
    }

    /// Removes a part, for good.
    ///
    /// # Errors
    /// What the system says.
    pub fn remove(&self, part: Part) -> io::Result<()> {
        self.gone(&self.path(part))?;
        File::open(&self.0)?.sync_all()
    }

    /// Removes all that belongs to a mesh.
    ///
    /// # Errors
    /// What the system says.
    pub fn clear(&self) -> io::Result<()> {
        const PARTS: [Part; 8] = [
            Part::Certificate,
            Part::AuthorityKey,
            Part::Key,
            Part::Authorities,
            Part::Addresses,
            Part::HouseToken,
            Part::Promise,
            Part::Level,
        ];
        PARTS.into_iter().try_for_each(|part| self.remove(part))
    }

    fn gone(&self, path: &Path) -> io::Result<()> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_replaced_whole_and_closed_to_others() {
        let state = tempfile::tempdir().unwrap();
        let place = Place::open(state.path()).unwrap();
        assert_eq!(place.load(Part::Key).unwrap(), None);
        place.save(Part::Key, "one").unwrap();
        place.save(Part::Key, "two").unwrap();
        assert_eq!(place.load(Part::Key).unwrap().as_deref(), Some("two"));
        let mode = std::fs::metadata(place.path(Part::Key)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        place.remove(Part::Key).unwrap();
        place.remove(Part::Key).unwrap();
        assert_eq!(place.load(Part::Key).unwrap(), None);
    }

    #[test]
    fn a_place_that_others_may_look_into_is_closed() {
        let state = tempfile::tempdir().unwrap();
        std::fs::create_dir(state.path().join("mesh")).unwrap();
        std::fs::set_permissions(state.path().join("mesh"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let place = Place::open(state.path()).unwrap();
        assert_eq!(std::fs::metadata(&place.0).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_link_in_the_place_of_a_part_is_not_followed() {
        let state = tempfile::tempdir().unwrap();
        let place = Place::open(state.path()).unwrap();
        let other = state.path().join("other");
        std::fs::write(&other, "theirs").unwrap();
        std::os::unix::fs::symlink(&other, place.path(Part::HouseToken)).unwrap();
        assert!(place.load(Part::HouseToken).is_err());
        place.save(Part::HouseToken, "ours").unwrap();
        assert_eq!(std::fs::read_to_string(&other).unwrap(), "theirs");
    }
}
