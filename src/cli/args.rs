//! What can be typed. Old spellings are accepted where they can still mean what they meant.

mod keys;
mod mesh;

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ArgGroup, Parser, Subcommand, ValueEnum};

pub use keys::*;
pub use mesh::*;

/// Event-driven, parallel configuration management: makes this host match a graph of resources, and repairs every
/// departure from it the moment it happens.
#[derive(Debug, Parser)]
#[command(name = "mgmt", version, about, long_about = None, max_term_width = 100, disable_help_subcommand = true)]
#[command(after_help = "Try:  mgmt init hello && mgmt run hello/graph.yaml\n\
    Exit codes: 0 done; 1 a resource failed, or did not converge; 3 --max-runtime passed; 64 usage; 65 the graph is \
    wrong; 69 no agent or mesh; 70 bug; 73 cannot create state; 74 disk; 75 try again (no quorum now, or the host name \
    already runs); 77 not allowed.")]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// Say more (twice: everything).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say only warnings and errors (twice: only errors).
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub quiet: u8,
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Colour. `auto`: on a terminal, unless NO_COLOR is set.
    #[arg(long, global = true, value_enum, default_value_t = When::Auto)]
    pub color: When,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line each, for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Converge, then keep repairing: the agent
    Run(Box<Run>),
    /// Converge once, print what changed, exit
    Apply(Box<Apply>),
    /// Say what would change, and touch nothing
    Plan(Plan),
    /// Find everything that is wrong with a graph file
    Validate(Validate),
    /// Draw a graph file as dot, mermaid or svg
    Graph(Draw),
    /// Write a first graph to play with
    Init(Init),
    /// Play the exchange of files with some peers on this machine, and remove everything afterwards
    Demo(Demo),
    /// Explain a kind of resource, its parameters, and meta parameters
    Explain(Explain),
    /// Say what is known of this host
    Facts(Print),
    /// Show what happened to resources of a running agent
    Events(Events),
    /// Show how a running agent stands
    Status(Status),
    /// Show who is in the mesh, and how they stand
    Members(Members),
    /// Show who exports what, who collects it, and what is skipped and why
    Exports(Exports),
    /// Found, change, repair and leave a mesh
    Cluster {
        /// What to do.
        #[command(subcommand)]
        verb: Cluster,
    },
    /// Make and revoke tokens, which let hosts join
    Token {
        /// What to do.
        #[command(subcommand)]
        verb: Token,
    },
    /// Make this host a member of a mesh
    Join(Box<Join>),
    /// Read, write and follow keys that all hosts share
    Kv {
        /// What to do.
        #[command(subcommand)]
        verb: Kv,
    },
    /// Run a command while a lock of the mesh is held
    Lock(Box<Lock>),
    /// Save what the mesh holds, and found a mesh from it
    Snapshot {
        /// What to do.
        #[command(subcommand)]
        verb: Snapshot,
    },
    /// Find out what is wrong with this host's part in a mesh, or between it and another host
    Doctor(Box<Doctor>),
    /// Print a completion script for a shell
    Completions {
        /// For which shell.
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page of the program, or of a verb
    Man {
        /// A verb; none: the program.
        verb: Option<String>,
        /// Write all pages into this directory instead.
        #[arg(long, value_name = "DIR", conflicts_with = "verb")]
        directory: Option<PathBuf>,
    },
}

/// Where an agent keeps its state, and under which name it runs.
#[derive(Debug, Clone, Default, ArgGroup)]
pub struct Place {
    /// This host's name [default: the machine's]
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Where state is kept, one directory a host name [default: $STATE_DIRECTORY, /var/lib/mgmt for root, else
    /// $XDG_STATE_HOME/mgmt]
    #[arg(long, value_name = "DIR")]
    pub prefix: Option<PathBuf>,
}

/// Which graph, and how it is read.
#[derive(Debug, Clone, ArgGroup)]
pub struct Source {
    /// The graph file; `-` reads standard input. `empty` runs without a graph
    #[arg(value_name = "FILE", num_args = 0..=2)]
    pub graph: Vec<String>,
    /// The graph file, in the old spelling
    #[arg(short, long, visible_alias = "yaml", value_name = "FILE", conflicts_with = "graph")]
    pub file: Option<String>,
    /// Unknown keys in the graph file are errors
    #[arg(long)]
    pub strict: bool,
}

/// Options of the old program that have no meaning here any more; they are accepted and said to be ignored.
#[derive(Debug, Clone, Default, ArgGroup)]
pub struct Old {
    #[arg(long, hide = true)]
    no_pgp: bool,
    #[arg(long, hide = true)]
    pub(crate) no_server: bool,
    #[arg(long, hide = true, value_name = "N")]
    pub(crate) ideal_cluster_size: Option<u16>,
    #[arg(long, hide = true, value_name = "URLS")]
    pub(crate) client_urls: Vec<String>,
    #[arg(long, hide = true, value_name = "URLS")]
    pub(crate) server_urls: Vec<String>,
    #[arg(long, hide = true)]
    prometheus: bool,
    #[arg(long, hide = true, value_name = "ADDRESS")]
    prometheus_listen: Option<String>,
}

impl Old {
    /// Those that were given.
    pub fn given(&self) -> Vec<&'static str> {
        [
            (self.no_pgp, "--no-pgp"),
            (self.no_server, "--no-server"),
            (self.ideal_cluster_size.is_some(), "--ideal-cluster-size"),
            (!self.client_urls.is_empty(), "--client-urls"),
            (!self.server_urls.is_empty(), "--server-urls"),
            (self.prometheus, "--prometheus"),
            (self.prometheus_listen.is_some(), "--prometheus-listen"),
        ]
        .into_iter()
        .filter_map(|(given, name)| given.then_some(name))
        .collect()
    }
}

