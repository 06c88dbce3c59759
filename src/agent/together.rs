//! `--mesh-converged`: this run counts as converged only while all hosts of the mesh are.

use std::path::PathBuf;

use mgmt_engine::runner::Condition;
use mgmt_resources::Host;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::Settings;
use crate::mesh::calm::{self, Calm};
use crate::mesh::link::Link;
use crate::observer::append_status;

/// Where the run waits for the others, if it does.
pub(super) struct Together(Option<Asked>);

struct Asked {
    calm: watch::Receiver<Calm>,
    watch: AbortHandle,
    status_file: Option<PathBuf>,
    /// What was said last.
    said: Option<bool>,
    /// What was said to hold it up, since this host itself was converged.
    complained: bool,
}

impl Together {
    /// Of a run with these settings: if they wish for it, it begins now to ask the others, and to write their status file.
    pub(super) fn of(
        settings: &mut Settings,
        host: &Host,
        condition: watch::Receiver<Condition>,
        runtime: &Handle,
    ) -> Self {
        if !settings.mesh_converged {
            return Self(None);
        }
        let (sender, calm) = watch::channel(Calm::Not("nobody has been asked yet".to_owned()));
        let watching = calm::watch(Link::of(host), settings.converged, condition, sender);
        let watch = runtime.spawn(watching).abort_handle();
        let status_file = settings.status_file.take();
        Self(Some(Asked { calm, watch, status_file, said: None, complained: false }))
    }

    /// Whether it is wished for.
    pub(super) fn is_asked(&self) -> bool {
        self.0.is_some()
    }

    /// Whether all hosts are converged, or only this one counts.
    pub(super) fn is_converged(&self) -> bool {
        self.0.as_ref().is_none_or(|asked| *asked.calm.borrow() == Calm::Converged)
    }

    /// Why it will never be, if it is of no use to wait.
    pub(super) fn never(&self) -> Option<String> {
        match &*self.0.as_ref()?.calm.borrow() {
            Calm::Never(why) => Some(why.clone()),
            _ => None,
        }
    }

    /// Waits for news, and says them; for ever, if nobody waits for the others. Cancel safe.
    pub(super) async fn changed(&mut self) {
        let Some(asked) = &mut self.0 else { return std::future::pending().await };
        if asked.calm.changed().await.is_err() {
            // The engine has ended, and this is about to.
            return std::future::pending().await;
        }
        asked.say();
    }

    /// Asks nobody any more.
    pub(super) fn end(&mut self) {
        if let Some(asked) = self.0.take() {
            asked.watch.abort();
        }
    }
}

impl Asked {
    fn say(&mut self) {
        let calm = self.calm.borrow_and_update().clone();
        let converged = calm == Calm::Converged;
        match &calm {
            // What this host is about is said anyway.
            Calm::Not(why) if !self.complained && !why.starts_with("this host") => {
                self.complained = true;
                tracing::info!("converged here, and waiting for the mesh: {why}");
            }
            Calm::Not(_) | Calm::Soon(_) => {}
            Calm::Never(why) => tracing::warn!("the mesh will not be seen to converge from here: {why}"),
            Calm::Converged => {
                self.complained = false;
                tracing::info!("the mesh is converged");
            }
        }
        if self.said != Some(converged) && (converged || self.said.is_some()) {
            if self.said == Some(true) {
                tracing::info!("the mesh is converged no more");
            }
            self.said = Some(converged);
            if let Some(path) = &self.status_file {
                append_status(path, converged);
            }
        }
    }
}
