//! The command line: reads arguments, calls the verb, and turns what came of it into an exit code.
//!
//! Knows every verb by name and none by its workings.

pub mod args;
pub mod completions;
pub mod exit;
pub mod explain;
pub mod facts;
pub mod graph;
pub mod init;
pub mod man;
pub mod print;

use clap::Parser as _;
use clap::error::ErrorKind;
use mgmt_resources::KINDS;

use args::{Args, Verb};
pub use exit::{Exit, Failure};

/// Runs the program with these arguments, the first being its own name, and returns its exit code.
pub fn run(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Exit {
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => {
            let code = match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done,
                _ => Exit::Usage,
            };
            // Nobody is left to tell if this cannot be printed.
            drop(error.print());
            return code;
        }
    };
    let ended = match args.verb {
        Verb::Explain(args) => explain::run(&args, KINDS, &mut std::io::stdout().lock()),
        Verb::Facts(args) => facts::run(&args, &mut std::io::stdout().lock()),
        Verb::Init(args) => init::run(&args, &mut std::io::stdout().lock()),
        Verb::Completions { shell } => completions::run(shell, &mut std::io::stdout().lock()),
        Verb::Man { verb, directory } => man::run(verb.as_deref(), directory.as_deref(), &mut std::io::stdout().lock()),
        Verb::Validate(_) => Ok(Exit::Done),
        _ => Ok(Exit::Done),
    };
    ended.unwrap_or_else(|failure: Failure| failure.say())
}
