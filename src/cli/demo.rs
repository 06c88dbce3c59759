//! `mgmt demo`: a mesh of some peers on this machine that exchange files, in a directory that is removed at the end.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use mgmt_engine::{Clock, Moment};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use super::{Exit, Failure, args, print};
use crate::shutdown::Signals;

/// Hosts are named by letters.
const NAMES: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];
/// How long a step may take before the demonstration is given up.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at the files.
const LOOK: Duration = Duration::from_millis(1);
/// Whoever was asked to end and has not by then is killed.
const GRACE: Duration = Duration::from_secs(10);
const HOST: &str = include_str!("demo/host.yaml");

/// Runs it.
///
/// # Errors
/// The peers cannot be started, do not do what is told here, or output cannot be written.
pub fn run(args: &args::Demo, out: &mut dyn Write, clock: Clock) -> Result<Exit, Failure> {
    let names = NAMES.get(..args.hosts).filter(|names| !names.is_empty()).ok_or_else(|| {
        Failure::new(Exit::Usage, format!("the demonstration has 1 to {} hosts, not {}", NAMES.len(), args.hosts))
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new(Exit::Unavailable, format!("cannot wait for peers: {e}")))?;
    runtime.block_on(async {
        let mut signals = Signals::listen()
            .map_err(|e| Failure::new(Exit::Unavailable, format!("cannot listen for signals: {e}")))?;
        let mut stage = Stage::new(clock)?;
        let played = tokio::select! {
            biased;
            _ = signals.next() => Ok(()),
            played = play(&mut stage, names, args.keep, out) => played,
        };
        let cleared = stage.clear().await;
        played?;
        cleared?;
        print::text("All of it is removed again.\n", out)?;
        Ok(Exit::Done)
    })
}

async fn play(stage: &mut Stage, names: &[&str], keep: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let place = stage.place.display().to_string();
    print::text(
        &format!("{} peers in {place}: each makes 4 files, exports 2, and collects what all export.\n", names.len()),
        out,
    )?;
    for (number, name) in names.iter().enumerate() {
        let since = stage.clock.now();
        stage.start(name)?;
        let (there, each) = (&names[..=number], 2 + 2 * (number + 1));
        stage.until("their files are there", || there.iter().all(|name| count(&stage.files(name)) == each)).await?;
        let all = each * there.len();
        let told = format!("{} {name} starts: {all} files in all, {each} in each directory\n", took(stage, since));
        print::text(&told, out)?;
    }
    let first = names[0];
    let copies: Vec<_> = names.iter().map(|name| stage.files(name).join(format!("f3{first}"))).collect();
    let text = "i am new\n";
    let since = stage.clock.now();
    stage.write(first, |graph| graph.replace(&format!("i am f3{first}, exported by {first}"), "i am new"))?;
    stage.until("the copies follow", || copies.iter().all(|copy| says(copy, text))).await?;
    let told = format!(
        "{} {first} exports other contents (its graph file was edited): all copies follow\n",
        took(stage, since)
    );
    print::text(&told, out)?;
    let since = stage.clock.now();
    let last = copies.last().expect("there is a host");
    std::fs::write(last, "damage")
        .map_err(|e| Failure::new(Exit::Disk, format!("cannot write {}: {e}", last.display())))?;
    stage.until("a damaged copy is put back", || says(last, text)).await?;
    print::text(&format!("{} a damaged copy is put back\n", took(stage, since)), out)?;
    if names.len() > 1 {
        stage.end(first).await;
        let since = stage.clock.now();
        std::fs::remove_file(last)
            .map_err(|e| Failure::new(Exit::Disk, format!("cannot remove {}: {e}", last.display())))?;
        stage.until("a copy of a host that is gone is put back", || says(last, text)).await?;
        let told = format!(
            "{} {first} has ended, and a copy of what it exports is deleted: it is put back\n",
            took(stage, since)
        );
        print::text(&told, out)?;
    }
    if keep {
        let host = names.last().expect("there is a host");
        let told = format!(
            "It goes on until ^C. Ask it: mgmt status --prefix {place}/state --hostname {host}; logs are {place}/*.log\n"
        );
        print::text(&told, out)?;
        std::future::pending::<()>().await;
    }
    Ok(())
}

fn took(stage: &Stage, since: Moment) -> String {
    format!("{:>8.1} ms", stage.clock.now().since(since).as_secs_f64() * 1e3)
}

fn says(path: &Path, text: &str) -> bool {
    std::fs::read_to_string(path).is_ok_and(|found| found == text)
}

/// Files of a directory that have their names already.
fn count(directory: &Path) -> usize {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| !entry.file_name().to_string_lossy().starts_with('.')).count()
}

