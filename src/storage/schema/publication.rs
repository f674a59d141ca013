//! The publication and the replica identities of the published tables.
//!
//! The queue must never be published, or the stream would feed itself.

use tokio_postgres::Client;

use super::{
    MigrateError, MigrateOptions, PATIENCE, Report, database, exclusive, patiently, quoted,
};
use crate::postgres::lock::{LockMode, TableLocks};

/// What is to be done, as the checks found it.
#[derive(Debug)]
pub(super) struct Plan {
    /// The publication's name, quoted.
    name: String,
    exists: bool,
    /// Tables not yet in it.
    missing: Vec<Missing>,
    /// Tables, and parts of them, whose identity is to be set.
    identities: Vec<TableIdentity>,
}

/// A table that is not published yet.
#[derive(Debug)]
struct Missing {
    /// Quoted.
    table: String,
    /// Parts of a partitioned table belong to it, children of an ordinary one do not: they may lack
    /// a key, and then PostgreSQL would refuse every UPDATE of them once they are published.
    only: bool,
}

impl Missing {
    /// As in `create publication … for table`.
    fn clause(&self) -> String {
        if self.only { format!("only {}", self.table) } else { self.table.clone() }
    }
}

/// A replica identity to be set.
#[derive(Debug)]
struct TableIdentity {
    /// Quoted.
    table: String,
    /// `full` or `default`.
    identity: String,
}

const TABLE: &str = include_str!("publication_table.sql");

const IDENTITIES: &str = include_str!("publication_identities.sql");

const PUBLICATION: &str =
    "select puballtables, pubinsert and pubupdate and pubdelete and pubtruncate as has_all
    from pg_publication where pubname = $1";

const OWN_PUBLISHED: &str = include_str!("publication_own_table.sql");

const OWN_SCHEMA_PUBLISHED: &str = include_str!("publication_own_schema.sql");

/// Checks everything and alters nothing.
pub(super) async fn plan(client: &Client, options: &MigrateOptions) -> Result<Plan, MigrateError> {
    let exists = check_publication(client, &options.publication).await?;
    let mut plan = Plan {
        name: quoted(&options.publication),
        exists,
        missing: Vec::new(),
        identities: Vec::new(),
    };
    for (schema, name) in &options.tables {
        let table = format!("{}.{}", quoted(schema), quoted(name));
        let failed = |source| database(format!("look at table {table}"), source);
        let row =
            client.query_opt(TABLE, &[schema, name, &options.publication]).await.map_err(failed)?;
        let Some(row) = row else { return Err(MigrateError::NoTable(table)) };
        let oid: u32 = row.try_get("oid").map_err(failed)?;
        if !row.try_get::<_, bool>("is_table").map_err(failed)? {
            return Err(MigrateError::NotATable(table));
        }
        if !row.try_get::<_, bool>("has_key").map_err(failed)? {
            return Err(MigrateError::NoKey { table });
        }
        for row in client.query(IDENTITIES, &[&oid, &options.publication]).await.map_err(failed)? {
            let table = row.try_get("name").map_err(failed)?;
            let identity = row.try_get("identity").map_err(failed)?;
            plan.identities.push(TableIdentity { table, identity });
        }
        if !row.try_get::<_, bool>("is_published").map_err(failed)? {
            let only = !row.try_get::<_, bool>("is_partitioned").map_err(failed)?;
            plan.missing.push(Missing { table, only });
        }
    }
    Ok(plan)
}

/// Whether the publication exists; an error where it cannot serve.
async fn check_publication(client: &Client, publication: &str) -> Result<bool, MigrateError> {
    let failed = |source| database(format!("look at publication {publication}"), source);
    let row = client.query_opt(PUBLICATION, &[&publication]).await.map_err(failed)?;
    let Some(row) = row else { return Ok(false) };
    let name = quoted(publication);
    if row.try_get("puballtables").map_err(failed)? {
        return Err(MigrateError::AllTables { name });
    }
    if !row.try_get::<_, bool>("has_all").map_err(failed)? {
        return Err(MigrateError::OperationsMissing { name });
    }
    let has_schemas =
        "select to_regclass('pg_catalog.pg_publication_namespace') is not null as has";
    let row = client.query_one(has_schemas, &[]).await.map_err(failed)?;
    if row.try_get("has").map_err(failed)?
        && let Some(row) =
            client.query_opt(OWN_SCHEMA_PUBLISHED, &[&publication]).await.map_err(failed)?
    {
        let schema = quoted(row.try_get("nspname").map_err(failed)?);
        let remedy = format!(
            "alter publication {name} drop tables in schema {schema}, and walferry migrate again"
        );
        let table = format!("all tables of schema {schema}");
        return Err(MigrateError::QueuePublished { name, table, remedy });
    }
    let own = client.query_opt(OWN_PUBLISHED, &[&publication]).await.map_err(failed)?;
    if let Some(row) = own {
        let table: String = row.try_get("name").map_err(failed)?;
        // A part is published by way of the whole.
        let direct: bool = row.try_get("is_listed").map_err(failed)?;
        let listed = if direct { table.as_str() } else { "public.elasticsearch_sync_queue" };
        let remedy = format!("alter publication {name} drop table {listed}");
        return Err(MigrateError::QueuePublished { name, table, remedy });
    }
    Ok(true)
}

/// Identities first: a published table with too small an identity would lose old rows.
pub(super) async fn apply(
    client: &Client,
    plan: &Plan,
    report: &mut Report,
) -> Result<(), MigrateError> {
    for TableIdentity { table, identity } in &plan.identities {
        let sql = format!("alter table only {table} replica identity {identity}");
        let failed = |source| {
            database(format!("set the replica identity of {table} (as its owner)"), source)
        };
        patiently(client, &exclusive(table), failed, || client.batch_execute(&sql)).await?;
        match identity.as_str() {
            "full" => report.identities_set.push(table.clone()),
            _ => report.identities_default.push(table.clone()),
        }
    }
    if plan.missing.is_empty() && plan.exists {
        return Ok(());
    }
    let clauses: Vec<String> = plan.missing.iter().map(Missing::clause).collect();
    let name = &plan.name;
    let tables = clauses.join(", ");
    let names: Vec<String> = plan.missing.iter().map(|missing| missing.table.clone()).collect();
    let sql = match (plan.exists, plan.missing.is_empty()) {
        (true, _) => format!("alter publication {name} add table {tables}"),
        (false, true) => format!("create publication {name}"),
        // A partitioned table's changes come under its own name.
        (false, false) => format!(
            "create publication {name} for table {tables} with (publish_via_partition_root = true)"
        ),
    };
    let locks = TableLocks {
        tables: names.clone(),
        mode: LockMode::ShareUpdateExclusive,
        patience: PATIENCE,
    };
    let failed = |source| database(format!("prepare publication {name}"), source);
    patiently(client, &locks, failed, || client.batch_execute(&sql)).await?;
    report.publication_created = !plan.exists;
    if plan.exists {
        report.tables_added = names;
    }
    Ok(())
}
