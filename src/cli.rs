//! The command line: reads arguments, calls the verb, and turns what came of it into an exit code.
//!
//! Knows every verb by name and none by its workings.

pub mod apply;
pub mod args;
pub mod events;
pub mod exit;
pub mod graph_source;
pub mod plan;
pub mod run;
pub mod status;
pub mod validate;

use clap::Parser as _;
use clap::error::ErrorKind;
use mgmt_engine::Clock;

use crate::logging::{self, Loudness};
use crate::progress::Progress;
use args::{Args, Verb};
pub use exit::{Exit, Failure};

/// Runs the program with these arguments, the first being its own name, and returns its exit code.
pub fn run(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Exit {
    let clock = Clock::start();
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
    let progress = Progress::new();
    // What apply and plan find goes to standard output by itself; their log is for what is unusual.
    let calm = u8::from(matches!(args.verb, Verb::Apply(_) | Verb::Plan(_)));
    logging::start(Loudness::of(args.verbose, args.quiet + calm, args.log_format, args.color), &progress);
    let ended = match args.verb {
        Verb::Run(args) => run::run(*args, progress, clock),
        Verb::Apply(args) => apply::run(*args, progress, clock),
        Verb::Plan(args) => plan::run(&args),
        Verb::Validate(args) => validate::run(&args),
        Verb::Events(args) => events::run(&args),
        Verb::Status(args) => status::run(&args),
        _ => Ok(Exit::Usage),
    };
    ended.unwrap_or_else(|failure| failure.say())
}
