//! What happens on all hosts of the mesh, as one stream for whoever follows it here.
//!
//! The followed agent asks every member for what is new after what it has seen; the asked one answers as soon as there is
//! something, or after some seconds. So an event is shown within a round trip, an idle mesh costs a message and an answer
//! a peer every few seconds, and only while somebody follows. Promises: each event once, in the order of its host; what is
//! missing is said. Must not know how it is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mgmt_consensus::types::RaftId;
use mgmt_engine::Clock;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::Mesh;
use super::inquiry::{AskError, ask};
use super::messages::inquiry::{Answer, Inquiry, Since};
use super::node::Replica;
use crate::control::Line;
use crate::events::{Events, Happened, Page, Position};

/// Lines that wait to be read. Whoever reads slowly makes the others keep their events, and hears how many were lost.
const LINES_MAX: usize = 256;
/// Of the past, so many events of one host are asked for.
const LAST_MAX: usize = 1024;
/// Of the past, so many are shown of all hosts together.
const PAST_MAX: usize = 4096;
/// How long the past of a host is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a member waits for something to tell.
const WAIT: Duration = Duration::from_secs(5);
/// Before somebody is asked again who had no answer, or no room to wait.
const PAUSE: Duration = Duration::from_secs(1);
/// Before somebody is asked again who does not understand.
const LONG_PAUSE: Duration = Duration::from_secs(10);
/// Between two looks at who is a member.
const LOOK: Duration = Duration::from_millis(500);
/// Seen of a host that has just come: nothing, so that all it has done is shown.
const NEVER: Position = Position { run: 0, seen: 0 };

/// The lines for one follower. Dropped, nobody is asked any more.
pub struct Stream {
    lines: mpsc::Receiver<Line>,
    /// Ends with it.
    _work: JoinSet<()>,
}

impl Stream {
    /// The last `last` events of all hosts that answer, and if that is wished all that come from now on.
    #[must_use]
    pub fn open(mesh: &Mesh, events: &Arc<Events>, last: usize, follow: bool) -> Self {
        let (sender, lines) = mpsc::channel(LINES_MAX);
        let own = mesh.settings().host.as_str().to_owned();
        let (events, positions) = (events.clone(), Arc::default());
        let follower = Follower { mesh: mesh.clone(), own, events, last, lines: sender, positions };
        let mut work = JoinSet::new();
        // On the mesh's own threads, where the ways to the others are kept.
        work.spawn_on(follower.work(follow), mesh.runtime());
        Self { lines, _work: work }
    }

    /// The next line; `None` at the end. Cancel safe.
    pub async fn next(&mut self) -> Option<Line> {
        self.lines.recv().await
    }
}

#[derive(Clone)]
struct Follower {
    mesh: Mesh,
    /// This host.
    own: String,
    events: Arc<Events>,
    last: usize,
    lines: mpsc::Sender<Line>,
    /// What was seen of each host, over all its lives.
    positions: Arc<Mutex<BTreeMap<String, Position>>>,
}

/// Nobody reads any more.
struct Gone;

impl Follower {
    async fn work(self, follow: bool) {
        // Whoever reads no more wants nothing more.
        if self.past().await.is_ok() && follow {
            let mut work = JoinSet::new();
            work.spawn(self.clone().here());
            self.there(work).await;
        }
    }

    async fn say(&self, line: Line) -> Result<(), Gone> {
        self.lines.send(line).await.map_err(|_| Gone)
    }

    async fn note(&self, host: &str, note: impl Into<String>) -> Result<(), Gone> {
        self.say(Line::Note { host: host.to_owned(), note: note.into() }).await
    }

    fn positions(&self) -> MutexGuard<'_, BTreeMap<String, Position>> {
        self.positions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The other members, and the replica that knows them.
    fn members(&self) -> Option<(Replica, BTreeMap<RaftId, String>)> {
        let node = self.mesh.node()?;
        let replica = node.replica.clone();
        let members = replica.standing();
        let others = members.members().filter(|(_, member)| member.host != self.own && node.has_registered(member));
        let others = others.map(|(id, member)| (id, member.host.clone())).collect();
        Some((replica, others))
    }

    /// Shows what has happened so far, of all hosts in the order of time.
    async fn past(&self) -> Result<(), Gone> {
        let own = self.past_here();
        let mut asking = JoinSet::new();
        for (id, host, replica) in self
            .members()
            .into_iter()
            .flat_map(|(replica, all)| all.into_iter().map(move |(id, host)| (id, host, replica.clone())))
        {
            let last = self.last.min(LAST_MAX);
            asking.spawn(async move {
                let past = tokio::time::timeout(PATIENCE, past_of(&replica, id, last)).await;
                (host, past.unwrap_or_else(|_| Err(AskError::Silent("it took too long".to_owned()))))
            });
        }
        let mut all = own;
        while let Some(asked) = asking.join_next().await {
            match asked {
                Ok((host, Ok((events, position)))) => {
                    self.positions().insert(host.clone(), position);
                    all.extend(events.iter().map(|event| of_host(event, &host)));
                }
                Ok((host, Err(why))) => self.note(&host, why.to_string()).await?,
                Err(error) => tracing::error!(%error, "mesh: a member was not asked"),
            }
        }
        // Times as they are written sort as times; those of one host and time stay in their order.
        all.sort_by(|a, b| (&a.time, &a.host).cmp(&(&b.time, &b.host)));
        let skipped = all.len().saturating_sub(self.last.min(PAST_MAX));
        for event in all.into_iter().skip(skipped) {
            self.say(Line::Told(event)).await?;
        }
        Ok(())
    }

