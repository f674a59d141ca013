//! Which failures count against a document, and what a failure says about an index.

use super::*;

#[test]
fn failures_of_the_service_do_not_count_against_a_document() {
    let mut bench = bench(10, 1);
    bench.push(0, "a");
    for _ in 0..14 {
        let bulk = bench.send();
        bench.fail(bulk, ServiceFailure::Connection);
        bench.wait();
    }
    let bulk = bench.send();
    bench.answer(bulk, &[(503, "unavailable_shards_exception")]);
    assert_eq!(bench.settled(), (0, vec![]), "its index has taken nothing else");
    bench.wait();
    let bulk = bench.send();
    bench.answer(bulk, &[(201, "")]);
    assert_eq!(bench.settled(), (1, vec![]));
}

#[test]
fn an_index_that_is_missing_is_so_beside_other_failures() {
    let mut bench = bench(10, 1);
    bench.push(0, "a b");
    let bulk = bench.send();
    bench.answer(bulk, &[(503, "x"), (404, "index_not_found_exception")]);
    let status = bench.state.indices().borrow()[0].clone();
    assert!(matches!(status, IndexStatus::Missing { .. }), "{status:?}");
}

#[test]
fn a_document_that_alone_keeps_failing_is_refused() {
    let mut bench = bench(10, 1);
    bench.push(0, "a b");
    let bulk = bench.send();
    bench.answer(bulk, &[(503, "x"), (201, "")]);
    assert_eq!(bench.settled(), (1, vec![]));
    for _ in 0..10 {
        let bulk = bench.send_later();
        assert_eq!(ids(&bulk), "a");
        bench.answer(bulk, &[(503, "x")]);
        assert_eq!(bench.settled(), (0, vec![]));
    }
    let bulk = bench.send_later();
    bench.answer(bulk, &[(503, "x")]);
    let sentence = "a/a: refused 12 times while others were taken: x".to_owned();
    assert_eq!(bench.settled(), (1, vec![sentence]));
}
