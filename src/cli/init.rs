//! `mgmt init`: a first graph to play with, which works anywhere and needs no rights.
//!
//! Promises to write one file, and never over anything.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::args;
use super::exit::{Exit, Failure};
use super::print;

/// The first graph.
const GRAPH: &str = include_str!("init/graph.yaml");

/// The name that graph files have by habit.
const FILE: &str = "graph.yaml";

/// Makes the directory if need be, and the graph in it.
///
/// # Errors
/// There is a graph already, or it cannot be written.
pub fn run(args: &args::Init, out: &mut dyn Write) -> Result<Exit, Failure> {
    let directory = &args.directory;
    let cannot = |doing: &str, error: std::io::Error| {
        Failure::new(Exit::CannotCreate, format!("cannot {doing} {}: {error}", directory.display()))
    };
    fs::create_dir_all(directory).map_err(|error| cannot("make", error))?;
    let path = directory.join(FILE);
    // Asking first and writing then would leave a moment in which a file could be lost.
    let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let message = format!("{} is there already, and is left alone: choose another directory", path.display());
            return Err(Failure::new(Exit::CannotCreate, message));
        }
        Err(error) => return Err(cannot("write into", error)),
    };
    if let Err(error) = file.write_all(GRAPH.as_bytes()) {
        // Half a graph would be in the way of the next try.
        drop(fs::remove_file(&path));
        return Err(Failure::new(Exit::Disk, format!("cannot write {}: {error}", path.display())));
    }
    print::text(&advice(directory, &path), out)?;
    Ok(Exit::Done)
}

/// What to try next.
fn advice(directory: &Path, path: &Path) -> String {
    let (graph, files) = (quoted(path), quoted(&directory.join("files")));
    format!(
        "Wrote {}: a directory, three files that are there, one that is not, and a command.\n\nTry next:\n  \
        mgmt plan {graph}      # what would change; nothing is touched\n  \
        mgmt apply {graph}     # make it so, once\n  \
        mgmt run {graph}       # make it so, and keep it so; ^C ends it\n\n\
        While it runs, in another terminal:\n  \
        cd {files}\n  \
        rm -f f2 && cat f2\n  \
        echo blah blah > f2 && cat f2\n  \
        touch f4 && file f4\n",
        path.display(),
    )
}

/// A path that can be pasted into a shell.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@%:,=".contains(c);
    // A leading dash would be read as an option.
    match text.strip_prefix('-') {
        None if text.chars().all(plain) => text,
        _ => format!("'{}{}'", if text.starts_with('-') { "./" } else { "" }, text.replace('\'', r"'\''")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn init(directory: &Path) -> (Result<Exit, Failure>, String) {
        let mut out = Vec::new();
        let ended = run(&args::Init { directory: directory.to_owned() }, &mut out);
        (ended, String::from_utf8(out).expect("advice is text"))
    }

    #[test]
    fn it_writes_one_graph_and_says_what_to_try() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let directory = root.path().join("a/b");
        let (ended, said) = init(&directory);
        assert_eq!(ended, Ok(Exit::Done));
        assert!(said.contains(&format!("mgmt run {}", directory.join(FILE).display())), "{said}");
        assert_eq!(fs::read_to_string(directory.join(FILE)).expect("it is there"), GRAPH);
        assert_eq!(fs::read_dir(&directory).expect("it is there").count(), 1);
    }

    #[test]
    fn it_never_overwrites() {
        let root = tempfile::tempdir().expect("a temporary directory");
        fs::write(root.path().join(FILE), "mine").expect("a file");
        let (ended, said) = init(root.path());
        let failure = ended.expect_err("there is a graph");
        assert_eq!(failure.exit, Exit::CannotCreate);
        assert!(failure.message.contains("left alone"), "{failure:?}");
        assert_eq!(said, "");
        assert_eq!(fs::read_to_string(root.path().join(FILE)).expect("it is there"), "mine");
        let (ended, _) = init(&root.path().join(FILE));
        assert_eq!(ended.expect_err("a file is in the way").exit, Exit::CannotCreate);
    }

    #[test]
    fn the_graph_is_a_document() {
        let document = crate::document::parse(GRAPH.as_bytes()).expect("it parses");
        assert!(matches!(document.root().value(), crate::document::Value::Map(_)));
    }

    #[test]
    fn paths_can_be_pasted() {
        for (path, pasted) in [("a/b.yaml", "a/b.yaml"), ("a b", "'a b'"), ("it's", r"'it'\''s'"), ("-x", "'./-x'")] {
            assert_eq!(quoted(Path::new(path)), pasted);
        }
    }
}
