//! The program.

fn main() -> std::process::ExitCode {
    mgmt::cli::run(std::env::args_os()).into()
}
