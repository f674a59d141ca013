//! The audit log: who did what, and what came of it.
//!
//! An operation is written down before it begins ([`begin`]) and again when it has ended
//! ([`end`]): one that died half-way stays `started`. What cannot be written down is not done.
//!
//! Not here: authentication (`api`), and dropping what is old (`storage::queue::maintain`).

use std::time::{Duration, SystemTime};

use tokio_postgres::Client;
use tokio_postgres::types::ToSql;

use super::{QueueError, doing};

/// The person or program that asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    pub name: String,
    pub role: String,
    pub address: Option<String>,
    pub request_id: Option<String>,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditRequest {
    /// A word such as `retry`.
    pub action: &'static str,
    /// What it is done to; `None` for the whole queue.
    pub target: Option<String>,
    /// An operator's words.
    pub reason: Option<String>,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Started,
    Done,
    Denied,
    Failed,
}

impl Outcome {
    /// As the table has it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Done => "done",
            Self::Denied => "denied",
            Self::Failed => "failed",
        }
    }
}

/// A line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: i64,
    /// ISO 8601, UTC.
    pub at: String,
    pub actor: Actor,
    pub action: String,
    pub target: Option<String>,
    pub affected: Option<i64>,
    pub result: String,
    pub reason: Option<String>,
}

/// Refused attempts that are kept.
pub const REFUSALS_MAX: i64 = 10_000;

/// Reads that are kept.
pub const READS_MAX: i64 = 100_000;

/// The action of a read.
pub const READ: &str = "read";

/// Characters of what people write.
const TEXT_MAX: usize = 1_000;

/// What an operator's reason must be.
pub const A_REASON: &str = "3 to 500 characters that tell others why";

/// An operator's reason without the space around it, if it says something.
#[must_use]
pub fn reason(given: &str) -> Option<String> {
    let text = given.trim();
    let says = (3..=500).contains(&text.chars().count()) && !text.chars().any(deceives);
    says.then(|| text.to_owned())
}

/// A character that moves the cursor of a terminal, or turns the order of what is shown.
#[must_use]
pub fn deceives(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Writes a line; returns its number.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn begin(
    client: &Client,
    actor: &Actor,
    asked: &AuditRequest,
    outcome: Outcome,
) -> Result<i64, QueueError> {
    const BEGIN: &str = "insert into walferry.audit
            (actor, role, address, request_id, action, target, reason, result)
        values ($1, $2, $3, $4, $5, $6, $7, $8) returning id";
    let short = |text: &Option<String>| text.as_deref().map(shortened);
    let row = client
        .query_one(
            BEGIN,
            &[
                &shortened(&actor.name),
                &actor.role,
                &actor.address,
                &actor.request_id,
                &asked.action,
                &short(&asked.target),
                &short(&asked.reason),
                &outcome.as_str(),
            ],
        )
        .await;
    row.map_err(doing("write the audit log"))?.try_get("id").map_err(doing("write the audit log"))
}

/// Writes what came of it.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn end(
    client: &Client,
    id: i64,
    outcome: Outcome,
    affected: u64,
    error: Option<&str>,
) -> Result<(), QueueError> {
    const END: &str = include_str!("audit_end.sql");
    let affected = super::sql::bigint(affected);
    let error = error.map(shortened);
    let done = client.execute(END, &[&id, &outcome.as_str(), &affected, &error]).await;
    done.map(drop).map_err(doing("write the audit log"))
}

/// Which lines are meant: all conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    pub actor: Option<String>,
    pub action: Option<String>,
    /// A word of [`Outcome`].
    pub result: Option<String>,
    /// At this moment or later.
    pub since: Option<SystemTime>,
    /// Before this moment.
    pub until: Option<SystemTime>,
}

/// The newest lines that match: `limit` of them behind the first `offset`; and how many match.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn entries(
    client: &Client,
    filter: &AuditFilter,
    offset: i64,
    limit: i64,
) -> Result<(Vec<Entry>, i64), QueueError> {
    const LIST: &str = include_str!("audit_list.sql");
    const COUNT: &str = include_str!("audit_count.sql");
    let reading = "read the audit log";
    let AuditFilter { actor, action, result, since, until } = filter;
    let conditions: [&(dyn ToSql + Sync); 5] = [actor, action, result, since, until];
    let listed: Vec<&(dyn ToSql + Sync)> =
        conditions.into_iter().chain([&offset as &(dyn ToSql + Sync), &limit]).collect();
    let rows = client.query(LIST, &listed).await.map_err(doing(reading))?;
    let entry = |row: &tokio_postgres::Row| -> Result<Entry, tokio_postgres::Error> {
        Ok(Entry {
            id: row.try_get("id")?,
            at: row.try_get("at")?,
            actor: Actor {
                name: row.try_get("actor")?,
                role: row.try_get("role")?,
                address: row.try_get("address")?,
                request_id: row.try_get("request_id")?,
            },
            action: row.try_get("action")?,
            target: row.try_get("target")?,
            affected: row.try_get("affected")?,
            result: row.try_get("result")?,
            reason: row.try_get("reason")?,
        })
    };
    let entries: Result<Vec<Entry>, _> = rows.iter().map(entry).collect();
    let entries = entries.map_err(doing(reading))?;
    let row = client.query_one(COUNT, &conditions).await;
    let total = row.map_err(doing(reading))?.try_get("total").map_err(doing(reading))?;
    Ok((entries, total))
}

/// Drops operations that are older than `retention`, the oldest refusals beyond [`REFUSALS_MAX`] and
/// the oldest reads beyond [`READS_MAX`], some thousands at most; returns how many. However many
/// attempts are refused and records are read, no operation is dropped for them.
///
/// # Errors
/// [`QueueError::Database`].
pub async fn prune(client: &Client, retention: Duration) -> Result<u64, QueueError> {
    const PRUNE: &str = include_str!("audit_prune.sql");
    let pruned =
        client.execute(PRUNE, &[&retention.as_secs_f64(), &REFUSALS_MAX, &READS_MAX, &READ]).await;
    pruned.map_err(doing("prune the audit log"))
}

fn shortened(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}
