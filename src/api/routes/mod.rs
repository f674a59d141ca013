//! The table of all routes: path, method, access, what goes in and what comes out.
//!
//! The router, the checks of roles and `/openapi.json` are made from it, so none of them can miss a
//! route. To add a route:
//!
//! 1. What it does is one function in `admin/`; an action that changes something is audited there and
//!    is one of `ACTIONS` in `admin/audited.rs`.
//! 2. Its handler, in a file of this folder: it parses the request and calls that function.
//! 3. Its [`Route`] in one of the lists here: place, path, access, summary, query, body and answers.
//! 4. `WALFERRY_BLESS=1 cargo test --test integration -- papers contract` writes it into the tables of
//!    `docs/` and `tests/fixtures/contract/`. A new problem code goes into `docs/api.md` by hand.
//! 5. Tests: beside those of `tests/api*.rs`; a new `{placeholder}` of a path gets its value there.
//!
//! Not here: what a route does.

mod audit;
mod background;
mod events;
mod health;
mod job;
mod jobs;
pub mod openapi;
mod operations;
mod overview;
mod probes;
mod records;
mod session;
mod stats;

use super::server::input::Reason;
use super::server::route::{Access, Route, RoutePlace};
use crate::admin::elasticsearch::ConnectionTest;
use crate::admin::figures::stats::Stats;
use crate::admin::health::QueueHealth;
use crate::admin::jobs::document::JobDocument;
use crate::admin::operation::view::OperationView;
use crate::admin::record::view::RecordView;

/// All routes, but for the page's files.
#[must_use]
pub fn routes() -> Vec<Route> {
    let mut routes = probe_routes();
    routes.extend(reads_of_jobs());
    routes.extend(reads_of_the_whole());
    routes.extend(actions_on_the_whole());
    routes.extend(actions_on_jobs());
    routes.extend(operations_beside_the_stream());
    routes
}

fn probe_routes() -> Vec<Route> {
    use Access::{Public, Viewer};
    use RoutePlace::Root;
    const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
    vec![
        Route::get::<_, _, probes::Live>(
            Root,
            "/livez",
            Public,
            "the process runs; needs neither PostgreSQL nor Elasticsearch",
            probes::live,
        ),
        Route::get::<_, _, probes::Ready>(
            Root,
            "/readyz",
            Public,
            "200 when progress is possible, else 503; each part by name either way",
            probes::ready,
        )
        .same_when_unavailable(),
        Route::get::<_, _, session::SessionView>(
            Root,
            "/api/v1/session",
            Public,
            "who asks, and whether anybody must say so",
            session::get,
        ),
        Route::get::<_, _, ()>(Root, "/metrics", Viewer, "all metrics", probes::metrics)
            .answers(&[TEXT], "Prometheus text"),
        Route::get::<_, _, serde_json::Value>(
            Root,
            "/openapi.json",
            Public,
            "this description",
            openapi::get,
        ),
    ]
}

fn reads_of_jobs() -> Vec<Route> {
    use Access::Viewer;
    use RoutePlace::Queue;
    vec![
        Route::get::<_, _, Stats>(
            Queue,
            "/stats",
            Viewer,
            "the queue's figures as they are now",
            stats::get,
        ),
        Route::get::<_, _, QueueHealth>(
            Queue,
            "/health",
            Viewer,
            "whether the queue does well, what is wrong, and what to do; always 200",
            overview::health,
        ),
        Route::get::<_, _, jobs::Jobs>(Queue, "/jobs", Viewer, "jobs, the newest first", jobs::get)
            .with_query::<jobs::JobsQuery>(),
        Route::get::<_, _, JobDocument>(
            Queue,
            "/jobs/{id}",
            Viewer,
            "one job, with its change column by column",
            job::get,
        ),
        Route::get::<_, _, ()>(
            Queue,
            "/events",
            Viewer,
            "overviews and news of jobs as server-sent events",
            events::get,
        )
        .answers(&["text/event-stream"], "events `state`, `jobs`, `operations` and `ping`"),
    ]
}

fn reads_of_the_whole() -> Vec<Route> {
    use Access::{Operator, Viewer};
    use RoutePlace::Root;
    vec![
        Route::get::<_, _, overview::Overview>(
            Root,
            "/api/v1/overview",
            Viewer,
            "statistics, health, slot and parts at one look",
            overview::get,
        ),
        Route::get::<_, _, RecordView>(
            Root,
            "/api/v1/records/{table}/{record_id}",
            Viewer,
            "a record: its jobs, its row now, its documents now, and whether they differ",
            records::get,
        ),
        Route::get::<_, _, audit::AuditList>(
            Root,
            "/api/v1/audit",
            Operator,
            "who did what, the newest first",
            audit::get,
        )
        .with_query::<audit::AuditQuery>(),
        Route::get::<_, _, ()>(
            Root,
            "/api/v1/audit/export",
            Operator,
            "the newest 10,000 lines that match, as CSV or NDJSON",
            audit::export,
        )
        .with_query::<audit::ExportQuery>()
        .answers(&["application/x-ndjson", "text/csv"], "a line each, as in `entries` of the list"),
        Route::get::<_, _, health::DetailedHealth>(
            Root,
            "/api/v1/health/detailed",
            Viewer,
            "every part by itself; memory, uptime, version",
            health::detailed,
        ),
        Route::get::<_, _, ConnectionTest>(
            Root,
            "/api/v1/elasticsearch/test-connection",
            Viewer,
            "whether Elasticsearch can be worked with; 503 if not",
            health::test_connection,
        ),
    ]
}

