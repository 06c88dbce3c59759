//! What is fuzzed: one function for every decoder, with what must hold of it. It returns or panics.
//!
//! The same functions run under libFuzzer (the package in this folder) and in `tests/fuzz_corpora.rs`, where ordinary
//! tests replay what was found. Most bytes here lie behind a checksum that chance does not hit, so each function looks
//! at its input twice: as it is, and with the checksums made right.

pub mod archives;
pub mod disks;
pub mod exchange;
pub mod group;
pub mod papers;
pub mod play;
pub mod store;

/// A decoder, and what must hold of it.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name, also of the folder with its corpus.
    pub name: &'static str,
    /// Decodes these bytes, and panics if what must hold does not.
    pub check: fn(&[u8]),
    /// Decodes these bytes and does nothing else: for measuring what that takes. What it needs before it reads is there
    /// once this returns.
    pub read: fn(&[u8]) -> Box<dyn FnOnce()>,
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "wire_request", check: group::wire_request, read: group::read_request },
    Target { name: "wire_answer", check: group::wire_answer, read: group::read_answer },
    Target { name: "wire_meta", check: group::wire_meta, read: group::read_meta },
    Target { name: "wire_membership", check: group::wire_membership, read: group::read_membership },
    Target { name: "identity", check: group::identity, read: group::read_identity },
    Target { name: "record", check: group::record, read: group::read_record },
    Target { name: "journal", check: disks::journal, read: disks::read_journal },
    Target { name: "snapshot_file", check: disks::snapshot_file, read: disks::read_snapshot_file },
    Target { name: "store_request", check: store::request, read: store::read_request },
    Target { name: "store_command", check: store::command, read: store::read_command },
    Target { name: "store_outcome", check: store::outcome, read: store::read_outcome },
    Target { name: "store_snapshot", check: store::snapshot, read: store::read_snapshot },
    Target { name: "store_keyspace", check: play::keyspace, read: play::read_keyspace },
    Target { name: "key", check: store::key, read: store::read_key },
    Target { name: "host_name", check: store::host_name, read: store::read_host_name },
    Target { name: "certificates", check: papers::certificates, read: papers::read_certificates },
    Target { name: "tokens", check: papers::tokens, read: papers::read_tokens },
    Target { name: "export", check: exchange::export, read: exchange::read_export },
    Target { name: "collected", check: exchange::collected, read: exchange::read_collected },
    Target { name: "archive", check: archives::archive, read: archives::read_archive },
];
