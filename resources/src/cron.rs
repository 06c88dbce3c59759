//! `cron`: a command that runs at times of the calendar, by a timer of systemd's.
//!
//! The two units are files like others: how they are written, looked at and watched is the `file` kind's. `schedule`
//! reads when, `units` writes the texts; here it is decided what has to be done, from what stands.

mod schedule;
mod units;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mgmt_engine::resource::{Applied, Check, Fault, Look, Promise, Resource, Signal, Watch, Work};

use crate::file::{self, File};
use crate::host::HostRef;
use crate::kind::{Anchor, Built, Context, Facets, Field, KindInfo, Params, Problem, Shape, normal};
use crate::systemd::{Active, Ended, Load, Manager, Unit, Verb};
use crate::tools::{self, Tool};

/// Where an administrator's units are.
const UNITS: &str = "/etc/systemd/system";
/// What starts timers at boot.
const WANTS: &str = "timers.target.wants";
/// Reads calendar events, and says what is wrong with them.
const ANALYZE: &str = "systemd-analyze";
/// As a crontab has it, to the minute, and better.
const ACCURACY: Duration = Duration::from_secs(1);

/// The kind's table entry.
pub static INFO: KindInfo = KindInfo {
    name: "cron",
    summary: "runs a command at times of the calendar",
    notes: "\
Makes a timer of systemd's and the service that it starts: `mgmt-NAME.timer` and `mgmt-NAME.service` in \
/etc/systemd/system. The timer is enabled and runs; what the command prints is in the journal (`journalctl -u mgmt-NAME`), \
when it runs next is told by `systemctl list-timers`. The command is one for /bin/sh, and never runs twice at the same time.

`schedule` is a calendar event as systemd.time(7) has it (`Mon..Fri 22:30`, `hourly`), or the five fields of a crontab \
(`*/15 8-18 * * mon-fri`), which are turned into one; as in a crontab, a day of the month and a day of the week that are \
both said mean either.

Watches both files, the link that enables the timer, and the timer itself: what is changed, removed, disabled or stopped \
is put right. With state absent the timer is stopped and all of it removed; a command that runs just then goes on to its \
end. A refresh does nothing. Without systemd it fails, and says so: use that machine's own crontab by a `file`.",
    example: "\
resources:
  cron:
  - name: backup
    schedule: 30 2 * * *
    cmd: /usr/local/bin/backup --all
    user: backup
    persistent: true
",
    fields: FIELDS,
    build,
};

static FIELDS: &[Field] = &[
    field(
        "schedule",
        Shape::Text,
        "",
        "When: a calendar event, or the five fields of a crontab, or `@daily` and its kin.",
    ),
    field("cmd", Shape::Text, "", "The command, for /bin/sh."),
    field("user", Shape::Text, "root", "The user that it runs as."),
    field("persistent", Shape::Bool, "false", "Make up for what was missed while the machine was off, once."),
    field(
        "delay",
        Shape::Seconds,
        "0",
        "Start up to so much later, by chance, so that not all machines start at once.",
    ),
    field("accuracy", Shape::Seconds, "1", "How exactly: systemd starts what is due within that time together."),
    field("state", Shape::Choice(&["exists", "absent"]), "exists", "Whether there shall be one."),
];

const fn field(name: &'static str, shape: Shape, default: &'static str, doc: &'static str) -> Field {
    Field { name, shape, default, doc }
}

/// What runs, and when.
#[derive(Debug, Clone, PartialEq)]
struct Job {
    events: Vec<String>,
    cmd: String,
    user: Option<String>,
    persistent: bool,
    accuracy: Duration,
    delay: Duration,
}

/// A timer and its service, or that there shall be none.
#[derive(Debug, PartialEq)]
struct Cron {
    stem: String,
    job: Option<Job>,
    timer: File,
    service: File,
    host: HostRef,
    valid: Valid,
}

/// The schedule was found to be one. Always equal: it is nothing that is wanted.
#[derive(Debug, Default)]
struct Valid(AtomicBool);

