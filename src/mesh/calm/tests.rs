//! Who holds up whom.

use expect_test::{Expect, expect};

use super::*;

fn quiet(quiet_ms: u64) -> Standing {
    Standing { converged: true, quiet_ms: Some(quiet_ms), settled: 9, publishing: false, exports: 5, ended: false }
}

fn check(own: Standing, others: &[Word], expect: Expect) {
    let hosts = ["b", "c", "d"].iter().map(|host| (*host).to_owned());
    let others: Vec<_> = hosts.zip(others.iter().cloned()).collect();
    expect.assert_eq(&match decide(&own, &others, Duration::from_secs(5)) {
        Calm::Converged => "converged".to_owned(),
        Calm::Soon(rest) => format!("in {} ms", rest.as_millis()),
        Calm::Not(why) | Calm::Never(why) => why,
    });
}

#[test]
fn the_one_that_was_quiet_last_counts() {
    use Word::Said;
    check(quiet(5_000), &[], expect!["converged"]);
    check(quiet(4_999), &[], expect!["in 1 ms"]);
    check(quiet(9_000), &[Said(quiet(7_000)), Said(quiet(1_500))], expect!["in 3500 ms"]);
    check(quiet(9_000), &[Said(quiet(5_000)), Said(quiet(5_000))], expect!["converged"]);
}

#[test]
fn whoever_works_or_says_nothing_holds_it_up() {
    use Word::{Excused, Said, Silent};
    let works = Standing { converged: false, quiet_ms: None, ..quiet(0) };
    let young = Standing { converged: false, ..quiet(100) };
    check(works, &[Said(quiet(9_000))], expect!["this host is not converged"]);
    check(quiet(9_000), &[Said(quiet(9_000)), Said(works)], expect!["c is not converged"]);
    check(quiet(9_000), &[Said(young)], expect!["b is not converged"]);
    check(quiet(9_000), &[Silent("no answer".to_owned())], expect!["b says nothing: no answer"]);
    check(quiet(9_000), &[Excused, Said(quiet(9_000))], expect!["converged"]);
    // Whoever ends does not count, however he is.
    check(quiet(9_000), &[Said(Standing { ended: true, ..works })], expect!["converged"]);
    check(quiet(9_000), &[Said(Standing::default())], expect!["b is not converged"]);
}

#[test]
fn nobody_is_converged_by_an_old_view() {
    use Word::Said;
    let publishes = Standing { publishing: true, ..quiet(9_000) };
    check(quiet(9_000), &[Said(publishes)], expect!["b has something to publish"]);
    check(publishes, &[Said(quiet(9_000))], expect!["this host has something to publish"]);
    // What anybody knows of the exports is what all are measured by.
    let knows = Standing { exports: 10, settled: 10, ..quiet(9_000) };
    check(
        quiet(9_000),
        &[Said(knows)],
        expect!["this host has seen exports of revision 9, and the last change was at 10"],
    );
    check(knows, &[Said(quiet(9_000))], expect!["b has seen exports of revision 9, and the last change was at 10"]);
    check(knows, &[Said(knows)], expect!["converged"]);
}
