//! Years of a member, in an instant.

use std::sync::Mutex;
use std::task::Poll;

use mgmt_consensus::authority::{Authority, Badge, CERTIFICATE_DAYS, KeyPair, Role};
use mgmt_consensus::{ClusterId, PeerId};

use super::*;

const START_S: u64 = 1_800_000_000;

/// A member whose time goes on when it waits.
struct Years {
    state: Mutex<State>,
    end_s: u64,
    /// Days of each hundred in which no master can be reached.
    away: std::ops::Range<u64>,
}

struct State {
    now_s: u64,
    key: KeyPair,
    certificate: Certificate,
    authorities: Vec<Authority>,
    believed: Vec<Certificate>,
    renewed_s: Vec<u64>,
    asked: u64,
    /// Seconds in which the certificate did not count.
    naked_s: u64,
}

impl Years {
    fn new(days: u64, away: std::ops::Range<u64>) -> Self {
        let key = KeyPair::generate().unwrap();
        let authority = Authority::create(ClusterId(1), START_S).unwrap();
        let certificate = authority.issue(&badge(), &key.public_key(), START_S).unwrap();
        let believed = vec![authority.certificate().clone()];
        let state = State {
            now_s: START_S,
            key,
            certificate,
            authorities: vec![authority],
            believed,
            renewed_s: Vec::new(),
            asked: 0,
            naked_s: 0,
        };
        Self { state: Mutex::new(state), end_s: START_S + days * DAY_S, away }
    }

    /// Lives to the end.
    fn live(&self) {
        let waker = std::task::Waker::noop();
        let mut context = std::task::Context::from_waker(waker);
        let mut life = std::pin::pin!(keep(self));
        while self.now_s() < self.end_s {
            assert_eq!(life.as_mut().poll(&mut context), Poll::Pending);
        }
    }
}

fn badge() -> Badge {
    Badge { cluster: ClusterId(1), peer: PeerId(7), host: "web1".to_owned(), role: Role::Agent }
}

impl World for Years {
    fn now_s(&self) -> u64 {
        self.state.lock().unwrap().now_s
    }

    async fn sleep(&self, time: Duration) {
        {
            let mut state = self.state.lock().unwrap();
            // Many looks in one: otherwise a year takes as long as all other tests together.
            let time_s = if time == LOOK || time == LOOK * 10 { 6 * 3600 } else { time.as_secs() };
            if !state.certificate.counts_at(state.now_s) {
                state.naked_s += time_s;
            }
            state.now_s += time_s;
        }
        let mut first = true;
        std::future::poll_fn(|_| if std::mem::take(&mut first) { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    fn papers(&self) -> (Certificate, Vec<Certificate>) {
        let state = self.state.lock().unwrap();
        (state.certificate.clone(), state.believed.clone())
    }

    async fn believe(&self) {
        let mut state = self.state.lock().unwrap();
        state.believed = state.authorities.iter().rev().map(|authority| authority.certificate().clone()).collect();
    }

    async fn renew(&self) -> Result<(), String> {
        let mut state = self.state.lock().unwrap();
        state.asked += 1;
        let day = (state.now_s - START_S) / DAY_S % 100;
        if self.away.contains(&day) {
            return Err("no master can be reached".to_owned());
        }
        let now_s = state.now_s;
        let newest = state.authorities.last().unwrap();
        state.certificate = newest.issue(&badge(), &state.key.public_key(), now_s).unwrap();
        state.renewed_s.push(now_s);
        Ok(())
    }
}

#[test]
fn a_year_has_a_renewal_a_month() {
    let years = Years::new(365, 0..0);
    years.live();
    let state = years.state.into_inner().unwrap();
    assert!((12..=13).contains(&state.renewed_s.len()), "{}", state.renewed_s.len());
    assert_eq!((state.asked, state.naked_s), (state.renewed_s.len() as u64, 0));
}

#[test]
fn masters_that_are_away_for_weeks_do_no_harm() {
    // From day 20 to 75 of each hundred: longer than the time to the renewal, shorter than what is left after it.
    let years = Years::new(400, 20..75);
    years.live();
    let state = years.state.into_inner().unwrap();
    assert_eq!(state.naked_s, 0);
    // Asking in vain is not done all the time: here four times a day, besides the first ones.
    assert!(state.asked < 4 * 55 * 4 + 100, "{}", state.asked);
}

#[test]
fn hosts_that_were_set_up_together_do_not_ask_together() {
    let authority = Authority::create(ClusterId(1), START_S).unwrap();
    let due = |_| {
        let key = KeyPair::generate().unwrap();
        due_s(&authority.issue(&badge(), &key.public_key(), START_S).unwrap(), &[authority.certificate().clone()])
    };
    let mut all: Vec<u64> = (0..200).map(due).collect();
    all.sort_unstable();
    let (first, last) = (all[0], all[199]);
    assert!(first >= START_S + 27 * DAY_S && last <= START_S + RENEW_AFTER_DAYS * DAY_S);
    assert!(last - first > 2 * DAY_S);
    const { assert!(RENEW_AFTER_DAYS + 55 < CERTIFICATE_DAYS) };
}

#[test]
fn a_new_authority_is_heard_of_before_it_is_shown() {
    let years = Years::new(3, 0..0);
    let new = Authority::create(ClusterId(1), START_S + DAY_S).unwrap();
    let certificate = years.papers().0;
    let both = [new.certificate().clone(), years.papers().1[0].clone()];
    let due = due_s(&certificate, &both);
    assert!((START_S + DAY_S + SETTLE_S..=START_S + DAY_S + SETTLE_S + SETTLE_SPREAD_S).contains(&due));
    years.state.lock().unwrap().authorities.push(new);
    years.live();
    let state = years.state.into_inner().unwrap();
    assert_eq!(state.renewed_s.len(), 1);
    assert!(state.certificate.signed_by(state.authorities[1].certificate()));
}
