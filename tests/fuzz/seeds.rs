//! Inputs to begin with: what the program itself writes, and lies about lengths. Made anew for every replay, so that
//! they follow the program; what the files of a corpus hold stays as it was found.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use mgmt_consensus::disk::{Disk, DiskFile};
use mgmt_consensus::identity::{ClusterId, Identity, render};
use mgmt_consensus::log_store::LogStore;
use mgmt_consensus::machine::Frozen;
use mgmt_consensus::snapshots::Snapshots;
use mgmt_consensus::testing::Simulated;
use mgmt_consensus::types::{
    Blob, CommittedLeaderId, Entry, LeaderId, LogId, Member, Membership, Payload, SnapshotMeta, StoredMembership, Vote,
};
use mgmt_consensus::{Ground, Incarnation, Machine, PeerId};
use mgmt_store::outcome::{Done, Refusal};
use mgmt_store::{Body, Command, Key, LeaseId, Origin, Outcome, Request, Revision, Role, StoreMachine, Ticket};
use openraft::AsyncRuntime;
use openraft::async_runtime::Oneshot;
use openraft::storage::{IOFlushed, RaftLogStorage};

use super::targets::disks::{ME, disk, options, run};
use super::targets::store::frozen;

/// The target it is for, what it is, its bytes.
pub(crate) type Seed = (&'static str, String, Vec<u8>);

const SEGMENT_BYTES: u64 = 2048;

/// All of them.
pub(crate) fn seeds() -> Vec<Seed> {
    let mut seeds = Vec::new();
    seeds.extend(golden());
    seeds.extend(identities());
    seeds.extend(journals());
    seeds.extend(store());
    seeds.extend(snapshot_files());
    seeds.extend(names());
    seeds.extend(exports());
    seeds.extend(collected());
    seeds.extend(lies());
    seeds
}

/// The golden files of the wire, by the decoder they belong to.
fn golden() -> Vec<Seed> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/consensus/testdata/golden");
    let entries = std::fs::read_dir(folder).expect("they are part of the project");
    let files = entries.map(|entry| entry.expect("it can be listed").path());
    let seed = |path: std::path::PathBuf| {
        let name = path.file_stem()?.to_str()?.to_owned();
        let target = match name.as_str() {
            "stored-meta" => "wire_meta",
            "stored-membership" => "wire_membership",
            name if name.starts_with("request-") => "wire_request",
            name if name.starts_with("answer-") => "wire_answer",
            _ => return None,
        };
        let text: String = std::fs::read_to_string(path).ok()?.split_whitespace().collect();
        let digits = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).expect("hex digits"));
        Some((target, name, digits.map(|pair| u8::from_str_radix(pair, 16).expect("hex digits")).collect()))
    };
    files.filter_map(seed).collect()
}

fn identities() -> Vec<Seed> {
    let identity = |raft, host: &str| Identity {
        cluster: ClusterId(1),
        peer: PeerId(u128::MAX),
        incarnation: Incarnation(3),
        raft,
        host: host.to_owned(),
    };
    let sound = render(&identity(Some(7), "web1.example"));
    vec![
        ("identity", "sound".to_owned(), sound.clone().into()),
        ("identity", "no-id".to_owned(), render(&identity(None, "a")).into()),
        ("identity", "highest-id".to_owned(), render(&identity(Some(u64::MAX), &"a".repeat(253))).into()),
        ("identity", "newer".to_owned(), sound.replace("format = \"1\"", "format = \"2\"").into()),
        ("identity", "signed-number".to_owned(), sound.replace("\"7\"", "\"+7\"").into()),
        ("identity", "zeros".to_owned(), vec![0; 300]),
        ("identity", "long".to_owned(), vec![b'a'; 5000]),
    ]
}

fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: CommittedLeaderId { term, node_id: 1 }, index }
}

fn membership() -> Membership {
    let member = |n: u64| Member { peer: PeerId(n.into()), incarnation: ME, host: format!("web{n}") };
    let members = BTreeMap::from([1, 2, 3].map(|n| (n, member(n))));
    Membership::new(vec![BTreeSet::from([1]), BTreeSet::from([1, 2])], members).expect("the voters are members")
}

async fn append(log: &mut LogStore<Simulated>, index: u64, payload: Payload) {
    let (done, told) = <<Simulated as Ground>::Runtime as AsyncRuntime>::Oneshot::channel();
    let entry = Entry { log_id: log_id(2, index), payload };
    log.append([entry], IOFlushed::signal(done)).await.expect("the disk is large");
    told.await.expect("the writer lives").expect("the disk is large");
}

