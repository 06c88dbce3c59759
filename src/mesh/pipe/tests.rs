//! A pipe over a store of one, in this process.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use mgmt_consensus::{Machine as _, PeerId};
use mgmt_store::command::{Command, Origin};
use mgmt_store::{HostName, LeaseId, ProposeError, Role, StoreMachine, Watches};
use tokio::io::{AsyncBufReadExt as _, BufReader, DuplexStream, ReadHalf, WriteHalf};

use super::*;

/// A group of one that applies what is proposed, or has no leader.
#[derive(Clone)]
struct Alone {
    machine: Arc<Mutex<(StoreMachine, u64)>>,
    leads: bool,
    /// How often the time was asked for: it passes where nobody leads.
    asked: Arc<AtomicU64>,
}

impl Proposer for Alone {
    async fn propose(&self, request: Bytes, _: Duration) -> Result<(Revision, Bytes), ProposeError> {
        if !self.leads {
            return Err(ProposeError::NoLeader);
        }
        let origin = Origin { host: HostName::parse("a").unwrap(), peer: PeerId(1), role: Role::Admin };
        let command = Command::attest(&request, &origin, 1_000).unwrap();
        let mut machine = self.machine.lock().unwrap();
        machine.1 += 1;
        let index = machine.1;
        let outcome = machine.0.apply(index, &command).unwrap();
        machine.0.settled(index);
        Ok((Revision(index), outcome))
    }

    async fn barrier(&self, _: Duration) -> Result<Revision, ProposeError> {
        if self.leads { Ok(Revision(self.machine.lock().unwrap().1)) } else { Err(ProposeError::NoLeader) }
    }

    async fn renew(&self, _: LeaseId, _: Duration) -> Result<bool, ProposeError> {
        Ok(true)
    }

    fn now_ms(&self) -> u64 {
        if self.leads { 0 } else { 1_000 * self.asked.fetch_add(1, Ordering::Relaxed) }
    }

