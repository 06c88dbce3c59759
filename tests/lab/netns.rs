//! Hosts with addresses of their own on one switch, in network namespaces, and the ways in which networks fail.
//!
//! The switch is a bridge in a namespace of its own, whose rules drop what is to be lost; the machine's own network gets
//! no interface, route or rule. Everything is gone when this is dropped, with whatever still runs in it.

use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::machine::Need;

/// What a test of these needs.
pub(crate) const NETWORK: &[Need] = &[Need::Root, Need::Program("ip"), Need::Program("nft")];

/// Networks made by this process so far.
static MADE: AtomicU32 = AtomicU32::new(0);

/// Pairs of ports between which nothing passes, and rules that lose some of it.
const RULES: &str = "table bridge lab {
  set cut { type ifname . ifname; }
  chain loss { }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname . oifname @cut drop
    jump loss
  }
}
";

/// What makes nsenter(1) enter a namespace. Not `ip netns exec`: that copies all mounts, and holds on to the disks of other
/// tests.
fn within(namespace: &str) -> String {
    format!("--net=/var/run/netns/{namespace}")
}

/// Some hosts, numbered from 1.
pub(crate) struct Network {
    name: String,
    hosts: usize,
}

#[track_caller]
fn run(program: &str, arguments: &[&str], input: &str) {
    use std::io::Write as _;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?} {input}: {}", String::from_utf8_lossy(&output.stderr));
}

/// The port of a host at the switch.
fn port(host: usize) -> String {
    format!("port{host}")
}

impl Network {
    pub(crate) fn new(hosts: usize) -> Self {
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let network = Self { name: format!("mgmt{}n{number}", std::process::id()), hosts };
        let switch = network.switch();
        run("ip", &["netns", "add", &switch], "");
        let bridge = "link set lo up\nlink add br0 type bridge forward_delay 0 mcast_snooping 0\nlink set br0 up\n";
        run("ip", &["-n", &switch, "-batch", "-"], bridge);
        network.rule(RULES);
        for host in 1..=hosts {
            let (namespace, port) = (network.namespace(host), port(host));
            run("ip", &["netns", "add", &namespace], "");
            let pair = ["link", "add", "name", "eth0", "netns", &namespace, "type", "veth", "peer", "name", &port];
            run("ip", &[&pair[..], &["netns", &switch]].concat(), "");
            // One packet at a time on the wire: else a loss takes a whole bundle of them for one.
            let up = format!(
                "link set lo up\naddr add {}/16 dev eth0\nlink set eth0 up gso_max_segs 1\nroute add default dev eth0\n",
                network.address(host)
            );
            run("ip", &["-n", &namespace, "-batch", "-"], &up);
            run("ip", &["-n", &switch, "link", "set", &port, "master", "br0", "up"], "");
        }
        network
    }

    fn switch(&self) -> String {
        format!("{}s", self.name)
    }

    fn namespace(&self, host: usize) -> String {
        format!("{}h{host}", self.name)
    }

    fn rule(&self, rules: &str) {
        run("nsenter", &[&within(&self.switch()), "nft", "-f", "-"], rules);
    }

    /// The address that a host has from the beginning.
    pub(crate) fn address(&self, host: usize) -> Ipv4Addr {
        assert!((1..=self.hosts).contains(&host), "there are {} hosts", self.hosts);
        Ipv4Addr::new(10, 77, 0, u8::try_from(host).unwrap())
    }

    /// The words that make a program run on a host.
    pub(crate) fn launcher(&self, host: usize) -> Vec<String> {
        vec!["nsenter".to_owned(), within(&self.namespace(host))]
    }

    /// Stops what each host of one list sends to each of the other.
    pub(crate) fn cut(&self, from: &[usize], to: &[usize]) {
        let pairs = from.iter().flat_map(|from| to.iter().map(move |to| (from, to))).filter(|(from, to)| from != to);
        let pairs: Vec<_> = pairs.map(|(from, to)| format!("\"{}\" . \"{}\"", port(*from), port(*to))).collect();
        self.rule(&format!("add element bridge lab cut {{ {} }}\n", pairs.join(", ")));
    }

    /// Nothing passes between different groups.
    pub(crate) fn partition(&self, groups: &[&[usize]]) {
        for (number, one) in groups.iter().enumerate() {
            for other in &groups[number + 1..] {
                self.cut(one, other);
                self.cut(other, one);
            }
        }
    }

