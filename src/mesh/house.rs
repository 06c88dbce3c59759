//! The token by which others of this house are let in: processes of this user on this machine, and hosts that found
//! together. Kept good, and announced as it is now.
//!
//! It lives for a year, and would end without anybody noticing until a new host is started. An admin of the mesh, as the
//! founder is, gives it another year in time; id and secret stay as they are, so that the copies of all the others stay
//! good too. One that is not in the registry any more was revoked, and stays so. After another authority took over, the
//! file of this host names that one (`renewal`), and what is announced follows the file.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use mgmt_consensus::authority::DAY_S;
use mgmt_consensus::authority::token::Token;
use mgmt_store::limits::TOKEN_AGE_MS_MAX;
use mgmt_store::{Body, Role, record};

use super::LIMIT;
use super::node::Node;
use super::place::{Part, Place};
use super::rendezvous::{Announced, Announcement};
use super::surroundings::unix_ms;

const DAY_MS: u64 = DAY_S * 1000;
/// How long it lives: the longest there is, less the time that clocks may differ.
const LIFE_MS: u64 = TOKEN_AGE_MS_MAX - DAY_MS;
/// It is given another life when so much of the one it has is left: a mesh that is switched off for a season keeps it.
const RENEW_MS: u64 = 180 * DAY_MS;
/// When so much is left and nobody has done so, it is said.
const SAY_MS: u64 = 30 * DAY_MS;
/// Between two looks: a file of one line, and one record.
const LOOK: Duration = Duration::from_secs(10);
/// Between two attempts to bring back one that is away.
const AGAIN: Duration = Duration::from_millis(200);

/// The record of a new one, whose secret is elsewhere.
#[must_use]
pub fn record(public_key: [u8; 32], now_ms: u64) -> record::Token {
    record::Token {
        public_key,
        role: Role::Master,
        host: None,
        replace: false,
        expires_ms: now_ms + LIFE_MS,
        uses: None,
        used: 0,
    }
}

/// What the house needs of the mesh.
pub trait World: Send + Sync {
    /// Milliseconds since 1970.
    fn now_ms(&self) -> u64;

    /// What the registry says of a token.
    fn known(&self, id: &str) -> Option<record::Token>;

    /// Whether this host may make tokens.
    fn is_admin(&self) -> bool;

    /// Puts something into the registry.
    fn put(&self, body: Body) -> impl Future<Output = Result<(), String>> + Send;
}

/// What is to be done about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Care {
    Nothing,
    Renew,
    /// It ends in so many days, and this host can do nothing about it.
    Ends(u64),
}

fn care(known: Option<&record::Token>, is_admin: bool, now_ms: u64) -> Care {
    let Some(known) = known else { return Care::Nothing };
    let left_ms = known.expires_ms.saturating_sub(now_ms);
    match is_admin {
        true if left_ms < RENEW_MS => Care::Renew,
        false if left_ms < SAY_MS => Care::Ends(left_ms / DAY_MS),
        _ => Care::Nothing,
    }
}

/// This host's copy, and how it is announced.
#[derive(Debug)]
pub struct House {
    place: Place,
    announced: Option<(Announced, Announcement)>,
    said: bool,
}

impl House {
    /// With what is announced, if it is.
    #[must_use]
    pub const fn new(place: Place, announced: Option<(Announced, Announcement)>) -> Self {
        Self { place, announced, said: false }
    }

