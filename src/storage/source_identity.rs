//! Whether the stream still carries all changes of the configured tables.
//!
//! A table that is dropped and made anew, renamed, or taken out of the publication for a moment
//! leaves a gap that no position shows. So the identity of each is stored beside the position:
//! object ids are never given twice, so a table whose id differs was not on the stream for a time.
//! Compared at each start and while running. While running, primary key, replica identity, generated
//! columns and composite types are compared too: a difference ends the run, and the next one reads
//! them anew.
//!
//! Not here: what a publication should look like (`postgres::catalog::publication`, `engine::preflight`).

use std::collections::BTreeMap;

use tokio_postgres::Client;

use super::lease::Lease;
use super::leased_transaction::LeasedTransaction;
use super::{QueueError, doing};
use crate::postgres::catalog::{publication, table};
use crate::postgres::{Disposition, Recovery};

/// The object ids that an identity begins with: table, publication, and the table's place in it.
const PLACE_PARTS: usize = 3;

const STORED: &str = "select table_name, identity from walferry.source where slot = $1";

const FORGET: &str = "delete from walferry.source where slot = $1";

// An identity that was stored without the publication's version gets it.
const STORE: &str = "insert into walferry.source (slot, table_name, identity) values ($1, $2, $3)
    on conflict (slot, table_name) do update set identity = excluded.identity
    where excluded.identity like source.identity || '/x%'";

/// The stream has a gap, or may have one.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error(
        "table {table} was made anew, or was not in publication {publication} for a while, so \
         changes of it may be missing; see that it is published and run `walferry rebuild` to \
         start over with a new slot and new indices"
    )]
    Changed { table: String, publication: String },
    #[error(
        "publication {publication} was altered, and may have published less of table {table} for a \
         while, so changes of it may be missing; see that all operations are published and run \
         `walferry rebuild` to start over with a new slot and new indices"
    )]
    Narrowed { table: String, publication: String },
    #[error(
        "the primary key or the replica identity of table {table} was altered; walferry begins again \
         with what it is now"
    )]
    KeyAltered { table: String },
    #[error(
        "the columns of table {table} were altered, or a type of them; walferry begins again with \
         what they are now"
    )]
    ColumnsAltered { table: String },
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl Recovery for SourceError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Changed { .. } | Self::Narrowed { .. } => Disposition::Operator,
            // The next run is checked as the first one was.
            Self::KeyAltered { .. } | Self::ColumnsAltered { .. } => Disposition::Retry,
            Self::Queue(error) => error.disposition(),
        }
    }
}

/// The configured tables with their identities, by `schema.name`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    publication: String,
    identities: BTreeMap<String, String>,
    /// How the rows of each are identified, at the beginning of the run.
    keys: BTreeMap<String, String>,
    /// The columns of each, at the beginning of the run.
    signatures: BTreeMap<String, String>,
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
            let table: String = row.try_get("table_name").map_err(&failed)?;
            if tables.iter().any(|(schema, name)| table == format!("{schema}.{name}")) {
                identities.insert(table, row.try_get("identity").map_err(&failed)?);
            }
        }
        let keys = keys(client, &identities).await?;
        let signatures = signatures(client, &identities).await?;
        let source = Self { publication: publication.to_owned(), identities, keys, signatures };
        source.compare(&found)?;
        Ok(source)
    }

    /// Reads the identities, the keys and the columns again and compares.
    ///
    /// # Errors
    /// As [`Source::recognise`]; [`SourceError::KeyAltered`]; [`SourceError::ColumnsAltered`].
    pub async fn verify(&self, client: &Client) -> Result<(), SourceError> {
        self.compare(&identities(client, &self.publication).await?)?;
        let found = keys(client, &self.identities).await?;
        if let Some(table) = differing(&self.keys, &found) {
            return Err(SourceError::KeyAltered { table });
        }
        match differing(&self.signatures, &signatures(client, &self.identities).await?) {
            None => Ok(()),
            Some(table) => Err(SourceError::ColumnsAltered { table }),
        }
    }

    fn compare(&self, found: &BTreeMap<String, String>) -> Result<(), SourceError> {
        let Some(table) = differing(&self.identities, found) else { return Ok(()) };
        let publication = self.publication.clone();
        let place = |identities: &BTreeMap<String, String>| -> Option<Vec<String>> {
            let parts = identities.get(&table)?.split('/');
            Some(parts.take(PLACE_PARTS).map(str::to_owned).collect())
        };
        if place(&self.identities) == place(found) {
            return Err(SourceError::Narrowed { table, publication });
        }
        Err(SourceError::Changed { table, publication })
    }
}

/// The first table that is not found as it is known.
fn differing(known: &BTreeMap<String, String>, found: &BTreeMap<String, String>) -> Option<String> {
    let mut differing = known.iter().filter(|(table, known)| found.get(*table) != Some(known));
    differing.next().map(|(table, _)| table.clone())
}

async fn identities(
    client: &Client,
    publication: &str,
) -> Result<BTreeMap<String, String>, QueueError> {
    let found = publication::identities(client, publication).await;
    found.map_err(doing("look what the stream is made of"))
}

async fn keys(
    client: &Client,
    tables: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, QueueError> {
    let names: Vec<&str> = tables.keys().map(String::as_str).collect();
    table::keys(client, &names).await.map_err(doing("read how rows are identified"))
}

async fn signatures(
    client: &Client,
    tables: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, QueueError> {
    let names: Vec<&str> = tables.keys().map(String::as_str).collect();
    table::signatures(client, &names).await.map_err(doing("read the columns of the tables"))
}