    async fn sleep(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

struct Asker {
    read: BufReader<ReadHalf<DuplexStream>>,
    write: Option<WriteHalf<DuplexStream>>,
    served: tokio::task::JoinHandle<io::Result<()>>,
}

fn store(leads: bool) -> Arc<Store<Alone>> {
    let machine = StoreMachine::new();
    let shared = machine.shared();
    let alone = Alone { machine: Arc::new(Mutex::new((machine, 0))), leads, asked: Arc::default() };
    let watches = Watches::new(shared.clone());
    let client = Client::new(alone, shared.clone(), watches, HostName::parse("a").unwrap(), LIMIT).widened();
    Arc::new(Store { client, shared, leader: Box::new(|| 0) })
}

impl Asker {
    fn of(store: &Arc<Store<Alone>>) -> Self {
        let (ours, theirs) = tokio::io::duplex(1 << 10);
        let store = store.clone();
        let (read, write) = tokio::io::split(theirs);
        let served = tokio::spawn(async move { serve(&*store, read, write).await });
        let (read, write) = tokio::io::split(ours);
        Self { read: BufReader::new(read), write: Some(write), served }
    }

    async fn say(&mut self, lines: &str) {
        self.write.as_mut().unwrap().write_all(lines.as_bytes()).await.unwrap();
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        self.read.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    async fn ask(&mut self, line: &str) -> String {
        self.say(&format!("{line}\n")).await;
        self.line().await
    }

    /// Hangs up, and gives what comes still.
    async fn rest(mut self) -> Vec<String> {
        drop(self.write.take());
        // `split` closes a stream when both halves are gone: the end is said by hand.
        let mut rest = Vec::new();
        loop {
            let line = self.line().await;
            if line.is_empty() {
                self.served.await.unwrap().unwrap();
                return rest;
            }
            rest.push(line);
        }
    }

    async fn end(&mut self) {
        self.write.as_mut().unwrap().shutdown().await.unwrap();
    }
}

#[tokio::test]
async fn what_is_written_is_read() {
    let mut asker = Asker::of(&store(true));
    assert!(asker.ask("1 PUT a/b v").await.starts_with("1 OK "));
    assert_eq!(asker.ask("2 GET a/b").await, "2 OK v");
    assert_eq!(asker.ask("3 LOCAL a/b").await, "3 OK v");
    assert_eq!(asker.ask("4 GET c").await, "4 ERR missing there is no such key");
    assert!(asker.ask("5 CAS a/b v w").await.starts_with("5 OK "));
    assert_eq!(asker.ask("6 CAS a/b v w").await, "6 ERR other the value is another");
    assert_eq!(asker.ask("7 CAS a/b - w").await, "7 ERR other the value is another");
    assert!(asker.ask("8 CAS c - w").await.starts_with("8 OK "));
    assert!(asker.ask("9 DELETE c").await.starts_with("9 OK "));
    assert_eq!(asker.ask("10 DELETE c").await, "10 ERR missing there is no such key");
    assert_eq!(asker.ask("11 LEADER").await, "11 OK 0");
    assert_eq!(asker.ask("nonsense").await.split(' ').take(3).collect::<Vec<_>>(), ["nonsense", "ERR", "usage"]);
}

#[tokio::test]
async fn many_requests_are_on_their_way_and_all_are_answered() {
    let store = store(true);
    let mut asker = Asker::of(&store);
    let count = 3 * REQUESTS_MAX;
    let lines: String = (0..count).map(|n| format!("{n} PUT k{n} v\n")).collect();
    let mut write = asker.write.take().unwrap();
    let writer = tokio::spawn(async move {
        write.write_all(lines.as_bytes()).await.unwrap();
        write.shutdown().await.unwrap();
        write
    });
    let mut answered = BTreeSet::new();
    for _ in 0..count {
        let line = asker.line().await;
        let (id, rest) = line.split_once(' ').unwrap();
        assert!(rest.starts_with("OK "), "{line}");
        assert!(answered.insert(id.parse::<usize>().unwrap()), "{line}");
    }
    asker.write = Some(writer.await.unwrap());
    assert!(asker.rest().await.is_empty());
    assert_eq!(store.shared.read(|keyspace| keyspace.prefix("k/k").count()), count);
}

#[tokio::test]
async fn a_watch_tells_all_in_order_until_it_is_ended() {
    let store = store(true);
    let (mut watcher, mut writer) = (Asker::of(&store), Asker::of(&store));
    assert!(watcher.ask("w WATCH a.").await.starts_with("w OK "));
    assert_eq!(watcher.ask("w WATCH b.").await, "w ERR usage this name has a watch already");
    for n in 0..50 {
        writer.ask(&format!("{n} PUT a.k {n}")).await;
        writer.ask(&format!("{n} PUT b.k {n}")).await;
    }
    writer.ask("x DELETE a.k").await;
    for n in 0..50 {
        assert_eq!(watcher.line().await, format!("w EV a.k {n}"));
    }
    assert_eq!(watcher.line().await, "w DEL a.k");
    assert_eq!(watcher.ask("u UNWATCH w").await, "u OK");
    assert_eq!(watcher.ask("u UNWATCH w").await, "u ERR missing there is no such watch");
    writer.ask("x PUT a.k again").await;
    assert_eq!(watcher.ask("l LEADER").await, "l OK 0", "nothing more of the watch");
    // From a revision: all of it again.
    let first = watcher.ask("v WATCH a. 0").await;
    assert_eq!(first, "v OK 0");
    assert_eq!(watcher.line().await, "v EV a.k 0");
}

#[tokio::test]
async fn without_a_leader_writes_are_not_done_and_local_reads_are() {
    let mut asker = Asker::of(&store(false));
    assert_eq!(asker.ask("1 PUT a v").await, "1 ERR unavailable no leader could be reached; nothing was done");
    assert!(asker.ask("2 GET a").await.starts_with("2 ERR unavailable"));
    assert_eq!(asker.ask("3 LOCAL a").await, "3 ERR missing there is no such key");
}

#[tokio::test]
async fn hostile_lines_are_answered_and_the_pipe_goes_on() {
    let mut asker = Asker::of(&store(true));
    let long = format!("{}\n", "x".repeat(line::LINE_BYTES_MAX + 1));
    let mut write = asker.write.take().unwrap();
    let writer = tokio::spawn(async move {
        write.write_all(long.as_bytes()).await.unwrap();
        write.write_all(b"\xff\xfe\n\n1 PUT \xff v\n2 PUT a \x1b[2J\n3 PUT ../a v\n4 GET ").await.unwrap();
        write.write_all("k".repeat(5000).as_bytes()).await.unwrap();
        write.write_all(b"\n5 PUT ok v\n6 GET ok").await.unwrap();
        write.shutdown().await.unwrap();
        write
    });
    let mut lines = Vec::new();
    for _ in 0..9 {
        let mut line = asker.line().await;
        if line.contains(" OK ") {
            line.truncate(line.find(" OK ").unwrap() + 3);
        }
        lines.push(line);
    }
    lines.sort();
    expect_test::expect![[r#"
        1 ERR usage a key is UTF-8
        2 ERR usage a value is UTF-8 without control characters; use kv put for others
        3 OK
        4 ERR usage this cannot be a key: see kv --help
        5 OK
        ? ERR usage a line begins with a name for it, of 1 to 32 characters
        ? ERR usage a line begins with a name for it, of 1 to 32 characters
        ? ERR usage the last line has no end
        ? ERR usage the line is too long"#]]
    .assert_eq(&lines.join("\n"));
    drop(writer);
}

#[tokio::test]
async fn who_hangs_up_gets_what_was_asked_for() {
    let mut asker = Asker::of(&store(true));
    asker.say("1 PUT a v\n2 GET b\n").await;
    asker.end().await;
    let mut rest = asker.rest().await;
    rest.sort();
    assert_eq!(rest.len(), 2, "{rest:?}");
    assert!(rest[0].starts_with("1 OK ") && rest[1].starts_with("2 ERR missing"), "{rest:?}");
}
