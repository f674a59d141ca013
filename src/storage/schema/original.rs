//! The original system as it is found: whether its queue can be taken over, and the statements
//! that give what was granted on it to the table in its place. Alters nothing.
//!
//! A table that only has the name of the original queue is refused, and so is one that something
//! else is built on: it could neither be converted nor put aside without breaking that.
//!
//! Not here: the take-over itself (`take_over`).

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;

use super::{MigrateError, database, quoted, rights};
use crate::storage::queue::partitions::QUEUE;

const EXISTS: &str = "select exists (select from pg_class where relkind = 'r'
    and oid = to_regclass('public.elasticsearch_sync_queue')) as is_there";

const OWNER: &str = include_str!("original_owner.sql");

const DIFFERENCE: &str = include_str!("original_difference.sql");

const USER: &str = include_str!("original_user.sql");

const GRANTS: &str = include_str!("original_grants.sql");

const POLICIES: &str = include_str!("original_policies.sql");

const COMMENTS: &str = include_str!("original_comments.sql");

const LOSSES: &str = include_str!("original_losses.sql");

const PUBLIC_STATISTICS: &str = "PUBLIC may no longer execute get_elasticsearch_queue_stats(); \
     grant it to the roles that call it";

/// What the new table gets of the old one.
#[derive(Debug, Default)]
pub(super) struct Legacy {
    /// Statements on the new table.
    pub(super) statements: Vec<String>,
    /// Sentences on what is not carried over.
    pub(super) notes: Vec<String>,
}

/// Whether the queue is a plain table, as the original system has it.
pub(super) async fn exists(client: &Client) -> Result<bool, MigrateError> {
    let failed = |source| database("look for the original queue", source);
    client.query_one(EXISTS, &[]).await.map_err(failed)?.try_get("is_there").map_err(failed)
}

/// Refuses what cannot be taken over. Before the owner is known to be trusted, only the catalog is
/// read: a statement on the table would execute what its owner built into it.
pub(super) async fn check(
    client: &Client,
    tables: &[(String, String)],
) -> Result<(), MigrateError> {
    let failed = |source| database("look at the original queue", source);
    check_trust(client, tables).await?;
    if let Some(row) = client.query_opt(DIFFERENCE, &[]).await.map_err(failed)? {
        return Err(MigrateError::NotTheOriginal(row.try_get("difference").map_err(failed)?));
    }
    if let Some(row) = client.query_opt(USER, &[]).await.map_err(failed)? {
        return Err(MigrateError::QueueUsed(row.try_get("dependent").map_err(failed)?));
    }
    let logical = "select current_setting('wal_level') = 'logical' as is_logical";
    let row = client.query_one(logical, &[]).await.map_err(failed)?;
    if !row.try_get::<_, bool>("is_logical").map_err(failed)? {
        return Err(MigrateError::WalLevel);
    }
    Ok(())
}

/// Refuses a queue of which the role that migrates would execute what other roles made. Any role with
/// CREATE on the schema can make a table of this name before walferry does, with an index or a
/// default that calls a function of theirs, and goes on reading what the table gets as its owner.
pub(super) async fn check_trust(
    client: &Client,
    tables: &[(String, String)],
) -> Result<(), MigrateError> {
    let failed = |source| database("look at the original queue", source);
    let names = tables.iter().map(|(schema, name)| format!("{}.{}", quoted(schema), quoted(name)));
    let names: Vec<String> = names.collect();
    if let Some(row) = client.query_opt(OWNER, &[&names]).await.map_err(failed)? {
        let owner: String = row.try_get("owner").map_err(failed)?;
        return Err(MigrateError::NotTheOriginal(format!(
            "it belongs to role {owner}, who owns no table that is published"
        )));
    }
    let queue = [QUEUE.to_owned()];
    if let Some(found) = rights::untrusted(client, &queue).await.map_err(failed)? {
        let rights::UntrustedUse { user, used, owner } = found;
        return Err(MigrateError::NotTheOriginal(format!(
            "{user} uses {used}, which role {owner} can replace"
        )));
    }
    Ok(())
}

/// Reads what the new table gets of the old one, while that still has its name.
pub(super) async fn legacy(client: &Client) -> Result<Legacy, tokio_postgres::Error> {
    let mut legacy = Legacy::default();
    let mut withheld: Vec<String> = Vec::new();
    let mut kept: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in client.query(GRANTS, &[]).await? {
        let statement = row.try_get("statement")?;
        let role: String = row.try_get("role")?;
        if !row.try_get::<_, bool>("is_withheld")? {
            legacy.statements.push(statement);
            kept.entry(role).or_default().insert(row.try_get("verb")?);
        } else if role == "PUBLIC" && row.try_get("is_of_statistics")? {
            legacy.notes.push(PUBLIC_STATISTICS.to_owned());
        } else if withheld.last() != Some(&role) {
            withheld.push(role);
        }
    }
    if !withheld.is_empty() {
        legacy.notes.push(format!(
            "what {} could do with the queue is not granted again: its change_data has private \
             columns",
            withheld.join(" and ")
        ));
    }
    for (role, verbs) in kept {
        let verbs: Vec<String> = verbs.into_iter().collect();
        legacy
            .notes
            .push(format!("role {role} keeps its rights on the queue: {}", verbs.join(", ")));
    }
    for query in [POLICIES, COMMENTS] {
        for row in client.query(query, &[]).await? {
            legacy.statements.push(row.try_get("statement")?);
        }
    }
    for row in client.query(LOSSES, &[]).await? {
        legacy.notes.push(row.try_get("loss")?);
    }
    Ok(legacy)
}
