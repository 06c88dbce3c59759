//! `svc`: a unit of systemd runs or does not, and is enabled or not.

mod decide;
mod files;
mod name;
mod repair;
mod tracks;

use std::sync::Arc;
use std::time::Duration;

use mgmt_engine::resource::{Applied, Cause, Check, Fault, Look, Promises, Resource, Signal, Watch, Work};

use self::decide::{Drift, Startup, State, Verdict, Wants};
use self::files::Files;
use self::tracks::Tracks;
use crate::host::HostRef;
use crate::kind::{Anchor, Built, Context, Facets, Field, KindInfo, Params, Problem, Shape};
use crate::systemd::{Load, Manager, Mute, Unit};

/// The kind's table entry.
pub static INFO: KindInfo = KindInfo {
    name: "svc",
    summary: "a service, or another unit of systemd: running or not, enabled or not",
    notes: "\
The name is the unit's: `nginx` is `nginx.service`, and other types are given by their suffix (`fstrim.timer`, \
`getty@tty1.service`). What is not described is not managed.

Asks systemd over its bus, and waits for the job that comes of it. A unit that is just being started or stopped, by \
whomever, is waited for. One that failed counts as stopped. If it cannot be started, the reason is that of systemd, \
with the last lines of its journal. With meta.timeout, or when mgmt is told to stop, a start that hangs is cancelled. \
Where a unit's file on disk is not what systemd has read, systemd is told to read its files again; a running unit is not \
restarted for that.

A unit that is masked can be neither started nor enabled, and one that is missing neither: that is a failure, and heals \
when the unit appears. Both are fine where it is to be stopped and disabled. A unit without an install section (static, \
generated, transient) cannot be enabled; that is said once, and is no failure.

Hears of every change of the unit from systemd, and watches its file, its drop-ins and the links that enable it. It comes \
after the files of the graph that are its unit file or drop-ins, and after the package that ships it. A refresh (a notify \
edge whose source changed) reloads it where it knows how to and its own unit file is unchanged, or else restarts it; one \
that does not run is left alone, and a start that happens anyway is enough.

Where systemd does not run as the first process it fails, and says what does.",
    example: "\
resources:
  file:
  - name: /etc/nginx/conf.d/site.conf
    content: |
      server { listen 8080; }
    state: exists
    notify: [\"svc[nginx]\"]
  svc:
  - name: nginx
    state: running
    startup: enabled
",
    fields: &[
        Field {
            name: "state",
            shape: Shape::Choice(&["running", "stopped", "undefined"]),
            default: "undefined: not managed",
            doc: "Whether it shall run.",
        },
        Field {
            name: "startup",
            shape: Shape::Choice(&["enabled", "disabled", "undefined"]),
            default: "undefined: not managed",
            doc: "Whether it shall be started at boot, or with whatever its install section names.",
        },
        Field {
            name: "session",
            shape: Shape::Bool,
            default: "false",
            doc: "A unit of the user mgmt runs as, rather than of the machine.",
        },
    ],
    build,
};

/// Who is to have brought a unit, a package or a file, sees by its own watch that it is gone.
const NOTICED_WITHIN: Duration = Duration::from_millis(300);

#[derive(Debug, PartialEq)]
struct Svc {
    /// The unit's whole name.
    unit: String,
    wants: Wants,
    session: bool,
    sensitive: bool,
    files: Files,
    host: HostRef,
    /// What this life has seen. Always equal: it is no parameter.
    tracks: Tracks,
}

impl Resource for Svc {
    type Drift = Drift;

    fn watch(&self, signal: &Signal) -> Result<Watch, Fault> {
        let mut held = Vec::new();
        if self.manager().missing().is_none() {
            for path in &self.files.entries {
                held.push(self.host.watches.path(path, signal)?);
            }
            for path in &self.files.drop_ins {
                held.push(self.host.watches.tree(path, signal)?);
            }
        }
        let heard = self.manager().subscribe(&self.unit, signal);
        let armed = self.tracks.arm(&self.host.watches, signal, heard.subscriber());
        Ok(Watch::Held(Box::new((armed, heard, held))))
    }

    async fn check(&self, look: &Look) -> Result<Check<Drift>, Fault> {
        if self.wants == Wants::default() {
            return Ok(Check::Converged);
        }
        if let Some(who) = self.foreseen(&look.promises) {
            return Ok(Check::Unknown(format!("{who} would change first")));
        }
        let unit = match self.look().await {
            Ok(unit) => unit,
            Err(_) if self.manager().is_away() => return Ok(Check::Later("systemd to be back on its bus".into())),
            Err(fault) => return Err(fault),
        };
        match self.judged(&unit, look.cause).await? {
            Verdict::Fine => Ok(Check::Converged),
            Verdict::Wait(what) => Ok(Check::Later(what.into())),
            Verdict::Drifted(drift) => Ok(Check::Drifted(drift)),
        }
    }

    async fn apply(&self, drift: Drift, work: &Work) -> Result<Applied, Fault> {
        let muted = self.muted();
        let applied = self.repair(drift, work).await;
        self.unmute(muted, applied.is_ok()).await;
        applied
    }

    fn on_refresh(&self) -> Option<&'static str> {
        (self.wants.state != Some(State::Stopped)).then_some("would be reloaded or restarted")
    }

    async fn refresh(&self, work: &Work) -> Result<Applied, Fault> {
        if self.wants.state == Some(State::Stopped) {
            return Ok(Applied::Unchanged);
        }
        let muted = self.muted();
        let applied = self.reload_or_restart(work).await;
        self.unmute(muted, applied.is_ok()).await;
        applied
    }
}

