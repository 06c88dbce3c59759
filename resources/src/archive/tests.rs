//! Each sentence of the kind's page, on archives that are made here, good ones and hostile ones.

use std::fs;
use std::io::{Cursor, Write as _};
use std::os::unix::fs::{MetadataExt as _, symlink};

use super::build::build;
use super::*;
use crate::bed::{self, Bed};
use crate::kind::Anchor;
use flate2::Compression;
use flate2::write::GzEncoder;
use mgmt_engine::erased::AnyResource;
use tar::{Builder, EntryType, Header};

/// What goes into a tar: a name, contents, and what is special about it.
struct Put<'a>(&'a str, &'a str, fn(&mut Header));

fn plain(_: &mut Header) {}

/// A tar of these, with names as they are given, however wrong.
fn tar_of(members: &[Put<'_>]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for Put(name, contents, change) in members {
        let mut header = Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_000_000_000);
        if name.ends_with('/') {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o755);
        }
        // Past the library, which writes no wrong ones.
        let field = &mut header.as_old_mut().name;
        field[..name.len()].copy_from_slice(name.as_bytes());
        change(&mut header);
        header.set_cksum();
        builder.append(&header, contents.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn linked(header: &mut Header, sort: EntryType, to: &str) {
    header.set_entry_type(sort);
    header.as_old_mut().linkname[..to.len()].copy_from_slice(to.as_bytes());
}

fn usual() -> Vec<u8> {
    tar_of(&[
        Put("tool-1.4/", "", plain),
        Put("tool-1.4/bin/", "", |header| header.set_mode(0o750)),
        Put("tool-1.4/bin/tool", "#!/bin/sh\n", |header| header.set_mode(0o755)),
        Put("tool-1.4/bin/again", "", |header| linked(header, EntryType::Link, "tool-1.4/bin/tool")),
        Put("tool-1.4/now", "", |header| linked(header, EntryType::Symlink, "bin/tool")),
        Put("tool-1.4/share/doc/readme", "read me\n", plain),
    ])
}

fn zip_of(members: &[(&str, &str, u32)]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents, mode) in members {
        let options = zip::write::SimpleFileOptions::default().unix_permissions(*mode);
        match (name.strip_suffix('/'), contents.strip_prefix("-> ")) {
            (Some(name), _) => writer.add_directory(name, options).unwrap(),
            (_, Some(target)) => writer.add_symlink(*name, target, options).unwrap(),
            _ => {
                writer.start_file(*name, options).unwrap();
                writer.write_all(contents.as_bytes()).unwrap();
            }
        }
    }
    writer.finish().unwrap().into_inner()
}

fn gzipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// By a program of the machine; `None` if there is none.
fn packed_by(program: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    let mut child = std::process::Command::new(program)
        .arg("-c")
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .ok()?;
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    Some(child.wait_with_output().unwrap().stdout)
}

/// An archive in a scratch directory, to be unpacked to `to`.
struct Rig(Bed);

impl Rig {
    fn of(bytes: &[u8]) -> Self {
        let rig = Self(Bed::new());
        rig.write(bytes);
        rig
    }

    /// As a download does it: whole.
    fn write(&self, bytes: &[u8]) {
        fs::write(self.0.path("new"), bytes).unwrap();
        fs::rename(self.0.path("new"), self.0.path("from")).unwrap();
    }

    fn built(&self, pairs: &[(&str, &str)]) -> Result<AnyResource, String> {
        let pairs = [&[("source", "from"), ("path", "to")], pairs].concat();
        Ok(self.0.built(&INFO, &build, &pairs)?.resource)
    }

    async fn converge(&self, pairs: &[(&str, &str)]) -> Result<String, String> {
        let done = bed::converge(&self.built(pairs)?).await;
        done.map_err(|why| self.0.clean(why))
    }