/// The log of some busy minutes, stopped after so many steps.
async fn journal(steps: usize) -> (u8, Vec<u8>) {
    let disk = disk();
    let created = LogStore::<Simulated>::create(disk.clone(), ME, options(SEGMENT_BYTES)).await;
    let mut log = created.expect("the disk is large");
    let vote = Vote { leader_id: LeaderId { term: 2, node_id: 1 }, committed: true };
    for step in 0..steps as u64 {
        match step {
            0 => log.save_vote(&vote).await.expect("the disk is large"),
            1 => append(&mut log, 0, Payload::Membership(membership())).await,
            2 => append(&mut log, 1, Payload::Blank).await,
            20 => log.save_committed(Some(log_id(2, 9))).await.expect("the disk is large"),
            21 => log.truncate_after(Some(log_id(2, 15))).await.expect("it is there"),
            22 => log.purge(log_id(2, 12)).await.expect("it is there"),
            step if step < 20 => append(&mut log, step - 1, Payload::Normal(Blob(vec![7; 150].into()))).await,
            step => append(&mut log, step - 7, Payload::Normal(Blob("later".into()))).await,
        }
    }
    log.stop().await.expect("the disk is large");
    let mut all = Vec::new();
    let names = disk.list("journal").expect("it can be read");
    for name in &names {
        let file = disk.open(&format!("journal/{name}")).expect("it is there");
        let mut bytes = vec![0; SEGMENT_BYTES as usize];
        file.read_at(&mut bytes, 0).expect("it can be read");
        all.extend(bytes);
    }
    (u8::try_from(names.len() - 1).expect("there are few"), all)
}

fn journals() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for steps in [0, 1, 2, 8, 22, 24, 26] {
        let (count, bytes) = run(journal(steps));
        seeds.push(("journal", format!("steps-{steps}"), [vec![count], bytes.clone()].concat()));
        // Its first record lies behind two headers.
        seeds.push(("record", format!("standing-{steps}"), bytes[512 + 24..].to_vec()));
        if let Some(at) = bytes.windows(150).position(|window| window == [7; 150]) {
            seeds.push(("record", format!("command-{steps}"), bytes[at - 30..at + 150].to_vec()));
        }
    }
    let sixes = |record: &[u8]| [record, &[0xff; 80]].concat();
    for kind in 1..=7 {
        seeds.push(("record", format!("extreme-{kind}"), sixes(&[kind, 1])));
    }
    seeds
}

fn commands() -> Vec<Command> {
    let origin = Origin { host: "boss".parse().expect("a name"), peer: PeerId(1), role: Role::Admin };
    let key = |text: &str| Key::parse(text).expect("a key");
    let bodies = [
        Body::Put { key: key("k/a"), value: b"one".as_slice().into(), lease: None },
        Body::LeaseGrant { ttl_s: 60 },
        Body::Put { key: key("m/n/boss"), value: vec![3; 40].into(), lease: Some(LeaseId(2)) },
        Body::Acquire { lock: key("l/x"), lease: LeaseId(2), count: 1, wait: true },
        Body::SessionOpen,
        Body::ExportStage { generation: 1, changes: Vec::new() },
        Body::Allow { hosts: "web*".into(), prefix: "app/".into() },
        Body::IdealSize { masters: 3 },
        Body::LeaseExpire { leases: vec![LeaseId(9), LeaseId(10)] },
        Body::Delete { key: key("k/b") },
    ];
    let command = |(nth, body): (usize, Body)| {
        let ticket = (nth > 5).then_some(Ticket { session: 5, sequence: nth as u64 });
        Command { origin: origin.clone(), at_ms: 1_000 * nth as u64, request: Request { ticket, body } }
    };
    bodies.into_iter().enumerate().map(command).collect()
}

fn machine(count: usize) -> StoreMachine {
    let mut machine = StoreMachine::new();
    for (index, command) in (1..).zip(commands().iter().take(count)) {
        machine.apply(index, &command.encode()).expect("this program knows its own commands");
    }
    machine
}

