//! The table of all routes: path, method, who may ask, what goes in and what comes out.
//!
//! The router, the checks of rights and `/openapi.json` are made from it, so none of them can
//! forget a route.
//!
//! Not here: what a route does.

pub mod audit;
pub mod audited;
pub mod events;
pub mod health;
pub mod job;
pub mod jobs;
pub mod openapi;
pub mod operations;
pub mod overview;
pub mod probes;
pub mod records;
pub mod stats;

use axum::handler::Handler;
use axum::routing::{MethodRouter, get, post};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use super::State;
use super::auth::{Role, session};

/// Who may use a route. Each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Everybody: tells nothing of the data.
    Public,
    /// Looks.
    Viewer,
    /// Tries again, halts and resumes.
    Operator,
    /// Deletes.
    Admin,
}

impl Access {
    /// The role that it asks for.
    pub(super) const fn role(self) -> Option<Role> {
        match self {
            Self::Public => None,
            Self::Viewer => Some(Role::Viewer),
            Self::Operator => Some(Role::Operator),
            Self::Admin => Some(Role::Admin),
        }
    }

    /// Its name in the description of the API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Public => "public",
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// What a route does to the state of things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Nothing: it may be repeated at will.
    Get,
    /// Something, which the audit log keeps.
    Post,
}

/// Where a route's path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// As it stands.
    Root,
    /// Under each of [`super::QUEUE_PREFIXES`].
    Queue,
}

/// Makes a schema.
pub(super) type MakeSchema = fn(&mut SchemaGenerator) -> Schema;

/// One route.
pub struct Route {
    pub method: Method,
    pub place: Place,
    pub path: &'static str,
    pub access: Access,
    pub summary: &'static str,
    pub(super) query: Option<MakeSchema>,
    pub(super) body: Option<MakeSchema>,
    pub(super) answer: Answer,
    pub(super) handler: MethodRouter<State>,
}

/// What a route answers with when all is well.
pub(super) enum Answer {
    Json(MakeSchema),
    /// A media type, and what stands in it.
    Other(&'static str, &'static str),
}

impl Route {
    fn get<H: Handler<T, State>, T: 'static, A: JsonSchema>(
        place: Place,
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: H,
    ) -> Self {
        let answer = Answer::Json(schema::<A>);
        let (query, body, handler) = (None, None, get(handler));
        Self { method: Method::Get, place, path, access, summary, query, body, answer, handler }
    }

    fn post<H: Handler<T, State>, T: 'static, A: JsonSchema>(
        place: Place,
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: H,
    ) -> Self {
        let answer = Answer::Json(schema::<A>);
        let (query, body, handler) = (None, None, post(handler));
        Self { method: Method::Post, place, path, access, summary, query, body, answer, handler }
    }

    fn with_query<Q: JsonSchema>(mut self) -> Self {
        self.query = Some(schema::<Q>);
        self
    }

    fn with_body<B: JsonSchema>(mut self) -> Self {
        self.body = Some(schema::<B>);
        self
    }

    fn answers(mut self, media_type: &'static str, what: &'static str) -> Self {
        self.answer = Answer::Other(media_type, what);
        self
    }
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// All routes, but for the page's files.
#[must_use]
pub fn routes() -> Vec<Route> {
    let mut routes = probe_routes();
    routes.extend(looks());
    routes.extend(actions_on_the_whole());
    routes.extend(actions_on_jobs());
    routes
}

fn probe_routes() -> Vec<Route> {
    use Access::{Public, Viewer};
    use Place::Root;
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
        ),
        Route::get::<_, _, session::Session>(
            Root,
            "/api/v1/session",
            Public,
            "who asks, and whether anybody must say so",
            session::get,
        ),
        Route::get::<_, _, ()>(Root, "/metrics", Viewer, "all metrics", probes::metrics)
            .answers(TEXT, "Prometheus text"),
        Route::get::<_, _, serde_json::Value>(
            Root,
            "/openapi.json",
            Public,
            "this description",
            super::routes::openapi::get,
        ),
    ]
}

fn looks() -> Vec<Route> {
    let mut routes = looks_at_jobs();
    routes.extend(looks_at_the_whole());
    routes
}

fn looks_at_jobs() -> Vec<Route> {
    use Access::Viewer;
    use Place::Queue;
    vec![
        Route::get::<_, _, stats::Stats>(
            Queue,
            "/stats",
            Viewer,
            "the queue's figures as they are now",
            stats::get,
        ),
        Route::get::<_, _, overview::Health>(
            Queue,
            "/health",
            Viewer,
            "whether the queue does well, what is wrong, and what to do; always 200",
            overview::health,
        ),
        Route::get::<_, _, jobs::Jobs>(Queue, "/jobs", Viewer, "jobs, the newest first", jobs::get)
            .with_query::<jobs::JobsQuery>(),
        Route::get::<_, _, job::JobDetail>(
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
        .answers("text/event-stream", "events `state`, `jobs` and `ping`"),
    ]
}

fn looks_at_the_whole() -> Vec<Route> {
    use Access::{Operator, Viewer};
    use Place::Root;
    vec![
        Route::get::<_, _, overview::Overview>(
            Root,
            "/api/v1/overview",
            Viewer,
            "statistics, health, slot and parts at one look",
            overview::get,
        ),
        Route::get::<_, _, records::Record>(
            Root,
            "/api/v1/records/{table}/{record_id}",
            Viewer,
            "a record: its jobs, its row now, its documents now, and whether they differ",
            records::get,
        ),
        Route::get::<_, _, audit::Audit>(
            Root,
            "/api/v1/audit",
            Operator,
            "who did what, the newest first",
            audit::get,
        )
        .with_query::<audit::AuditQuery>(),
        Route::get::<_, _, health::Detailed>(
            Root,
            "/api/v1/health/detailed",
            Viewer,
            "every part by itself; memory, uptime, version",
            health::detailed,
        ),
        Route::get::<_, _, health::Tested>(
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
    use Place::Queue;
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
        ),
        Route::post::<_, _, operations::Done>(
            Queue,
            "/start",
            Operator,
            "indexing goes on",
            operations::start,
        ),
        Route::post::<_, _, operations::Done>(
            Queue,
            "/stop",
            Operator,
            "indexing halts; changes are captured meanwhile",
            operations::stop,
        ),
    ]
}

fn actions_on_jobs() -> Vec<Route> {
    use Access::Operator;
    use Place::{Queue, Root};
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
            Operator,
            "a failed job is deleted; nobody will try it again",
            job::discard,
        )
        .with_body::<job::Reason>(),
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
            Operator,
            "failed jobs that match are deleted; nobody will try them again",
            operations::discard_by_filter,
        )
        .with_body::<operations::ByFilter>(),
        Route::post::<_, _, records::Resynced>(
            Root,
            "/api/v1/records/{table}/{record_id}/resync",
            Operator,
            "the record's documents are rendered anew from its row",
            records::resync,
        ),
    ]
}
