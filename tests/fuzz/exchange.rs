//! What other hosts export, as a collecting host reads it; and what it has kept of that on disk.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use mgmt::assemble::{Options, assemble_bytes};
use mgmt::exchange::remembered::{Memory, Remembered};
use mgmt::exchange::{Sight, record};
use mgmt::kinds::KINDS;
use mgmt_resources::Host;
use mgmt_resources::watches::Watches;
use mgmt_store::view::Collect;
use mgmt_store::{Key, Revision, Value, View};
use sha2::{Digest as _, Sha256};

/// A graph that takes whatever it can, from one host more than from another.
const GRAPH: &str = "
graph: g
resources:
  file:
  - {name: own, path: /p/own, content: a, state: exists}
  - {name: tidy, path: /p/, state: exists, recurse: yes, purge: yes}
collect:
- {kind: file, pattern: /p/}
- {kind: file, pattern: /q/, hosts: [b], allow: [owner, group, force, recurse, purge]}
- {kind: noop}
- {kind: msg}
- {kind: exec, hosts: [b]}
- {kind: timer, hosts: [b]}
";

static HOST: LazyLock<Arc<Host>> =
    LazyLock::new(|| Arc::new(Host { noop: true, ..Host::with(Watches::start().expect("files can be watched here")) }));

/// An export that can be read is written the same; and whatever it is, the graph that collects it is there, with what is
/// its own, and nothing has left its place.
pub fn export(bytes: &[u8]) {
    for info in KINDS {
        if let Ok(read) = record::decode(bytes, info) {
            let written = record::encode(&read.params, read.sensitive);
            assert_eq!(record::decode(&written, info), Ok(read), "one export has one meaning");
        }
    }
    let value = Value::from(bytes);
    let key = |host: &str, kind: &str| Key::parse(&format!("x/{host}/{kind}/n")).expect("a key");
    let kinds = ["file", "noop", "msg", "exec", "timer"];
    let entries = ["a", "b"].iter().flat_map(|host| kinds.map(|kind| (key(host, kind), value.clone())));
    let asked = kinds.map(|kind| Collect { kind: kind.into(), name: None, hosts: Vec::new() }).to_vec();
    let sight = Arc::new(Sight { asked, view: View::remembered(Revision(1), entries) });
    let options = Options { hostname: "here".into(), directory: "/".into(), sight, ..Options::default() };
    let assembled = assemble_bytes(GRAPH.as_bytes(), &options, KINDS, &HOST);
    let graph = assembled.graph.expect("nobody makes another's graph fail");
    let ids: BTreeSet<_> = graph.vertices().iter().map(|vertex| vertex.id.to_string()).collect();
    assert!(ids.contains("file[own]") && ids.contains("file[tidy]"));
    for taken in &assembled.exchanged.taken {
        assert!(taken.host == "b" || ["file", "noop", "msg"].contains(&taken.id.kind.as_str()), "{taken:?}");
        let parent = taken.path.as_deref().and_then(Path::parent);
        assert!(parent.is_none_or(|parent| [Path::new("/p"), Path::new("/q")].contains(&parent)), "{taken:?}");
    }
}

/// What was kept and can be read is kept the same.
pub fn collected(bytes: &[u8]) {
    drop(Remembered::parse(bytes));
    // The sum at its end made right.
    let end = bytes.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
    let start = bytes[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let sum: String = Sha256::digest(&bytes[..start]).iter().map(|byte| format!("{byte:02x}")).collect();
    let sealed = [&bytes[..start], format!("{{\"sum\":\"{sum}\"}}\n").as_bytes()].concat();
    let Ok(read) = Remembered::parse(&sealed[..]) else { return };
    let directory = std::env::temp_dir().join(format!("mgmt-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("there is room");
    let (memory, sight) = (Memory::in_directory(&directory), read.sight());
    memory.keep(memory.turn(), mgmt_consensus::ClusterId(7), &sight, &sight.view).expect("there is room");
    assert_eq!(memory.load().sight(), sight);
    std::fs::remove_dir_all(&directory).expect("it is ours");
}

/// For measuring what reading takes.
pub fn read_export(bytes: &[u8]) -> Box<dyn FnOnce()> {
    let bytes = bytes.to_vec();
    Box::new(move || KINDS.iter().for_each(|info| drop(record::decode(&bytes, info))))
}

/// For measuring what reading takes.
pub fn read_collected(bytes: &[u8]) -> Box<dyn FnOnce()> {
    let bytes = bytes.to_vec();
    Box::new(move || drop(Remembered::parse(&bytes[..])))
}
