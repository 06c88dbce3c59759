//! What admins decide for the mesh.

use super::Turn;
use crate::key::Key;
use crate::limits::RULES_MAX;
use crate::outcome::{Done, Missing, Quota, Refusal};

impl Turn<'_> {
    pub(super) fn ideal_size(&mut self, masters: u8) -> Result<Done, Refusal> {
        if !matches!(masters, 1 | 3 | 5 | 7) {
            return Err(Refusal::Malformed);
        }
        if self.tables.ideal_size() == masters && self.tables.keys.get(Key::ideal_size().as_str()).is_some() {
            return Ok(Done::Unchanged);
        }
        self.write_record(Key::ideal_size(), &u32::from(masters));
        Ok(Done::Applied)
    }

    pub(super) fn allow(&mut self, hosts: &str, prefix: &str) -> Result<Done, Refusal> {
        let key = Key::rule(hosts, prefix).map_err(|_| Refusal::Malformed)?;
        if self.tables.keys.get(key.as_str()).is_some() {
            return Ok(Done::Unchanged);
        }
        if self.under(Key::RULES).count() >= RULES_MAX {
            return Err(Refusal::QuotaExceeded(Quota::Rules));
        }
        // The key says it all.
        self.write(key, [].into(), None);
        Ok(Done::Applied)
    }

    pub(super) fn disallow(&mut self, hosts: &str, prefix: &str) -> Result<Done, Refusal> {
        let key = Key::rule(hosts, prefix).map_err(|_| Refusal::Malformed)?;
        if self.erase(key.as_str()) { Ok(Done::Applied) } else { Err(Refusal::NotFound(Missing::Rule)) }
    }
}