impl Svc {
    fn manager(&self) -> &Manager {
        if self.session { self.host.systemd.session() } else { self.host.systemd.system() }
    }

    /// The unit as it stands, with what it has beside it on disk followed from now on.
    async fn look(&self) -> Result<Unit, Fault> {
        loop {
            let unit = self.manager().look(&self.unit).await?;
            // What appears in a place nobody watched may have been missed: once more, with all of them watched.
            if !self.tracks.follow(self.files.around(&unit))? {
                if let Some(subscriber) = self.tracks.subscriber() {
                    self.manager().saw(subscriber, &unit);
                }
                return Ok(unit);
            }
        }
    }

    /// What to make of it. One that has vanished gets a moment: whoever has brought it may not have noticed yet, and is
    /// about to bring it again.
    async fn judged(&self, unit: &Unit, cause: Cause) -> Result<Verdict, Fault> {
        let verdict = self.decide(unit);
        if verdict.is_ok() || unit.load != Load::Missing || cause != Cause::Drift {
            return verdict;
        }
        tokio::time::sleep(NOTICED_WITHIN).await;
        self.decide(&self.look().await?)
    }

    /// What we do ourselves is no event: one that failed would otherwise be its own reason to be tried again, for ever.
    fn muted(&self) -> Option<Mute> {
        self.tracks.subscriber().map(|subscriber| self.manager().mute(subscriber))
    }

    /// Looks at what came of our own work, before what happens counts again. If it went well and the unit is not as wanted
    /// all the same, something else was at it meanwhile: that is an event.
    async fn unmute(&self, muted: Option<Mute>, well: bool) {
        if muted.is_none() {
            return;
        }
        let as_wanted = match self.look().await {
            Ok(unit) => matches!(self.decide(&unit), Ok(Verdict::Fine)),
            Err(_) => false,
        };
        if well && !as_wanted {
            self.tracks.raise();
        }
    }

    /// What to make of it, with what has been learnt of the unit before.
    fn decide(&self, unit: &Unit) -> Result<Verdict, Fault> {
        let read = unit.needs_reload && self.tracks.was_never_read(|| self.files.stamps());
        let unit = &if read { Unit { needs_reload: false, ..unit.clone() } } else { unit.clone() };
        let verdict = decide::decide(&self.wants, unit).map_err(|fault| Fault::new(fault.to_string()))?;
        Ok(match verdict {
            Verdict::Wait(_) if self.tracks.gave_up_on(unit) => {
                let what = if unit.active == crate::systemd::Active::Activating { "start" } else { "stop" };
                return Err(Fault::new(format!("its {what} hangs, and was given up; nothing is done until that ends")));
            }
            Verdict::Drifted(mut drift) => {
                if drift.enable && self.tracks.cannot_be_enabled(unit) {
                    drift.enable = false;
                }
                if drift.is_empty() { Verdict::Fine } else { Verdict::Drifted(drift) }
            }
            Verdict::Fine => {
                self.tracks.say_once(&self.unit, &self.wants, unit);
                Verdict::Fine
            }
            wait => wait,
        })
    }

    /// Who would first change the files this is read from. Only plans make promises.
    fn foreseen<'p>(&self, promises: &'p Promises) -> Option<&'p str> {
        let entries = self.files.entries.iter().find_map(|path| promises.of(path));
        let drop_ins =
            || self.files.drop_ins.iter().find_map(|path| promises.of(path).or_else(|| promises.below(path)));
        entries.or_else(drop_ins).map(|(_, _, who)| who)
    }
}

fn build(params: &mut Params, context: &Context<'_>) -> Result<Built, Vec<Problem>> {
    let state = params.filled("state").and_then(|word| match word.as_str() {
        "running" => Some(State::Running),
        "stopped" => Some(State::Stopped),
        _ => None,
    });
    let startup = params.filled("startup").and_then(|word| match word.as_str() {
        "enabled" => Some(Startup::Enabled),
        "disabled" => Some(Startup::Disabled),
        _ => None,
    });
    let session = params.bool("session").unwrap_or(false);
    let unit = name::unit(context.called).map_err(|message| vec![Problem::new("", message)])?;
    let files = Files::of(&unit, session);
    let facets = facets(&unit, session, &files);
    let svc = Svc {
        wants: Wants { state, startup },
        unit,
        session,
        sensitive: context.sensitive,
        files,
        host: HostRef(Arc::clone(context.host)),
        tracks: Tracks::default(),
    };
    Ok(Built { resource: Arc::new(svc), facets, warnings: Vec::new() })
}

fn facets(unit: &str, session: bool, files: &Files) -> Facets {
    let mut wants: Vec<Anchor> = files.entries.iter().cloned().map(Anchor::Path).collect();
    wants.extend(files.drop_ins.iter().cloned().map(Anchor::In));
    if !session {
        wants.push(Anchor::Unit(unit.to_owned()));
        // A package ships the template, and not its instances.
        wants.extend(name::template(unit).map(Anchor::Unit));
    }
    let of = if session { "the session's unit" } else { "the unit" };
    Facets { claims: Some(format!("{of} {unit}")), wants, ..Facets::default() }
}

#[cfg(test)]
mod tests;
