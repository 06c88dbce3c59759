//! What can be typed about the mesh: how a run takes part in one, and the verbs that ask or change it.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as ArgGroup, Subcommand, ValueEnum};

use super::{Place, seconds};

/// How a run takes part in a mesh. Any of these asks for one.
#[derive(Debug, Clone, Default, ArgGroup)]
#[command(next_help_heading = "Mesh")]
pub struct Mesh {
    /// Members to join, or hosts to found a mesh with (--expect): HOST or HOST:PORT, comma separated or repeated
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

/// `mgmt exports`
#[derive(Debug, ArgGroup)]
#[command(
    after_help = "What a host has collected stays in force when its exporter is away, and also when that will never come \
                  back. --forget withdraws what such a host exports, for all collectors; it takes an admin's host. A host \
                  that lives publishes again at once. What is left of a mesh that was lost is forgotten host by host, \
                  where it is in force."
)]
pub struct Exports {
    /// Which agent is asked.
    #[command(flatten)]
    pub place: Place,
    /// Withdraw all that this host exports
    #[arg(long, value_name = "HOST")]
    pub forget: Option<String>,
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
    /// Whom to reach: HOST or HOST:PORT
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
    /// Members to ask: HOST or HOST:PORT, comma separated or repeated
    #[arg(long, visible_alias = "seed", value_name = "ADDRESSES", value_delimiter = ',', required = true)]
    pub seeds: Vec<String>,
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
    Init(InitCluster),
    /// Leave the mesh, handing over first what others need
    Leave(Leave),
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
pub struct InitCluster {
    /// Which host.
    #[command(flatten)]
    pub place: Place,
    /// Where this host is reached by others, now and by later runs [default: by others on this machine only]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
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

/// `mgmt cluster leave`
#[derive(Debug, ArgGroup)]
pub struct Leave {
    /// Leave also as the last host: the mesh ends, with all that it holds
    #[arg(long)]
    pub yes: bool,
    /// Which agent is asked.
    #[command(flatten)]
    pub place: Place,
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

/// `mgmt snapshot`
#[derive(Debug, Subcommand)]
pub enum Snapshot {
    /// Save what the mesh holds into a file, from any member, while it runs
    Save(Save),
    /// Say what a saved file holds, and whether it is whole
    Inspect(Inspect),
    /// Put a saved file into a new, empty mesh of this host alone; the agent must not run
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
