//! The network of a host with an ear in it: what leaves the host is looked at before it does, so that a vote is sighted
//! when it is given, and not when the host says that it gave it.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use mgmt_consensus::PeerId;
use mgmt_consensus::transport::memory::{Memory, MemoryReply};
use mgmt_consensus::transport::{CallError, Incoming, Lane, Reply, Transport};
use mgmt_consensus::wire::{self, Answer, Envelope, Request};
use openraft_rt_sim::SimRuntime;

use crate::oracle::invariants::Sighting;

/// Who listens.
pub(crate) type Ear = Arc<dyn Fn(Sighting) + Send + Sync>;

/// This host's end of the network.
#[derive(Clone)]
pub(crate) struct Tapped {
    end: Memory<SimRuntime>,
    ear: Ear,
}
