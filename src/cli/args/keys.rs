//! What can be typed about the store: keys and locks.

use std::ffi::OsString;
use std::time::Duration;

use clap::{Args as ArgGroup, Subcommand};

use super::{Place, seconds};

/// `mgmt kv`
#[derive(Debug, Subcommand)]
pub enum Kv {
    /// Print what lies under a key
    Get(Get),
    /// Write a key
    Put(Put),
    /// Delete a key, or all that begin so
    Delete(Delete),
    /// List keys with their values
    List(List),
    /// Follow changes, until ^C
    Watch(Watch),
    /// Speak the line protocol on standard input and output: for programs that ask much
    Pipe(Pipe),
}

/// How new a read must be.
#[derive(Debug, Clone, Copy, ArgGroup)]
pub struct Newness {
    /// No older than anything anybody was told before; needs a quorum
    #[arg(long)]
    pub latest: bool,
    /// How long to wait for it
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "5")]
    pub timeout: Duration,
}

/// `mgmt kv get`
#[derive(Debug, ArgGroup)]
#[command(
    after_help = "Without --latest it answers from what this host has, also while there is no quorum, and says on \
    standard error how old that may be. A key that is not there: exit code 1."
)]
pub struct Get {
    /// The key
    pub key: String,
    /// How new.
    #[command(flatten)]
    pub newness: Newness,
    /// Which agent is asked.
    #[command(flatten)]
    pub place: Place,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `mgmt kv put`
#[derive(Debug, ArgGroup)]
pub struct Put {
    /// The key
    pub key: String,
    /// The value; `-` reads standard input to its end
    #[arg(allow_hyphen_values = true)]
    pub value: OsString,
    /// The key goes away after so long
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub lease: Option<Duration>,
    /// How long to go on trying
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "5")]
    pub timeout: Duration,
    /// Which agent is asked.
    #[command(flatten)]
    pub place: Place,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `mgmt kv delete`
#[derive(Debug, ArgGroup)]
pub struct Delete {
    /// The key
    #[arg(required_unless_present = "starting_with", conflicts_with = "starting_with")]
    pub key: Option<String>,
    /// All keys that begin so
    #[arg(long, value_name = "PREFIX")]
    pub starting_with: Option<String>,
    /// How long to go on trying
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "5")]
    pub timeout: Duration,
    /// Which agent is asked.
    #[command(flatten)]
    pub place: Place,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `mgmt kv list`
#[derive(Debug, ArgGroup)]
pub struct List {
    /// How the keys begin; none: all
    #[arg(value_name = "PREFIX", default_value = "")]
    pub start: String,
    /// Only their names
    #[arg(long)]
    pub keys: bool,
    /// How new.
    #[command(flatten)]
    pub newness: Newness,
    /// Which agent is asked.
    #[command(flatten)]
    pub place: Place,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `mgmt kv watch`
#[derive(Debug, ArgGroup)]
pub struct Watch {
    /// How the keys begin; none: all
    #[arg(value_name = "PREFIX", default_value = "")]
    pub start: String,
    /// From this revision on, itself included [default: what comes from now on]
    #[arg(long, value_name = "REVISION")]
    pub from: Option<u64>,
    /// Which agent is asked.
    #[command(flatten)]
    pub place: Place,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// `mgmt kv pipe`
#[derive(Debug, ArgGroup)]
#[command(
    after_help = "Lines in:   ID PUT KEY VALUE | ID GET KEY | ID LOCAL KEY | ID CAS KEY OLD NEW | ID DELETE KEY |\n\
    \x20           ID WATCH PREFIX | ID UNWATCH ID2 | ID LEADER\n\
    Lines out:  ID OK [VALUE] | ID ERR TEXT | ID EV KEY VALUE | ID DEL KEY\n\
    IDs are chosen by the asker; answers come as they are ready. docs/operations.md has the whole of it."
)]
pub struct Pipe {
    /// Which agent is asked.
    #[command(flatten)]
    pub place: Place,
}

/// `mgmt lock`
#[derive(Debug, ArgGroup)]
#[command(
    after_help = "The command has a number in MGMT_FENCE that is higher for each holder of the lock: whatever it \
    writes to can refuse what carries less than it has seen. When the lock is lost, the command gets TERM.\n\
    The exit code is that of the command; 75 if the lock was not to be had, or was lost.\n\n\
    Examples:\n  mgmt lock backup -- tar -cf /srv/backup.tar /srv/data\n  \
    mgmt lock --count 2 --wait 10m reboots -- reboot-in-order   # two at a time"
)]
pub struct Lock {
    /// The lock's name
    pub name: String,
    /// So many may hold it at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub count: u32,
    /// How long to wait for it [default: not at all]
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub wait: Option<Duration>,
    /// It ends so long after this host was heard of last
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "15")]
    pub ttl: Duration,
    /// Which agent is asked.
    #[command(flatten)]
    pub place: Place,
    /// What to run while it is held
    #[arg(last = true, required = true, num_args = 1.., value_name = "COMMAND")]
    pub command: Vec<OsString>,
}
