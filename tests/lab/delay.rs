//! Delay on the way to a host: the kernel hands over each packet that arrives, and gets it back when its time has come.
//!
//! Through NFQUEUE, since not every kernel can delay by itself. Packets wait at who receives them: one that waited at its
//! sender would hold up the socket it came from. Only numbers of packets come here, never what is in them.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::netlink::{NETFILTER, SocketAddrNetlink};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, sendto, socket_with};

use crate::machine::Need;
use crate::netns::Network;

/// What a test of these needs, besides a network.
pub(crate) const DELAY: &[Need] = &[Need::Program("iptables")];

/// Of netfilter's messages, those about queues: linux/netfilter/nfnetlink.h, nfnetlink_queue.h.
const PACKET: u16 = 3 << 8;
const VERDICT: u16 = PACKET | 1;
const CONFIG: u16 = PACKET | 2;
/// Accepts a packet.
const ACCEPT: u32 = 1;
/// Between two looks whether it is over.
const LOOK: Duration = Duration::from_millis(50);

/// Packets to one host are late while this lives.
pub(crate) struct Delay<'a> {
    network: &'a Network,
    host: usize,
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

fn attribute(kind: u16, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + data.len()).unwrap();
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend_from_slice(data);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A request about queue 0.
fn message(kind: u16, body: &[u8]) -> Vec<u8> {
    let request: u16 = 1;
    let length = u32::try_from(16 + 4 + body.len()).unwrap();
    let head = [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &request.to_ne_bytes(), &[0; 8], &[0; 4]].concat();
    [&head, body].concat()
}

/// Binds the queue of the namespace that the thread is in.
fn queue() -> OwnedFd {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::NONBLOCK, Some(NETFILTER)).unwrap();
    let bind = attribute(1, &[1, 0, 0, 0]);
    let metadata_only = attribute(2, &[&0_u32.to_be_bytes()[..], &[1]].concat());
    let many = attribute(3, &65_535_u32.to_be_bytes());
    for body in [bind, [metadata_only, many].concat()] {
        sendto(&socket, &message(CONFIG, &body), SendFlags::empty(), &SocketAddrNetlink::new(0, 0)).unwrap();
    }
    socket
}

/// The numbers of the packets in what the kernel sent.
fn packets(mut bytes: &[u8]) -> Vec<[u8; 4]> {
    let mut found = Vec::new();
    let word = |bytes: &[u8], at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
    while bytes.len() >= 20 {
        let length = u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) as usize;
        let (one, rest) = bytes.split_at(length.clamp(20, bytes.len()));
        let mut attributes = &one[20..];
        while word(one, 4) == PACKET && attributes.len() >= 4 {
            let (size, kind) = (usize::from(word(attributes, 0)).max(4), word(attributes, 2) & 0x7fff);
            if kind == 1 && attributes.len() >= 8 {
                found.push([attributes[4], attributes[5], attributes[6], attributes[7]]);
            }
            attributes = attributes.get(size.next_multiple_of(4)..).unwrap_or_default();
        }
        bytes = rest.get(length.next_multiple_of(4) - length..).unwrap_or_default();
    }
    found
}

/// Each packet waits between `least` and `most`, so that they overtake each other if the two differ.
fn hold(socket: &OwnedFd, least: Duration, most: Duration, over: &AtomicBool) {
    let (mut waiting, mut buffer, mut dice) = (BinaryHeap::new(), vec![0; 1 << 16], 1_u64);
    loop {
        let now = Instant::now();
        let ends = over.load(Ordering::Relaxed);
        while waiting.peek().is_some_and(|Reverse((due, _))| ends || *due <= now) {
            let Reverse((_, packet)): Reverse<(Instant, [u8; 4])> = waiting.pop().unwrap();
            let verdict = attribute(2, &[&ACCEPT.to_be_bytes()[..], &packet].concat());
            send(socket, &message(VERDICT, &verdict), SendFlags::empty()).unwrap();
        }
        if ends {
            return;
        }
        let wait = waiting.peek().map_or(LOOK, |Reverse((due, _))| due.duration_since(now).min(LOOK));
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        poll(&mut [PollFd::new(socket, PollFlags::IN)], Some(&timeout)).unwrap();
        while let Ok((length, _)) = recv(socket, &mut buffer[..], RecvFlags::empty()) {
            let now = Instant::now();
            for packet in packets(&buffer[..length]) {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let part = (dice >> 33) as f64 / f64::from(1_u32 << 31);
                waiting.push(Reverse((now + least + (most - least).mul_f64(part), packet)));
            }
        }
    }
}

impl<'a> Delay<'a> {
    /// Whatever reaches this host is late by a time between these.
    pub(crate) fn new(network: &'a Network, host: usize, least: Duration, most: Duration) -> Self {
        let socket = network.on(host, queue);
        let over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&over);
        let thread = std::thread::spawn(move || hold(&socket, least, most, &seen));
        let delay = Self { network, host, over, thread: Some(thread) };
        delay.rule("-A").unwrap();
        delay
    }

    fn rule(&self, what: &str) -> io::Result<()> {
        let mut words = self.network.launcher(self.host).into_iter();
        let mut command = std::process::Command::new(words.next().unwrap());
        command.args(words).args(["iptables", "-w", "-t", "mangle", what, "PREROUTING", "-i", "eth0"]);
        command.args(["-j", "NFQUEUE", "--queue-num", "0", "--queue-bypass"]);
        let output = command.output()?;
        if output.status.success() { Ok(()) } else { Err(io::Error::other(format!("{output:?}"))) }
    }
}

impl Drop for Delay<'_> {
    fn drop(&mut self) {
        let gone = self.rule("-D");
        self.over.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        assert!((gone.is_ok() && ended.is_some_and(|ended| ended.is_ok())) || std::thread::panicking(), "{gone:?}");
    }
}

#[test]
fn packets_are_late_and_all_arrive() {
    needs!(crate::netns::NETWORK, DELAY);
    let network = Network::new(2);
    let took = |network: &Network| {
        let start = Instant::now();
        assert!(network.reaches(1, 2));
        start.elapsed()
    };
    assert!(took(&network) < Duration::from_millis(40));
    let delay = Delay::new(&network, 2, Duration::from_millis(50), Duration::from_millis(80));
    assert!((0..10).all(|_| took(&network) >= Duration::from_millis(50)));
    drop(delay);
    assert!(took(&network) < Duration::from_millis(40));
}