/// Where it is played, and who plays.
struct Stage {
    clock: Clock,
    place: PathBuf,
    peers: Vec<(String, Child)>,
}

impl Stage {
    fn new(clock: Clock) -> Result<Self, Failure> {
        let place = std::env::temp_dir().join(format!("mgmt-demo-{}", std::process::id()));
        let made = DirBuilder::new().mode(0o700).create(&place);
        made.map_err(|e| Failure::new(Exit::CannotCreate, format!("cannot create {}: {e}", place.display())))?;
        Ok(Self { clock, place, peers: Vec::new() })
    }

    fn files(&self, name: &str) -> PathBuf {
        self.place.join(name)
    }

    fn graph(&self, name: &str) -> PathBuf {
        self.place.join(format!("{name}.yaml"))
    }

    fn write(&self, name: &str, edit: impl Fn(String) -> String) -> Result<(), Failure> {
        let text = HOST.replace("PLACE", &self.place.display().to_string()).replace("HOST", name);
        let path = self.graph(name);
        let wrong = |e| Failure::new(Exit::Disk, format!("cannot write {}: {e}", path.display()));
        std::fs::write(&path, edit(text)).map_err(wrong)
    }

    fn start(&mut self, name: &str) -> Result<(), Failure> {
        self.write(name, |graph| graph)?;
        let cannot = |e: std::io::Error| Failure::new(Exit::Unavailable, format!("cannot start a peer: {e}"));
        let log = File::create(self.place.join(format!("{name}.log"))).map_err(cannot)?;
        let mut command = Command::new(std::env::current_exe().map_err(cannot)?);
        command
            .arg("run")
            .arg(self.graph(name))
            .args(["--hostname", name])
            .arg("--prefix")
            .arg(self.place.join("state"));
        // In a group of its own: a ^C at the terminal is for the demonstration, which ends them.
        command.process_group(0).kill_on_drop(true).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.peers.push((name.to_owned(), command.spawn().map_err(cannot)?));
        Ok(())
    }

    /// Waits until something is so.
    async fn until(&self, what: &str, so: impl Fn() -> bool) -> Result<(), Failure> {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !so() {
                tokio::time::sleep(LOOK).await;
            }
        });
        waited.await.map_err(|_| {
            let logs: String = self.peers.iter().map(|(name, _)| self.log(name)).collect();
            let seconds = PATIENCE.as_secs();
            Failure::new(Exit::Failed, format!("waited {seconds} s in vain until {what}; the peers say:\n{logs}"))
        })
    }

    fn log(&self, name: &str) -> String {
        let log = std::fs::read_to_string(self.place.join(format!("{name}.log"))).unwrap_or_default();
        log.lines().map(|line| format!("{name}: {line}\n")).collect()
    }

    /// Ends a peer, in order if it can.
    async fn end(&mut self, name: &str) {
        let Some(at) = self.peers.iter().position(|(other, _)| other == name) else { return };
        let (_, mut child) = self.peers.remove(at);
        ask_to_end(&child);
        if tokio::time::timeout(GRACE, child.wait()).await.is_err()
            && let Err(error) = child.kill().await
        {
            tracing::warn!("cannot kill {name}: {error}");
        }
    }

    /// Ends all, and removes everything.
    async fn clear(&mut self) -> Result<(), Failure> {
        self.peers.iter().for_each(|(_, child)| ask_to_end(child));
        while let Some((name, _)) = self.peers.last() {
            self.end(&name.clone()).await;
        }
        let place = &self.place;
        let removed = std::fs::remove_dir_all(place);
        removed.map_err(|e| Failure::new(Exit::Disk, format!("cannot remove {}: {e}", place.display())))
    }
}

fn ask_to_end(child: &Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    // It was not waited for yet, so the number is its own.
    if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::TERM)) {
        tracing::debug!("cannot signal a peer: {error}");
    }
}
