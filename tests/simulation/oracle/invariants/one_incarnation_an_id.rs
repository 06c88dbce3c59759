//! An id is spoken under by one life of one directory, ever. DESIGN §4 Identity; consensus.md §1.6 walks through the
//! two ways in which data is lost otherwise.

use std::collections::BTreeMap;

use super::super::{Verdict, broken};
use super::{Id, Sighting};

#[derive(Debug, Default)]
pub(crate) struct OneIncarnationAnId {
    ids: BTreeMap<Id, u128>,
}

impl OneIncarnationAnId {
    pub(crate) fn see(&mut self, sighting: &Sighting) -> Verdict {
        let Sighting::Speaks { id, incarnation, .. } = sighting else { return Ok(()) };
        match *self.ids.entry(*id).or_insert(*incarnation) {
            before if before == *incarnation => Ok(()),
            before => broken("one incarnation an id", format!("{id} was {before:032x} and is {incarnation:032x}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_life_under_an_id_is_seen() {
        let speaks = |id, incarnation| Sighting::Speaks { id, incarnation, term: None };
        let mut law = OneIncarnationAnId::default();
        assert_eq!(law.see(&speaks(1, 7)), Ok(()));
        assert_eq!(law.see(&speaks(2, 8)), Ok(()));
        assert_eq!(law.see(&speaks(1, 7)), Ok(()));
        assert!(law.see(&speaks(1, 8)).is_err());
    }
}
