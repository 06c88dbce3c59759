//! Where others may be found: what is typed after `--seeds`, and the addresses that stand behind it.
//!
//! Names are looked up without NSS, as a static program must: addresses as they are, names in the hosts file, and what
//! that lacks by asking `getent` as a child. Promises: bounded in number, time and size; what was not found is told
//! beside what was.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::Command;

/// Where peers listen unless told otherwise.
pub const DEFAULT_PORT: u16 = 6468;
/// Seeds that are taken.
pub const SEEDS_MAX: usize = 64;
/// Addresses that one name is worth.
const ADDRESSES_MAX: usize = 16;
/// A name of the domain name system.
const NAME_BYTES_MAX: usize = 253;
/// The hosts file.
const HOSTS: &str = "/etc/hosts";
/// What is read of it.
const HOSTS_BYTES_MAX: u64 = 16 << 20;
/// A name service that has not answered by then is taken as broken.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What is read of an answer.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Where `getent` lies.
const GETENT: [&str; 3] = ["/usr/bin/getent", "/bin/getent", "/run/current-system/sw/bin/getent"];

/// One that was typed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seed {
    /// Where.
    pub place: Place,
    /// On which port.
    pub port: u16,
}

/// Where a seed is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// At an address.
    Address(IpAddr),
    /// Under a name, in lower case.
    Name(String),
}

impl Seed {
    /// Whether it is this machine itself.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        match &self.place {
            Place::Address(address) => address.is_loopback(),
            Place::Name(name) => name == "localhost",
        }
    }

    /// Whether it is named by an address of IPv6.
    #[must_use]
    pub fn is_v6(&self) -> bool {
        matches!(&self.place, Place::Address(address) if address.is_ipv6())
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Address(address) => SocketAddr::new(*address, self.port).fmt(f),
            Place::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

/// What cannot be a seed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// This text.
    #[error("'{text}' is no seed: {why}; HOST, HOST:PORT or [IPV6]:PORT is wanted")]
    Text {
        /// As it was typed.
        text: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Too many.
    #[error("more than {SEEDS_MAX} seeds; a few that are always there are enough")]
    Many,
}

/// Reads seeds: repeated or separated by commas, with or without `http://`. Each is named once.
///
/// # Errors
/// The first that is none.
pub fn parse(texts: &[String]) -> Result<Vec<Seed>, SeedError> {
    let mut seeds = Vec::new();
    for text in texts.iter().flat_map(|text| text.split(',')).map(str::trim).filter(|text| !text.is_empty()) {
        let seed = one(text).map_err(|why| SeedError::Text { text: text.to_owned(), why })?;
        if !seeds.contains(&seed) {
            seeds.push(seed);
        }
        if seeds.len() > SEEDS_MAX {
            return Err(SeedError::Many);
        }
    }
    Ok(seeds)
}

fn one(text: &str) -> Result<Seed, &'static str> {
    let bare = ["http://", "https://"].iter().find_map(|scheme| text.strip_prefix(scheme)).unwrap_or(text);
    let bare = bare.trim_end_matches('/');
    let (host, port) = if let Some(rest) = bare.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or("the bracket is not closed")?;
        let address: Ipv6Addr = address.parse().map_err(|_| "in brackets stands an IPv6 address without a zone")?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port),
            None if rest.is_empty() => None,
            None => return Err("after the bracket comes a colon and a port"),
        };
        (Place::Address(address.into()), port)
    } else if bare.matches(':').count() > 1 {
        let address: Ipv6Addr = bare.parse().map_err(|_| "with more than one colon it is no IPv6 address")?;
        (Place::Address(address.into()), None)
    } else {
        let (host, port) = bare.split_once(':').map_or((bare, None), |(host, port)| (host, Some(port)));
        (place(host)?, port)
    };
    let port = match port {
        None => DEFAULT_PORT,
        Some(port) if port.bytes().all(|b| b.is_ascii_digit()) => port.parse().map_err(|_| "a port is below 65536")?,
        Some(_) => return Err("a port is a number"),
    };
    if port == 0 { Err("nobody listens on port 0") } else { Ok(Seed { place: host, port }) }
}

fn place(host: &str) -> Result<Place, &'static str> {
    if let Ok(address) = host.parse() {
        return Ok(Place::Address(address));
    }
    let name = host.to_ascii_lowercase();
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    if name.is_empty() {
        Err("there is no host")
    } else if name.len() > NAME_BYTES_MAX {
        Err("the name is too long")
    } else if !name.bytes().all(fits) || name.starts_with(['-', '.']) {
        Err("a name has letters, digits, '.' and '-'")
    } else if name.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        Err("it looks like an address and is none")
    } else {
        Ok(Place::Name(name))
    }
}

/// What stands behind seeds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// Addresses, each once, in the order of their seeds.
    pub addresses: Vec<SocketAddr>,
    /// What could not be found, and why: a sentence for each.
    pub missing: Vec<String>,
}

/// Looks names up.
#[derive(Debug, Clone)]
pub struct Resolver {
    hosts: PathBuf,
    getent: Option<PathBuf>,
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new()
    }
}