    /// Keeps it good for as long as it is polled; dropped, nothing is announced any more.
    pub async fn keep(mut self, world: &impl World) -> Infallible {
        loop {
            self.look(world).await;
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn look(&mut self, world: &impl World) {
        let text = match self.place.load(Part::HouseToken) {
            Ok(text) => text.map(|text| text.trim().to_owned()),
            Err(error) => return self.say(&format!("the token of this house cannot be read: {error}")),
        };
        self.announce(text.as_deref());
        let Some(token) = text.and_then(|text| text.parse::<Token>().ok()) else { return };
        let known = world.known(&token.id);
        match care(known.as_ref(), world.is_admin(), world.now_ms()) {
            Care::Nothing => {}
            Care::Renew => match renew(world, &token.id, known.map_or([0; 32], |known| known.public_key)).await {
                Ok(()) => tracing::info!("mesh: the token of this house was renewed for a year"),
                Err(why) => tracing::warn!("mesh: the token of this house is not renewed: {why}"),
            },
            Care::Ends(days) => self.say(&format!(
                "the token of this house ends in {days} days: start the host that founded this mesh, which renews it"
            )),
        }
    }

    /// Says it to the others as it is now.
    fn announce(&mut self, token: Option<&str>) {
        let Some((announced, announcement)) = &mut self.announced else { return };
        if announcement.token.as_deref() == token {
            return;
        }
        let now = Announcement { token: token.map(ToOwned::to_owned), ..announcement.clone() };
        match announced.update(&now) {
            Ok(()) => *announcement = now,
            Err(error) => self.say(&format!("others on this machine are told of a former token: {error}")),
        }
    }

    fn say(&mut self, what: &str) {
        if !std::mem::replace(&mut self.said, true) {
            tracing::warn!("mesh: {what}");
        }
    }
}

/// Gives a token another life. The registry takes no second one of the same id, so that it is away for a moment; whoever
/// else renews it at the same time has done what was wanted.
async fn renew(world: &impl World, id: &str, public_key: [u8; 32]) -> Result<(), String> {
    world.put(Body::TokenRevoke { id: id.into() }).await?;
    let again = || Body::TokenCreate { id: id.into(), token: record(public_key, world.now_ms()) };
    loop {
        match world.put(again()).await {
            Ok(()) => return Ok(()),
            // Now that it is gone it must come back, or nobody would know that it was not meant to go.
            Err(_) if world.known(id).is_none() => tokio::time::sleep(AGAIN).await,
            Err(_) => return Ok(()),
        }
    }
}

impl World for Node {
    fn now_ms(&self) -> u64 {
        unix_ms().max(self.shared.read(mgmt_store::Keyspace::now_ms))
    }

    fn known(&self, id: &str) -> Option<record::Token> {
        self.shared.read(|keyspace| keyspace.tokens().find(|(known, _)| *known == id).map(|(_, token)| token))
    }

    fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }

    async fn put(&self, body: Body) -> Result<(), String> {
        self.client.call(body, LIMIT).await.map(drop).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Mutex;

    use mgmt_consensus::{ClusterId, PeerId};

    use super::super::rendezvous::Local;
    use super::*;

    /// A registry in which every other command fails.
    struct Registry {
        tokens: Mutex<BTreeMap<String, record::Token>>,
        now_ms: u64,
        is_admin: bool,
        puts: Mutex<u32>,
    }

    impl World for Registry {
        fn now_ms(&self) -> u64 {
            self.now_ms
        }

        fn known(&self, id: &str) -> Option<record::Token> {
            self.tokens.lock().unwrap().get(id).cloned()
        }

        fn is_admin(&self) -> bool {
            self.is_admin
        }

        async fn put(&self, body: Body) -> Result<(), String> {
            let mut puts = self.puts.lock().unwrap();
            *puts += 1;
            if puts.is_multiple_of(2) {
                return Err("no quorum".to_owned());
            }
            let mut tokens = self.tokens.lock().unwrap();
            match body {
                Body::TokenCreate { id, token } => assert_eq!(tokens.insert(id.to_string(), token), None),
                Body::TokenRevoke { id } => assert!(tokens.remove(&*id).is_some()),
                other => panic!("{other:?}"),
            }
            Ok(())
        }
    }

    fn token() -> Token {
        Token::draw(ClusterId(1), [1; 32]).unwrap()
    }

    fn house(text: Option<&str>) -> (tempfile::TempDir, House) {
        let state = tempfile::tempdir().unwrap();
        let place = Place::open(state.path()).unwrap();
        if let Some(text) = text {
            place.save(Part::HouseToken, text).unwrap();
        }
        (state, House::new(place, None))
    }

    fn registry(token: &Token, left_days: u64, is_admin: bool) -> Registry {
        let now_ms = 1000 * DAY_MS;
        let known = record::Token { expires_ms: now_ms + left_days * DAY_MS, used: 7, ..record(token.public_key(), 0) };
        let tokens = Mutex::new(BTreeMap::from([(token.id.clone(), known)]));
        Registry { tokens, now_ms, is_admin, puts: Mutex::default() }
    }

    async fn left_days(token: &Token, left: u64, is_admin: bool) -> u64 {
        let registry = registry(token, left, is_admin);
        let (_state, mut house) = house(Some(&token.to_string()));
        house.look(&registry).await;
        let known = registry.known(&token.id).unwrap();
        assert_eq!((known.public_key, known.role), (token.public_key(), Role::Master));
        (known.expires_ms - registry.now_ms) / DAY_MS
    }

    #[tokio::test]
    async fn an_admin_gives_it_another_year_under_the_same_secret() {
        let token = token();
        assert_eq!(left_days(&token, 181, true).await, 181, "not yet");
        assert_eq!(left_days(&token, 179, true).await, LIFE_MS / DAY_MS);
        assert_eq!(left_days(&token, 0, true).await, LIFE_MS / DAY_MS, "it has ended, and is still there");
        assert_eq!(left_days(&token, 10, false).await, 10, "who may not does not try");
    }

    #[tokio::test]
    async fn one_that_was_revoked_stays_so() {
        let (token, other) = (token(), token());
        let registry = registry(&other, 1, true);
        let (_state, mut house) = house(Some(&token.to_string()));
        house.look(&registry).await;
        assert_eq!(*registry.puts.lock().unwrap(), 0);
    }

    #[tokio::test]
    async fn what_is_announced_follows_the_file() {
        let (before, after) = (token().to_string(), token());
        let (state, house) = house(Some(&before));
        let local = Local::open(state.path()).unwrap();
        let announcement = Announcement {
            cluster: ClusterId(1),
            peer: PeerId(2),
            host: "a".to_owned(),
            address: "127.0.0.1:6468".parse().unwrap(),
            pid: 1,
            token: Some(before),
        };
        let announced = local.announce(&announcement).unwrap();
        let mut house = House { announced: Some((announced, announcement)), ..house };
        house.place.save(Part::HouseToken, &format!("{after}\n")).unwrap();
        house.look(&registry(&after, 300, true)).await;
        assert_eq!(local.live().unwrap()[0].token, Some(after.to_string()));
        drop(house);
        assert_eq!(local.live().unwrap(), [], "nobody is announced any more");
    }
}
