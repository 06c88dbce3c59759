//! What can be typed about the mesh: how a run takes part in one, and the verbs that ask or change it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ArgGroup, Subcommand, ValueEnum};

use super::{Place, seconds};

/// How a run takes part in a mesh. Any of these asks for one.
#[derive(Debug, Clone, Default, ArgGroup)]
#[command(next_help_heading = "Mesh")]
pub struct Mesh {
    /// Members to join, or hosts to found a mesh with (--expect): HOST[:PORT], comma separated or repeated
    #[arg(long, visible_alias = "seed", value_name = "ADDRESSES", value_delimiter = ',')]
    pub seeds: Vec<String>,
    /// Where to be reached by other hosts [default: loopback only, any port; with --seeds all addresses, port 6468]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// What lets this host join, from `mgmt token create`
    #[arg(long, value_name = "TOKEN", conflicts_with = "token_file")]
    pub token: Option<String>,
    /// The same from a file; with --expect: the secret that all founders share
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// Found a mesh together with so many hosts, itself included, once most of them agree
    #[arg(long, value_name = "N")]
    pub expect: Option<u16>,
    /// Where this host stands, widest place first: masters are spread over zones
    #[arg(long, value_name = "A/B/C")]
    pub zone: Option<String>,
    /// Found a mesh of its own, although this machine has others that do not run now
    #[arg(long)]
    pub new_cluster: bool,
    /// Leave the mesh when this run ends
    #[arg(long)]
    pub leave_on_exit: bool,
    /// Count as converged only while all hosts of the mesh are
    #[arg(long)]
    pub mesh_converged: bool,
}

impl Mesh {
    /// The first that was given.
    pub fn given(&self) -> Option<&'static str> {
        [
            (!self.seeds.is_empty(), "--seeds"),
            (self.listen.is_some(), "--listen"),
            (self.token.is_some(), "--token"),
            (self.token_file.is_some(), "--token-file"),
            (self.expect.is_some(), "--expect"),
            (self.zone.is_some(), "--zone"),
            (self.new_cluster, "--new-cluster"),
            (self.leave_on_exit, "--leave-on-exit"),
            (self.mesh_converged, "--mesh-converged"),
        ]
        .into_iter()
        .find_map(|(given, name)| given.then_some(name))
    }
}

/// What a host may do in a mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Its own exports, locks, and what an admin has allowed it.
    Agent,
    /// The same, and it may be appointed as a master.
    Master,
    /// Everything.
    Admin,
}

/// `mgmt members`
#[derive(Debug, ArgGroup)]
pub struct Members {
    /// Which agent is asked.
    #[command(flatten)]
    pub place: Place,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `mgmt doctor`
#[derive(Debug, ArgGroup)]
#[command(
    after_help = "Without HOST it looks at this host's part. With HOST (an address, or the name of a member) it \
    says within 5 seconds what keeps the two from speaking: UDP that is blocked, packets that are lost because they are \
    large, clocks that differ, another authority, a token that has expired.\n\
    It exits with 1 if something is wrong."
)]
pub struct Doctor {
    /// Whom to reach: HOST[:PORT]
    pub host: Option<String>,
    /// Also say whether this token would let a host in there
    #[arg(long, value_name = "TOKEN", requires = "host")]
    pub token: Option<String>,
    /// The same from a file
    #[arg(long, value_name = "FILE", requires = "host", conflicts_with = "token")]
    pub token_file: Option<PathBuf>,
    /// Which host's part.
    #[command(flatten)]
    pub place: Place,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `mgmt join`
#[derive(Debug, ArgGroup)]
#[command(
    after_help = "The token comes from `mgmt token create` on a member. An agent that runs without a mesh joins \
    at once; otherwise the state directory is prepared, and the next `mgmt run` goes on as a member.\n\n\
    Example:\n  mgmt join --seeds 10.0.0.1 mgmt1_..."
)]
pub struct Join {
    /// The token; `-` reads it from standard input
    pub token: String,
    /// Members to ask: HOST[:PORT], comma separated or repeated
    #[arg(long, visible_alias = "seed", value_name = "ADDRESSES", value_delimiter = ',', required = true)]
    pub seeds: Vec<String>,
    /// Take over this host's name from the peer that has it now; the token must allow it
    #[arg(long)]
    pub replace: bool,
    /// How long to go on trying
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "30")]
    pub patience: Duration,
    /// Which host joins.
    #[command(flatten)]
    pub place: Place,
}

