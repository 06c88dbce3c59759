//! The command line: reads arguments, calls the verb, and turns what came of it into an exit code.
//!
//! Knows every verb by name and none by its workings.

pub mod apply;
pub mod args;
pub mod cluster;
pub mod completions;
pub mod demo;
pub mod doctor;
pub mod events;
pub mod exit;
pub mod explain;
pub mod exports;
pub mod facts;
pub mod graph;
pub mod graph_source;
pub mod init;
pub mod join;
pub mod kv;
pub mod lock;
pub mod man;
pub mod members;
pub mod plan;
pub mod print;
pub mod run;
pub mod snapshot;
pub mod status;
pub mod token;
pub mod validate;

use std::process::ExitCode;

use clap::Parser as _;
use clap::error::ErrorKind;
use mgmt_engine::Clock;
use mgmt_store::record::Versions;

use crate::kinds::KINDS;
use crate::logging::{self, Loudness};
use crate::mesh::levels::VERSIONS;
use crate::progress::Progress;
use args::{Args, Verb};
pub use exit::{Exit, Failure};

/// Runs the program with these arguments, the first being its own name, and returns its exit code.
pub fn run(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
    run_as(VERSIONS, arguments)
}

/// The same as a program that understands these feature levels.
pub fn run_as(versions: Versions, arguments: impl IntoIterator<Item = std::ffi::OsString>) -> ExitCode {
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
            return code.into();
        }
    };
    let progress = Progress::new();
    // What apply and plan find goes to standard output by itself; their log is for what is unusual.
    let calm = u8::from(matches!(args.verb, Verb::Apply(_) | Verb::Plan(_)));
    logging::start(Loudness::of(args.verbose, args.quiet + calm, args.log_format, args.color), &progress);
    let out = &mut std::io::stdout();
    let ended = match args.verb {
        Verb::Run(args) => run::run(*args, progress, clock, versions),
        Verb::Apply(args) => apply::run(*args, progress, clock),
        Verb::Plan(args) => plan::run(&args),
        Verb::Validate(args) => validate::run(&args),
        Verb::Events(args) => events::run(&args),
        Verb::Status(args) => status::run(&args),
        Verb::Graph(args) => draw(&args),
        Verb::Init(args) => init::run(&args, out),
        Verb::Explain(args) => explain::run(&args, KINDS, out),
        Verb::Facts(args) => facts::run(&args, out),
        Verb::Exports(args) => exports::run(&args, out),
        Verb::Members(args) => members::run(&args, out),
        Verb::Cluster { verb } => cluster::run(&verb, out, clock, versions),
        Verb::Token { verb } => token::run(&verb, out),
        Verb::Join(args) => join::run(&args, out, clock, versions),
        Verb::Kv { verb } => kv::run(&verb, out),
        Verb::Lock(args) => return lock::run(&args).unwrap_or_else(|failure| failure.say().into()),
        Verb::Snapshot { verb } => snapshot::run(&verb, out),
        Verb::Demo(args) => demo::run(&args, out, clock),
        Verb::Doctor(args) => doctor::run(&args, out),
        Verb::Completions { shell } => completions::run(shell, out),
        Verb::Man { verb, directory } => man::run(verb.as_deref(), directory.as_deref(), out),
    };
    ended.unwrap_or_else(|failure| failure.say()).into()
}

/// A picture needs a host only because resources are built for one; it touches nothing of it.
fn draw(args: &args::Draw) -> Result<Exit, Failure> {
    let hostname = crate::state::hostname(args.hostname.as_deref())?;
    let home = crate::state::Home { hostname, prefix: "/var/lib/mgmt".into() };
    let host = graph_source::host(&home, &crate::agent::Source::File(args.file.clone().into()), true)?;
    graph::run(args, KINDS, &host, &mut std::io::stdout(), &mut std::io::stderr())
}
