//! The real program on a machine that fails it: power cuts, full and read-only disks, floods of events, fights, kills,
//! ordinary users, bad commands, signals, an empty root, and time; and meshes of real processes on networks that fail.
//!
//! Needs root, because it mounts file systems. `MGMT_LAB=1 cargo test --test lab` runs what this machine can, and says
//! what it cannot; with `MGMT_LAB=require` a thing that is missing is a failure. Without MGMT_LAB nothing runs.
#![expect(clippy::unwrap_used, reason = "helpers of tests are tests")]
#![expect(
    clippy::disallowed_methods,
    reason = "what is tested runs by the real clock, and so does whoever waits for it"
)]

/// Returns from a test unless the machine has what it needs.
macro_rules! needs {
    ($($need:expr),* $(,)?) => {
        fn here() {}
        if !$crate::machine::has(std::any::type_name_of_val(&here), &[$($need),*]) {
            return;
        }
    };
}

mod agent;
mod booted;
mod delay;
mod disk;
mod machine;
#[path = "../mesh/mod.rs"]
mod mesh;
mod meshes;
mod netns;
mod process;
mod rogue;
mod scratch;
mod wait;

mod accounts;
mod bare;
mod commands;
mod cron;
mod damage;
mod disks;
mod endurance;
mod exchange;
mod exchange_crowd;
mod exchange_faults;
mod exchange_harm;
mod floods;
mod forming;
mod founding;
mod growth;
mod hostile;
mod isolate;
mod keys;
mod kills;
mod leaving;
mod linear;
mod logs;
mod masters;
mod packages;
mod partitions;
mod power;
mod refusals;
mod rolling;
mod semaphores;
mod server;
mod services;
mod signals;