fn store() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (nth, command) in commands().iter().enumerate() {
        seeds.push(("store_command", format!("command-{nth}"), command.encode().to_vec()));
        seeds.push(("store_request", format!("request-{nth}"), command.request.encode().to_vec()));
    }
    let results = [
        Ok(Done::Applied),
        Ok(Done::Put { version: 3 }),
        Ok(Done::TokenUsed { role: Role::Admin, replace: true }),
        Err(Refusal::NoSpace),
        Err(Refusal::Busy { wait_ms: 7 }),
    ];
    for (nth, result) in results.into_iter().enumerate() {
        let outcome = Outcome { revision: Revision(7), result };
        seeds.push(("store_outcome", format!("outcome-{nth}"), outcome.encode().to_vec()));
    }
    for count in [0, 1, 4, 10] {
        seeds.push(("store_snapshot", format!("after-{count}"), frozen(&machine(count)).concat()));
    }
    for (name, step) in [("counting", 1), ("sevens", 7), ("strides", 67), ("falling", 251)] {
        let bytes = (0..1500_u32).map(|n| (n * step + n / 256) as u8).collect();
        seeds.push(("store_keyspace", name.to_owned(), bytes));
    }
    seeds
}

struct Pieces(VecDeque<Bytes>);

impl Frozen for Pieces {
    fn chunk(&mut self) -> Option<Bytes> {
        self.0.pop_front()
    }
}

fn snapshot_files() -> Vec<Seed> {
    let last = log_id(2, 9);
    let meta = SnapshotMeta {
        last_log_id: Some(last),
        last_membership: StoredMembership::new(Some(log_id(1, 3)), membership()),
    };
    let pieces =
        [vec![], vec![Bytes::from_static(b"one")], frozen(&machine(10)), vec![vec![1; 500].into(), vec![2].into()]];
    let seed = |(nth, pieces): (usize, Vec<Bytes>)| {
        let snapshots = Snapshots::<Simulated>::new(disk());
        let written = run(snapshots.write(meta.clone(), Pieces(pieces.into()))).expect("the disk is large");
        let bytes = written.piece(0, usize::try_from(written.bytes()).expect("it is short")).expect("it can be read");
        ("snapshot_file", format!("file-{nth}"), bytes.to_vec())
    };
    pieces.into_iter().enumerate().map(seed).collect()
}

fn names() -> Vec<Seed> {
    let keys = [
        "k/a",
        "m/ns/web1",
        "x/web1/file//etc/motd",
        "l/upgrade",
        "_/peers/web1",
        "_/tokens/abc",
        "_/allow/web*/app/",
        "k/\u{85}",
    ];
    let hosts =
        ["web1.example.org", "WEB1", "*\nweb1", "a*b*c\naXbYbZc", "w**\nw", "ä\nä", "*a*a*a*b\naaaaaaaaaaaaaaaa"];
    let keys = keys.iter().enumerate().map(|(nth, key)| ("key", format!("key-{nth}"), key.as_bytes().to_vec()));
    let hosts =
        hosts.iter().enumerate().map(|(nth, host)| ("host_name", format!("host-{nth}"), host.as_bytes().to_vec()));
    keys.chain(hosts).collect()
}

/// As other hosts may write them.
fn exports() -> Vec<Seed> {
    let records = [
        r#"{"v":1,"params":{"content":"a\n","force":true,"mode":"0640","path":"/tmp/a","state":"exists"},"sensitive":true}"#,
        r#"{"v":1,"params":{"basename":"a","content":{"base64":"AP8H"},"dirname":"/x/","mode":"u=rwxs,g=u","owner":"root"}}"#,
        r#"{"v":1,"params":{"path":"/x/..","source":"/etc/shadow","symlink":true}}"#,
        r#"{"v":1,"params":{"fragments":["/a","/b"],"path":"/x/sub/","purge":true,"recurse":true}}"#,
        r#"{"v":1,"params":{"body":"hello","fields":{"A":"b"},"journal":false,"priority":"info","syslog":true}}"#,
        r#"{"v":1,"params":{"args":["-c"],"cmd":"/p/own","env":{"A":"b"},"timeout":1e300,"watchfiles":["/p"]}}"#,
        r#"{"v":1,"params":{"interval":0.000000001}}"#,
        r#"{"v":2,"all":"new"}"#,
    ];
    let seed = |(nth, text): (usize, &&str)| ("export", format!("export-{nth}"), text.as_bytes().to_vec());
    records.iter().enumerate().map(seed).collect()
}