impl PartialEq for Valid {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

/// What is to be done about the units, besides their files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Steps {
    /// systemd has read something else than what stands.
    reload: bool,
    enable: bool,
    disable: bool,
    start: bool,
    stop: bool,
}

/// What is wrong.
#[derive(Debug)]
struct Drift {
    timer: Option<file::Drift>,
    service: Option<file::Drift>,
    steps: Steps,
}

impl fmt::Display for Drift {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        for (name, drift) in [("timer", &self.timer), ("service", &self.service)] {
            parts.extend(drift.as_ref().map(|drift| format!("{name}: {drift}")));
        }
        let Steps { reload, enable, disable, start, stop } = self.steps;
        let said = [
            (reload && parts.is_empty(), "systemd has read an older version"),
            (enable, "not enabled"),
            (disable, "enabled"),
            (start, "not running"),
            (stop, "running"),
        ];
        parts.extend(said.into_iter().filter(|(holds, _)| *holds).map(|(_, what)| what.to_owned()));
        f.write_str(&parts.join(", "))
    }
}

impl mgmt_engine::resource::Drift for Drift {
    fn promises(&self) -> Vec<(PathBuf, Promise)> {
        self.timer.iter().chain(&self.service).flat_map(file::Drift::promises).collect()
    }
}

/// What has to be done for a timer that stands so. `changed`: its file is about to be.
fn steps(wanted: bool, changed: bool, timer: &Unit, service: &Unit) -> Steps {
    let enabled = timer.file_state.starts_with("enabled");
    let runs = matches!(timer.active, Active::Active | Active::Activating | Active::Reloading);
    let mut steps = Steps { reload: timer.needs_reload || service.needs_reload, ..Steps::default() };
    if wanted {
        steps.enable = !enabled || changed && timer.load == Load::Missing;
        steps.start = !runs;
    } else {
        steps.disable = enabled;
        steps.stop = runs || timer.active == Active::Failed;
        // One that is gone without systemd's knowledge is gone all the same.
        steps.reload &= timer.load == Load::Loaded && changed;
    }
    steps
}

impl Cron {
    fn unit(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.stem)
    }

    fn manager(&self) -> &Manager {
        self.host.systemd.system()
    }

    /// Asks systemd's own reader of calendar events, once. Where there is none, the timer itself will tell.
    async fn validated(&self, job: &Job) -> Result<(), Fault> {
        if self.valid.0.load(Ordering::Relaxed) || !tools::has(ANALYZE) {
            return Ok(());
        }
        let said = Tool::new(ANALYZE).arg("calendar").arg("--").args(&job.events).ended().await?;
        if !said.status.success() {
            return Err(Fault::new(format!("schedule: {}", said.last_words())));
        }
        self.valid.0.store(true, Ordering::Relaxed);
        Ok(())
    }

    async fn repair(&self, drift: Drift, work: &Work) -> Result<&'static str, Fault> {
        let (manager, timer) = (self.manager(), self.unit("timer"));
        let Drift { timer: timer_file, service: service_file, steps } = drift;
        let changed = timer_file.is_some();
        let reload = steps.reload || changed || service_file.is_some();
        if self.job.is_none() {
            // First what starts it, then what is started.
            if steps.stop {
                self.job(Verb::Stop, &timer, work).await?;
                // So that a failed one is forgotten; that others have not failed does not matter.
                manager.reset_failed(&timer).await.ok();
            }
            if steps.disable {
                manager.disable(&[&timer], false).await?;
            }
        }
        for (file, drift) in [(&self.timer, timer_file), (&self.service, service_file)] {
            if let Some(drift) = drift {
                file.apply(drift, work).await?;
            }
        }
        if reload {
            manager.reload().await?;
        }
        if self.job.is_none() {
            return Ok("removed");
        }
        if steps.enable {
            manager.enable(&[&timer]).await?;
        }
        match (changed, steps.start) {
            // It has read its times when it was started.
            (true, _) => self.job(Verb::Restart, &timer, work).await?,
            (false, true) => self.job(Verb::Start, &timer, work).await?,
            (false, false) => {}
        }
        Ok(match (changed, steps) {
            (true, Steps { start: true, .. }) => "written, enabled and started",
            (true, _) => "written and restarted",
            (false, Steps { start: true, .. }) => "started",
            (false, Steps { enable: true, .. }) => "enabled",
            _ => "written",
        })
    }

    async fn job(&self, verb: Verb, unit: &str, work: &Work) -> Result<(), Fault> {
        match self.manager().job(verb, unit, &work.stop).await? {
            Ended::Done | Ended::Unheard => Ok(()),
            Ended::Stopped => Err(Fault::new(format!("stopped while {unit} was waited for"))),
            Ended::Otherwise(result) => Err(Fault::new(format!("the job for {unit} ended with '{result}'"))),
        }
    }
}

