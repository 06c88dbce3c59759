//! Whether somebody is let in: from what he says and what the store has. No clock, no disk, no network.

use mgmt_consensus::authority::{Badge, Certificate, DAY_S, GRACE_DAYS, key_hash};
use mgmt_consensus::{ClusterId, PeerId};
use mgmt_store::outcome::{Clash, Quota};
use mgmt_store::record::Versions;
use mgmt_store::{CallError, HostName, Keyspace, Refusal, Role};

use crate::mesh::levels;
use crate::mesh::messages::join::{Kind, Reply, Signed, Wish};
use crate::mesh::messages::printable;

/// What becomes of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// He is in already, under this key: his last answer was lost. He gets another one.
    Known {
        /// His host.
        host: HostName,
        /// What the registry lets him do.
        role: Role,
    },
    /// He comes in.
    Admit {
        /// His host.
        host: HostName,
        /// What the token makes of him.
        role: Role,
        /// Whether the token lets him take over a name.
        replace: bool,
        /// How often the token was used before; none: it was used for him already.
        used: Option<u32>,
    },
    /// He does not, and why.
    Refuse(Kind, String),
}

/// Judges a wish that came over the connection with this exporter, at this time of this peer's clock. `begun`: the token
/// was used for exactly this wish.
#[must_use]
pub fn judge(
    store: &Keyspace,
    (cluster, now_ms): (ClusterId, u64),
    wish: &Wish,
    signed: &Signed,
    exporter: &[u8; 32],
    begun: bool,
) -> Verdict {
    match decide(store, (cluster, now_ms), wish, signed, exporter, begun) {
        Ok(verdict) => verdict,
        Err((kind, why)) => Verdict::Refuse(kind, why),
    }
}

type No = (Kind, String);

fn decide(
    store: &Keyspace,
    (cluster, now_ms): (ClusterId, u64),
    wish: &Wish,
    signed: &Signed,
    exporter: &[u8; 32],
    begun: bool,
) -> Result<Verdict, No> {
    in_cluster(cluster, ClusterId::from(wish.cluster), "the token is for")?;
    let host = HostName::parse(&wish.host).map_err(|error| (Kind::Malformed, error.to_string()))?;
    let id = printable(&wish.token);
    let Some((_, token)) = store.tokens().find(|(name, _)| *name == wish.token) else {
        let why = format!(
            "there is no token {id} here: it was revoked, or has long expired; make another with `mgmt token create` on a \
             member"
        );
        return Err((Kind::NoToken, why));
    };
    if !signed.fits_wish(&token.public_key, exporter) {
        let why = format!(
            "this was not signed with token {id} for this connection: the token was changed, or the message was sent \
             before by somebody else; copy the token again and join again"
        );
        return Err((Kind::Signature, why));
    }
    // From here on he has the secret, and may know more.
    let there = store.peer(&host);
    let peer = PeerId::from(wish.peer);
    if let Some(known) = there.as_ref().filter(|known| known.peer == peer) {
        if known.key_hash == key_hash(&wish.public_key.0) {
            return Ok(Verdict::Known { host, role: known.role });
        }
        let why =
            format!("peer {peer} of {host} is a member already, under another key: `mgmt cluster remove {host}` first");
        return Err((Kind::HostTaken, why));
    }
    if store.peers().any(|(_, other)| other.peer == peer) {
        return Err((Kind::HostTaken, other_name(&host)));
    }
    if let Some(only) = token.host.as_ref().filter(|only| **only != host) {
        let why = format!(
            "token {id} is for host {only}, not for {host}: run with `--hostname {only}`, or make another with `mgmt token \
             create --host {host}` on a member"
        );
        return Err((Kind::OtherHost, why));
    }
    // The store's time stands still while nothing is written.
    if store.now_ms().max(now_ms) >= token.expires_ms {
        return Err((Kind::Expired, expired(&id)));
    }
    if !begun && token.uses.is_some_and(|uses| token.used >= uses) {
        let why =
            format!("token {id} was used as often as it may be: make another with `mgmt token create` on a member");
        return Err((Kind::UsedUp, why));
    }
    // After all that is about the token: `doctor` asks with a level that there is not, which uses up no token.
    if !understood(wish).understand(store.feature_level()) {
        return Err((Kind::Level, levels::not_let_in(host.as_str(), store.feature_level(), understood(wish))));
    }
    if there.is_some() && !token.replace {
        return Err((Kind::HostTaken, taken(&host)));
    }
    Ok(Verdict::Admit { host, role: token.role, replace: token.replace, used: (!begun).then_some(token.used) })
}