/// What a host keeps of them; the sums are made right before it is read.
fn collected() -> Vec<Seed> {
    let head = r#"{"v":1,"cluster":"0000-0000-0000-0007","revision":7,"at_ms":1700000000000,"asked":ASKED}"#;
    let entry = r#"{"key":"x/a/file/one","value":"e30="}"#;
    let inherited = r#"{"key":"x/b/file/two \u00fc","value":"/wA=","inherited":true}"#;
    let sum = r#"{"sum":"00"}"#;
    let files = [
        [head.replace("ASKED", r#"[{"kind":"file","hosts":["a*"]},{"kind":"msg","name":"n"}]"#), entry.to_owned()],
        [head.replace("ASKED", "[]"), inherited.to_owned()],
        [head.replace("ASKED", "[]").replace("1700000000000", "18446744073709551615"), entry.to_owned()],
    ];
    let seed = |(nth, [head, entry]): (usize, &[String; 2])| {
        ("collected", format!("collected-{nth}"), format!("{head}\n{entry}\n{sum}\n").into_bytes())
    };
    files.iter().enumerate().map(seed).collect()
}

/// A frame of the store, sealed: kind, version, what it holds.
fn frame(kind: u8, version: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&[kind, version, 0, 0, 0, 0, 0, 0, 0, 0], payload].concat();
    super::targets::store::seal(&mut frame);
    frame
}

/// A message of the group, sealed.
fn message(kind: u8, payload: &[u8]) -> Vec<u8> {
    let frame = [&[b'm', b'g', 1, kind], [0; 56].as_slice(), payload, &[0; 4]].concat();
    super::targets::group::sealed(&frame).expect("it is long enough")
}

/// Counts of what is not there, where a count belongs: each must be refused, and cost nothing.
pub(crate) fn lies() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for count in [1 << 20, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 63, u64::MAX] {
        let count64 = count.to_le_bytes();
        let count32 = u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes();
        let mut add = |target, name: &str, bytes: Vec<u8>| seeds.push((target, format!("{name}-{count:x}"), bytes));
        // An append with a vote, nothing before it, and so many entries. A snapshot's piece of so many bytes.
        let append = [&[0; 4], [0; 17].as_slice(), &[0], &count64, &[1; 64]].concat();
        add("wire_request", "entries", message(1, &append));
        for variant in 0..16_u32 {
            let body = [variant.to_le_bytes().as_slice(), &count64, &count64, &count64, &count64, &count64].concat();
            add("wire_request", &format!("counts-{variant}"), message(1, &body));
            add("wire_answer", &format!("counts-{variant}"), message(2, &body));
        }
        for (target, variant) in [("wire_meta", 0_u32), ("wire_membership", 1)] {
            // No log id, then so many sets of voters; or one set with so many of them.
            add(target, "sets", [&variant.to_le_bytes(), [0, 0].as_slice(), &count64, &[0; 64]].concat());
            add(
                target,
                "voters",
                [&variant.to_le_bytes(), [0].as_slice(), &1_u64.to_le_bytes(), &count64, &[0; 64]].concat(),
            );
        }
        let entry = |tag, carried: &[u8]| {
            let length = u32::try_from(carried.len()).expect("it is short").to_le_bytes();
            [[2].as_slice(), &[0; 24], &[tag], &length, carried].concat()
        };
        add("record", "command", [[2].as_slice(), &[0; 24], &[1], &count32, &[1; 64]].concat());
        add("record", "sets", entry(2, &[count32.as_slice(), &[0; 64]].concat()));
        add("record", "voters", entry(2, &[&1_u32.to_le_bytes(), count32.as_slice(), &[0; 64]].concat()));
        add("record", "members", entry(2, &[&0_u32.to_le_bytes(), count32.as_slice(), &[0; 64]].concat()));
        for variant in [0_u32, 3, 6, 9, 10, 12, 13] {
            let body = [variant.to_le_bytes().as_slice(), &count64, &count64, &count64, &count64, &[0; 64]].concat();
            let bare = [[0].as_slice(), &(body.len() as u64).to_le_bytes(), &body].concat();
            add("store_request", &format!("body-{variant}"), frame(2, 1, &bare));
        }
        add("store_request", "bytes", frame(2, 1, &[[0].as_slice(), &count64, &[0; 64]].concat()));
        add("store_command", "host", frame(1, 1, &[count64.as_slice(), &[b'a'; 64]].concat()));
        add("store_outcome", "variant", frame(3, 1, &[count64, count64].concat()));
        let head = frame(32, 1, &[[0; 4].as_slice(), &[0; 24]].concat());
        for variant in 1..7_u32 {
            let section = frame(32, 1, &[variant.to_le_bytes().as_slice(), &count64, &[0; 64]].concat());
            add("store_snapshot", &format!("section-{variant}"), [head.clone(), section].concat());
        }
        add("store_snapshot", "frame", [[32, 1].as_slice(), &count32, &[0; 64]].concat());
        let snapshot = |meta: &[u8], piece: &[u8]| {
            [b"mgmtsnap".as_slice(), &1_u32.to_le_bytes(), meta, &[0; 4], &[0; 30], piece, &[0; 64]].concat()
        };
        add("snapshot_file", "meta", snapshot(&count32, &[]));
        add("snapshot_file", "piece", snapshot(&30_u32.to_le_bytes(), &count32));
    }
    seeds
}