/// What `run` and `apply` have in common.
#[derive(Debug, Clone, ArgGroup)]
pub struct Common {
    /// Keep state in a fresh directory of its own, removed at exit
    #[arg(long, conflicts_with = "prefix")]
    pub tmp_prefix: bool,
    /// Give up after so long
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub max_runtime: Option<Duration>,
    /// Check everything, change nothing
    #[arg(long)]
    pub noop: bool,
    /// At most so many resources check and apply at once
    #[arg(long, value_name = "N")]
    pub sema: Option<NonZeroU32>,
    /// No automatic edges
    #[arg(long)]
    pub no_autoedges: bool,
    /// At exit, write the graph to this file in dot form, coloured by state
    #[arg(long, value_name = "FILE")]
    pub graphviz: Option<PathBuf>,
    /// Exit with 2 if something changed, 4 if something failed, 6 if both
    #[arg(long)]
    pub detailed_exitcode: bool,
}

/// `mgmt run`
#[derive(Debug, ArgGroup)]
#[command(
    after_help = "Signals: the first ^C (or TERM) finishes what runs and starts nothing, the second cancels it, \
    the third kills it. HUP reads the graph file again, as every edit of it does by itself.\n\n\
    Examples:\n  mgmt run site.yaml\n  mgmt run --converged-timeout 5 site.yaml   # until all is quiet for 5 s\n  \
    mgmt run --noop site.yaml                  # say what would change, whenever it would"
)]
pub struct Run {
    /// Which graph.
    #[command(flatten)]
    pub source: Source,
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// In common.
    #[command(flatten)]
    pub common: Common,
    /// Exit after so long without anything to do (0: as soon as all is quiet; -1: never)
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true, value_parser = optional_seconds)]
    pub converged_timeout: Option<MaybeSeconds>,
    /// The old spelling: exits only together with --converged-exit
    #[arg(long, hide = true, value_name = "SECONDS", allow_negative_numbers = true, value_parser = optional_seconds, conflicts_with = "converged_timeout")]
    pub converger_timeout: Option<MaybeSeconds>,
    #[arg(long, hide = true)]
    pub(crate) converged_exit: bool,
    /// Append `true` or `false` to this file whenever it converges, or no longer is
    #[arg(long, visible_alias = "converger-status-file", value_name = "FILE")]
    pub converged_status_file: Option<PathBuf>,
    /// Do not read the graph file again when it is edited
    #[arg(long)]
    pub no_watch: bool,
    /// Open no network socket (none is ever opened without need)
    #[arg(long)]
    pub no_network: bool,
    #[arg(long, hide = true, value_name = "PROGRAM")]
    pub(crate) graphviz_filter: Option<String>,
    /// Options of the mesh.
    #[command(flatten)]
    pub mesh: Mesh,
    /// Options without meaning.
    #[command(flatten)]
    pub old: Old,
}