fn actions_on_the_whole() -> Vec<Route> {
    use Access::{Admin, Operator};
    use RoutePlace::Queue;
    vec![
        Route::post::<_, _, operations::Retried>(
            Queue,
            "/retry-failed",
            Operator,
            "stuck jobs are reset, failed ones pending again",
            operations::retry_failed,
        ),
        Route::post::<_, _, operations::Cleared>(
            Queue,
            "/clear",
            Admin,
            "finished jobs are deleted; unfinished ones stay",
            operations::clear,
        )
        .with_body::<Reason>(),
        Route::post::<_, _, operations::IndexingChosen>(
            Queue,
            "/start",
            Operator,
            "indexing goes on",
            operations::start,
        )
        .with_body::<Reason>(),
        Route::post::<_, _, operations::IndexingChosen>(
            Queue,
            "/stop",
            Operator,
            "indexing halts; changes are captured meanwhile",
            operations::stop,
        )
        .with_body::<Reason>(),
    ]
}

fn actions_on_jobs() -> Vec<Route> {
    use Access::{Admin, Operator};
    use RoutePlace::{Queue, Root};
    vec![
        Route::post::<_, _, operations::Retried>(
            Queue,
            "/jobs/{id}/retry",
            Operator,
            "a failed job is pending again",
            job::retry,
        ),
        Route::post::<_, _, operations::Discarded>(
            Queue,
            "/jobs/{id}/discard",
            Admin,
            "a failed job is put aside; nobody will try it again, and for a day it can be restored",
            job::discard,
        )
        .with_body::<Reason>(),
        Route::post::<_, _, operations::RetriedByFilter>(
            Queue,
            "/operations/retry",
            Operator,
            "failed jobs that match are pending again",
            operations::retry_by_filter,
        )
        .with_body::<operations::ByFilter>(),
        Route::post::<_, _, operations::DiscardedByFilter>(
            Queue,
            "/operations/discard",
            Admin,
            "failed jobs that match are put aside; for a day they can be restored",
            operations::discard_by_filter,
        )
        .with_body::<operations::ByFilter>(),
        Route::post::<_, _, operations::Restored>(
            Queue,
            "/operations/restore",
            Admin,
            "jobs that were discarded within a day are failed again",
            operations::restore,
        )
        .with_body::<operations::RestoreBody>(),
        Route::post::<_, _, records::Resynced>(
            Root,
            "/api/v1/records/{table}/{record_id}/resync",
            Operator,
            "the record's documents are rendered anew from its row",
            records::resync,
        ),
    ]
}

fn operations_beside_the_stream() -> Vec<Route> {
    use Access::{Admin, Operator, Viewer};
    use RoutePlace::Root;
    vec![
        Route::get::<_, _, background::OperationList>(
            Root,
            "/api/v1/operations",
            Viewer,
            "backfills and verifications, the newest first",
            background::get_all,
        )
        .with_query::<background::OperationsQuery>(),
        Route::get::<_, _, OperationView>(
            Root,
            "/api/v1/operations/{id}",
            Viewer,
            "one operation, with the documents that it has found to differ",
            background::get,
        ),
        Route::post::<_, _, background::QueuedAnswer>(
            Root,
            "/api/v1/operations/verify",
            Operator,
            "documents are compared with their rows, and rendered anew where that is asked for",
            background::verify,
        )
        .with_body::<background::VerifyBody>(),
        Route::post::<_, _, background::QueuedAnswer>(
            Root,
            "/api/v1/operations/backfill",
            Admin,
            "the documents of a table's rows are rendered anew",
            background::backfill,
        )
        .with_body::<background::BackfillBody>(),
        Route::post::<_, _, background::SteeredAnswer>(
            Root,
            "/api/v1/operations/{id}/cancel",
            Operator,
            "an operation ends; what it has sent stays",
            background::cancel,
        ),
        Route::post::<_, _, background::SteeredAnswer>(
            Root,
            "/api/v1/operations/{id}/pause",
            Operator,
            "an operation halts",
            background::pause,
        ),
        Route::post::<_, _, background::SteeredAnswer>(
            Root,
            "/api/v1/operations/{id}/resume",
            Operator,
            "a paused operation goes on from where it was",
            background::resume,
        ),
    ]
}
