//! Chunks of rows without jobs: the progress of the first load and of operations, and the jobs of
//! rows that did not complete.
//!
//! Not here: the transaction that settles them (`settle`).

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row, Statement};
use uuid::Uuid;

use crate::ack::batch::{ChunkPurpose, LoadedChunk};
use crate::storage::sql::{StorableText, bigint};
use crate::storage::{QueueError, doing};

/// For errors.
const PREPARING: &str = "prepare the settlement";

/// How the jobs of a chunk's rows are written.
struct JobsOf {
    operation: &'static str,
    note: &'static str,
}

impl JobsOf {
    const LOAD: Self = Self {
        operation: "INSERT",
        note: "a row of the first load, of which change_data has the key only",
    };
    const BACKFILL: Self = Self {
        operation: "UPDATE",
        note: "a row of a backfill, of which change_data has the key only",
    };

    const fn of(purpose: ChunkPurpose) -> &'static Self {
        match purpose {
            ChunkPurpose::Load => &Self::LOAD,
            ChunkPurpose::Backfill(_) | ChunkPurpose::Repair(_) => &Self::BACKFILL,
        }
    }
}

/// The statements that settle chunks.
#[derive(Debug)]
pub(super) struct ChunkStatements {
    refuse: Statement,
    park: Statement,
    load: Statement,
    backfill: Statement,
    text: StorableText,
}

impl ChunkStatements {
    pub(super) async fn prepare(client: &Client, text: StorableText) -> Result<Self, QueueError> {
        let prepare = async |sql| client.prepare(sql).await.map_err(doing(PREPARING));
        Ok(Self {
            refuse: prepare(counted!("settle_refused.sql")).await?,
            park: prepare(counted!("settle_parked.sql")).await?,
            load: prepare(include_str!("settle_load.sql")).await?,
            backfill: prepare(include_str!("settle_backfill.sql")).await?,
            text,
        })
    }

    /// Moves progress on, and writes a job for each row that was refused or waits for an index.
    /// Returns the counts of these jobs.
    pub(super) async fn settle(
        &self,
        client: &Client,
        slot: &str,
        chunks: &[LoadedChunk],
    ) -> Result<Vec<Row>, QueueError> {
        let settling = doing("settle jobs");
        let mut begun = Vec::new();
        // What a verification could not repair stays among its findings, and has no job.
        let is_moved = |chunk: &&LoadedChunk| !matches!(chunk.purpose, ChunkPurpose::Repair(_));
        for chunk in chunks.iter().filter(is_moved) {
            if !chunk.refused.is_empty() {
                begun.extend(self.refuse(client, chunk).await?);
            }
            if !chunk.parked.is_empty() {
                begun.extend(self.park(client, chunk).await?);
            }
            let rows = bigint(chunk.row_count);
            let moved = match chunk.purpose {
                ChunkPurpose::Load => {
                    let parameters: [&(dyn ToSql + Sync); 4] =
                        [&slot, &chunk.table, &chunk.last_key, &rows];
                    client.execute(&self.load, &parameters).await
                }
                ChunkPurpose::Backfill(operation) => {
                    let refused = bigint(chunk.refused.len() as u64);
                    let parameters: [&(dyn ToSql + Sync); 5] =
                        [&slot, &operation, &chunk.last_key, &rows, &refused];
                    client.execute(&self.backfill, &parameters).await
                }
                ChunkPurpose::Repair(_) => Ok(0),
            };
            moved.map_err(&settling)?;
        }
        Ok(begun)
    }

    async fn refuse(&self, client: &Client, chunk: &LoadedChunk) -> Result<Vec<Row>, QueueError> {
        let JobsOf { operation, note } = JobsOf::of(chunk.purpose);
        let refused = chunk.refused.iter();
        let record_ids: Vec<Uuid> = refused.clone().map(|found| found.row.record_id).collect();
        let keys: Vec<&str> = refused.clone().map(|found| found.row.key.as_str()).collect();
        let errors: Vec<String> = refused.map(|found| self.text.sentence(&found.error)).collect();
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&chunk.table_name, operation, &record_ids, &keys, note, &errors];
        client.query(&self.refuse, &parameters).await.map_err(doing("settle jobs"))
    }

    async fn park(&self, client: &Client, chunk: &LoadedChunk) -> Result<Vec<Row>, QueueError> {
        let JobsOf { operation, note } = JobsOf::of(chunk.purpose);
        let parked = chunk.parked.iter();
        let record_ids: Vec<Uuid> = parked.clone().map(|found| found.row.record_id).collect();
        let keys: Vec<&str> = parked.clone().map(|found| found.row.key.as_str()).collect();
        let indices: Vec<&str> = parked.clone().map(|found| found.wait.index.as_str()).collect();
        let reasons: Vec<String> =
            parked.map(|found| self.text.sentence(&found.wait.reason)).collect();
        let parameters: [&(dyn ToSql + Sync); 7] =
            [&chunk.table_name, operation, &record_ids, &keys, note, &indices, &reasons];
        client.query(&self.park, &parameters).await.map_err(doing("settle jobs"))
    }
}