    fn past_here(&self) -> Vec<Happened> {
        let mut page = self.events.page(None, self.last);
        let mut past = std::mem::take(&mut page.events);
        while page.more {
            page = self.events.page(Some(page.next), 0);
            past.append(&mut page.events);
        }
        self.positions().insert(self.own.clone(), page.next);
        past.iter().map(|event| of_host(event, &self.own)).collect()
    }

    /// Shows what happens here.
    async fn here(self) {
        loop {
            let position = self.positions().get(&self.own).copied().unwrap_or(NEVER);
            self.events.beyond(position).await;
            if self.show(&self.own, self.events.page(Some(position), 0)).await.is_err() {
                return;
            }
        }
    }

    /// Shows a page, and remembers that.
    async fn show(&self, host: &str, page: Page) -> Result<(), Gone> {
        if page.missed > 0 {
            self.say(Line::Lost { host: host.to_owned(), missed: page.missed }).await?;
        }
        for event in &page.events {
            self.say(Line::Told(of_host(event, host))).await?;
        }
        self.positions().insert(host.to_owned(), page.next);
        Ok(())
    }

    /// Follows the others, whoever they are, until nobody reads.
    async fn there(self, mut work: JoinSet<()>) {
        let mut followed: BTreeMap<RaftId, (String, AbortHandle)> = BTreeMap::new();
        let mut hosts: Option<BTreeSet<String>> = None;
        let mut life = None;
        while !self.lines.is_closed() {
            while work.try_join_next().is_some() {}
            if let Some((replica, members)) = self.members() {
                // In another life of this host the ways to the others are other ones.
                if life.replace(replica.id()) != Some(replica.id()) {
                    std::mem::take(&mut followed).into_values().for_each(|(_, task)| task.abort());
                }
                let now: BTreeSet<_> = members.values().cloned().collect();
                if self.changed(hosts.as_ref(), &now).await.is_err() {
                    return;
                }
                hosts = Some(now);
                followed.retain(|id, (_, task)| {
                    members.contains_key(id) || {
                        task.abort();
                        false
                    }
                });
                for (id, host) in members {
                    followed.entry(id).or_insert_with(|| {
                        let task = work.spawn(self.clone().follow(replica.clone(), id, host.clone()));
                        (host, task)
                    });
                }
            }
            tokio::select! {
                biased;
                () = self.lines.closed() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Says who came and who went.
    async fn changed(&self, before: Option<&BTreeSet<String>>, now: &BTreeSet<String>) -> Result<(), Gone> {
        let Some(before) = before else { return Ok(()) };
        for host in before.difference(now) {
            self.note(host, "has gone").await?;
        }
        for host in now.difference(before) {
            self.positions().entry(host.clone()).or_insert(NEVER);
            self.note(host, "has come").await?;
        }
        Ok(())
    }

    /// Shows what happens on one of them.
    async fn follow(self, replica: Replica, id: RaftId, host: String) {
        let clock = Clock::start();
        let mut is_silent = false;
        loop {
            let position = self.positions().get(&host).copied();
            let wait = if position.is_some() { WAIT } else { Duration::ZERO };
            let since = Since {
                after: position,
                last: u32::try_from(self.last.min(LAST_MAX)).unwrap_or(u32::MAX),
                wait_ms: u32::try_from(wait.as_millis()).unwrap_or(u32::MAX),
            };
            let start = clock.now();
            let answer = ask(&replica, id, Inquiry::Events(since), wait + PATIENCE).await;
            let (said, pause) = match answer {
                Ok(Answer::Events(page)) => {
                    let is_idle = page.events.is_empty() && clock.now().since(start) < PAUSE;
                    let said = self.heard(&host, position, is_silent, page).await;
                    is_silent = false;
                    (said, if is_idle { PAUSE } else { Duration::ZERO })
                }
                other => {
                    let why = other.err().unwrap_or(AskError::Strange);
                    let pause = if why == AskError::Strange { LONG_PAUSE } else { PAUSE };
                    let was_silent = std::mem::replace(&mut is_silent, true);
                    (if was_silent { Ok(()) } else { self.note(&host, why.to_string()).await }, pause)
                }
            };
            if said.is_err() {
                return;
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Shows what a member has said, and what its silence was about.
    async fn heard(&self, host: &str, seen: Option<Position>, was_silent: bool, page: Page) -> Result<(), Gone> {
        let is_other = seen.is_some_and(|seen| seen.run != NEVER.run && seen.run != page.next.run);
        if is_other {
            self.note(host, "was started again").await?;
        } else if was_silent {
            self.note(host, "answers again").await?;
        }
        self.show(host, page).await
    }
}

/// The last events of a member, and how far one has seen with them.
async fn past_of(replica: &Replica, id: RaftId, last: usize) -> Result<(Vec<Happened>, Position), AskError> {
    let mut since = Since { after: None, last: u32::try_from(last).unwrap_or(u32::MAX), wait_ms: 0 };
    let mut past = Vec::new();
    loop {
        let Answer::Events(page) = ask(replica, id, Inquiry::Events(since), PATIENCE).await? else {
            return Err(AskError::Strange);
        };
        past.extend(page.events);
        // More than were asked for come only from who does not play by the rules, or is busy: the rest comes later.
        if !page.more || past.len() >= last {
            return Ok((past, page.next));
        }
        since = Since { after: Some(page.next), last: 0, wait_ms: 0 };
    }
}

/// As it is shown: whatever it says of its host, and however long it is.
fn of_host(event: &Happened, host: &str) -> Happened {
    Happened { host: Some(host.to_owned()), ..event.clipped() }
}
