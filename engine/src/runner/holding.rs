//! Carries out what the schedule wishes of others: tasks that ask for what other hosts share, and hold it.

use tokio::task::AbortHandle;

use super::Shared;
use super::bounded::Guarded;
use super::core::Core;
use crate::id::Id;
use crate::meta::Semaphore;
use crate::resource::{Fault, Ticket, Urgency};
use crate::schedule::{Ask, Event, Wish};

/// A task that asks for something and then holds it. When this is dropped, the task ends, and gives back what it holds.
pub(super) struct Asked(AbortHandle);

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Shared {
    /// Sees to what the schedule has wished for.
    pub(super) fn fulfil(&self, core: &mut Core) {
        for wish in core.schedule.take_wishes() {
            match wish {
                Wish::Have(ticket, ask, wanted) => {
                    let (Some(id), Some(shared)) = (core.schedule.name_of(ticket).cloned(), self.me.upgrade()) else {
                        continue;
                    };
                    let task = self.runtime.spawn(async move { shared.hold(ticket, ask, &id, wanted).await });
                    core.asked.insert(ask, Asked(task.abort_handle()));
                }
                Wish::Release(ask) => drop(core.asked.remove(&ask)),
                Wish::Cancel(ticket) => {
                    let held = &core.held[ticket.slot as usize];
                    if let Some(stop) = held.stop.as_ref().filter(|_| held.life == ticket.life) {
                        stop.send_if_modified(|urgency| {
                            std::mem::replace(urgency, (*urgency).max(Urgency::Cancel)) < Urgency::Cancel
                        });
                    }
                }
            }
        }
    }

    /// Asks, and holds what is given until it is lost. Dropped when it is wanted no more.
    async fn hold(&self, ticket: Ticket, ask: Ask, who: &Id, wanted: Vec<Semaphore>) {
        let given = match self.grants.get() {
            Some(grants) => Guarded(grants.acquire(who, wanted)).await.and_then(|given| given),
            None => Err(Fault::new("nothing is shared with other hosts here")),
        };
        match given {
            Ok(mut grant) => {
                self.event(Event::Granted(ticket, ask, grant.fence()));
                let lost = grant.lost().await;
                self.event(Event::GrantLost(ticket, ask, lost));
            }
            Err(fault) => self.event(Event::NotGranted(ticket, ask, fault)),
        }
    }
}
