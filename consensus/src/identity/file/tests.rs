//! The identity file, cut, flipped and interrupted.

use super::*;
use expect_test::expect;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

fn identity() -> Identity {
    Identity {
        cluster: ClusterId(0x0001_0203_0405_0607_0809_0a0b_0c0d_0e0f),
        peer: PeerId(0x1011_1213_1415_1617_1819_1a1b_1c1d_1e1f),
        incarnation: Incarnation(0x2021_2223_2425_2627_2829_2a2b_2c2d_2e2f),
        raft: Some(17),
        host: "web1.example".to_owned(),
    }
}

fn crc(body: &str) -> String {
    format!("{body}crc = \"{:08x}\"\n", crc32c::crc32c(body.as_bytes()))
}

/// The bytes on disk, for ever: a new form gets a new format, and a test of its own.
#[test]
fn golden() {
    expect![[r##"
        # Who this peer is. Written by mgmt; a copy of it on another host is nobody.
        format = "1"
        cluster = "000102030405060708090a0b0c0d0e0f"
        peer = "101112131415161718191a1b1c1d1e1f"
        incarnation = "202122232425262728292a2b2c2d2e2f"
        raft = "17"
        host = "web1.example"
        crc = "e9e33a47"
    "##]]
    .assert_eq(&render(&identity()));
}

#[test]
fn what_is_written_is_read() {
    for raft in [None, Some(0), Some(1), Some(u64::MAX)] {
        for host in ["a".to_owned(), "a".repeat(253)] {
            let identity = Identity { raft, host, ..identity() };
            let text = render(&identity);
            assert!(text.len() <= IDENTITY_BYTES_MAX);
            assert_eq!(parse(text.as_bytes()).unwrap(), Stored::Sound(identity));
        }
    }
}

#[test]
fn whatever_is_cut_is_damaged() {
    let text = render(&identity());
    for length in 0..text.len() {
        assert!(matches!(parse(&text.as_bytes()[..length]).unwrap(), Stored::Damaged(_)), "cut to {length}");
        // A file that keeps its length ends in zeros.
        let mut torn = text.clone().into_bytes();
        torn[length..].fill(0);
        assert!(matches!(parse(&torn).unwrap(), Stored::Damaged(_)), "zeros from {length}");
    }
    assert!(matches!(parse(format!("{text}\n").as_bytes()).unwrap(), Stored::Damaged(_)));
    assert!(matches!(parse(&vec![b'a'; 5000]).unwrap(), Stored::Damaged(_)));
}

#[test]
fn whatever_is_flipped_is_damaged() {
    let text = render(&identity()).into_bytes();
    for bit in 0..text.len() * 8 {
        let mut flipped = text.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(parse(&flipped), Ok(Stored::Damaged(_))), "bit {bit}");
    }
}

#[test]
fn a_newer_file_is_refused_and_not_given_up() {
    let newer = crc(&format!("{HEAD}format = \"2\"\nshape = \"round\"\n"));
    let error = parse(newer.as_bytes()).unwrap_err();
    expect![[r#"peer.toml has format "2", which a newer version has written; this one reads "1""#]]
        .assert_eq(&error.to_string());
}

#[test]
fn a_right_checksum_alone_does_not_help() {
    let text = render(&identity());
    let body = text.split("crc").next().unwrap();
    for (from, to) in [
        ("raft = \"17\"", "raft = \"017\""),
        ("raft = \"17\"", "raft = \"+17\""),
        ("raft = \"17\"", "raft = \"18446744073709551616\""),
        ("raft = \"17\"\n", ""),
        ("raft = \"17\"\n", "raft = \"17\"\nraft = \"18\"\n"),
        ("web1", "WEB1"),
        ("web1.example", ""),
        ("000102", "00010200"),
        ("0a0b", "0A0B"),
        ("# Who", "# who"),
        ("format = \"1\"\n", ""),
        ("host = ", "host  = "),
    ] {
        let wrong = crc(&body.replacen(from, to, 1));
        assert!(matches!(parse(wrong.as_bytes()), Ok(Stored::Damaged(_))), "{to}");
    }
}

/// A directory of which every step can be the last. What was not synced may or may not be there afterwards.
#[derive(Debug, Clone, Default)]
struct Small(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<String, Arc<Mutex<Vec<u8>>>>,
    synced: BTreeMap<String, Vec<u8>>,
    steps: Vec<&'static str>,
    fails_at: Option<usize>,
}

#[derive(Debug)]
struct SmallFile(Small, Arc<Mutex<Vec<u8>>>);

impl Small {
    fn step(&self, what: &'static str) -> io::Result<()> {
        let mut state = self.0.lock().unwrap();
        if state.fails_at == Some(state.steps.len()) {
            return Err(io::Error::other(what));
        }
        state.steps.push(what);
        Ok(())
    }
}

impl Disk for Small {
    type File = SmallFile;
    fn create(&self, name: &str, bytes: u64) -> io::Result<SmallFile> {
        self.step("create")?;
        let file = Arc::new(Mutex::new(vec![0; usize::try_from(bytes).unwrap()]));
        let old = self.0.lock().unwrap().files.insert(name.to_owned(), Arc::clone(&file));
        assert!(old.is_none(), "{name} exists already");
        Ok(SmallFile(self.clone(), file))
    }
    fn open(&self, name: &str) -> io::Result<SmallFile> {
        let file = self.0.lock().unwrap().files.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(SmallFile(self.clone(), file))
    }
    fn list(&self, _: &str) -> io::Result<Vec<String>> {
        Ok(self.0.lock().unwrap().files.keys().cloned().collect())
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.step("rename")?;
        let mut state = self.0.lock().unwrap();
        let file = state.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        let before = (*file.lock().unwrap()).clone();
        assert_eq!(state.synced.get(from), Some(&before), "renamed before it was synced");
        state.files.insert(to.to_owned(), file);
        Ok(())
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.step("remove")?;
        self.0.lock().unwrap().files.remove(name);
        Ok(())
    }
    async fn sync_folder(&self, folder: &str) -> io::Result<()> {
        assert_eq!(folder, "");
        self.step("sync folder")
    }
    fn free(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn total(&self) -> io::Result<u64> {
        Ok(0)
    }
}

impl DiskFile for SmallFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.1.lock().unwrap();
        // A few at a time, as a disk may.
        let rest = &bytes[usize::try_from(offset).unwrap()..];
        let read = rest.len().min(buffer.len()).min(100);
        buffer[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.step("write")?;
        let offset = usize::try_from(offset).unwrap();
        self.1.lock().unwrap()[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
    fn size(&self) -> io::Result<u64> {
        Ok(self.1.lock().unwrap().len() as u64)
    }
    async fn sync(&self) -> io::Result<()> {
        self.0.step("sync")?;
        let state = &mut *self.0.0.lock().unwrap();
        let name = state.files.iter().find(|(_, file)| Arc::ptr_eq(file, &self.1)).unwrap().0.clone();
        state.synced.insert(name, self.1.lock().unwrap().clone());
        Ok(())
    }
}

/// Nothing here ever waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("it waits"),
    }
}

#[test]
fn it_is_replaced_whole_or_not_at_all() {
    let (old, new) = (identity(), Identity { raft: Some(18), host: "a".repeat(253), ..identity() });
    let disk = Small::default();
    assert_eq!(load(&disk).unwrap(), Stored::Missing);
    at_once(save(&disk, &old)).unwrap();
    assert_eq!(load(&disk).unwrap(), Stored::Sound(old.clone()));
    let steps = disk.0.lock().unwrap().steps.clone();
    assert_eq!(steps, ["remove", "create", "write", "sync", "rename", "sync folder"]);
    for fails_at in 0..steps.len() {
        let disk = Small::default();
        at_once(save(&disk, &old)).unwrap();
        disk.0.lock().unwrap().fails_at = Some(steps.len() + fails_at);
        let error = at_once(save(&disk, &new)).unwrap_err();
        assert_eq!(error.to_string(), "peer.toml cannot be written");
        let wanted = if fails_at < 5 { &old } else { &new };
        assert_eq!(load(&disk).unwrap(), Stored::Sound(wanted.clone()), "step {fails_at} failed");
        disk.0.lock().unwrap().fails_at = None;
        at_once(save(&disk, &new)).unwrap();
        assert_eq!(load(&disk).unwrap(), Stored::Sound(new.clone()));
    }
    let error = at_once(save(&disk, &Identity { host: "A".to_owned(), ..old })).unwrap_err();
    assert!(error.to_string().contains("'A'"), "{error}");
}