impl Resolver {
    /// By this machine's hosts file and `getent`.
    pub fn new() -> Self {
        Self { hosts: HOSTS.into(), getent: GETENT.map(PathBuf::from).into_iter().find(|place| place.exists()) }
    }

    /// Looks up seeds, all at once. Takes no longer than one of them may; cancel safe.
    pub async fn resolve(&self, seeds: &[Seed]) -> Resolved {
        let hosts = if seeds.iter().any(|seed| matches!(seed.place, Place::Name(_))) {
            known(&self.hosts)
        } else {
            BTreeMap::new()
        };
        let found = seeds.iter().map(|seed| self.find(seed, &hosts));
        let found = futures_util::future::join_all(found).await;
        let mut resolved = Resolved::default();
        for (seed, found) in seeds.iter().zip(found) {
            match found {
                Ok(addresses) => {
                    for address in addresses.into_iter().map(|address| SocketAddr::new(address, seed.port)) {
                        if !resolved.addresses.contains(&address) {
                            resolved.addresses.push(address);
                        }
                    }
                }
                Err(why) => resolved.missing.push(format!("seed {seed} is not found: {why}")),
            }
        }
        resolved
    }

    async fn find(&self, seed: &Seed, hosts: &BTreeMap<String, Vec<IpAddr>>) -> Result<Vec<IpAddr>, String> {
        let name = match &seed.place {
            Place::Address(address) => return Ok(vec![*address]),
            Place::Name(name) => name,
        };
        if let Some(addresses) = hosts.get(name) {
            return Ok(addresses.clone());
        }
        // As the standards of names have it: this host, whatever a name service says.
        if name == "localhost" {
            return Ok(vec![IpAddr::from([127, 0, 0, 1])]);
        }
        let Some(getent) = &self.getent else {
            return Err(format!("it is not in {}, and there is no getent to ask", self.hosts.display()));
        };
        tokio::time::timeout(ANSWER_WITHIN, ask(getent, name))
            .await
            .unwrap_or_else(|_| Err(format!("getent did not answer within {} s", ANSWER_WITHIN.as_secs())))
    }
}

/// The names of a hosts file. One that cannot be read has none.
fn known(path: &Path) -> BTreeMap<String, Vec<IpAddr>> {
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(HOSTS_BYTES_MAX).read_to_end(&mut text));
    if let Err(error) = read {
        tracing::debug!("{}: {error}", path.display());
    }
    let mut hosts = BTreeMap::<String, Vec<IpAddr>>::new();
    for line in String::from_utf8_lossy(&text).lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else { continue };
        for name in words {
            let addresses = hosts.entry(name.to_ascii_lowercase()).or_default();
            if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    hosts
}

/// Asks the machine's name service. The child is killed if nobody waits for its answer.
async fn ask(getent: &Path, name: &str) -> Result<Vec<IpAddr>, String> {
    let mut command = Command::new(getent);
    command
        .args(["--", "ahosts", name])
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("{} cannot be run: {error}", getent.display()))?;
    let output = child.stdout.take().ok_or("getent has no output")?;
    let mut text = String::new();
    let read = output.take(ANSWER_BYTES_MAX).read_to_string(&mut text).await;
    read.map_err(|error| format!("getent cannot be read: {error}"))?;
    // How it ended says nothing more: addresses were printed, or not.
    let addresses = answered(&text);
    if addresses.is_empty() { Err("no name service knows it".to_owned()) } else { Ok(addresses) }
}

