//! A client: asks the hosts for things, again with the same number when it does not know whether it was done, and
//! writes down what it was told.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use mgmt_consensus::PeerId;
use mgmt_consensus::replica::ProposeError;
use mgmt_store::command::{Body, Command, Compare, ExportChange, Op, Origin, Relation, Request, Test, Ticket, Txn};
use mgmt_store::{HostName, Key, LeaseId, Revision, Role};
use openraft::AsyncRuntime as _;
use openraft_rt_sim::SimRuntime;

use crate::oracle::Violation;
use crate::oracle::history::{Call, End, Found, Operation, OperationId, Reply};
use crate::stage::{Asked, Stage};
use crate::swarm::{Chance, Mix};
use crate::translate;

/// One attempt.
const ATTEMPT: Duration = Duration::from_millis(1_500);
/// Attempts of one operation.
const ATTEMPTS_MAX: usize = 6;
/// The clients' time begins here: leaders' time is in milliseconds since 1970.
pub(crate) const EPOCH_MS: u64 = 1_700_000_000_000;

/// How exports are called, but for their number.
const EXPORT: &str = "e";

/// A client.
pub(crate) struct Client {
    number: usize,
    stage: Stage,
    chance: Chance,
    /// Whom it asks as long as he answers.
    host: usize,
    /// The session and the last number in it.
    session: Option<(u64, u64)>,
    /// A lease it holds.
    lease: Option<u64>,
    /// Its last publication.
    generation: u64,
    /// What it last saw of keys.
    known: BTreeMap<String, Found>,
}

/// How a host took an attempt.
enum Attempt {
    /// It was done, there.
    Done { index: u64, reply: Reply },
    /// Surely not.
    Not,
    /// Perhaps.
    Perhaps,
}

impl Client {
    pub(crate) fn new(number: usize, stage: Stage, chance: Chance) -> Self {
        let host = number % stage.hosts();
        Self { number, stage, chance, host, session: None, lease: None, generation: 0, known: BTreeMap::new() }
    }

    /// Does this and that until it is told to stop.
    pub(crate) async fn be(mut self) {
        self.stage.client(true);
        let (mut done, mut pause_max) = (0, self.stage.plan().pause_max);
        while !self.stage.is_over() {
            let mix = self.stage.plan().mix.clone();
            self.act(&mix).await;
            done += 1;
            if done == self.stage.plan().hurry {
                pause_max = pause_max.max(Duration::from_millis(500));
            }
            let pause = self.chance.millis(1, pause_max.as_millis() as u64);
            SimRuntime::sleep(pause).await;
        }
        self.stage.client(false);
    }

    /// Does one thing.
    async fn act(&mut self, mix: &Mix) {
        let weights = [mix.put, mix.swap, mix.delete, mix.transaction, mix.lease, mix.lock, mix.read, mix.read_local];
        let mut drawn = self.chance.below(weights.iter().sum());
        let kind = weights.iter().position(|weight| {
            let here = drawn < *weight;
            drawn = drawn.wrapping_sub(*weight);
            here
        });
        let key = self.key();
        match kind {
            Some(0) => drop(self.put(&key, None).await),
            Some(1) => self.swap(&key).await,
            Some(2) => drop(self.write(Body::Delete { key: key_of(&key) }).await),
            Some(3) => self.transaction().await,
            Some(4) => self.lease().await,
            Some(5) => self.lock().await,
            Some(6) => self.read(&key, true).await,
            Some(8) => self.publish().await,
            _ => {
                let prefix = self.chance.pick(&["k/", "k/t", "k/l"]);
                self.read(prefix, false).await;
            }
        }
    }

    /// A write and a read that must succeed, for the time after all faults.
    pub(crate) async fn serves(&mut self) -> bool {
        let key = self.key();
        self.put(&key, None).await == Some(Reply::Done) && self.read_one(&key, true).await
    }

    /// A key that is only ever touched alone, so that it can be judged alone.
    fn key(&mut self) -> String {
        format!("k/p{}", self.chance.below(self.stage.plan().keys))
    }

    fn value(&mut self) -> std::sync::Arc<[u8]> {
        let (session, sequence) = self.session.unwrap_or_default();
        let most = self.stage.plan().value_bytes_max as u64;
        let length = usize::try_from(self.chance.between(1, most + 1)).expect("short");
        format!("{}.{session}.{} {}", self.number, sequence + 1, "v".repeat(length)).into_bytes().into()
    }

    async fn put(&mut self, key: &str, lease: Option<LeaseId>) -> Option<Reply> {
        let value = self.value();
        self.write(Body::Put { key: key_of(key), value, lease }).await
    }

    async fn swap(&mut self, key: &str) {
        let test = match self.known.get(key) {
            Some(found) => Test::Value(true, found.value.clone().into_bytes().into()),
            None => Test::Present(false),
        };
        let then = vec![Op::Put { key: key_of(key), value: self.value(), lease: None }];
        let compare = vec![Compare::Key(key_of(key), test)];
        drop(self.write(Body::Txn(Txn { compare, then, otherwise: Vec::new() })).await);
    }

