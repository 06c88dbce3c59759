//! `mgmt completions`: a completion script for a shell.

use std::io::Write;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::args::Args;
use super::exit::{Exit, Failure};

/// Prints the script.
///
/// # Errors
/// Output cannot be written.
pub fn run(shell: Shell, out: &mut dyn Write) -> Result<Exit, Failure> {
    // The generator panics when it cannot write, which memory never does to it.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "mgmt", &mut script);
    out.write_all(&script).and_then(|()| out.flush()).map_err(|error| Failure::output(&error))?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::*;

    #[test]
    fn every_shell_has_a_script_with_every_verb() {
        for shell in Shell::value_variants() {
            let mut out = Vec::new();
            assert_eq!(run(*shell, &mut out), Ok(Exit::Done));
            let script = String::from_utf8(out).expect("scripts are text");
            for verb in Args::command().get_subcommands() {
                assert!(script.contains(verb.get_name()), "{shell}: {}", verb.get_name());
            }
        }
    }
}
