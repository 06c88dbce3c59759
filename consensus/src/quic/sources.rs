//! Who may begin a handshake: from one address so many at once and so many a second, so that one host's flood leaves
//! room for the others.
//!
//! An address in a packet is a claim until its sender has shown that he reads what is sent there. Claims and proofs are
//! counted apart, or whoever sends in the name of another would use up the other's share: a claim too many costs only
//! that it must be proved first, which needs nothing to be remembered here. A proved one too many is not answered at all.
//! To refuse it would be a packet for each of the flood's, and would end the attempt of an honest neighbour at the same
//! address; as it is, his next packet asks again by itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{HANDSHAKES_BURST_MAX, HANDSHAKES_PER_HOST_MAX, HANDSHAKES_PER_SECOND_MAX, SOURCES_MAX};

/// What to do with somebody who has come once too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooMany {
    /// He comes again with a proof that the address is his.
    Prove,
    /// Nothing is said to him.
    Ignore,
}

/// All addresses from which somebody came of late.
#[derive(Debug, Default)]
pub(super) struct Sources {
    claimed: Mutex<Table>,
    proved: Mutex<Table>,
}

/// One handshake that is under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    sources: Arc<Sources>,
    host: IpAddr,
    is_proved: bool,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.sources.table(self.is_proved).ended(self.host);
    }
}

impl Sources {
    /// The counts are right at every moment at which the lock is not held.
    fn table(&self, is_proved: bool) -> MutexGuard<'_, Table> {
        let table = if is_proved { &self.proved } else { &self.claimed };
        table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more from there.
    pub(super) fn begin(self: &Arc<Self>, from: IpAddr, is_proved: bool, now: Instant) -> Result<UnderWay, TooMany> {
        let host = host(from);
        if self.table(is_proved).begin(host, now) {
            return Ok(UnderWay { sources: self.clone(), host, is_proved });
        }
        Err(if is_proved { TooMany::Ignore } else { TooMany::Prove })
    }
}

/// What belongs to one host: an address, or with IPv6 the network of which it may use each.
fn host(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V4(four) => IpAddr::V4(four),
        IpAddr::V6(six) => IpAddr::V6(Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX))),
    }
}

#[derive(Debug, Clone, Copy)]
struct Source {
    under_way: usize,
    /// When all that came so far would have come, had it come evenly.
    paid: Instant,
}

#[derive(Debug, Default)]
struct Table(BTreeMap<IpAddr, Source>);

/// What one handshake takes of its host's time.
const PRICE: Duration = Duration::from_nanos(1_000_000_000 / HANDSHAKES_PER_SECOND_MAX);

impl Table {
    fn begin(&mut self, host: IpAddr, now: Instant) -> bool {
        if self.0.len() >= SOURCES_MAX && !self.0.contains_key(&host) {
            self.0.retain(|_, source| source.under_way > 0 || source.paid > now);
            if self.0.len() >= SOURCES_MAX {
                return false;
            }
        }
        let source = self.0.entry(host).or_insert(Source { under_way: 0, paid: now });
        let paid = source.paid.max(now) + PRICE;
        if source.under_way >= HANDSHAKES_PER_HOST_MAX || paid > now + PRICE * HANDSHAKES_BURST_MAX {
            return false;
        }
        *source = Source { under_way: source.under_way + 1, paid };
        true
    }

    fn ended(&mut self, host: IpAddr) {
        if let Some(source) = self.0.get_mut(&host) {
            source.under_way -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u32) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + last))
    }

    #[test]
    fn one_host_has_so_many_at_once_and_others_have_theirs() {
        let (sources, now) = (Arc::new(Sources::default()), Instant::now());
        let mut held: Vec<_> =
            (0..HANDSHAKES_PER_HOST_MAX).map(|_| sources.begin(address(1), true, now).unwrap()).collect();
        assert_eq!(sources.begin(address(1), true, now).unwrap_err(), TooMany::Ignore);
        assert!(sources.begin(address(2), true, now).is_ok());
        assert!(sources.begin(address(1), false, now).is_ok(), "what is proved and what is claimed are counted apart");
        held.pop();
        assert!(sources.begin(address(1), true, now).is_ok());
    }

    #[test]
    fn one_host_has_so_many_a_second() {
        let (sources, start) = (Arc::new(Sources::default()), Instant::now());
        let comes = |at| sources.begin(address(1), false, at).map(drop);
        for _ in 0..HANDSHAKES_BURST_MAX {
            assert_eq!(comes(start), Ok(()));
        }
        assert_eq!(comes(start), Err(TooMany::Prove));
        let second = start + Duration::from_secs(1);
        let let_in = (0..1000).filter(|_| comes(second).is_ok()).count() as u64;
        assert_eq!(let_in, HANDSHAKES_PER_SECOND_MAX);
        assert_eq!(comes(start + Duration::from_secs(60)), Ok(()), "and it is forgotten");
    }

    #[test]
    fn claims_of_many_addresses_fill_no_memory_and_take_nothing_from_who_proves_his() {
        let (sources, now) = (Arc::new(Sources::default()), Instant::now());
        let hosts = u32::try_from(SOURCES_MAX).unwrap();
        let held: Vec<_> = (0..hosts).map(|last| sources.begin(address(last), false, now).unwrap()).collect();
        assert_eq!(sources.begin(address(hosts), false, now).unwrap_err(), TooMany::Prove);
        assert!(sources.begin(address(hosts), true, now).is_ok());
        drop(held);
        assert!(sources.begin(address(hosts), false, now + Duration::from_secs(60)).is_ok());
        assert_eq!(sources.table(false).0.len(), 1, "the others are gone");
    }

    #[test]
    fn a_host_has_a_network_of_addresses() {
        let one: IpAddr = "2001:db8:0:7::1".parse().unwrap();
        let two: IpAddr = "2001:db8:0:7:ffff::2".parse().unwrap();
        let other: IpAddr = "2001:db8:0:8::1".parse().unwrap();
        assert_eq!(host(one), host(two));
        assert_ne!(host(one), host(other));
        assert_eq!(host("::ffff:10.0.0.1".parse().unwrap()), host("10.0.0.1".parse().unwrap()));
    }
}
