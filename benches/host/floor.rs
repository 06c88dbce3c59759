//! The floors: the fewest system calls that do what a row asks for. Each runs in a process of its own, as ours does.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};
use rustix::fs::{fsync, syncfs};

use crate::kit::contents;

pub(crate) fn run(words: &[String]) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<usize>().expect("a number");
    match *words.as_slice() {
        ["visible", directory, count] => converge(Path::new(directory), number(count), false),
        ["durable", directory, count] => converge(Path::new(directory), number(count), true),
        ["check", directory, count, threads] => check(Path::new(directory), number(count), number(threads)),
        ["guard", directory, how] => guard(Path::new(directory), how),
        ["spawn", count, at_once] => spawn(number(count), number(at_once)),
        _ => panic!("no such floor: {words:?}"),
    }
}

fn entry(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!("f{number:06}"))
}

fn temporary(directory: &Path, number: usize) -> PathBuf {
    directory.join(format!(".f{number:06}"))
}

/// Writes files as ours does, each under another name first. On stable storage with one sync for all of them: data of
/// every file before any file has its name, names before it counts as done.
fn converge(directory: &Path, count: usize, durable: bool) {
    for n in 0..count {
        let path = temporary(directory, n);
        let mut file = File::options().write(true).create_new(true).open(&path).expect("nothing stands there");
        file.write_all(contents(n).as_bytes()).expect("space");
        drop(file);
        if !durable {
            fs::rename(path, entry(directory, n)).expect("a rename");
        }
    }
    if durable {
        let handle = File::open(directory).expect("the directory");
        syncfs(&handle).expect("a disk");
        for n in 0..count {
            fs::rename(temporary(directory, n), entry(directory, n)).expect("a rename");
        }
        fsync(&handle).expect("a disk");
    }
}

/// Opens, looks at, reads and compares each file.
fn check(directory: &Path, count: usize, threads: usize) {
    thread::scope(|scope| {
        for first in 0..threads {
            scope.spawn(move || {
                let mut buffer = [0; 128];
                for n in (first..count).step_by(threads) {
                    let mut file = File::open(entry(directory, n)).expect("it stands");
                    let length = rustix::fs::fstat(&file).expect("a stat").st_size;
                    let read = file.read(&mut buffer).expect("a read");
                    let right = length == 100 && buffer[..read] == *contents(n).as_bytes();
                    assert!(right, "file {n} is wrong");
                }
            });
        }
    });
}

/// Watches one directory and puts its one file right, whatever happens to it. Prints how many microseconds each repair
/// took, from the event. On stable storage either before the file has its name, or right after.
fn guard(directory: &Path, how: &str) {
    let inotify = init(CreateFlags::CLOEXEC).expect("an inotify instance");
    let flags = WatchFlags::DELETE | WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_FROM | WatchFlags::MOVED_TO;
    add_watch(&inotify, directory, flags).expect("a watch");
    println!("ready");
    let (path, new, want) = (entry(directory, 0), temporary(directory, 0), contents(0));
    let handle = File::open(directory).expect("the directory");
    let mut buffer = [MaybeUninit::uninit(); 64 * 1024];
    let mut events = Reader::new(&inotify, &mut buffer);
    loop {
        let event = events.next().expect("events");
        let began = Instant::now();
        let ours = event.file_name().is_some_and(|name| path.file_name().is_some_and(|own| *own == *os(name)));
        if !ours || fs::read(&path).is_ok_and(|is| is == want.as_bytes()) {
            continue;
        }
        let mut file = File::create(&new).expect("a file");
        file.write_all(want.as_bytes()).expect("space");
        if how == "before" {
            file.sync_data().expect("a disk");
        }
        fs::rename(&new, &path).expect("a rename");
        if how == "after" {
            file.sync_data().expect("a disk");
        }
        if how != "visible" {
            fsync(&handle).expect("a disk");
        }
        println!("{}", began.elapsed().as_micros());
    }
}

fn os(name: &std::ffi::CStr) -> &std::ffi::OsStr {
    std::os::unix::ffi::OsStrExt::from_bytes(name.to_bytes())
}

/// Runs `true`, so many at once.
fn spawn(count: usize, at_once: usize) {
    let left = AtomicUsize::new(count);
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                let take = |left: usize| left.checked_sub(1);
                while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                    assert!(Command::new("/bin/true").status().expect("a process").success());
                }
            });
        }
    });
}