/// `mgmt cluster`
#[derive(Debug, Subcommand)]
pub enum Cluster {
    /// Found a mesh of this host alone, and print a token for the next host
    Init(Init),
    /// Leave the mesh, handing over first what others need
    Leave(Plain),
    /// Remove a host from the mesh: its connections are closed, its exports stay
    Remove(OfHost),
    /// Hand leadership over, to a given master or to the fittest
    Transfer(Transfer),
    /// Show or set how many masters there should be: 1, 3, 5 or 7
    Size(Size),
    /// Make a new mesh of this host's data where most masters are lost for good; the agent must not run
    Recover(Recover),
    /// Replace the certificate authority, and all certificates with it
    RotateCa(Plain),
    /// Allow hosts to write keys that begin so
    Allow(Rule),
    /// Take that back
    Disallow(Rule),
    /// List what hosts are allowed to write
    Rules(Members),
}

/// `mgmt cluster init`
#[derive(Debug, ArgGroup)]
pub struct Init {
    /// Which host.
    #[command(flatten)]
    pub place: Place,
    /// What the first token makes of the hosts that use it
    #[arg(long, value_enum, default_value_t = Role::Master)]
    pub role: Role,
    /// How long the first token is good for
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "1h")]
    pub ttl: Duration,
    /// How many hosts may use the first token
    #[arg(long, value_name = "N", default_value_t = 8)]
    pub uses: u32,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// A verb that needs nothing but an agent.
#[derive(Debug, ArgGroup)]
pub struct Plain {
    /// Which agent is asked.
    #[command(flatten)]
    pub place: Place,
}

/// A verb about a host.
#[derive(Debug, ArgGroup)]
pub struct OfHost {
    /// The host's name in the mesh
    pub host: String,
    /// Which agent is asked.
    #[command(flatten)]
    pub place: Place,
}

/// `mgmt cluster transfer`
#[derive(Debug, ArgGroup)]
pub struct Transfer {
    /// The next leader
    pub host: Option<String>,
    /// Which agent is asked.
    #[command(flatten)]
    pub place: Place,
}

/// `mgmt cluster size`
#[derive(Debug, ArgGroup)]
pub struct Size {
    /// How many masters; none: say how many there should be
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(["1", "3", "5", "7"]))]
    pub masters: Option<String>,
    /// Which agent is asked.
    #[command(flatten)]
    pub place: Place,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `mgmt cluster recover`
#[derive(Debug, ArgGroup)]
pub struct Recover {
    /// Really do it: the old mesh must never be started again
    #[arg(long)]
    pub yes: bool,
    /// Which host's data.
    #[command(flatten)]
    pub place: Place,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `mgmt cluster allow`, `disallow`
#[derive(Debug, ArgGroup)]
#[command(after_help = "Example:\n  mgmt cluster allow 'web*' app/     # web1 may write app/version now")]
pub struct Rule {
    /// Which hosts; `*` stands for anything
    pub pattern: String,
    /// How the keys begin
    #[arg(id = "start", value_name = "PREFIX")]
    pub prefix: String,
    /// Which agent is asked.
    #[command(flatten)]
    pub place: Place,
}

/// `mgmt token`
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token that lets hosts join, and print it: it is shown once, and stored nowhere
    Create(CreateToken),
    /// List tokens, without their secrets
    List(Members),
    /// Make a token worthless
    Revoke(RevokeToken),
}

/// `mgmt token create`
#[derive(Debug, ArgGroup)]
pub struct CreateToken {
    /// What it makes of the hosts that use it
    #[arg(long, value_enum, default_value_t = Role::Agent)]
    pub role: Role,
    /// How long it is good for
    #[arg(long, value_name = "SECONDS", value_parser = seconds, default_value = "1h")]
    pub ttl: Duration,
    /// How many hosts may use it
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub uses: u32,
    /// Only this host may use it
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// Only this host may use it, also to take its name over from the peer that has it now
    #[arg(long, value_name = "HOST", conflicts_with = "host")]
    pub replace: Option<String>,
    /// Which agent is asked.
    #[command(flatten)]
    pub place: Place,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `mgmt token revoke`
#[derive(Debug, ArgGroup)]
pub struct RevokeToken {
    /// The token's id, as `token list` shows it, or the whole token
    pub id: String,
    /// Which agent is asked.
    #[command(flatten)]
    pub place: Place,
}

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

/// `mgmt snapshot`
#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// Save what the mesh holds into a file, from any member, while it runs
    Save(Save),
    /// Say what a saved file holds, and whether it is whole
    Inspect(Inspect),
    /// Found a mesh of this host from a saved file; the agent must not run, and must not be in a mesh
    Restore(Restore),
}

/// `mgmt snapshot save`
#[derive(Debug, ArgGroup)]
pub struct Save {
    /// The file to write; it must not be there yet
    pub file: PathBuf,
    /// Which agent is asked.
    #[command(flatten)]
    pub place: Place,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `mgmt snapshot inspect`
#[derive(Debug, ArgGroup)]
pub struct Inspect {
    /// The file
    pub file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `mgmt snapshot restore`
#[derive(Debug, ArgGroup)]
pub struct Restore {
    /// The file
    pub file: PathBuf,
    /// Which host.
    #[command(flatten)]
    pub place: Place,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}
