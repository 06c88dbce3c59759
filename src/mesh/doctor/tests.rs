//! What is said about what was seen.

use expect_test::expect;

use super::super::messages::HexId;
use super::*;

const OURS: [u8; 32] = [1; 32];
const THEIRS: [u8; 32] = [2; 32];

fn answered(cluster: u128, authority: [u8; 32], unix_ms: u64, until_s: u64) -> Seen {
    let who = Who {
        cluster: HexId(cluster),
        peer: HexId(2),
        host: "b".to_owned(),
        unix_ms,
        version: "0.1.0".to_owned(),
        level_min: 0,
        level_max: 1,
    };
    let chain = vec![[9; 32], authority];
    Seen::Answered { who: Box::new(who), chain, until_s: Some(until_s), travel_ms: 1, now_ms: 1_000_000_000 }
}

#[test]
fn each_obstacle_is_named_with_its_remedy() {
    let to = SocketAddr::from(([192, 0, 2, 1], 6468));
    let beliefs = Beliefs { cluster: Some(ClusterId(7)), authorities: vec![OURS], whose: "this host" };
    let later = 2_000_000;
    let cases = [
        ("blocked", Seen::NoHandshake(Small::Silent)),
        ("closed", Seen::NoHandshake(Small::Closed)),
        ("small", Seen::NoHandshake(Small::Answered)),
        ("strange", Seen::Strange("no".to_owned())),
        ("impossible", Seen::Impossible("no route".to_owned())),
        ("good", answered(7, OURS, 1_000_000_500, later)),
        ("other cluster", answered(8, THEIRS, 1_000_000_000, later)),
        ("other authority", answered(7, THEIRS, 1_000_000_000, later)),
        ("clock ahead", answered(7, OURS, 1_000_600_000, later)),
        ("expired", answered(7, OURS, 1_000_000_000, 1_000_000 - 3 * 86_400)),
    ];
    let mut said = String::new();
    for (name, seen) in cases {
        said += &format!("{name}\n");
        for Finding { check, ok, found, remedy } in judge(to, &seen, &beliefs) {
            assert_eq!(ok, remedy.is_none(), "{found}");
            let mark = if ok { "ok" } else { "BAD" };
            said += &format!("  {mark} {check}: {found}{}\n", remedy.map(|r| format!(" -> {r}")).unwrap_or_default());
        }
    }
    expect![[r#"
        blocked
          BAD network: nothing comes back from 192.0.2.1:6468: UDP is blocked on the way, or the host is down -> let UDP port 6468 through, both ways, and look whether mgmt runs there: mgmt status
        closed
          BAD network: 192.0.2.1 answers, and nobody listens on UDP port 6468 there -> start mgmt there, or name the port it listens on: mgmt status says it there
        small
          ok network: small packets go to 192.0.2.1:6468 and come back
          BAD mtu: packets of 1,200 bytes are lost: the network carries only small ones -> raise the MTU of the links or tunnels between the two to 1,280 or more
        strange
          BAD mesh: 192.0.2.1:6468 answers, but not as a member of a mesh does: no -> look at mgmt status there
        impossible
          BAD network: 192.0.2.1:6468 cannot be tried from here: no route -> look at the routes of this host: ip route
        good
          ok network: 192.0.2.1:6468 answers after 2 ms: b with mgmt 0.1.0
          ok authority: b and this host believe the same authority
          ok clock: the clocks differ by 0.5 s
        other cluster
          ok network: 192.0.2.1:6468 answers after 2 ms: b with mgmt 0.1.0
          BAD authority: b is of cluster 00000000000000000000000000000008, and this host is of 00000000000000000000000000000007: two clusters never merge -> let one of the two leave its mesh, and join the other: mgmt join --help; or name another host than b
          ok clock: the clocks differ by 0.0 s
        other authority
          ok network: 192.0.2.1:6468 answers after 2 ms: b with mgmt 0.1.0
          BAD authority: b says it is of the same cluster, but its authority is another one than this host believes -> make another token there and join again; if nobody has changed the authority, somebody pretends to be it
          ok clock: the clocks differ by 0.0 s
        clock ahead
          ok network: 192.0.2.1:6468 answers after 2 ms: b with mgmt 0.1.0
          ok authority: b and this host believe the same authority
          BAD clock: the clock of b is 600 s ahead of this host's -> set both by NTP: timedatectl set-ntp true; tokens and certificates live by them
        expired
          ok network: 192.0.2.1:6468 answers after 2 ms: b with mgmt 0.1.0
          ok authority: b and this host believe the same authority
          ok clock: the clocks differ by 0.0 s
          BAD certificate: the certificate of b has ended 3 days ago -> look at mgmt doctor there; if only the clock here is wrong, set it
    "#]].assert_eq(&said);
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_closed_or_silent_and_one_that_does_not_answer_is_silent() {
    let deaf = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    assert_eq!(small(deaf.local_addr().unwrap()).await, Small::Silent);
    let free = deaf.local_addr().unwrap();
    drop(deaf);
    assert_eq!(small(free).await, Small::Closed);
}

#[tokio::test]
async fn whoever_speaks_quic_answers_a_small_packet() {
    let options = Options { reset_secret: Some([7; 32]), ..Options::lan("127.0.0.1:0".parse().unwrap()) };
    let endpoint = Endpoint::bind(options).unwrap();
    assert_eq!(small(endpoint.local_address()).await, Small::Answered);
    endpoint.close().await;
}