    /// All hosts but these.
    pub(crate) fn others(&self, than: &[usize]) -> Vec<usize> {
        (1..=self.hosts).filter(|host| !than.contains(host)).collect()
    }

    /// Everybody loses so much of what he sends, in thousandths.
    pub(crate) fn lose(&self, permille: u32) {
        self.rule(&format!("add rule bridge lab loss numgen random mod 1000 < {permille} drop\n"));
    }

    /// Drops frames of more than so many bytes to and from a host, and says nothing.
    pub(crate) fn shrink(&self, host: usize, bytes: u32) {
        for end in ["iifname", "oifname"] {
            self.rule(&format!("add rule bridge lab loss {end} \"{}\" meta length > {bytes} drop\n", port(host)));
        }
    }

    /// Everything passes again.
    pub(crate) fn heal(&self) {
        self.rule("flush set bridge lab cut\nflush chain bridge lab loss\n");
    }

    /// Packets and bytes that hosts have sent so far, all of them together.
    pub(crate) fn passed(&self) -> (u64, u64) {
        let output = Command::new("ip").args(["-n", &self.switch(), "-j", "-s", "link"]).output().unwrap();
        let links: serde_json::Value = serde_json::from_slice(&output.stdout).expect("ip(8) prints JSON");
        let ports = links.as_array().unwrap().iter();
        let ports = ports.filter(|link| link["ifname"].as_str().is_some_and(|name| name.starts_with("port")));
        let figure = |link: &serde_json::Value, of: &str| link["stats64"]["rx"][of].as_u64().unwrap();
        ports.fold((0, 0), |(packets, bytes), it| (packets + figure(it, "packets"), bytes + figure(it, "bytes")))
    }

    /// Gives a host another address: `10.77.1.HOST` from now on.
    pub(crate) fn readdress(&self, host: usize) -> Ipv4Addr {
        let [a, b, _, d] = self.address(host).octets();
        let new = Ipv4Addr::new(a, b, 1, d);
        let change = format!(
            "addr del {}/16 dev eth0\naddr add {new}/16 dev eth0\nroute replace default dev eth0\n",
            self.address(host)
        );
        run("ip", &["-n", &self.namespace(host), "-batch", "-"], &change);
        new
    }

    /// Does something on a host, on a thread that is only there.
    pub(crate) fn on<T: Send>(&self, host: usize, what: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(format!("/run/netns/{}", self.namespace(host))).unwrap();
        let there = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            what()
        };
        std::thread::scope(|scope| scope.spawn(there).join().unwrap())
    }

    /// Whether what one host sends arrives at another.
    pub(crate) fn reaches(&self, from: usize, to: usize) -> bool {
        let ear = self.on(to, || UdpSocket::bind("0.0.0.0:0").unwrap());
        ear.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let at = (self.address(to), ear.local_addr().unwrap().port());
        // Nothing may be there to say that it cannot be sent.
        self.on(from, || UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"hello", at).is_ok());
        ear.recv(&mut [0; 8]).is_ok()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let hosts = (1..=self.hosts).map(|host| self.namespace(host));
        for namespace in hosts.chain([self.switch()]) {
            // What still runs there was started by the test that made it.
            let pids = Command::new("ip").args(["netns", "pids", &namespace]).output().unwrap();
            for pid in String::from_utf8_lossy(&pids.stdout).lines() {
                if let Some(pid) = pid.trim().parse().ok().and_then(Pid::from_raw) {
                    let _gone = kill_process(pid, Signal::KILL);
                }
            }
            let deleted = Command::new("ip").args(["netns", "del", &namespace]).output().unwrap();
            assert!(deleted.status.success() || std::thread::panicking(), "{namespace} stays: {deleted:?}");
        }
    }
}

#[test]
fn a_network_cuts_loses_and_heals() {
    needs!(NETWORK);
    let network = Network::new(3);
    assert!(network.reaches(1, 2) && network.reaches(3, 1));
    network.partition(&[&[1], &[2, 3]]);
    assert!(!network.reaches(1, 2) && !network.reaches(3, 1) && network.reaches(2, 3));
    network.heal();
    network.cut(&[1], &[2]);
    assert!(!network.reaches(1, 2) && network.reaches(2, 1) && network.reaches(1, 3));
    network.heal();
    network.lose(900);
    let arrived = (0..5).filter(|_| network.reaches(1, 2)).count();
    assert!(arrived < 5, "nothing is lost");
    network.heal();
    assert!(network.reaches(1, 2));
}
