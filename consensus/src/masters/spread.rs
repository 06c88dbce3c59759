//! How well masters are spread over the places where hosts stand.

use std::collections::{BTreeMap, BTreeSet};

use super::census::Census;
use crate::types::RaftId;

/// Levels of a place that count: region, zone, rack, host.
pub const LEVELS: usize = 4;

/// The smaller the better. For each level, the largest place first: how many masters fall with one place, at worst;
/// then how many share a place with another.
pub type Spread = [(usize, usize); LEVELS];

/// Counts how these masters are spread. Of whom no place is known stands in a place of its own.
#[must_use]
pub fn spread(census: &Census, masters: &BTreeSet<RaftId>) -> Spread {
    std::array::from_fn(|level| {
        let mut places: BTreeMap<(&[String], Option<RaftId>), usize> = BTreeMap::new();
        for id in masters {
            let zone = census.seats.get(id).map_or(&[][..], |seat| &seat.profile.zone[..]);
            let place = zone.get(..=level).map_or((zone, Some(*id)), |place| (place, None));
            *places.entry(place).or_default() += 1;
        }
        (places.values().copied().max().unwrap_or(0), masters.len() - places.len())
    })
}

/// What people should know of how the masters are spread: one place holds a majority of them.
#[must_use]
pub fn remark(census: &Census) -> Option<String> {
    let masters = census.voters();
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for id in masters {
        let zone = census.seats.get(id).and_then(|seat| seat.profile.zone.first());
        *places.entry(zone?.as_str()).or_default() += 1;
    }
    let (place, count) = places.iter().max_by_key(|(_, count)| **count)?;
    (places.len() > 1 && *count > masters.len() / 2)
        .then(|| format!("{place} holds {count} of {} masters: without it there is no quorum", masters.len()))
}
