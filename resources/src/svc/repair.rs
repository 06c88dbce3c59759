//! Makes a unit what is wanted, and says why it could not.

use std::time::Duration;

use mgmt_engine::resource::{Applied, Fault, Urgency, Work};

use super::Svc;
use super::decide::{Drift, Verdict};
use crate::systemd::{Active, Ended, Unit, Verb};
use crate::tools::Tool;

/// The last so many lines of a failed unit's journal are told.
const JOURNAL_LINES: &str = "5";
/// They are looked for so long. The journal may be busy, and the failure is to be told all the same.
const JOURNAL_WITHIN: Duration = Duration::from_secs(5);
/// As much of them as that.
const JOURNAL_BYTES_MAX: usize = 4 * 1024;
/// How often systemd is told to read its files again in one repair, while somebody goes on to change them.
const RELOADS_MAX: usize = 3;

impl Svc {
    /// Repairs what was found.
    pub(super) async fn repair(&self, mut drift: Drift, work: &Work) -> Result<Applied, Fault> {
        let mut deeds: Vec<&str> = Vec::new();
        for _ in 0..RELOADS_MAX {
            if !drift.reload {
                break;
            }
            self.tracks.outdates(&self.look().await?);
            let stamps = self.files.stamps();
            self.manager().reload().await?;
            let unit = self.look().await?;
            if unit.needs_reload {
                // There are units of which systemd says so for ever, such as a masked one that has drop-ins.
                self.tracks.is_never_read(stamps);
            } else {
                deeds = vec!["unit files read again"];
            }
            drift = match self.decide(&unit) {
                Ok(Verdict::Drifted(drift)) => drift,
                // What it can never be is said by the look that follows.
                Ok(Verdict::Fine | Verdict::Wait(_)) | Err(_) => Drift::default(),
            };
        }
        deeds.extend(self.set_startup(&drift).await?);
        let mut refreshed = false;
        if drift.start && self.start(&drift, work).await? {
            deeds.push("started");
            refreshed = true;
        }
        if drift.stop && self.job(Verb::Stop, "stop", work).await? {
            deeds.push("stopped");
        }
        if deeds.is_empty() {
            return Ok(Applied::Unchanged);
        }
        Ok(Applied::Changed { deed: deeds.join(", ").into(), refreshed })
    }

