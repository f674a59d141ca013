//! Whether the stream still carries all changes of the configured tables.
//!
//! A table that is dropped and made anew, renamed, or taken out of the publication for a moment
//! leaves a gap that no position shows. So the identity of each is stored beside the position:
//! object ids are never given twice, so what differs was away. Compared at each start and while
//! running.
//!
//! Not here: what a publication should look like (`postgres::catalog::publication`, `check`).

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::lease::Lease;
use super::leased_transaction::LeasedTransaction;
use super::{QueueError, doing};
use crate::postgres::{Disposition, Recovery};

/// `pg_publication_rel` has no row for a table that is published by its schema or with all tables.
/// `s` is the publication of its schema.
macro_rules! identities {
    ($join:literal) => {
        concat!(
            "select n.nspname || '.' || c.relname,
                   pg_catalog.concat_ws('/', c.oid, p.oid, coalesce(r.oid, s.oid, 0),
                       p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate)
            from pg_catalog.pg_publication_tables t
            join pg_catalog.pg_publication p on p.pubname = t.pubname
            join pg_catalog.pg_namespace n on n.nspname = t.schemaname
            join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
            left join pg_catalog.pg_publication_rel r on r.prpubid = p.oid and r.prrelid = c.oid
            left join lateral (",
            $join,
            ") s on true where t.pubname = $1"
        )
    };
}

const IDENTITIES: &str = identities!(
    "select (pg_catalog.to_jsonb(pn) ->> 'oid')::oid as oid
    from pg_catalog.pg_publication_namespace pn
    where pn.pnpubid = p.oid and pn.pnnspid = n.oid"
);

/// Before 15 there are no schemas in publications.
const IDENTITIES_14: &str = identities!("select null::oid as oid");

const STORED: &str = "select table_name, identity from walferry.source where slot = $1";

const FORGET: &str = "delete from walferry.source where slot = $1";

const STORE: &str = "insert into walferry.source (slot, table_name, identity) values ($1, $2, $3)
    on conflict (slot, table_name) do nothing";

/// The stream has a gap, or may have one.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(
        "table {table} was made anew, or was not in publication {publication} for a while, so \
         changes of it may be missing; see that it is published and run `walferry rebuild` to \
         start over with a new slot and new indices"
    )]
    Changed { table: String, publication: String },
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Recovery for SourceError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Changed { .. } => Disposition::Operator,
            Self::Queue(error) => error.disposition(),
        }
    }
}

/// The configured tables with their identities, by `schema.name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    publication: String,
    identities: BTreeMap<String, String>,
}

impl Source {
    /// Takes the identities as stored, after they were found to be those of now. Tables that are
    /// new to the configuration are added; with `anew`, for a new position, all are.
    ///
    /// # Errors
    /// [`SourceError::Changed`]; [`QueueError`] where they could not be read or stored.
    pub async fn recognise(
        client: &Client,
        lease: &Lease,
        publication: &str,
        tables: &[(String, String)],
        anew: bool,
    ) -> Result<Self, SourceError> {
        let failed = doing("store what the stream is made of");
        let found = identities(client, publication).await?;
        let guard = LeasedTransaction::prepare(client, lease).await?;
        let body = async {
            if anew {
                client.execute(FORGET, &[&lease.slot]).await.map_err(&failed)?;
            }
            for (schema, name) in tables {
                let table = format!("{schema}.{name}");
                if let Some(identity) = found.get(&table) {
                    let values: [&(dyn postgres_types::ToSql + Sync); 3] =
                        [&lease.slot, &table, identity];
                    client.execute(STORE, &values).await.map_err(&failed)?;
                }
            }
            client.query(STORED, &[&lease.slot]).await.map_err(&failed)
        };
        let rows = guard.run(client, body).await?;
        let mut identities = BTreeMap::new();
        for row in &rows {
            let table: String = row.try_get(0).map_err(&failed)?;
            if tables.iter().any(|(schema, name)| table == format!("{schema}.{name}")) {
                identities.insert(table, row.try_get(1).map_err(&failed)?);
            }
        }
        let source = Self { publication: publication.to_owned(), identities };
        source.compare(&found)?;
        Ok(source)
    }

    /// Looks again.
    ///
    /// # Errors
    /// As [`Source::recognise`].
    pub async fn verify(&self, client: &Client) -> Result<(), SourceError> {
        self.compare(&identities(client, &self.publication).await?)
    }

    fn compare(&self, found: &BTreeMap<String, String>) -> Result<(), SourceError> {
        let changed =
            self.identities.iter().find(|(table, known)| found.get(*table) != Some(known));
        match changed {
            None => Ok(()),
            Some((table, _)) => Err(SourceError::Changed {
                table: table.clone(),
                publication: self.publication.clone(),
            }),
        }
    }
}

async fn identities(
    client: &Client,
    publication: &str,
) -> Result<BTreeMap<String, String>, QueueError> {
    let failed = doing("look what the stream is made of");
    let version = "select pg_catalog.current_setting('server_version_num')::int4";
    let version: i32 =
        client.query_one(version, &[]).await.map_err(&failed)?.try_get(0).map_err(&failed)?;
    let sql = if version < 150_000 { IDENTITIES_14 } else { IDENTITIES };
    let rows = client.query(sql, &[&publication]).await.map_err(&failed)?;
    let pair = |row: &tokio_postgres::Row| Ok((row.try_get(0)?, row.try_get(1)?));
    rows.iter().map(pair).collect::<Result<_, _>>().map_err(failed)
}
