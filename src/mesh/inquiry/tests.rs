//! What is answered to whom, and to how many at once.

use std::sync::atomic::{AtomicU64, Ordering};

use mgmt_engine::Id;
use mgmt_engine::report::{Report, What};

use super::*;
use crate::events::{Happened, Position};
use crate::mesh::messages::VERSION;
use crate::mesh::standing::View;

#[derive(Default)]
struct Agent {
    events: Arc<Events>,
    asked: AtomicU64,
}

impl Respondent for Agent {
    fn status(&self) -> HostStatus {
        HostStatus { changes: self.asked.fetch_add(1, Ordering::Relaxed), revision: 5, ..HostStatus::default() }
    }

    fn quiet(&self) -> Quiet {
        Quiet { converged: true, for_ms: Some(7) }
    }

    fn events(&self) -> &Arc<Events> {
        &self.events
    }

    fn collected(&self) -> super::super::messages::inquiry::Collected {
        Default::default()
    }

    fn forget(&self, _: &str) -> bool {
        false
    }
}

fn host() -> (Arc<Inquiries>, Arc<Agent>) {
    let inquiries = Arc::new(Inquiries::new(Clock::start(), Arc::default()));
    let agent = Arc::new(Agent::default());
    inquiries.attend(Arc::<Agent>::downgrade(&agent));
    (inquiries, agent)
}

fn member(number: u64) -> Member {
    Member { peer: PeerId(number.into()), incarnation: Incarnation(1), host: format!("web{number}") }
}

async fn asked(inquiries: &Inquiries, from: u64, inquiry: Inquiry) -> Answer {
    Answer::read(&inquiries.answer(&member(from), &inquiry.write().unwrap()).await).unwrap()
}

fn happened(name: &str) -> Happened {
    let report = Report { id: Id::new("noop", name), at: Moment::START, what: What::Recovered };
    Happened::of(&report, std::time::SystemTime::UNIX_EPOCH)
}

#[tokio::test]
async fn the_agent_speaks_for_the_host_and_nobody_without_it() {
    let (inquiries, agent) = host();
    assert!(matches!(asked(&inquiries, 1, Inquiry::Status {}).await, Answer::Status(status) if status.revision == 5));
    // Another one right behind costs nothing.
    assert!(matches!(asked(&inquiries, 2, Inquiry::Status {}).await, Answer::Status(status) if status.changes == 0));
    inquiries.exchanged().attend(Box::new(|| Some(View { settled: 3, publishing: true })));
    let Answer::Standing(standing) = asked(&inquiries, 1, Inquiry::Standing {}).await else { panic!("no standing") };
    let own = Standing { converged: true, quiet_ms: Some(7), settled: 3, publishing: true, ..Standing::default() };
    assert_eq!((standing, Some(standing)), (own, inquiries.standing()));
    drop(agent);
    let refused = asked(&inquiries, 1, Inquiry::Standing {}).await;
    assert!(matches!(refused, Answer::Refused { kind: Kind::TryAgain, .. }), "{refused:?}");
}

#[tokio::test]
async fn what_is_not_understood_is_said_to_be() {
    let (inquiries, _agent) = host();
    for strange in [format!(r#"{{"v":{VERSION},"inquiry":{{"horoscope":{{}}}}}}"#), r#"{"v":9,"inquiry":1}"#.into()] {
        let answer = Answer::read(&inquiries.answer(&member(1), strange.as_bytes()).await).unwrap();
        assert!(matches!(answer, Answer::Refused { kind: Kind::Malformed, .. }), "{answer:?}");
    }
}

#[tokio::test]
async fn farewells_hold_until_somebody_is_seen_again() {
    let (inquiries, _agent) = host();
    assert_eq!(asked(&inquiries, 1, Inquiry::Farewell {}).await, Answer::Noted {});
    assert!(inquiries.is_gone(&member(1)) && !inquiries.is_gone(&member(2)));
    assert!(!inquiries.is_gone(&Member { incarnation: Incarnation(2), ..member(1) }), "somebody else by now");
    asked(&inquiries, 1, Inquiry::Standing {}).await;
    assert!(inquiries.is_gone(&member(1)), "what it asks on its way out says nothing");
    inquiries.is_back(&member(1));
    assert!(!inquiries.is_gone(&member(1)));
    inquiries.end();
    assert!(inquiries.standing().unwrap().ended);
}

#[tokio::test]
async fn who_waits_has_a_place_of_his_own_and_who_has_none_does_not_wait() {
    let (inquiries, agent) = host();
    let since = |wait_ms| Inquiry::Events(Since { wait_ms, ..Since::default() });
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..WAITING_PER_MEMBER_MAX {
        let inquiries = inquiries.clone();
        waiting.spawn(async move { asked(&inquiries, 1, since(9_000)).await });
    }
    tokio::task::yield_now().await;
    // One too many of the same member is answered at once, with nothing; the places of others are theirs.
    let clock = Clock::start();
    let Answer::Events(page) = asked(&inquiries, 1, since(9_000)).await else { panic!("no events") };
    assert!(page.events.is_empty());
    asked(&inquiries, 2, since(100)).await;
    assert!(clock.now().since(Moment::START) >= Duration::from_millis(100));
    assert!(matches!(asked(&inquiries, 1, Inquiry::Status {}).await, Answer::Status(_)), "these are other places");
    agent.events.push(happened("a"));
    while let Some(answer) = waiting.join_next().await {
        let Answer::Events(page) = answer.unwrap() else { panic!("no events") };
        assert_eq!((page.events.len(), page.next), (1, Position { seen: 1, ..page.next }));
    }
    assert!(
        clock.now().since(Moment::START) < Duration::from_secs(9),
        "they heard of it, and did not wait for the end"
    );
}

#[tokio::test]
async fn one_member_cannot_take_all_places() {
    let (inquiries, _agent) = host();
    let held: Vec<_> = (0..AT_ONCE_PER_MEMBER_MAX).map(|_| inquiries.at_once.take(PeerId(1)).unwrap()).collect();
    let refused = asked(&inquiries, 1, Inquiry::Standing {}).await;
    assert!(matches!(refused, Answer::Refused { kind: Kind::TryAgain, .. }), "{refused:?}");
    assert!(matches!(asked(&inquiries, 2, Inquiry::Standing {}).await, Answer::Standing(_)));
    drop(held);
    assert!(matches!(asked(&inquiries, 1, Inquiry::Standing {}).await, Answer::Standing(_)));
}