    async fn set_startup(&self, drift: &Drift) -> Result<Option<&'static str>, Fault> {
        if !drift.enable && drift.disable.is_none() {
            return Ok(None);
        }
        let unit = self.manager().look(&self.unit).await?;
        let (changes, deed) = match drift.disable {
            None => (self.manager().enable(&[&unit.id]).await?, "enabled"),
            Some(runtime) => (self.manager().disable(&[&unit.id], runtime).await?, "disabled"),
        };
        if changes.links == 0 {
            if drift.enable {
                self.tracks.was_not_enabled(&unit);
            }
            return Ok(None);
        }
        // So that systemd itself knows of the links, as `systemctl` does it.
        self.manager().reload().await?;
        Ok(Some(deed))
    }

    /// Whether it has started. Not, where somebody else wanted something else of it meanwhile.
    async fn start(&self, drift: &Drift, work: &Work) -> Result<bool, Fault> {
        let tried = self.tracks.starts();
        let mut started = self.job(Verb::Start, "start", work).await;
        if let Err(fault) = &started {
            // Who is started too often in too short a time is refused by systemd: it fails, and there was no new run. That
            // is meant for those that fail again and again; what others have stopped, or what had failed before our time,
            // may start.
            let unit = self.manager().look(&self.unit).await?;
            if unit.active != Active::Failed || unit.invocation != drift.invocation {
                return started;
            }
            if drift.failed && tried {
                return Err(Fault::new(format!(
                    "{fault}; systemd refuses to start it again so soon (StartLimitBurst=)"
                )));
            }
            self.manager().reset_failed(&self.unit).await?;
            started = self.job(Verb::Start, "start", work).await;
        }
        if !started? {
            return Ok(false);
        }
        let unit = self.manager().look(&self.unit).await?;
        if unit.active == Active::Inactive && unit.job.is_none() {
            return Err(Fault::new(format!(
                "{} has started and ended at once, without a failure: it is not made to keep running (a oneshot service \
                 without RemainAfterExit, or one that goes to the background with another Type than forking?)",
                self.unit
            )));
        }
        Ok(true)
    }

    /// The unit's own result, such as `exit-code`.
    async fn result(&self) -> Option<String> {
        self.manager().of_type(&self.unit, "Result").await.ok().flatten()
    }

    /// What a notify edge asks for.
    pub(super) async fn reload_or_restart(&self, work: &Work) -> Result<Applied, Fault> {
        let mut unit = self.look().await?;
        if unit.needs_reload {
            self.tracks.outdates(&unit);
            self.manager().reload().await?;
            unit = self.look().await?;
        }
        if let Some(job) = unit.job {
            // What is on its way may have begun before what changed.
            self.manager().finished(job, &work.stop).await?;
            unit = self.look().await?;
        }
        if !matches!(unit.active, Active::Active | Active::Reloading | Active::Activating) {
            return Ok(Applied::Unchanged);
        }
        if unit.can_reload && !self.tracks.is_outdated(&unit) {
            let done = self.job(Verb::Reload, "reload", work).await?;
            return if done { Ok(Applied::changed("reloaded")) } else { Err(replaced("reload")) };
        }
        let done = self.job(Verb::Restart, "restart", work).await?;
        if done { Ok(Applied::changed("restarted")) } else { Err(replaced("restart")) }
    }

    /// Whether it was done. Not, where somebody else has cancelled it, or has put another job into its place.
    async fn job(&self, verb: Verb, what: &str, work: &Work) -> Result<bool, Fault> {
        if work.stop.urgency() >= Urgency::Cancel {
            return Err(Fault::new(format!("was told to end before its {what}")));
        }
        let ended = self.manager().job(verb, &self.unit, &work.stop).await?;
        let result = match ended {
            Ended::Done => return Ok(true),
            Ended::Otherwise(result) if result == "canceled" => return Ok(false),
            Ended::Stopped => {
                let unit = self.manager().look(&self.unit).await?;
                self.tracks.give_up(&unit);
                tracing::warn!(
                    "svc: the {what} of {} took too long, or was not wanted any more: its job was cancelled",
                    self.unit
                );
                return Err(Fault::new(format!("its {what} was cancelled before it had ended")));
            }
            Ended::Otherwise(result) => result,
            Ended::Unheard => "unknown".to_owned(),
        };
        let unit = self.manager().look(&self.unit).await?;
        let well = match verb {
            Verb::Stop => matches!(unit.active, Active::Inactive | Active::Failed),
            Verb::Start | Verb::Restart => unit.active == Active::Active,
            Verb::Reload => false,
        };
        if result == "unknown" && (well || verb == Verb::Reload) {
            return Ok(true);
        }
        Err(self.failure(what, &result, &unit).await)
    }

    /// Why a job has failed: systemd's word for it, the unit's result, and what its journal says.
    async fn failure(&self, what: &str, result: &str, unit: &Unit) -> Fault {
        let mut text = format!("its {what} job ended with '{result}'");
        if result == "dependency" {
            text.push_str(&format!(": something it needs has failed (`systemctl list-dependencies {}`)", self.unit));
        }
        if let Some(words) = self.result().await
            && words != "success"
            && words != result
        {
            text.push_str(&format!(", Result={words}"));
        }
        if let Some(lines) = self.journal(unit).await {
            text.push_str(&format!("; its journal: {lines}"));
        }
        Fault::new(text)
    }

    /// The last lines of this run's journal, on one line; `None` if there are none to be had.
    async fn journal(&self, unit: &Unit) -> Option<String> {
        if self.sensitive || unit.invocation.is_empty() {
            return None;
        }
        let run = &unit.invocation;
        let mut tool = Tool::new("journalctl").args(["--no-pager", "--quiet", "-o", "cat", "-n", JOURNAL_LINES]);
        if self.session {
            tool = tool.arg("--user");
        }
        // What the unit has printed, and what systemd says of it.
        let own = if self.session { "USER_INVOCATION_ID" } else { "INVOCATION_ID" };
        let tool = tool.args([format!("_SYSTEMD_INVOCATION_ID={run}"), "+".to_owned(), format!("{own}={run}")]);
        // Without it the failure is told all the same.
        let said = tool.within(JOURNAL_WITHIN).said_bytes_max(JOURNAL_BYTES_MAX).done().await.ok()?;
        let lines: Vec<&str> = said.out.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let clean: String = lines.join(" | ").chars().filter(|c| !c.is_control()).collect();
        (!clean.is_empty()).then_some(clean)
    }
}

fn replaced(what: &str) -> Fault {
    Fault::new(format!("its {what} was cancelled by somebody else, or made way for another job"))
}