/// As many of the smallest things as fit: what is read takes the most memory for what came.
pub(crate) fn dense() -> Vec<Seed> {
    let many = |count: usize, one: &[u8]| [&(count as u64).to_le_bytes(), one.repeat(count).as_slice()].concat();
    let append = [&[0; 4], [0; 17].as_slice(), &[0], &many(2000, &[0; 28]), &[0]].concat();
    let stored = |variant: u32, log_ids: &[u8], rest: &[u8]| [&variant.to_le_bytes(), log_ids, rest].concat();
    let (sets, voters) = (many(8000, &[0; 8]), (0..8000_u64).flat_map(u64::to_le_bytes).collect::<Vec<_>>());
    let voters = [&1_u64.to_le_bytes(), &8000_u64.to_le_bytes(), voters.as_slice()].concat();
    let members: Vec<u8> = (0..1000_u64).flat_map(|id| [&id.to_le_bytes(), [0; 40].as_slice()].concat()).collect();
    let members = [&0_u64.to_le_bytes(), &1000_u64.to_le_bytes(), members.as_slice()].concat();
    let request = |body: &[u8]| frame(2, 1, &[[0].as_slice(), &(body.len() as u64).to_le_bytes(), body].concat());
    let exports = [&9_u32.to_le_bytes(), [0; 8].as_slice(), &many(2000, &[0; 17])].concat();
    let expired = [&6_u32.to_le_bytes(), many(1000, &[0; 8]).as_slice()].concat();
    // Deletions of the shortest key.
    let deletions = many(512, &[&1_u32.to_le_bytes(), 3_u64.to_le_bytes().as_slice(), b"k/a"].concat());
    let txn = [&3_u32.to_le_bytes(), [0; 8].as_slice(), &deletions, &deletions].concat();
    let leases =
        (1..1500_u64).flat_map(|id| [&id.to_le_bytes(), 1_u64.to_le_bytes().as_slice(), b"a", &[9, 0, 0, 0]].concat());
    let leases = [&2_u32.to_le_bytes(), 1499_u64.to_le_bytes().as_slice(), &leases.collect::<Vec<_>>()].concat();
    let snapshot = [frame(32, 1, &[0; 28]), frame(32, 1, &leases)].concat();
    let record = |carried: &[u8]| {
        let length = u32::try_from(carried.len()).expect("it is short").to_le_bytes();
        [[2].as_slice(), &[0; 24], &[2], &length, carried].concat()
    };
    let ids: Vec<u8> = (0..1024_u64).flat_map(u64::to_le_bytes).collect();
    let configs =
        [&8_u32.to_le_bytes(), [&1024_u32.to_le_bytes(), ids.as_slice()].concat().repeat(8).as_slice(), &[0; 4]]
            .concat();
    let seed = |target, name: &str, bytes| (target, name.to_owned(), bytes);
    vec![
        seed("wire_request", "entries", message(1, &append)),
        seed("wire_meta", "sets", stored(0, &[0, 0], &sets)),
        seed("wire_membership", "sets", stored(1, &[0], &sets)),
        seed("wire_membership", "voters", stored(1, &[0], &voters)),
        seed("wire_membership", "members", stored(1, &[0], &members)),
        seed("record", "configs", record(&configs)),
        seed("store_request", "exports", request(&exports)),
        seed("store_request", "expired", request(&expired)),
        seed("store_request", "txn", request(&txn)),
        seed("store_snapshot", "leases", snapshot),
    ]
}
