//! What is taken stock of when a run ends.

use mgmt_engine::report::Standing;
use mgmt_engine::runner::Snapshot;

/// What was pending before the drain is no longer visible after it; what ran then has ended since. Once all was quiet,
/// whatever is due again is the echo of our last repair, which is no longer waited for.
pub(super) fn merged(before: Snapshot, after: Snapshot, converged: bool) -> Snapshot {
    let stands = before.stands.into_iter().zip(after.stands).map(|(before, mut after)| match after.standing {
        _ if before.standing == Standing::Retrying => before,
        Standing::Busy | Standing::Waiting if converged => {
            after.standing = if after.changes > 0 { Standing::Changed } else { Standing::Clean };
            after
        }
        _ => after,
    });
    Snapshot { stands: stands.collect(), quiet_since: after.quiet_since, converged: after.converged, now: after.now }
}
