//! A peer: one process of the program, which does not outlive its test, and what it says of the mesh.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::pipe::Pipe;
use super::{PATIENCE, wait};

/// The program under test.
pub(crate) const MGMT: &str = env!("CARGO_BIN_EXE_mgmt");
/// A verb that has not answered by then has failed.
const VERB_SECONDS: &str = "20";
/// Lines of a log that are shown when something fails.
const TAIL: usize = 30;

/// How a verb ended.
#[derive(Debug, Clone)]
pub(crate) struct Ended {
    /// 128 + N: by a signal.
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// A member as `members --json` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) host: String,
    pub(crate) master: bool,
    pub(crate) state: String,
    pub(crate) zone: String,
    pub(crate) address: String,
}

/// What `members --json` shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Members {
    pub(crate) leader: Option<String>,
    pub(crate) members: Vec<Member>,
}

impl Members {
    fn of(value: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let member = |value: &Value| Member {
            host: text(&value["host"]),
            master: value["role"] == "master",
            state: text(&value["state"]),
            zone: text(&value["zone"]),
            address: text(&value["address"]),
        };
        let members = value["members"].as_array().expect("members is a list").iter().map(member).collect();
        Self { leader: value["leader"].as_str().map(str::to_owned), members }
    }

    /// Who votes, by name.
    pub(crate) fn masters(&self) -> Vec<&str> {
        self.members.iter().filter(|member| member.master).map(|member| member.host.as_str()).collect()
    }

    /// Who does not.
    pub(crate) fn learners(&self) -> Vec<&str> {
        self.members.iter().filter(|member| !member.master).map(|member| member.host.as_str()).collect()
    }

    /// Who is known.
    pub(crate) fn hosts(&self) -> Vec<&str> {
        self.members.iter().map(|member| member.host.as_str()).collect()
    }

    /// Whether all are up, and somebody leads.
    pub(crate) fn is_well(&self) -> bool {
        self.leader.is_some() && self.members.iter().all(|member| member.state == "up")
    }
}

/// How a peer is started.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// What runs the program: nothing, or `ip netns exec NAME`, `strace ..`.
    pub(crate) launcher: Vec<String>,
    /// What runs instead of the program, given its path and all of its arguments: nothing, or another version of it.
    pub(crate) instead: Vec<String>,
    pub(crate) host: String,
    pub(crate) prefix: PathBuf,
    /// `run`, unless something else is wanted.
    pub(crate) verb: String,
    /// After host and prefix.
    pub(crate) args: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
}

impl Recipe {
    /// A peer without a graph of its own.
    pub(crate) fn new(prefix: &Path, host: &str) -> Self {
        Self {
            launcher: Vec::new(),
            instead: Vec::new(),
            host: host.to_owned(),
            prefix: prefix.to_owned(),
            verb: "run".to_owned(),
            args: vec!["empty".to_owned()],
            environment: Vec::new(),
        }
    }

    /// More words before the program.
    pub(crate) fn by(mut self, launcher: &[&str]) -> Self {
        self.launcher = launcher.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// More options.
    pub(crate) fn with(mut self, args: &[&str]) -> Self {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self
    }

    /// One more variable.
    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn start(self) -> Peer {
        Peer::start(self)
    }

    /// Its state directory.
    pub(crate) fn home(&self) -> PathBuf {
        self.prefix.join(&self.host)
    }

    fn command(&self, program: &[&str]) -> Command {
        let mut words = self.launcher.iter().map(String::as_str).chain(program.iter().copied());
        let mut command = Command::new(words.next().expect("the program at least"));
        command.args(words).env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
        command
    }

    /// Asks this peer something, and waits for the answer.
    pub(crate) fn verb<S: AsRef<std::ffi::OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Ended {
        let place = [OsString::from("--hostname"), (&self.host).into(), "--prefix".into(), self.prefix.clone().into()];
        self.plain(words.into_iter().map(|word| word.as_ref().to_owned()).chain(place))
    }

    /// Runs a verb that is about no peer, where this one would run.
    pub(crate) fn plain<S: AsRef<std::ffi::OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Ended {
        let mut command = self.command(&["timeout"]);
        command.arg(VERB_SECONDS).arg(MGMT).args(words);
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code().unwrap_or_else(|| 128 + output.status.signal().unwrap_or_default());
        Ended { code, out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// What it answers to a verb with `--json`; `None` if it does not.
    pub(crate) fn asked(&self, words: &[&str]) -> Option<Value> {
        let ended = self.verb(words.iter().copied().chain(["--json"]));
        (ended.code == 0).then(|| serde_json::from_str(&ended.out).expect("--json prints JSON"))
    }

    pub(crate) fn members(&self) -> Option<Members> {
        self.asked(&["members"]).map(|value| Members::of(&value))
    }

    pub(crate) fn status(&self) -> Option<Value> {
        self.asked(&["status"])
    }

    /// A two-way connection of lines to its store.
    pub(crate) fn pipe(&self) -> Option<Pipe> {
        let mut command = Command::new(MGMT);
        command.args(["kv", "pipe", "--hostname", &self.host]).arg("--prefix").arg(&self.prefix);
        Pipe::open(command)
    }
}

/// A running peer.
pub(crate) struct Peer {
    pub(crate) recipe: Recipe,
    child: Option<Child>,
    log: PathBuf,
}

impl Peer {
    fn start(recipe: Recipe) -> Self {
        let logs = recipe.prefix.with_extension("logs");
        fs::create_dir_all(&logs).unwrap();
        let mut peer = Self { log: logs.join(format!("{}.log", recipe.host)), recipe, child: None };
        peer.restart();
        peer
    }

    /// Starts it again, by the same recipe. Its log goes on.
    pub(crate) fn restart(&mut self) {
        assert!(self.child.is_none(), "{} runs", self.recipe.host);
        let log = fs::File::options().create(true).append(true).open(&self.log).unwrap();
        let instead = self.recipe.instead.iter().map(String::as_str);
        let mut command = self.recipe.command(&instead.chain([MGMT]).collect::<Vec<_>>());
        command.arg(&self.recipe.verb).args(["--hostname", &self.recipe.host]).arg("--prefix").arg(&self.recipe.prefix);
        command.args(&self.recipe.args).stdout(log.try_clone().unwrap()).stderr(log);
        self.child = Some(command.spawn().unwrap());
    }

    pub(crate) fn host(&self) -> &str {
        &self.recipe.host
    }

    /// What it has said so far, in all its lives.
    pub(crate) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Its process. Under a launcher that stays (strace), the launcher.
    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().expect("it runs")), signal).unwrap();
    }