impl Resource for Cron {
    type Drift = Drift;

    fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        let link = Path::new(UNITS).join(WANTS).join(self.unit("timer"));
        let files = (self.timer.watch(signal)?, self.service.watch(signal)?, self.host.watches.path(&link, signal)?);
        let units = (
            self.manager().subscribe(&self.unit("timer"), signal),
            self.manager().subscribe(&self.unit("service"), signal),
        );
        Ok(Watch::Held(Box::new((files, units))))
    }

    async fn check(&self, look: &Look) -> Result<Check<Drift>, Fault> {
        let manager = self.manager();
        if let Some(missing) = manager.missing() {
            return Err(Fault::new(missing));
        }
        if manager.is_away() {
            return Ok(Check::Later("systemd, which is away".into()));
        }
        let mut files = [None, None];
        for (file, found) in [&self.timer, &self.service].into_iter().zip(&mut files) {
            *found = match file.check(look).await? {
                Check::Converged => None,
                Check::Drifted(drift) => Some(drift),
                Check::Unknown(why) => return Ok(Check::Unknown(why)),
                Check::Later(what) => return Ok(Check::Later(what)),
            };
        }
        let [timer, service] = files;
        if let Some(job) = self.job.as_ref().filter(|_| timer.is_some()) {
            self.validated(job).await?;
        }
        let (timer_unit, service_unit) = (self.unit("timer"), self.unit("service"));
        let (timer_unit, service_unit) = (manager.look(&timer_unit).await?, manager.look(&service_unit).await?);
        let changed = timer.is_some() || service.is_some();
        if timer_unit.load == Load::Masked && self.job.is_some() {
            return Err(Fault::new(format!("{} is masked: systemctl unmask it", timer_unit.id)));
        }
        if timer_unit.load == Load::Bad && !changed && !timer_unit.needs_reload {
            return Err(Fault::new(format!("systemd refuses {}: {}", timer_unit.id, timer_unit.load_error)));
        }
        let steps = steps(self.job.is_some(), changed, &timer_unit, &service_unit);
        if !changed && steps == Steps::default() {
            return Ok(Check::Converged);
        }
        Ok(Check::Drifted(Drift { timer, service, steps }))
    }

    async fn apply(&self, drift: Drift, work: &Work) -> Result<Applied, Fault> {
        self.repair(drift, work).await.map(Applied::changed)
    }
}

