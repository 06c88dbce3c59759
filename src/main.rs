//! The program.

use std::process::ExitCode;

use mgmt_resources::exec::identity;

fn main() -> ExitCode {
    let mut arguments: Vec<_> = std::env::args_os().collect();
    // A child that is to run as somebody else comes back through here, before any thread exists.
    if arguments.get(1).is_some_and(|verb| verb == identity::VERB) {
        let fault = identity::become_and_exec(&arguments.split_off(2));
        return mgmt::cli::exit::Failure::new(mgmt::cli::Exit::NotAllowed, fault).say().into();
    }
    mgmt::cli::run(arguments)
}
