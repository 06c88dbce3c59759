//! Names of servers: from the machine's hosts file and its name service, which a child process is asked for, because a
//! static program cannot load what the name service is made of.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::runtime::Handle;
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::tools::{self, Tool};

/// As they do on every Unix.
const HOSTS: &str = "/etc/hosts";
/// Longer ones hold blocklists; what is past that is not found.
const HOSTS_BYTES_MAX: u64 = 4 << 20;
/// A name service that has not answered by then hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Addresses of one name.
const ADDRESSES_MAX: usize = 16;

/// Looks names up.
#[derive(Debug)]
pub(super) struct Names;

impl Resolver for Names {
    fn resolve(&self, uri: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?;
        let secure = uri.scheme_str() == Some("https");
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let mut found = self.empty();
        for address in addresses(host)?.into_iter().take(ADDRESSES_MAX) {
            found.push(SocketAddr::new(address, port));
        }
        if found.is_empty() { Err(Error::HostNotFound) } else { Ok(found) }
    }
}

fn addresses(host: &str) -> Result<Vec<IpAddr>, Error> {
    if let Ok(address) = host.trim_start_matches('[').trim_end_matches(']').parse() {
        return Ok(vec![address]);
    }
    // As the standards of names have it: this host, whatever a name service says.
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let mut text = Vec::new();
    // A machine without one has no such names.
    File::open(HOSTS).and_then(|file| file.take(HOSTS_BYTES_MAX).read_to_end(&mut text)).ok();
    let known = in_hosts(&String::from_utf8_lossy(&text), host);
    if !known.is_empty() {
        return Ok(known);
    }
    if !tools::has("getent") {
        let why = format!("its host is not in {HOSTS}, and there is no getent to ask");
        return Err(Error::Io(io::Error::new(io::ErrorKind::NotFound, why)));
    }
    answered(host).map_err(|why| Error::Io(io::Error::other(why)))
}

/// What a hosts file says of a name.
fn in_hosts(text: &str, host: &str) -> Vec<IpAddr> {
    let mut found = Vec::new();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse) else { continue };
        if words.any(|name| name.eq_ignore_ascii_case(host)) && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// What the machine's name service says of it.
fn answered(host: &str) -> Result<Vec<IpAddr>, String> {
    let runtime = Handle::try_current().map_err(|error| error.to_string())?;
    let asked = Tool::new("getent").args(["--", "ahosts", host]).within(ANSWER_WITHIN).ended();
    // Whoever fetches may be inside of the runtime, where nothing may block; a thread of its own may.
    let said = std::thread::scope(|scope| scope.spawn(|| runtime.block_on(asked)).join());
    let said = said.map_err(|_| "the look-up of its host broke".to_owned())?.map_err(|fault| fault.to_string())?;
    let mut found: Vec<IpAddr> = Vec::new();
    for address in said.out.lines().filter_map(|line| line.split_ascii_whitespace().next()?.parse().ok()) {
        if !found.contains(&address) {
            found.push(address);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_a_hosts_file() {
        let text = "# a comment\n10.0.0.1 web.example Web # x\n::1 web\n10.0.0.1 web\nnonsense web\n";
        assert_eq!(in_hosts(text, "WEB"), ["10.0.0.1".parse::<IpAddr>().unwrap(), "::1".parse().unwrap()]);
        assert_eq!(in_hosts(text, "x"), [] as [IpAddr; 0]);
        assert_eq!(addresses("[::1]").unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
    }
}