    async fn said(&self, pairs: &[(&str, &str)]) -> String {
        let said = bed::said(&self.built(pairs).unwrap()).await;
        self.0.clean(said.unwrap_or_else(|why| format!("fails: {why}")))
    }

    /// How it fails; then nothing may have been left.
    async fn fails(&self, pairs: &[(&str, &str)]) -> String {
        let why = self.converge(pairs).await.unwrap_err();
        assert_eq!(self.0.names(), ["from"], "{why}");
        why
    }

    fn mode(&self, name: &str) -> u32 {
        fs::symlink_metadata(self.0.path(name)).unwrap().mode() & 0o7777
    }
}

#[tokio::test]
async fn an_archive_is_unpacked_once_and_again_when_it_changed() {
    let rig = Rig::of(&gzipped(&usual()));
    let pairs = [("strip", "1"), ("creates", "bin/tool")];
    assert_eq!(rig.said(&pairs).await, "missing");
    assert_eq!(rig.converge(&pairs).await.unwrap(), "unpacked, 6 members");
    assert_eq!((rig.mode("to"), rig.mode("to/bin"), rig.mode("to/bin/tool")), (0o755, 0o750, 0o755));
    assert_eq!((rig.mode("to/share"), rig.mode("to/share/doc/readme")), (0o755, 0o644));
    assert_eq!(fs::metadata(rig.0.path("to/bin/tool")).unwrap().mtime(), 1_000_000_000);
    assert_eq!(fs::metadata(rig.0.path("to/bin/again")).unwrap().nlink(), 2);
    assert_eq!(fs::read_link(rig.0.path("to/now")).unwrap(), Path::new("bin/tool"));
    assert_eq!(rig.converge(&pairs).await.unwrap(), "right");
    fs::write(rig.0.path("to/mine"), "").unwrap();
    assert_eq!(rig.converge(&pairs).await.unwrap(), "right", "what is in it is not looked at");
    rig.write(&gzipped(&usual()));
    assert_eq!(rig.converge(&pairs).await.unwrap(), "right", "the same archive again");
    rig.write(&tar_of(&[Put("t/bin/tool", "2", plain)]));
    assert!(rig.said(&pairs).await.starts_with("unpacked from "));
    assert_eq!(rig.converge(&pairs).await.unwrap(), "unpacked, 1 members");
    assert_eq!(rig.0.read("to/bin/tool").as_deref(), Some("2"));
    assert!(!rig.0.path("to/mine").exists() && !rig.0.path("to/share").exists());
    fs::remove_file(rig.0.path("to/bin/tool")).unwrap();
    assert_eq!(rig.said(&pairs).await, "bin/tool is missing in it");
    assert_eq!(rig.converge(&pairs).await.unwrap(), "unpacked, 1 members");
    assert_eq!(rig.said(&[("strip", "0")]).await, "unpacked in another manner");
    fs::remove_dir_all(rig.0.path("to")).unwrap();
    assert_eq!(rig.converge(&pairs).await.unwrap(), "unpacked, 1 members");
    fs::remove_file(rig.0.path("from")).unwrap();
    assert_eq!(rig.converge(&pairs).await.unwrap(), "right", "one that is gone cannot differ");
    fs::remove_dir_all(rig.0.path("to")).unwrap();
    assert_eq!(rig.converge(&pairs).await.unwrap_err(), "cannot read the archive from: no such file");
    assert_eq!(rig.0.names(), [] as [String; 0]);
}