    async fn transaction(&mut self) {
        let some: Vec<String> = (0..1 + self.chance.below(3)).map(|_| format!("k/t{}", self.chance.below(5))).collect();
        let compare = some.iter().map(|key| {
            let test = match self.known.get(key) {
                Some(found) if self.chance.percent(50) => Test::Modify(Relation::Equal, Revision(found.modified)),
                Some(found) => Test::Value(true, found.value.clone().into_bytes().into()),
                None => Test::Present(false),
            };
            Compare::Key(key_of(key), test)
        });
        let compare = compare.collect();
        let ops = |client: &mut Self| -> Vec<Op> {
            let first = client.chance.below(5);
            let keys = (0..client.chance.below(4)).map(|n| key_of(&format!("k/t{}", (first + n) % 5)));
            let op = |key: Key| match client.chance.percent(70) {
                true => Op::Put { key, value: client.value(), lease: None },
                false => Op::Delete { key },
            };
            keys.collect::<Vec<_>>().into_iter().map(op).collect()
        };
        let (then, otherwise) = (ops(self), ops(self));
        drop(self.write(Body::Txn(Txn { compare, then, otherwise })).await);
        self.read("k/t", true).await;
    }

    async fn lease(&mut self) {
        let Some(lease) = self.lease else {
            if let Some(Reply::Leased(lease)) = self.write(Body::LeaseGrant { ttl_s: 10 }).await {
                self.lease = Some(lease);
            }
            return;
        };
        match self.chance.below(4) {
            0 => {
                self.lease = None;
                drop(self.write(Body::LeaseRevoke { lease: LeaseId(lease) }).await);
            }
            1 => {
                self.lease = None;
                drop(self.write(Body::LeaseExpire { leases: vec![LeaseId(lease)] }).await);
            }
            _ => {
                let key = format!("k/l{}", self.chance.below(6));
                drop(self.put(&key, Some(LeaseId(lease))).await);
            }
        }
    }

    async fn lock(&mut self) {
        let Some(lease) = self.lease else { return self.lease().await };
        let lock = Key::lock(self.chance.pick(&["a", "b"])).expect("it is a name");
        let lease = LeaseId(lease);
        let body = match self.chance.percent(60) {
            true => Body::Acquire { lock, lease, count: 1, wait: self.chance.percent(70) },
            false => Body::Release { lock, lease },
        };
        drop(self.write(body).await);
    }

    /// Replaces all it exports by a set that says of each member how many there are, and looks at somebody's exports.
    async fn publish(&mut self) {
        let prefix = format!("x/{}", name_of(self.number));
        let barrier = |asked: Asked| async move { asked.part.barrier(ATTEMPT).await.is_ok().then_some(asked.shared) };
        let Heard::Answer(Some(shared)) = self.on_host(barrier).await else { return };
        let (_, before) = translate::read(&shared, &prefix);
        let base = Revision(before.get(&prefix).map_or(0, |manifest| manifest.modified));
        self.generation += 1;
        let (generation, count) = (self.generation, 1 + self.chance.below(4));
        let value = format!("generation {generation} of {count}").into_bytes();
        let name = |n: usize| format!("{EXPORT}{n}");
        let gone = (0..5).filter(|n| *n >= count && before.contains_key(&format!("{prefix}/file/{}", name(*n))));
        let change = |n: usize, value: Option<&Vec<u8>>| ExportChange {
            kind: "file".into(),
            name: name(n).into(),
            value: value.map(|value| value.clone().into()),
        };
        let changes = (0..count).map(|n| change(n, Some(&value))).chain(gone.map(|n| change(n, None))).collect();
        drop(self.write(Body::ExportFlip { generation, base, staged: 0, changes }).await);
        let (host, whose) = (self.chance.below(self.stage.hosts()), self.chance.below(self.stage.plan().clients));
        let Some(asked) = self.stage.ask(host) else { return };
        let prefix = format!("x/{}/", name_of(whose));
        let (revision, found) = translate::read(&asked.shared, &prefix);
        let Some(any) = found.values().next() else { return };
        let whole = found.values().all(|one| one.value == any.value && one.modified == any.modified)
            && any.value.ends_with(&format!("of {}", found.len()));
        if !whole {
            let what = format!("h{host} at {revision}: {found:?}");
            self.stage.book().broke(Violation { law: "exports are replaced as a whole", what });
        }
    }

    /// Has a command applied, and writes down what came of it.
    async fn write(&mut self, body: Body) -> Option<Reply> {
        if self.session.is_none() {
            self.open().await;
        }
        let (session, sequence) = self.session.as_mut()?;
        *sequence += 1;
        let id = (*session, *sequence);
        let invoked = self.stage.now();
        let call = translate::call(&body);
        let end = self.attempts(Some(id), body).await;
        let reply = match &end {
            End::Known { reply, .. } => Some(reply.clone()),
            _ => None,
        };
        self.record(Some(id), invoked, call, end);
        reply
    }

    fn record(&mut self, id: Option<OperationId>, invoked: u64, call: Call, end: End) {
        let operation = Operation { client: self.number, id, invoked, call, end };
        self.stage.book().trace().line(None, format_args!("c{} {id:?} {}", self.number, ended(&operation.end)));
        self.stage.book().operation(operation);
    }