/// Judges whether somebody whose certificate has ended gets another one; what it then says.
///
/// # Errors
/// Why not.
pub fn judge_renewal(
    store: &Keyspace,
    cluster: ClusterId,
    (certificate, believed): (&Certificate, &[Certificate]),
    signed: &Signed,
    exporter: &[u8; 32],
    now_s: u64,
) -> Result<Badge, No> {
    let foreign = |why: String| (Kind::Unknown, why);
    let badge = certificate.badge().map_err(|error| foreign(error.to_string()))?;
    in_cluster(cluster, badge.cluster, "the certificate is of")?;
    if !believed.iter().any(|authority| certificate.signed_by(authority)) {
        return Err(foreign("no authority of this cluster has signed this certificate: join with a token".to_owned()));
    }
    if !signed.fits_renewal(certificate.public_key(), exporter) {
        let why = "this was not signed with the certificate's key for this connection".to_owned();
        return Err((Kind::Signature, why));
    }
    if now_s > certificate.not_after_s() + GRACE_DAYS * DAY_S {
        let why = format!("the certificate ended more than {GRACE_DAYS} days ago: join again with a token");
        return Err((Kind::Expired, why));
    }
    let registered = registered(store, (cluster, badge.peer, &badge.host), certificate.public_key())?;
    // The registry may let him do less than before, and never more than was said when he came in.
    Ok(Badge { role: badge.role.min(registered.role), ..registered })
}

/// What the registry says of a member that has this key.
///
/// # Errors
/// When it knows him not, or not so.
pub(in crate::mesh) fn registered(
    store: &Keyspace,
    (cluster, peer, host): (ClusterId, PeerId, &str),
    public_key: &[u8; 32],
) -> Result<Badge, No> {
    let host = HostName::parse(host).map_err(|error| (Kind::Malformed, error.to_string()))?;
    let known = store.peer(&host).filter(|known| known.peer == peer && known.key_hash == key_hash(public_key));
    match known {
        Some(known) => Ok(Badge { cluster, peer, host: host.to_string(), role: known.role }),
        None => {
            let why = format!("{host} is no member any more, or another peer has its name: join again with a token");
            Err((Kind::Unknown, why))
        }
    }
}

fn in_cluster(here: ClusterId, said: ClusterId, what: &str) -> Result<(), No> {
    if here == said {
        return Ok(());
    }
    let why = format!(
        "this is cluster {here}, and {what} cluster {said}: two clusters never become one; use addresses of that one, or a \
         token of this one"
    );
    Err((Kind::OtherCluster, why))
}

fn expired(id: &str) -> String {
    format!("token {id} has expired: make another with `mgmt token create` on a member")
}

fn taken(host: &HostName) -> String {
    format!(
        "the name {host} belongs to another peer of this mesh: choose another with `--hostname`, or, if this is the same \
         host set up anew, use a token of `mgmt token create --replace {host}`"
    )
}

fn other_name(host: &HostName) -> String {
    format!(
        "this peer is a member under another name: it cannot be {host} as well; start {host} with a state directory of its \
         own"
    )
}

/// What the program of whoever wishes understands.
fn understood(wish: &Wish) -> Versions {
    Versions { min: wish.level_min, max: wish.level_max }
}

/// What is said when the store could not be asked, or the log could not be written.
pub(super) fn not_now(error: CallError) -> Reply {
    let why = format!("the mesh has no quorum here just now ({error}): try again");
    Reply::refused(Kind::TryAgain, why)
}

/// What is said when the store did not carry it out.
pub(super) fn refused(error: CallError, wish: &Wish) -> Reply {
    let CallError::Refused(refusal) = error else { return not_now(error) };
    let id = printable(&wish.token);
    let host = HostName::parse(&wish.host);
    let (kind, why) = match (refusal, host) {
        (Refusal::Conflict(Clash::TokenExpired), _) => (Kind::Expired, expired(&id)),
        (Refusal::Conflict(Clash::HostTaken), Ok(host)) => (Kind::HostTaken, taken(&host)),
        (Refusal::Conflict(Clash::PeerTaken), Ok(host)) => (Kind::HostTaken, other_name(&host)),
        (Refusal::Conflict(Clash::LastAdmin), Ok(host)) => {
            let why = format!(
                "{host} is the last admin of this mesh: make another one first, or a token with `--role admin`"
            );
            (Kind::HostTaken, why)
        }
        // It rose at this moment: what it is by now is said to whoever asks again.
        (Refusal::Conflict(Clash::FeatureLevel), _) => {
            (Kind::TryAgain, "the feature level of this mesh has just risen: try again".to_owned())
        }
        (Refusal::QuotaExceeded(Quota::Peers), _) => {
            (Kind::Other, "this mesh is full: remove hosts with `mgmt cluster remove`".to_owned())
        }
        (Refusal::Busy { .. } | Refusal::NoSpace, _) => (Kind::TryAgain, format!("{refusal}: try again")),
        // It was used by others at this moment, or revoked.
        (Refusal::Conflict(Clash::TokenUsed) | Refusal::NotFound(_), _) => {
            (Kind::TryAgain, format!("token {id} was used or revoked at this moment: try again"))
        }
        _ => (Kind::Other, refusal.to_string()),
    };
    Reply::refused(kind, why)
}
