//! A hash of the state, to find replicas that differ though they must not. It guards against mistakes, not against
//! forgery. Like everything that hosts compare, it is the same on every machine and for ever.

use crate::event::Entry;
use crate::key::Key;
use crate::keyspace::Tables;

/// A running hash: words are folded in by a multiplication whose halves are mixed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Digest(u64);

/// Odd, and its bits are spread: the fractional part of the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Digest {
    fn new(seed: u64) -> Self {
        Self(seed ^ SPREAD)
    }

    fn word(&mut self, word: u64) {
        // The rotation keeps a word of zeros from passing unseen; the halves of the product hold all its bits.
        let product = u128::from(self.0.rotate_left(23) ^ word) * u128::from(SPREAD);
        let (high, low) = ((product >> 64) as u64, product as u64);
        self.0 = (high ^ low).wrapping_add(word ^ SPREAD);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.word(bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        words.iter().for_each(|word| self.word(u64::from_le_bytes(*word)));
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.word(u64::from_le_bytes(last));
    }

    /// The hash of one entry. The state's keys are the sum of these.
    pub(crate) fn entry(key: &Key, entry: &Entry) -> u64 {
        let mut digest = Self::new(1);
        digest.bytes(key.as_str().as_bytes());
        digest.bytes(&entry.value);
        let Entry { value: _, create, modify, version, lease } = entry;
        [create.0, modify.0, *version, lease.map_or(0, |lease| lease.0)].into_iter().for_each(|word| digest.word(word));
        digest.0
    }

    /// The hash of one staged change.
    pub(crate) fn change(key: &Key, value: Option<&[u8]>) -> u64 {
        let mut digest = Self::new(3);
        digest.bytes(key.as_str().as_bytes());
        digest.word(u64::from(value.is_some()));
        digest.bytes(value.unwrap_or_default());
        digest.0
    }

    /// The hash of everything, with that of the keys.
    pub(crate) fn of(tables: &Tables, keys: u64) -> u64 {
        let Tables { revision, now_ms, swept_ms, keys: _, leases, sessions, staged, rates } = tables;
        let mut digest = Self::new(2);
        [revision.0, *now_ms, *swept_ms, keys].into_iter().for_each(|word| digest.word(word));
        for (id, lease) in leases.iter() {
            digest.word(*id);
            digest.bytes(lease.host.as_str().as_bytes());
            digest.word(u64::from(lease.ttl_s));
        }
        for (id, session) in sessions.iter() {
            digest.word(*id);
            digest.bytes(session.host.as_str().as_bytes());
            digest.word(session.used_ms);
            if let Some((sequence, outcome)) = &session.last {
                digest.word(*sequence);
                digest.bytes(&outcome.encode());
            }
        }
        for (host, staged) in staged {
            digest.bytes(host.as_str().as_bytes());
            [staged.generation, staged.at_ms, staged.digest].into_iter().for_each(|word| digest.word(word));
        }
        for (host, bucket) in rates {
            digest.bytes(host.as_str().as_bytes());
            [bucket.level, bucket.at_ms].into_iter().for_each(|word| digest.word(word));
        }
        digest.0
    }
}
