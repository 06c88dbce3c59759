//! The sentences of `msg`, one by one.

use super::*;
use crate::Host;
use crate::kind::Value;
use tokio::net::UnixDatagram;

fn host() -> Arc<Host> {
    crate::exec::test_host(std::path::Path::new("/nonexistent"))
}

fn built(set: &[(&'static str, Value)]) -> Result<Built, Vec<String>> {
    let mut params = Params::default();
    set.iter().for_each(|(field, value)| params.set(field, value.clone()));
    let host = host();
    let context = Context::of(&host, "hello");
    build(&mut params, &context).map_err(|problems| {
        problems.into_iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect()
    })
}

fn msg(directory: &std::path::Path) -> Msg {
    Msg {
        name: "hello".into(),
        body: "body".into(),
        priority: 5,
        fields: BTreeMap::new(),
        journal: true,
        syslog: false,
        sensitive: false,
        sockets: Sockets { journal: directory.join("journal"), syslog: directory.join("syslog") },
        sent: Sent::default(),
    }
}

#[test]
fn parameters_are_checked() {
    let text = |text: &str| Value::Text(text.to_owned());
    assert!(built(&[]).is_ok());
    assert!(built(&[("priority", text("Warning"))]).is_ok());
    assert_eq!(
        built(&[("priority", text("8"))]).unwrap_err(),
        ["priority: '8' is none of emerg, alert, crit, err, warning, notice, info, debug, or 0 to 7"]
    );
    assert_eq!(
        built(&[("body", text(&"x".repeat(49_153)))]).unwrap_err(),
        ["body: has 49153 bytes, and may have 49152"]
    );
    for (key, good) in [("A_1", true), ("_A", false), ("a", false), ("", false)] {
        let fields = Value::Map(BTreeMap::from([(key.to_owned(), String::new())]));
        assert_eq!(built(&[("fields", fields)]).is_ok(), good, "{key}");
    }
}

#[test]
fn priorities_have_names_and_numbers() {
    let numbers = ["emerg", "Alert", "critical", "ERR", "warn", "notice", "6", "debug", "8", ""].map(priority_number);
    assert_eq!(numbers, [Some(0), Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), Some(7), None, None]);
}

#[tokio::test]
async fn it_is_sent_once_and_again_on_a_refresh() {
    let directory = tempfile::tempdir().unwrap();
    let receiver = UnixDatagram::bind(directory.path().join("journal")).unwrap();
    let msg = msg(directory.path());
    let mut buffer = [0; 1024];
    assert_eq!(msg.check(&Look::because(Cause::First)).await.unwrap(), Check::Drifted(Unsent));
    msg.apply(Unsent, &Work::because(Cause::First)).await.unwrap();
    assert!(receiver.recv(&mut buffer).await.unwrap() > 0);
    for cause in [Cause::First, Cause::Drift, Cause::Tick, Cause::Poll] {
        assert_eq!(msg.check(&Look::because(cause)).await.unwrap(), Check::Converged);
    }
    msg.refresh(&Work::because(Cause::Refresh)).await.unwrap();
    assert!(receiver.recv(&mut buffer).await.unwrap() > 0);
}

#[tokio::test]
async fn without_a_journal_it_goes_to_our_own_log_and_without_a_syslog_it_fails() {
    let directory = tempfile::tempdir().unwrap();
    let mut msg = msg(directory.path());
    assert!(msg.send().await.is_ok());
    msg.syslog = true;
    let fault = msg.send().await.unwrap_err().to_string();
    assert!(fault.starts_with("cannot send to "), "{fault}");
    let receiver = UnixDatagram::bind(directory.path().join("syslog")).unwrap();
    assert!(msg.send().await.is_ok());
    assert!(receiver.try_recv(&mut [0; 1024]).unwrap() > 0);
}

#[test]
fn it_promises_nothing() {
    assert!(Unsent.promises().is_empty());
}
