//! A Relation message beside the table as the catalog has it now.
//!
//! A column that the definition names and that neither of the two has stops the run before the next
//! row: without it, a document could show what must not be shown, or be deleted. A column that only
//! the catalog has is read with the row.

use tracing::warn;

use super::StreamLoop;
use crate::engine::wal::error::StreamError;
use crate::engine::wal::pgoutput::Relation;
use crate::postgres::catalog::table;
use crate::postgres::catalog::table::LackingColumn;
use crate::postgres::error;

impl StreamLoop {
    /// Prepares for the rows of a relation: loads its types and compares its columns. Feedback
    /// continues meanwhile.
    pub(super) async fn describe(&mut self, relation: &Relation<'_>) -> Result<(), StreamError> {
        let Some(table) = self.decoder.table(relation) else {
            return self.note_skipped(relation).await;
        };
        let types: Vec<u32> = relation.columns.iter().map(|column| column.type_oid).collect();
        // Queries the server only for types that are not built in.
        let loading = self.types.load(&self.ports.catalog, &types);
        self.connection.during(loading).await?.map_err(unreadable)?;
        let looking = table::columns(&self.ports.catalog, relation.oid);
        let present = self.connection.during(looking).await?.map_err(unreadable)?;
        let is_sent = |name: &String| relation.columns.iter().any(|column| column.name == *name);
        let configured = self.decoder.tables().get(table);
        let named = configured.map_or(&[][..], |configured| configured.named.as_slice());
        let unsent: Vec<&String> = named.iter().filter(|name| !is_sent(name)).collect();
        let lacks = |name: &&&String| !present.is_empty() && !present.contains(name);
        if let (Some(column), Some(configured)) = (unsent.iter().find(lacks), configured) {
            return Err(StreamError::Lacking(LackingColumn {
                table: format!("{}.{}", configured.schema, configured.name),
                column: (*column).clone(),
            }));
        }
        let is_partial = !unsent.is_empty() || !present.iter().all(is_sent);
        self.decoder.note_partial(relation.oid, is_partial);
        Ok(())
    }

    /// Warns once of each published table that is not configured. A part of a configured table is
    /// described too, and its changes come as those of the whole.
    async fn note_skipped(&mut self, relation: &Relation<'_>) -> Result<(), StreamError> {
        let table = format!("{}.{}", relation.schema, relation.name);
        if self.skipped.contains(&table) {
            return Ok(());
        }
        let looking = table::wholes(&self.ports.catalog, relation.oid);
        let wholes = self.connection.during(looking).await?.map_err(unreadable)?;
        if !self.decoder.tables().has_any(&wholes) {
            warn!(
                event = "table_not_configured", %table,
                "table is published but not configured, its changes are skipped"
            );
        }
        self.skipped.insert(table);
        Ok(())
    }
}

fn unreadable(source: tokio_postgres::Error) -> StreamError {
    StreamError::Kinds(error::sentence(&source))
}
