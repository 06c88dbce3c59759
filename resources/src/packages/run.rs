//! Runs of programs that must not end half way: neither by us, nor with us, nor with the service that we are.

use std::path::Path;
use std::process::ExitStatus;

use mgmt_engine::resource::Fault;

use crate::tools::{self, Said, Tool};

/// What such a program is started by where systemd runs: in a scope of its own, because whoever stops a service ends all
/// that the service has started.
const SCOPE: &str = "systemd-run";
/// What that says when it could not start anything.
const NO_SCOPE: [&str; 3] =
    ["Failed to start transient scope", "Failed to connect to", "Failed to create bus connection"];

/// One run, ready to be made.
#[derive(Debug, Clone)]
pub(super) struct Run {
    name: &'static str,
    arguments: Vec<String>,
    environment: Vec<(&'static str, &'static str)>,
    said_bytes_max: usize,
}

impl Run {
    pub(super) fn new(name: &'static str, said_bytes_max: usize) -> Self {
        Self { name, arguments: Vec::new(), environment: Vec::new(), said_bytes_max }
    }

    pub(super) fn args<A: AsRef<str>>(mut self, arguments: &[A]) -> Self {
        self.arguments.extend(arguments.iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    pub(super) fn env(mut self, variables: &[(&'static str, &'static str)]) -> Self {
        self.environment.extend(variables);
        self
    }

    fn tool(&self, scope: bool) -> Tool {
        let tool = if scope {
            Tool::new(SCOPE).args(["--scope", "--quiet", "--collect", "--", self.name])
        } else {
            Tool::new(self.name)
        };
        let tool = self.environment.iter().fold(tool, |tool, (name, value)| tool.env(name, value));
        tool.args(&self.arguments).said_bytes_max(self.said_bytes_max).uninterrupted()
    }
}

/// Runs it to whatever end.
pub(super) async fn ended(run: Run) -> Result<Said, Fault> {
    // Without it, the scope's own error would be all that is said.
    if tools::has(run.name) && tools::has(SCOPE) && Path::new("/run/systemd/system").exists() {
        let said = run.tool(true).ended().await?;
        let refused = !said.status.success() && NO_SCOPE.iter().any(|words| said.err.starts_with(words));
        if !refused {
            return Ok(said);
        }
        tracing::warn!("{} runs without a scope of its own: {}", run.name, said.last_words());
    }
    run.tool(false).ended().await
}

/// `exit status 100`, `signal 9`.
pub(super) fn shown(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match status.signal() {
        Some(signal) => format!("signal {signal}"),
        None => format!("exit status {}", status.code().unwrap_or_default()),
    }
}
