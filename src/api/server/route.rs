//! What a route is: path, method, access, what goes in and what comes out.
//!
//! Not here: the table of routes (`routes`).

use axum::handler::Handler;
use axum::routing::{MethodRouter, get, post};
use schemars::{JsonSchema, Schema, SchemaGenerator};

use crate::api::state::ApiState;
use crate::config::Role;

/// The queue's routes stand under each of these.
pub const QUEUE_PREFIXES: [&str; 2] = ["/api/v1/queue", "/api/v1/ai-suggestions/queue"];

/// Who may use a route. Each may do what those before it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Every client: the answer has nothing of the data.
    Public,
    /// Reads.
    Viewer,
    /// Retries, starts and stops.
    Operator,
    /// Deletes.
    Admin,
}

impl Access {
    /// The role that it requires.
    pub(in crate::api) const fn role(self) -> Option<Role> {
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

/// Whether a route changes something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// It changes nothing and may be repeated at will.
    Get,
    /// It changes something, and the audit log has an entry of it.
    Post,
}

/// Where a route's path begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoutePlace {
    /// At the root.
    Root,
    /// Under each of [`QUEUE_PREFIXES`].
    Queue,
}

impl RoutePlace {
    /// What stands before the path.
    #[must_use]
    pub const fn prefixes(self) -> &'static [&'static str] {
        match self {
            Self::Root => &[""],
            Self::Queue => &QUEUE_PREFIXES,
        }
    }
}

/// Makes a schema.
pub(in crate::api) type MakeSchema = fn(&mut SchemaGenerator) -> Schema;

/// One route.
pub struct Route {
    pub method: Method,
    pub place: RoutePlace,
    pub path: &'static str,
    pub access: Access,
    pub summary: &'static str,
    pub(in crate::api) query: Option<MakeSchema>,
    pub(in crate::api) body: Option<MakeSchema>,
    pub(in crate::api) answer: RouteAnswer,
    /// Whether 503 has the same body as 200, instead of a problem's.
    pub(in crate::api) is_same_when_unavailable: bool,
    pub(in crate::api) handler: MethodRouter<ApiState>,
}

/// The answer of a route that succeeds.
pub(in crate::api) enum RouteAnswer {
    Json(MakeSchema),
    Other { media_types: &'static [&'static str], description: &'static str },
}

impl Route {
    /// A route that reads.
    pub(in crate::api) fn get<H: Handler<T, ApiState>, T: 'static, A: JsonSchema>(
        place: RoutePlace,
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: H,
    ) -> Self {
        Self {
            method: Method::Get,
            place,
            path,
            access,
            summary,
            query: None,
            body: None,
            answer: RouteAnswer::Json(schema::<A>),
            is_same_when_unavailable: false,
            handler: get(handler),
        }
    }

    /// A route that changes something.
    pub(in crate::api) fn post<H: Handler<T, ApiState>, T: 'static, A: JsonSchema>(
        place: RoutePlace,
        path: &'static str,
        access: Access,
        summary: &'static str,
        handler: H,
    ) -> Self {
        Self {
            method: Method::Post,
            place,
            path,
            access,
            summary,
            query: None,
            body: None,
            answer: RouteAnswer::Json(schema::<A>),
            is_same_when_unavailable: false,
            handler: post(handler),
        }
    }

    /// Documents the query's parameters.
    pub(in crate::api) fn with_query<Q: JsonSchema>(mut self) -> Self {
        self.query = Some(schema::<Q>);
        self
    }

    /// Documents the request's body.
    pub(in crate::api) fn with_body<B: JsonSchema>(mut self) -> Self {
        self.body = Some(schema::<B>);
        self
    }

    /// With an answer that is not JSON.
    pub(in crate::api) fn answers(
        mut self,
        media_types: &'static [&'static str],
        description: &'static str,
    ) -> Self {
        self.answer = RouteAnswer::Other { media_types, description };
        self
    }

    /// With 503 and the body of 200 where a part is not available.
    pub(in crate::api) fn same_when_unavailable(mut self) -> Self {
        self.is_same_when_unavailable = true;
        self
    }
}

fn schema<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}