#[tokio::test]
async fn the_first_bytes_say_what_it_is() {
    let zip = zip_of(&[("a/", "", 0o750), ("a/b", "hello", 0o755), ("a/c", "-> b", 0o777), ("plain", "x", 0)]);
    let rig = Rig::of(&zip);
    assert_eq!(rig.converge(&[]).await.unwrap(), "unpacked, 4 members");
    assert_eq!(
        (rig.0.read("to/a/c").as_deref(), rig.mode("to/a/b"), rig.mode("to/plain")),
        (Some("hello"), 0o755, 0o644)
    );
    let unpacked = async |bytes: &[u8]| {
        let rig = Rig::of(bytes);
        rig.converge(&[]).await.unwrap();
        rig.0.read("to/tool-1.4/share/doc/readme")
    };
    assert_eq!(unpacked(&usual()).await.as_deref(), Some("read me\n"));
    for program in ["xz", "zstd"] {
        let Some(packed) = packed_by(program, &usual()) else { continue };
        assert_eq!(unpacked(&packed).await.as_deref(), Some("read me\n"), "{program}");
        let mut cut = Rig::of(&packed[..packed.len() - 20]).fails(&[]).await;
        cut.make_ascii_lowercase();
        assert!(cut.starts_with("from: "), "{program}: {cut}");
        let mut spoilt = packed.clone();
        let middle = spoilt.len() / 2;
        spoilt[middle] ^= 1;
        Rig::of(&spoilt).fails(&[]).await;
    }
    let mut old = usual();
    // From before there was a magic number.
    let mut header = Header::new_old();
    header.as_mut_bytes()[..100].copy_from_slice(&old[..100]);
    header.set_size(0);
    header.set_mode(0o755);
    header.set_entry_type(EntryType::Directory);
    header.set_cksum();
    old[..512].copy_from_slice(header.as_bytes());
    assert_eq!(unpacked(&old).await.as_deref(), Some("read me\n"));
    for (bytes, said) in [
        (&b""[..], "the archive is empty"),
        (b"BZh91AY", "bzip2 is not known here; use gzip, xz or zstd"),
        (b"hello", "it is no archive: neither tar (plain, or packed by gzip, xz or zstd) nor zip"),
    ] {
        assert_eq!(Rig::of(bytes).fails(&[]).await, format!("from: {said}"));
    }
}

#[tokio::test]
async fn hostile_members_are_refused_by_name_and_nothing_is_left() {
    let cases: [(&str, Vec<u8>, &str); 11] = [
        ("../evil", tar_of(&[Put("good", "", plain), Put("../evil", "x", plain)]), "leads out of the directory"),
        ("/etc/evil", tar_of(&[Put("/etc/evil", "x", plain)]), "its path is absolute"),
        ("l", tar_of(&[Put("l", "", |h| linked(h, EntryType::Symlink, "../../etc"))]), "could lead out"),
        (
            "d/evil",
            tar_of(&[
                Put("x/", "", plain),
                Put("d", "", |h| linked(h, EntryType::Symlink, "x")),
                Put("d/evil", "x", plain),
            ]),
            "d is no directory in this archive",
        ),
        ("h", tar_of(&[Put("h", "", |h| linked(h, EntryType::Link, "/etc/shadow"))]), "its path is absolute"),
        ("h", tar_of(&[Put("h", "", |h| linked(h, EntryType::Link, "nothing"))]), "does not come before it"),
        ("null", tar_of(&[Put("null", "", |h| h.set_entry_type(EntryType::Char))]), "it is a device"),
        ("p", tar_of(&[Put("p", "", |h| h.set_entry_type(EntryType::Fifo))]), "it is a pipe"),
        ("su", tar_of(&[Put("su", "x", |h| h.set_mode(0o4755))]), "it has the mode 4755, and setuid is not set"),
        (".mgmt-archive", tar_of(&[Put(".mgmt-archive", "x", plain)]), "belongs to the mark"),
        ("a", tar_of(&[Put("a/b", "", plain), Put("a", "", plain)]), "a directory of this archive has that name"),
    ];
    for (name, bytes, said) in cases {
        for bytes in [gzipped(&bytes), bytes] {
            let why = Rig::of(&bytes).fails(&[]).await;
            assert!(
                why.starts_with(&format!("from: cannot unpack its member '{name}': ")) && why.contains(said),
                "{why}"
            );
        }
    }
    for (name, contents) in [("../evil", "x"), ("l", "-> /etc/passwd"), ("d/../../evil", "x")] {
        let why = Rig::of(&zip_of(&[(name, contents, 0o644)])).fails(&[]).await;
        assert!(why.contains(&format!("its member '{name}'")), "{why}");
    }
    let asked = Rig::of(&tar_of(&[Put("su", "x", |header| header.set_mode(0o4755))]));
    assert_eq!(asked.converge(&[("setuid", "true")]).await.unwrap(), "unpacked, 1 members");
    assert_eq!(asked.mode("to/su"), 0o4755);
}

