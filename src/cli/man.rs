//! `mgmt man`: manual pages, made from the table of arguments.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;

use super::args::Args;
use super::exit::{Exit, Failure};
use crate::diagnostic::{Printable, nearest};

/// Prints the page of the program, or of a verb; or writes all pages into a directory.
///
/// # Errors
/// There is no such verb, or output cannot be written.
pub fn run(verb: Option<&str>, directory: Option<&Path>, out: &mut dyn Write) -> Result<Exit, Failure> {
    let program = program();
    if let Some(directory) = directory {
        write_all(&program, directory)?;
        return Ok(Exit::Done);
    }
    let page = match verb {
        None => page(&program),
        Some(verb) => page(find(&program, verb)?),
    };
    let page = page.map_err(|error| Failure::output(&error))?;
    out.write_all(&page).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))?;
    Ok(Exit::Done)
}

/// The table of arguments, with what is derived of it filled in: the verbs' full names.
fn program() -> Command {
    let mut program = Args::command();
    program.build();
    program
}

fn verbs(program: &Command) -> impl Iterator<Item = &Command> {
    program.get_subcommands().filter(|verb| !verb.is_hide_set())
}

/// All that have a page: verbs, and the verbs of verbs.
fn pages(program: &Command) -> Vec<&Command> {
    verbs(program).flat_map(|verb| std::iter::once(verb).chain(verbs(verb))).collect()
}

fn find<'p>(program: &'p Command, name: &str) -> Result<&'p Command, Failure> {
    // Pages are called mgmt-run; who has just read that may type it here.
    let wanted = name.strip_prefix("mgmt-").unwrap_or(name);
    let full = |verb: &&Command| verb.get_display_name() == Some(&*format!("mgmt-{wanted}"));
    if let Some(verb) = pages(program).into_iter().find(full) {
        return Ok(verb);
    }
    verbs(program).find(|verb| verb.get_name() == wanted).ok_or_else(|| {
        let near = nearest(wanted, verbs(program).map(Command::get_name));
        let hint = near.map(|near| format!(" (did you mean '{near}'?)")).unwrap_or_default();
        Failure::new(Exit::Usage, format!("there is no verb '{}'{hint}", Printable(name)))
    })
}

fn page(command: &Command) -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let version = concat!("mgmt ", env!("CARGO_PKG_VERSION"));
    Man::new(command.clone()).manual("mgmt").source(version).render(&mut page)?;
    Ok(page)
}

/// Writes `mgmt.1`, `mgmt-run.1` and so on.
fn write_all(program: &Command, directory: &Path) -> Result<(), Failure> {
    let failed =
        |exit, path: &Path, error: io::Error| Failure::new(exit, format!("cannot write {}: {error}", path.display()));
    fs::create_dir_all(directory).map_err(|error| failed(Exit::CannotCreate, directory, error))?;
    for command in std::iter::once(program).chain(pages(program)) {
        let name = command.get_display_name().unwrap_or_else(|| command.get_name());
        let path = directory.join(format!("{name}.1"));
        let written = page(command).and_then(|page| fs::write(&path, page));
        written.map_err(|error| failed(Exit::Disk, &path, error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn man(verb: Option<&str>) -> Result<String, Failure> {
        let mut out = Vec::new();
        run(verb, None, &mut out)?;
        Ok(String::from_utf8(out).expect("pages are text"))
    }

    #[test]
    fn the_program_and_every_verb_have_a_page() {
        assert!(man(None).expect("a page").contains(".TH mgmt 1"));
        for verb in verbs(&program()) {
            let page = man(Some(verb.get_name())).expect("a page");
            assert!(page.contains(&format!("mgmt\\-{}", verb.get_name())), "{page}");
            assert!(page.contains(env!("CARGO_PKG_VERSION")), "{page}");
        }
        assert_eq!(man(Some("mgmt-run")), man(Some("run")));
        assert!(man(Some("kv-put")).expect("a page").contains("mgmt\\-kv\\-put"));
    }

    #[test]
    fn an_unknown_verb_is_a_usage_error() {
        let failure = man(Some("rnu")).expect_err("no such verb");
        assert_eq!(failure, Failure::new(Exit::Usage, "there is no verb 'rnu' (did you mean 'run'?)"));
    }

    #[test]
    fn all_pages_are_written_into_a_directory() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let directory = root.path().join("man1");
        run(None, Some(&directory), &mut io::sink()).expect("it is writable");
        for page in ["mgmt.1", "mgmt-run.1", "mgmt-explain.1", "mgmt-kv.1", "mgmt-kv-pipe.1"] {
            assert!(directory.join(page).is_file(), "{page}");
        }
        assert_eq!(fs::read_dir(&directory).expect("it is there").count(), 1 + pages(&program()).len());
    }
}