/// The addresses of an answer: the first word of each line, several lines an address. Those with a zone are passed over.
fn answered(text: &str) -> Vec<IpAddr> {
    let mut addresses = Vec::new();
    for address in text.lines().filter_map(|line| line.split_ascii_whitespace().next()?.parse().ok()) {
        if addresses.len() < ADDRESSES_MAX && !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use expect_test::expect;

    use super::*;

    #[test]
    fn seeds_are_read_in_all_their_spellings() {
        let texts = [
            "a",
            "a:1",
            "http://a:2379",
            "https://a/",
            "A.Example.",
            "10.0.0.1",
            "10.0.0.1:7",
            "::1",
            "[::1]",
            "[::1]:7",
            "a, b:2,,a",
            "",
            ",",
            "a:0",
            "a:65536",
            "a:x",
            "a:",
            ":1",
            "[::1",
            "[::1]7",
            "[fe80::1%eth0]:7",
            "1:2:3",
            "10.0.0.256",
            "a b",
            "-a",
            "ftp://a",
            "[a]:1",
            "a:+1",
        ];
        let mut out = String::new();
        for text in texts {
            match parse(&[text.to_owned()]) {
                Ok(seeds) => {
                    let seeds: Vec<_> = seeds.iter().map(Seed::to_string).collect();
                    writeln!(out, "{text:?}: {}", seeds.join(" ")).unwrap();
                }
                Err(error) => writeln!(out, "{text:?}: {error}").unwrap(),
            }
        }
        expect![[r#"
            "a": a:6468
            "a:1": a:1
            "http://a:2379": a:2379
            "https://a/": a:6468
            "A.Example.": a.example.:6468
            "10.0.0.1": 10.0.0.1:6468
            "10.0.0.1:7": 10.0.0.1:7
            "::1": [::1]:6468
            "[::1]": [::1]:6468
            "[::1]:7": [::1]:7
            "a, b:2,,a": a:6468 b:2
            "": 
            ",": 
            "a:0": 'a:0' is no seed: nobody listens on port 0; HOST, HOST:PORT or [IPV6]:PORT is wanted
            "a:65536": 'a:65536' is no seed: a port is below 65536; HOST, HOST:PORT or [IPV6]:PORT is wanted
            "a:x": 'a:x' is no seed: a port is a number; HOST, HOST:PORT or [IPV6]:PORT is wanted
            "a:": 'a:' is no seed: a port is below 65536; HOST, HOST:PORT or [IPV6]:PORT is wanted
            ":1": ':1' is no seed: there is no host; HOST, HOST:PORT or [IPV6]:PORT is wanted
            "[::1": '[::1' is no seed: the bracket is not closed; HOST, HOST:PORT or [IPV6]:PORT is wanted
            "[::1]7": '[::1]7' is no seed: after the bracket comes a colon and a port; HOST, HOST:PORT or [IPV6]:PORT is wanted
            "[fe80::1%eth0]:7": '[fe80::1%eth0]:7' is no seed: in brackets stands an IPv6 address without a zone; HOST, HOST:PORT or [IPV6]:PORT is wanted
            "1:2:3": '1:2:3' is no seed: with more than one colon it is no IPv6 address; HOST, HOST:PORT or [IPV6]:PORT is wanted
            "10.0.0.256": '10.0.0.256' is no seed: it looks like an address and is none; HOST, HOST:PORT or [IPV6]:PORT is wanted
            "a b": 'a b' is no seed: a name has letters, digits, '.' and '-'; HOST, HOST:PORT or [IPV6]:PORT is wanted
            "-a": '-a' is no seed: a name has letters, digits, '.' and '-'; HOST, HOST:PORT or [IPV6]:PORT is wanted
            "ftp://a": 'ftp://a' is no seed: a port is a number; HOST, HOST:PORT or [IPV6]:PORT is wanted
            "[a]:1": '[a]:1' is no seed: in brackets stands an IPv6 address without a zone; HOST, HOST:PORT or [IPV6]:PORT is wanted
            "a:+1": 'a:+1' is no seed: a port is a number; HOST, HOST:PORT or [IPV6]:PORT is wanted
        "#]].assert_eq(&out);
        let many: Vec<_> = (0..100).map(|n| format!("h{n}")).collect();
        assert_eq!(parse(&many), Err(SeedError::Many));
        assert_eq!(parse(&[many[..SEEDS_MAX].join(",")]).map(|seeds| seeds.len()), Ok(SEEDS_MAX));
    }

    fn resolve(resolver: &Resolver, seeds: &str) -> Resolved {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(resolver.resolve(&parse(&[seeds.to_owned()]).unwrap()))
    }

    #[test]
    fn names_come_from_the_hosts_file_first() {
        let scratch = tempfile::tempdir().unwrap();
        let hosts = scratch.path().join("hosts");
        std::fs::write(&hosts, "# names\n10.0.0.1 A a.example # one\n::2 a\n\n1.2.3 bad\n10.0.0.3\n\u{fffd}\n")
            .unwrap();
        let resolver = Resolver { hosts, getent: None };
        let found = resolve(&resolver, "a,a.example:7,10.0.0.9,localhost:1");
        let addresses: Vec<_> = found.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.1:6468", "[::2]:6468", "10.0.0.1:7", "10.0.0.9:6468", "127.0.0.1:1"]);
        assert_eq!(found.missing, Vec::<String>::new());
        let found = resolve(&resolver, "bad");
        assert_eq!(found.addresses, []);
        assert!(found.missing[0].starts_with("seed bad:6468 is not found: it is not in "), "{found:?}");
    }

    #[test]
    fn getent_is_asked_for_the_others() {
        let scratch = tempfile::tempdir().unwrap();
        let resolver = Resolver { hosts: scratch.path().join("none"), ..Resolver::new() };
        if resolver.getent.is_none() {
            println!("skipped: no getent here");
            return;
        }
        let found = resolve(&resolver, "ip6-no-such-name.invalid");
        assert_eq!(found.missing.len(), 1, "{found:?}");
        // A child that never answers is killed, and another name does not wait for it any longer than its own time.
        let answer = "10.0.0.1 STREAM a\n10.0.0.1 DGRAM \n::1 STREAM\nfe80::1%eth0 STREAM\nnonsense\n";
        assert_eq!(answered(answer), ["10.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let missing = runtime.block_on(ask(Path::new("/no/such/getent"), "a")).unwrap_err();
        assert!(missing.contains("cannot be run"), "{missing}");
    }
}