#[tokio::test]
async fn bombs_and_lies_end_within_bounds() {
    let zeros = "\0".repeat(3_000_000);
    let bomb = gzipped(&tar_of(&[Put("zeros", &zeros, plain)]));
    let why = Rig::of(&bomb).fails(&[("bytes_max", "1000000")]).await;
    assert!(why.ends_with("it has more than 1000000 bytes unpacked, which is bytes_max"), "{why}");
    let why = Rig::of(&zip_of(&[("zeros", &zeros, 0o644)])).fails(&[("bytes_max", "1000000")]).await;
    assert!(why.contains("which is bytes_max"), "{why}");
    let long = tar_of(&[Put("././@LongLink", &zeros, |header| header.set_entry_type(EntryType::GNULongName))]);
    let why = Rig::of(&gzipped(&long)).fails(&[]).await;
    assert!(why.ends_with("a header of the archive has 3000000 bytes; 4097 is the most"), "{why}");
    let whole = usual();
    for end in [600, 1536, 2048, whole.len() - 1024] {
        let why = Rig::of(&whole[..end]).fails(&[]).await;
        assert!(why.contains("cut short"), "{end}: {why}");
    }
    let packed = gzipped(&whole);
    let why = Rig::of(&packed[..packed.len() - 4]).fails(&[]).await;
    assert!(why.contains("cut short"), "{why}");
    let size =
        tar_of(&[Put("x", "15 size=1\n", |header| header.set_entry_type(EntryType::XHeader)), Put("a", "ab", plain)]);
    let why = Rig::of(&size).fails(&[]).await;
    assert!(why.contains("an extended header of the archive is broken"), "{why}");
    let size =
        tar_of(&[Put("x", "9 size=1\n", |header| header.set_entry_type(EntryType::XHeader)), Put("a", "ab", plain)]);
    let why = Rig::of(&size).fails(&[]).await;
    assert!(why.contains("its two headers disagree about its size"), "{why}");
}

#[tokio::test]
async fn long_names_are_put_together() {
    let name = format!("{}/file", "n".repeat(200));
    for extended in [false, true] {
        let mut builder = Builder::new(Vec::new());
        if extended {
            builder.append_pax_extensions([("path", name.as_bytes()), ("mtime", &b"1000000001.5"[..])]).unwrap();
        }
        let mut header = Header::new_gnu();
        header.set_size(1);
        header.set_mode(0o600);
        let short = if extended { "short" } else { name.as_str() };
        builder.append_data(&mut header, short, &b"x"[..]).unwrap();
        let rig = Rig::of(&builder.into_inner().unwrap());
        rig.converge(&[]).await.unwrap();
        assert_eq!(rig.0.read(&format!("to/{name}")).as_deref(), Some("x"));
    }
}

