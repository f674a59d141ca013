//! Actions on documents that stay as they are.

use super::*;

impl Bench {
    /// An action that leaves the document as it is; whether it was settled at once.
    fn push_unchanged(&mut self, index: u16, id: &str) -> bool {
        let mut action = action(index, id, 2, Some("{}"));
        action.unchanged = true;
        self.dispatcher.push(action);
        self.settled() == (1, vec![])
    }

    fn index(&mut self, id: &str) {
        self.push(0, id);
        let bulk = self.send();
        self.answer(bulk, &[(201, "")]);
        assert_eq!(self.settled(), (1, vec![]));
    }
}

#[test]
fn what_elasticsearch_has_is_not_sent_again() {
    let mut bench = bench(8, 2);
    bench.index("x");
    assert!(bench.push_unchanged(0, "x"));
    bench.nothing();
    assert_eq!(bench.state.documents(DocumentOutcome::Unchanged), 1);
    assert!(!bench.push_unchanged(0, "y"), "never indexed by this process");
    assert!(!bench.push_unchanged(1, "x"), "another index");
}

#[test]
fn while_a_change_has_no_verdict_the_next_waits_for_it() {
    let mut bench = bench(8, 2);
    bench.index("x");
    bench.push(0, "x");
    assert!(!bench.push_unchanged(0, "x"), "ready");
    let bulk = bench.send();
    assert!(!bench.push_unchanged(0, "x"), "in flight");
    bench.answer(bulk, &[(201, "")]);
    assert_eq!(bench.settled(), (2, vec![]));
    assert_eq!(ids(&bench.send()), "x");
}

#[test]
fn what_elasticsearch_may_not_have_is_sent() {
    let check = |what: &str, happens: fn(&mut Bench)| {
        let mut bench = bench(8, 2);
        bench.index("x");
        happens(&mut bench);
        bench.dispatcher.take_settled();
        assert!(!bench.push_unchanged(0, "x"), "{what}");
    };
    check("deleted", |bench| {
        bench.dispatcher.push(action(0, "x", 2, None));
        let bulk = bench.send();
        bench.answer(bulk, &[(200, "")]);
    });
    check("refused", |bench| {
        bench.push(0, "x");
        let bulk = bench.send();
        bench.answer(bulk, &[(400, "document_parsing_exception")]);
    });
    check("superseded", |bench| {
        bench.push(0, "x");
        let bulk = bench.send();
        bench.answer(bulk, &[(409, "")]);
    });
    check("the index was away", |bench| {
        bench.dispatcher.index_missing(bench.now, IndexId(0), "gone".to_owned());
        bench.dispatcher.checked(bench.now, IndexId(0), Ok(Presence::Present));
    });
    check("Elasticsearch was away", |bench| {
        bench.dispatcher.pinged(bench.now, Err(failed(ServiceFailure::Connection)));
        bench.dispatcher.pinged(bench.now, Ok(()));
    });
}