/// `mgmt apply`
#[derive(Debug, ArgGroup)]
pub struct Apply {
    /// Which graph.
    #[command(flatten)]
    pub source: Source,
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// In common.
    #[command(flatten)]
    pub common: Common,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `mgmt plan`
#[derive(Debug, ArgGroup)]
#[command(after_help = "Each resource is answered with one of: ok; would change (with a diff); unknown, because …; \
    would fail. Commands that guard others (ifcmd, nifcmd) are run, because the answer depends on them.")]
pub struct Plan {
    /// Which graph.
    #[command(flatten)]
    pub source: Source,
    /// Where.
    #[command(flatten)]
    pub place: Place,
    /// Do not run guards either: what depends on one is unknown
    #[arg(long)]
    pub no_guards: bool,
    /// No automatic edges
    #[arg(long)]
    pub no_autoedges: bool,
    /// Show whole diffs, not their first lines
    #[arg(long)]
    pub full_diff: bool,
    /// Exit with 2 if something would change, 4 if something would fail, 6 if both
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `mgmt demo`
#[derive(Debug, ArgGroup)]
pub struct Demo {
    /// How many peers, 1 to 9
    #[arg(value_name = "HOSTS", default_value_t = 3)]
    pub hosts: usize,
    /// Let it go on until ^C, to be looked at
    #[arg(long)]
    pub keep: bool,
}

/// `mgmt validate`
#[derive(Debug, ArgGroup)]
pub struct Validate {
    /// The graph files; `-` reads standard input
    #[arg(value_name = "FILE", required = true)]
    pub files: Vec<String>,
    /// Unknown keys are warnings only, as `run` sees them
    #[arg(long)]
    pub no_strict: bool,
    /// The host name to validate for
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `mgmt graph`
#[derive(Debug, ArgGroup)]
pub struct Draw {
    /// The graph file; `-` reads standard input
    #[arg(value_name = "FILE")]
    pub file: String,
    /// In which form
    #[arg(long, value_enum, default_value_t = Picture::Dot)]
    pub format: Picture,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// No automatic edges
    #[arg(long)]
    pub no_autoedges: bool,
    /// The host name to draw it for
    #[arg(long, value_name = "NAME")]
    pub hostname: Option<String>,
}

/// Forms of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Picture {
    /// Graphviz.
    Dot,
    /// Mermaid, which many web pages render.
    Mermaid,
    /// A picture for a browser.
    Svg,
}

/// `mgmt init`
#[derive(Debug, ArgGroup)]
pub struct Init {
    /// The directory to make
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

/// `mgmt explain`
#[derive(Debug, ArgGroup)]
pub struct Explain {
    /// A kind, `meta`, or `graph`; none: a list of kinds
    pub topic: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `mgmt facts`
#[derive(Debug, ArgGroup)]
pub struct Print {
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `mgmt events`
#[derive(Debug, ArgGroup)]
pub struct Events {
    /// Which agent.
    #[command(flatten)]
    pub place: Place,
    /// Only the last N
    #[arg(long, visible_alias = "tail", value_name = "N")]
    pub last: Option<usize>,
    /// Go on showing what happens, until ^C
    #[arg(short = 'F', long)]
    pub follow: bool,
    /// Only of this host, where it is in a mesh
    #[arg(long)]
    pub local: bool,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// `mgmt status`
#[derive(Debug, ArgGroup)]
pub struct Status {
    /// Which agent.
    #[command(flatten)]
    pub place: Place,
    /// List every resource, not only those that are not as wanted
    #[arg(long)]
    pub all: bool,
    /// Only this host: ask no other one
    #[arg(long)]
    pub local: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Seconds, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaybeSeconds(pub Option<Duration>);

/// The longest time that an option takes: a year.
const LONGEST: f64 = 366.0 * 86_400.0;

/// `5`, `0.5`, `5s`, `10m`, `1h`, `200ms`: a time; a bare number is in seconds.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let split = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "" | "s" => 1.0,
        "ms" => 0.001,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        other => return Err(format!("unknown unit '{other}': use ms, s, m, h or d")),
    };
    let number: f64 =
        number.trim().parse().map_err(|_| "a number of seconds is wanted, such as 5 or 0.5 or 10m".to_owned())?;
    let time = number * factor;
    if (0.0..=LONGEST).contains(&time) {
        Ok(Duration::from_secs_f64(time))
    } else {
        Err("a time from 0 to a year is wanted".to_owned())
    }
}

fn optional_seconds(text: &str) -> Result<MaybeSeconds, String> {
    if text.trim() == "-1" { Ok(MaybeSeconds(None)) } else { seconds(text).map(|time| MaybeSeconds(Some(time))) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_table_of_arguments_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn times_have_units() {
        for (text, millis) in
            [("5", 5000), ("0.5", 500), ("5s", 5000), ("200ms", 200), ("2m", 120_000), ("1h", 3_600_000)]
        {
            assert_eq!(seconds(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "x", "5y", "-1", "1e99", "nan", "inf"] {
            assert!(seconds(text).is_err(), "{text}");
        }
        assert_eq!(optional_seconds("-1"), Ok(MaybeSeconds(None)));
    }
}
