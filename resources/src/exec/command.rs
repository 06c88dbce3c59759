//! What a command line is: a program and its arguments, and which file the program is.
//!
//! Pure but for the look at the file system in [`locate`]. Knows nothing of processes.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use mgmt_engine::resource::Fault;

/// A program and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// As it was written: a name to look up in `PATH`, or a path.
    pub(super) program: String,
    /// What follows it.
    pub(super) args: Vec<String>,
    /// The first word of a shell's command, where that is an absolute path: most often a script that somebody manages.
    pub(super) script: Option<PathBuf>,
}

/// Why a text is no command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unclear {
    /// Nothing but white space.
    Empty,
    /// A quote that is not closed: the words are those between white space, as the original tool split them.
    Quote,
}

impl Line {
    /// The words of `text`, run without a shell.
    pub(super) fn words(text: &str, more: Vec<String>) -> (Option<Self>, Option<Unclear>) {
        let (words, unclear) = match shlex::split(text) {
            Some(words) => (words, None),
            None => (text.split_whitespace().map(str::to_owned).collect(), Some(Unclear::Quote)),
        };
        let mut words = words.into_iter();
        let Some(program) = words.next().filter(|program| !program.is_empty()) else {
            return (None, Some(Unclear::Empty));
        };
        (Some(Self { program, args: words.chain(more).collect(), script: None }), unclear)
    }

    /// `text` run by a shell, whose own text may have words: `bash -e`.
    pub(super) fn shell(shell: &str, text: &str) -> (Option<Self>, Option<Unclear>) {
        let (line, unclear) = Self::words(shell, vec!["-c".to_owned(), text.to_owned()]);
        let script = text.split_whitespace().next().filter(|word| word.starts_with('/')).map(PathBuf::from);
        (line.map(|line| Self { script, ..line }), unclear)
    }

    /// Files that may be the program, in the order they are tried.
    pub(super) fn candidates(&self, path: &str, directory: &Path) -> Vec<PathBuf> {
        if self.program.contains('/') {
            return vec![directory.join(&self.program)];
        }
        // An empty entry of PATH is the working directory, and joining a relative entry to it does the same for that.
        path.split(':').map(|entry| directory.join(entry).join(&self.program)).collect()
    }
}

/// The file that `line` runs, absolute.
///
/// # Errors
/// There is none, or it may not be run.
pub(super) fn locate(line: &Line, path: &str, directory: &Path) -> Result<PathBuf, Fault> {
    let mut unusable = None;
    for candidate in line.candidates(path, directory) {
        match runnable(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(reason) => unusable = unusable.or(reason.map(|reason| (candidate, reason))),
        }
    }
    Err(match unusable {
        Some((candidate, reason)) => Fault::path("run", &candidate, reason),
        None if line.program.contains('/') => {
            Fault::path("run", &directory.join(&line.program), "no such file or directory")
        }
        None => Fault::new(format!("program '{}' not found in PATH ({path})", line.program)),
    })
}

/// `Err(None)` if nothing is there; a shell goes on to the next entry of PATH in both cases.
fn runnable(path: &Path) -> Result<(), Option<String>> {
    match fs::metadata(path) {
        Ok(found) if !found.is_file() => Err(Some("it is not a file".to_owned())),
        Ok(found) if found.permissions().mode() & 0o111 == 0 => Err(Some("it is not executable".to_owned())),
        Ok(_) => Ok(()),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Err(None),
        Err(error) => Err(Some(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        let line = Line::words(text, vec!["more".into()]).0.unwrap();
        std::iter::once(line.program).chain(line.args).collect()
    }

    #[test]
    fn words_are_split_as_a_shell_would() {
        assert_eq!(words("a 'b c' \"d e\" f\\ g"), ["a", "b c", "d e", "f g", "more"]);
        assert_eq!(words("  a  "), ["a", "more"]);
    }

    #[test]
    fn an_open_quote_is_split_at_white_space_and_said() {
        let (line, unclear) = Line::words("echo it's", Vec::new());
        assert_eq!(line.unwrap().args, ["it's"]);
        assert_eq!(unclear, Some(Unclear::Quote));
    }

    #[test]
    fn nothing_is_no_command() {
        assert_eq!(Line::words("  ", Vec::new()), (None, Some(Unclear::Empty)));
        assert_eq!(Line::words("''", Vec::new()), (None, Some(Unclear::Empty)));
    }

    #[test]
    fn a_shell_may_have_words_and_runs_a_script() {
        let line = Line::shell("bash -e", "/opt/x.sh  'a'").0.unwrap();
        assert_eq!((line.program.as_str(), line.script), ("bash", Some(PathBuf::from("/opt/x.sh"))));
        assert_eq!(line.args, ["-e", "-c", "/opt/x.sh  'a'"]);
    }

    #[test]
    fn a_program_is_looked_up_in_path() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        fs::write(at.join("plain"), "").unwrap();
        fs::create_dir(at.join("folder")).unwrap();
        let find = |program: &str| {
            let line = Line::words(program, Vec::new()).0.unwrap();
            locate(&line, "/usr/bin:/bin:", at).map_err(|fault| fault.to_string().replace(at.to_str().unwrap(), "D"))
        };
        assert!(find("true").unwrap().ends_with("bin/true"));
        assert_eq!(find("plain").unwrap_err(), "cannot run D/plain: it is not executable");
        assert_eq!(find("./folder").unwrap_err(), "cannot run D/./folder: it is not a file");
        assert_eq!(find("./none").unwrap_err(), "cannot run D/./none: no such file or directory");
        assert_eq!(find("none-such").unwrap_err(), "program 'none-such' not found in PATH (/usr/bin:/bin:)");
    }
}