#[tokio::test]
async fn what_stands_there_is_respected() {
    let rig = Rig::of(&usual());
    fs::create_dir(rig.0.path("to")).unwrap();
    assert_eq!(rig.said(&[]).await, "empty");
    fs::write(rig.0.path("to/mine"), "").unwrap();
    let said = rig.said(&[]).await;
    assert!(said.starts_with("fails: cannot unpack to to: files that no archive has brought are there"), "{said}");
    assert_eq!(rig.said(&[("force", "true")]).await, "a directory that no archive has brought stands there");
    assert_eq!(rig.converge(&[("force", "true")]).await.unwrap(), "unpacked, 6 members");
    assert!(!rig.0.path("to/mine").exists());
    fs::remove_dir_all(rig.0.path("to")).unwrap();
    symlink("elsewhere", rig.0.path("to")).unwrap();
    assert!(rig.said(&[("force", "true")]).await.ends_with("it stands there, and is no directory"));
    fs::remove_file(rig.0.path("to")).unwrap();
    let said = rig.said(&[("path", "none/to")]).await;
    assert_eq!(
        said,
        format!("fails: cannot create none/to: its directory {} does not exist", rig.0.path("none").display())
            .replace(&format!("{}/", rig.0.path("").display().to_string().trim_end_matches('/')), "")
    );
}

#[tokio::test]
async fn another_archive_than_the_wanted_one_is_not_unpacked() {
    let rig = Rig::of(&usual());
    let sum = Checksum::read(&usual()[..]).unwrap().to_string();
    let other = "0".repeat(64);
    let why = rig.fails(&[("sha256", &other)]).await;
    assert_eq!(why, format!("cannot unpack from: its checksum is {sum}, not {other}"));
    rig.converge(&[("sha256", &sum)]).await.unwrap();
    rig.write(b"something else");
    assert_eq!(rig.converge(&[("sha256", &sum)]).await.unwrap(), "right", "what is wanted is there");
}

#[tokio::test]
async fn what_an_interrupted_unpacking_has_left_is_found_and_removed() {
    let rig = Rig::of(&usual());
    let left = place::workshop(&rig.0.path("to"));
    let leave = || {
        fs::create_dir(&left).unwrap();
        fs::write(left.join("half"), "").unwrap();
    };
    leave();
    rig.converge(&[]).await.unwrap();
    assert_eq!(rig.0.names(), ["from", "to"]);
    leave();
    assert_eq!(rig.said(&[]).await, "an interrupted unpacking has left files beside it");
    let lock = fs::File::open(&left).unwrap();
    lock.lock().unwrap();
    assert!(rig.converge(&[]).await.unwrap_err().ends_with("another process does"));
    drop(lock);
    rig.converge(&[]).await.unwrap();
    assert_eq!(rig.0.names(), ["from", "to"]);
    let (stopper, stop) = Stop::new();
    stopper.send(Urgency::Cancel).unwrap();
    fs::remove_dir_all(rig.0.path("to")).unwrap();
    let why = bed::converge_until(&rig.built(&[]).unwrap(), stop).await.unwrap_err();
    assert!(why.contains("told to stop"), "{why}");
    assert_eq!(rig.0.names(), ["from"]);
}

#[test]
fn what_is_wrong_is_refused_with_a_remedy() {
    let bed = Bed::new();
    let refused = |pairs: &[(&str, &str)]| bed.built(&INFO, &build, pairs).unwrap_err();
    assert_eq!(refused(&[]), "source: is required\npath: is required");
    assert_eq!(refused(&[("source", "/a"), ("path", "/")]), "path: is the root directory, which cannot be replaced");
    let said = refused(&[("source", "d/a"), ("path", "d"), ("sha256", "x"), ("creates", "../x"), ("strip", "101")]);
    let fields: Vec<_> = said.lines().map(|line| line.split(':').next().unwrap()).collect();
    assert_eq!(fields, ["source", "sha256", "creates", "strip"], "{said}");
    let built = bed.built(&INFO, &build, &[("source", "a"), ("path", "d"), ("owner", "app"), ("group", "7")]).unwrap();
    assert_eq!(built.facets.owns, Some(bed.path("d")));
    assert!(built.facets.wants.contains(&Anchor::Path(bed.path("a"))));
    assert!(
        built.facets.wants.contains(&Anchor::User("app".into()))
            && !built.facets.wants.iter().any(|a| matches!(a, Anchor::Group(_)))
    );
}
