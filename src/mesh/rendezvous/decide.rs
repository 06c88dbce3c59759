//! What a host does that was started without seeds: from who lives and who has ever lived under its prefix.

use std::collections::BTreeMap;

use mgmt_consensus::ClusterId;

use super::Announcement;

/// Hosts that a sentence names; the others are counted.
const NAMED_MAX: usize = 5;

/// A host of the prefix that is a member of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sleeper {
    /// Its name.
    pub host: String,
    /// Its cluster, if its file can be read.
    pub cluster: Option<ClusterId>,
}

/// What is seen under a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// This host's name.
    pub me: String,
    /// Who lives, by name.
    pub live: Vec<Announcement>,
    /// Who is a member of something, by name; this host and those who live are among them.
    pub sleepers: Vec<Sleeper>,
    /// Those who sleep are not to be waited for.
    pub new_cluster: bool,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meet {
    /// Go on as the member that this host is.
    Resume,
    /// There is nobody: found a cluster.
    Found,
    /// Ask this one.
    Join(Announcement),
    /// Somebody must come first.
    Wait {
        /// Who: any of them.
        hosts: Vec<String>,
        /// A sentence.
        why: String,
    },
    /// Whatever is done would be wrong.
    Refuse(String),
}

/// Decides.
#[must_use]
pub fn decide(scene: &Scene) -> Meet {
    let Scene { me, live, sleepers, new_cluster } = scene;
    if sleepers.iter().any(|sleeper| sleeper.host == *me) {
        return Meet::Resume;
    }
    // This host's own name can only be announced by who is dying, or in another place under the same prefix.
    let live: Vec<_> = live.iter().filter(|other| other.host != *me).collect();
    let mut clusters = BTreeMap::<ClusterId, Vec<String>>::new();
    for other in &live {
        clusters.entry(other.cluster).or_default().push(other.host.clone());
    }
    if clusters.len() > 1 {
        let parts = clusters.iter().map(|(cluster, hosts)| format!("{} of cluster {cluster}", list(hosts)));
        return Meet::Refuse(format!(
            "two clusters live under this prefix: {}; stop one of them, or give this host a --prefix of its own, or say \
             with --seeds and --token which to join",
            parts.collect::<Vec<_>>().join("; ")
        ));
    }
    if let Some(other) = live.iter().find(|other| other.token.is_some()) {
        return Meet::Join((*other).clone());
    }
    if !live.is_empty() {
        let hosts: Vec<_> = live.iter().map(|other| other.host.clone()).collect();
        let why = format!(
            "no token that lets others in is announced by who lives under this prefix ({}); join with --seeds and --token \
             (mgmt token create)",
            list(&hosts)
        );
        return Meet::Wait { hosts, why };
    }
    if sleepers.is_empty() || *new_cluster {
        return Meet::Found;
    }
    let hosts: Vec<_> = sleepers.iter().map(|sleeper| sleeper.host.clone()).collect();
    let again: Vec<_> = hosts.iter().take(NAMED_MAX).map(|host| format!("mgmt run --hostname {host}")).collect();
    let why = format!(
        "none of the hosts runs that belong to a mesh under this prefix ({}); waiting for one of them (start {}), or begin \
         another mesh with --new-cluster",
        list(&hosts),
        again.join(", or ")
    );
    Meet::Wait { hosts, why }
}

/// Names for a sentence.
fn list(hosts: &[String]) -> String {
    let named = hosts.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join(", ");
    match hosts.len().saturating_sub(NAMED_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