    /// Whether it has not ended.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Ends it without a chance to do anything about it.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Fails if it has ended, which is as good.
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }

    /// Sends a signal and waits for the end: its exit code.
    #[track_caller]
    pub(crate) fn end(&mut self, signal: Signal) -> i32 {
        self.signal(signal);
        self.ended()
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ended(&mut self) -> i32 {
        let mut ended = None;
        let waited = wait(PATIENCE, || {
            ended = self.child.as_mut().expect("it runs").try_wait().unwrap();
            ended.is_some()
        });
        assert!(waited.is_some(), "{} has not ended; its log:\n{}", self.host(), self.tail());
        self.child = None;
        let ended = ended.expect("it has ended");
        ended.code().unwrap_or_else(|| 128 + ended.signal().unwrap_or_default())
    }

    /// The end of its log.
    pub(crate) fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Peers of one test, by name.
#[derive(Default)]
pub(crate) struct Peers(pub(crate) BTreeMap<String, Peer>);

impl Peers {
    pub(crate) fn start(&mut self, recipe: Recipe) -> &mut Peer {
        let host = recipe.host.clone();
        assert!(!self.0.contains_key(&host), "{host} is there");
        self.0.entry(host).or_insert(recipe.start())
    }

    #[track_caller]
    pub(crate) fn get(&mut self, host: &str) -> &mut Peer {
        self.0.get_mut(host).unwrap_or_else(|| panic!("no {host}"))
    }

    /// Recipes of those that run.
    pub(crate) fn live(&mut self) -> Vec<Recipe> {
        self.0.values_mut().filter_map(|peer| peer.runs().then(|| peer.recipe.clone())).collect()
    }

    /// Waits for what all that run must show of the members, and says how long it took.
    #[track_caller]
    pub(crate) fn until(&mut self, most: Duration, what: &str, good: impl Fn(&Members) -> bool) -> Duration {
        let live = self.live();
        let mut left: Vec<&Recipe> = live.iter().collect();
        let waited = wait(most, || {
            left.retain(|recipe| !recipe.members().is_some_and(|members| good(&members)));
            left.is_empty()
        });
        waited.unwrap_or_else(|| panic!("in vain for {most:?}: {what}\n{}", self.show()))
    }

    /// Waits until all that run agree on so many masters and learners, that all of them are up, and on a leader.
    #[track_caller]
    pub(crate) fn until_formed(&mut self, masters: usize, learners: usize) -> Duration {
        let what = format!("a mesh of {masters} masters and {learners} learners");
        self.until(PATIENCE, &what, |members| {
            members.is_well() && (members.masters().len(), members.learners().len()) == (masters, learners)
        })
    }

    /// What any of them that answers says.
    #[track_caller]
    pub(crate) fn members(&mut self) -> Members {
        let live = self.live();
        let mut said = None;
        let waited = wait(PATIENCE, || {
            said = live.iter().find_map(|recipe| recipe.members().filter(|members| members.leader.is_some()));
            said.is_some()
        });
        assert!(waited.is_some(), "nobody says who leads\n{}", self.show());
        said.expect("somebody has said it")
    }

    /// Everything a person wants to see when a test has failed.
    pub(crate) fn show(&mut self) -> String {
        let mut text = String::new();
        for peer in self.0.values_mut() {
            let runs = peer.runs();
            let members = if runs { peer.recipe.members() } else { None };
            let lines = members.map_or_else(String::new, |members| {
                let all = members
                    .members
                    .iter()
                    .map(|one| format!("{}{}:{}", one.host, if one.master { "*" } else { "" }, one.state));
                format!("leader {:?}; {}", members.leader, all.collect::<Vec<_>>().join(" "))
            });
            let _infallible = writeln!(text, "== {} (runs: {runs}) {lines}\n{}", peer.host(), peer.tail());
        }
        text
    }
}