fn build(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let mut problems = Vec::new();
    let stem = units::stem(context.called).map_err(|why| problems.push(Problem::new("", why))).unwrap_or_default();
    let wanted = params.filled("state").as_deref() != Some("absent");
    let job = job(params, wanted, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let job = job.filter(|_| wanted);
    let mode = if context.sensitive { "0600" } else { "0644" };
    let file = |suffix: &str, text: fn(&str, &Job) -> String| {
        let path = Path::new(UNITS).join(format!("{stem}.{suffix}"));
        let contents = job.as_ref().map(|job| text(context.called, job).into_bytes());
        File::written(&path, contents, mode, context).map(|file| (path, file))
    };
    let (timer_path, timer) = file("timer", units::timer)?;
    let (service_path, service) = file("service", units::service)?;
    let facets = facets(&stem, job.as_ref(), timer_path, service_path);
    let host = HostRef(Arc::clone(context.host));
    let cron = Cron { stem, job, timer, service, host, valid: Valid::default() };
    Ok(Built { resource: Arc::new(cron), facets, warnings: Vec::new() })
}

/// `None` with problems said, or where none is wanted.
fn job(params: &mut Params, wanted: bool, problems: &mut Vec<Problem>) -> Option<Job> {
    let mut wrong = |field, why: &str| problems.push(Problem::new(field, why));
    let (schedule, cmd) = (params.filled("schedule"), params.filled("cmd"));
    let user = params.filled("user");
    let mut seconds = |field, default: Duration| match params.seconds(field).map(Duration::try_from_secs_f64) {
        None => default,
        Some(Ok(time)) => time,
        Some(Err(_)) => {
            wrong(field, "is too long");
            default
        }
    };
    let (delay, accuracy) = (seconds("delay", Duration::ZERO), seconds("accuracy", ACCURACY));
    if !wanted {
        return None;
    }
    let events = schedule::events(&schedule.unwrap_or_default());
    let events = events.map_err(|why| wrong("schedule", &why)).ok();
    if cmd.is_none() {
        wrong("cmd", "is required");
    }
    if cmd.as_ref().is_some_and(|cmd| cmd.contains('\0')) {
        wrong("cmd", "holds a zero byte, which no command can be given");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if user.as_ref().is_some_and(|user| !user.chars().all(plain)) {
        wrong("user", "is no user's name");
    }
    let persistent = params.bool("persistent").unwrap_or(false);
    Some(Job { events: events?, cmd: cmd?, user, persistent, accuracy, delay })
}

fn facets(stem: &str, job: Option<&Job>, timer: PathBuf, service: PathBuf) -> Facets {
    let mut facets = Facets { owns: Some(timer.clone()), ..Facets::default() };
    facets.wants.push(Anchor::Parent(timer.clone()));
    let Some(job) = job else { return facets };
    let units = ["timer", "service"].map(|suffix| Anchor::Unit(format!("{stem}.{suffix}")));
    facets.provides = [timer, service].map(Anchor::Path).into_iter().chain(units).collect();
    facets.wants.extend(job.user.clone().map(Anchor::User));
    // What it runs, where that is told: most often a script that somebody manages, or what a package has brought.
    if let Some(program) = job.cmd.split_ascii_whitespace().next().filter(|word| word.starts_with('/')) {
        let program = normal(Path::new(program));
        facets.wants.extend([Anchor::Path(program.clone()), Anchor::Shipped(program)]);
    }
    facets
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bed::{self, Bed};

    #[test]
    fn what_is_wrong_is_refused_with_a_remedy() {
        let bed = Bed::new();
        let refused = |pairs: &[(&str, &str)]| bed.built(&INFO, &build, pairs).unwrap_err();
        assert_eq!(refused(&[]), "schedule: is required\ncmd: is required");
        let said = refused(&[("schedule", "99 * * * *"), ("cmd", "x"), ("user", "a\nb"), ("delay", "1e30")]);
        let fields: Vec<_> = said.lines().map(|line| line.split(':').next().unwrap()).collect();
        assert_eq!(fields, ["delay", "schedule", "user"], "{said}");
        assert!(bed.built(&INFO, &build, &[("state", "absent")]).is_ok());
        let built =
            bed.built(&INFO, &build, &[("schedule", "hourly"), ("cmd", "/opt/x.sh a"), ("user", "app")]).unwrap();
        assert!(built.facets.wants.contains(&Anchor::Path("/opt/x.sh".into())));
        assert!(built.facets.wants.contains(&Anchor::User("app".into())));
        assert_eq!(built.facets.owns, Some("/etc/systemd/system/mgmt-it.timer".into()));
    }

    #[tokio::test]
    async fn without_systemd_it_says_so() {
        let bed = Bed::new();
        if bed.host.machine.has_systemd() {
            return;
        }
        let cron = bed.built(&INFO, &build, &[("schedule", "hourly"), ("cmd", "x")]).unwrap().resource;
        let said = bed::said(&cron).await.unwrap_err();
        assert!(said.contains("needs systemd"), "{said}");
    }
}