    /// Opens a session. It is no operation of the history: one that nobody knows of harms nobody.
    async fn open(&mut self) {
        if let End::Known { reply: Reply::Opened(session), .. } = self.attempts(None, Body::SessionOpen).await {
            self.session = Some((session, 0));
        }
    }

    /// Tries on several hosts until one knows what became of it.
    async fn attempts(&mut self, id: Option<OperationId>, body: Body) -> End {
        let ticket = id.map(|(session, sequence)| Ticket { session, sequence });
        let request = Request { ticket, body };
        let mut perhaps = false;
        for _ in 0..ATTEMPTS_MAX {
            let at_ms = EPOCH_MS + self.stage.now() / 1_000_000;
            let command = Command { origin: origin(self.number), at_ms, request: request.clone() }.encode();
            let host = self.host;
            let proposed = self.on_host(move |asked| async move { asked.part.propose(command, ATTEMPT).await }).await;
            if let Heard::Answer(Err(error)) = &proposed {
                let line = format!("c{} {id:?} by h{host}: {error}", self.number);
                self.stage.book().trace().line(None, line);
            }
            match Self::took(proposed) {
                Attempt::Done { index, reply } => return End::Known { returned: self.stage.now(), index, reply },
                Attempt::Not => {}
                Attempt::Perhaps => perhaps = true,
            }
            // Without a number it must not be sent again.
            if self.stage.is_closed() || (perhaps && id.is_none()) {
                break;
            }
            let pause = self.chance.millis(5, 200);
            SimRuntime::sleep(pause).await;
        }
        if perhaps { End::Unknown } else { End::Never }
    }

    fn took(proposed: Heard<Result<mgmt_consensus::replica::Proposed, ProposeError>>) -> Attempt {
        match proposed {
            Heard::Nobody => Attempt::Not,
            Heard::Silence | Heard::Answer(Err(ProposeError::Unknown(_))) => Attempt::Perhaps,
            Heard::Answer(Err(_)) => Attempt::Not,
            Heard::Answer(Ok(proposed)) => match translate::reply(&proposed.outcome) {
                Some(reply) => Attempt::Done { index: proposed.index, reply },
                None => Attempt::Perhaps,
            },
        }
    }

    async fn read(&mut self, prefix: &str, linearizable: bool) {
        let _what_it_says_is_written_down = self.read_one(prefix, linearizable).await;
    }

    async fn read_one(&mut self, prefix: &str, linearizable: bool) -> bool {
        let invoked = self.stage.now();
        let barrier = move |asked: Asked| async move {
            // The state of the very part that the barrier was for: the host may have another one soon.
            let passed = !linearizable || asked.part.barrier(ATTEMPT).await.is_ok();
            passed.then_some(asked.shared)
        };
        let Heard::Answer(Some(shared)) = self.on_host(barrier).await else { return false };
        let (revision, found) = translate::read(&shared, prefix);
        self.known.retain(|key, _| !key.starts_with(prefix));
        self.known.extend(found.clone());
        let end = End::Known { returned: self.stage.now(), index: revision, reply: Reply::Read(found) };
        self.record(None, invoked, Call::Read { prefix: prefix.to_owned(), linearizable }, end);
        true
    }

    /// Asks the host that answered last, or another one.
    async fn on_host<F, T>(&mut self, ask: impl FnOnce(Asked) -> F) -> Heard<T>
    where
        F: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        let Some(asked) = self.stage.ask(self.host).filter(|_| !self.chance.percent(5)) else {
            self.elsewhere();
            return Heard::Nobody;
        };
        let life = asked.life.clone();
        match SimRuntime::timeout(ATTEMPT * 2, life.run(ask(asked))).await {
            Ok(Some(answer)) => Heard::Answer(answer),
            Ok(None) | Err(_) => {
                self.elsewhere();
                Heard::Silence
            }
        }
    }

    fn elsewhere(&mut self) {
        self.host = self.chance.below(self.stage.hosts());
    }
}

/// What came of asking a host.
enum Heard<T> {
    /// It does not run, or has no part in the group: nothing was asked.
    Nobody,
    /// It was asked, and nobody knows.
    Silence,
    /// It answered.
    Answer(T),
}

fn ended(end: &End) -> String {
    match end {
        End::Known { index, reply: Reply::Read(found), .. } => format!("read {} keys at {index}", found.len()),
        End::Known { index, reply, .. } => format!("{reply:?} at {index}"),
        End::Never => "not done".to_owned(),
        End::Unknown => "unknown".to_owned(),
    }
}

fn key_of(text: &str) -> Key {
    Key::parse(text).expect("it is a key")
}

/// Clients are operators here: what they may is another test's business.
pub(crate) fn origin(number: usize) -> Origin {
    let host = HostName::parse(&name_of(number)).expect("it is a name");
    Origin { host, peer: PeerId(number as u128 + 1), role: Role::Admin }
}

pub(crate) fn name_of(number: usize) -> String {
    format!("client{number}")
}
