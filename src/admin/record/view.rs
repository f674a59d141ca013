//! A record as people see it: its jobs, its row now, its documents now, and whether they differ.
//!
//! Columns that no document shows are masked, in stored documents too. While jobs of the record are
//! unfinished, a difference may still disappear by itself; their number is part of the answer.
//!
//! Not here: the comparison (`compare`), and rendering (`engine::feed::render::row`).

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::compare::{ComparedDocument, StoredDocument, compare};
use super::error::RecordError;
use super::key::{RecordName, resolve, table_id};
use super::mask;
use crate::admin::jobs::filter::Filter;
use crate::admin::jobs::list::{self, JobPage, JobSummary};
use crate::admin::page::Page;
use crate::admin::pool::{Pool, SessionPurpose, in_time};
use crate::change::{Row, TableId};
use crate::engine::document::compare::Fields;
use crate::engine::document::definition::Definition;
use crate::engine::document::id::DocumentId;
use crate::engine::feed::inspect;
use crate::engine::feed::render::row::{RenderedRow, render_row, row_reader};
use crate::engine::sink::client::{Client, Verb};
use crate::storage::queue::status::Status;

/// The newest jobs of the record that are shown.
const JOBS_MAX: i64 = 50;
const SETTINGS: &str = "set statement_timeout = '2s'; set lock_timeout = '1s'";
const NO_KEY: &str = "the row's key is not known: no job tells which row this id stands for";

/// A record.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Record")]
pub struct RecordView {
    table: String,
    record_id: String,
    /// The row as it is now; null if there is none.
    #[schemars(with = "Option<BTreeMap<String, Value>>")]
    row: Option<Fields>,
    /// Columns with values that are not shown.
    masked: Vec<String>,
    /// Jobs of the record that are pending or processing.
    unfinished: i64,
    documents: Vec<ComparedDocument>,
    /// Null where it could not be compared.
    differs: Option<bool>,
    /// Why it could not be compared.
    reason: Option<String>,
    jobs: Vec<JobSummary>,
    jobs_total: i64,
}

/// Where records are read from.
pub struct RecordReader {
    pub pool: Pool,
    pub definition: Arc<Definition>,
    /// Names of the definition's tables.
    pub tables: Vec<String>,
    /// `None` where none is configured.
    pub elasticsearch: Option<Arc<Client>>,
    pub index_prefix: String,
    /// The setting `limits.row_bytes_max`.
    pub row_bytes_max: usize,
}

/// The jobs of a record.
struct RecordJobs {
    unfinished: i64,
    page: JobPage,
}

/// The row of a record and the documents that it should have.
struct CurrentState {
    row: Option<Row>,
    documents: Vec<ExpectedDocument>,
}

/// A document with the JSON that it should have; `None` where there should be none.
struct ExpectedDocument {
    id: DocumentId,
    json: Option<Vec<u8>>,
}

impl RecordReader {
    /// The record with this id.
    ///
    /// # Errors
    /// [`RecordError`], but for an unknown key: of such a record the jobs are shown.
    pub async fn read(&self, table: &str, record_id: Uuid) -> Result<RecordView, RecordError> {
        let id = table_id(&self.definition, table)?;
        let filter = Filter::of_record(table, record_id);
        let RecordJobs { unfinished, page } = self.jobs(&filter).await?;
        let JobPage { jobs, total: jobs_total, .. } = page;
        let mut view = RecordView {
            table: table.to_owned(),
            record_id: record_id.to_string(),
            row: None,
            masked: Vec::new(),
            unfinished,
            documents: Vec::new(),
            differs: None,
            reason: None,
            jobs,
            jobs_total,
        };
        match self.current_state(id, record_id).await {
            Ok(state) => self.add_state(&mut view, id, state).await,
            Err(RecordError::UnknownKey { .. }) => view.reason = Some(NO_KEY.to_owned()),
            Err(error) => return Err(error),
        }
        Ok(view)
    }

    async fn jobs(&self, filter: &Filter) -> Result<RecordJobs, RecordError> {
        let of = |status| Filter { status: Some(status), ..filter.clone() };
        let pending = of(Status::Pending);
        let processing = of(Status::Processing);
        let first = Page { offset: 0, limit: JOBS_MAX };
        let jobs = self.pool.read(async |client| {
            let pending = list::count(client, &pending, &self.tables).await?;
            let processing = list::count(client, &processing, &self.tables).await?;
            let page = list::page(client, filter, &self.tables, first).await?;
            Ok(RecordJobs { unfinished: pending + processing, page })
        });
        Ok(jobs.await?)
    }

    async fn current_state(
        &self,
        table: TableId,
        record_id: Uuid,
    ) -> Result<CurrentState, RecordError> {
        in_time(async {
            let session = self.pool.own(SessionPurpose::Record, SETTINGS).await?;
            let (shapes, _) = inspect::shapes(&session.client, &self.definition).await?;
            let name = RecordName::Id(record_id);
            let key = resolve(&session.client, &shapes, table, &name).await?;
            let client = Arc::clone(&session.client);
            let reader = row_reader(client, shapes, self.row_bytes_max);
            let RenderedRow { row, documents } =
                render_row(reader, &self.definition, table, &key.parts).await?;
            let documents =
                documents.into_iter().map(|(id, json)| ExpectedDocument { id, json }).collect();
            Ok(CurrentState { row, documents })
        })
        .await
    }

    async fn add_state(&self, view: &mut RecordView, table: TableId, state: CurrentState) {
        let visible = self.definition.visible_columns(&view.table);
        let row_bytes = state.row.as_ref().and_then(Row::cut).map(|cut| cut.row_bytes);
        if let Some(row) = &state.row {
            view.masked = mask::private_columns(row, &visible);
            view.masked
                .extend(mask::cut_columns(row).into_iter().filter(|name| visible.shows(name)));
            view.row = Some(mask::row(row, &view.masked));
        }
        if let Some(bytes) = row_bytes {
            let most = self.row_bytes_max;
            view.reason = Some(format!(
                "the row has {bytes} bytes, more than limits.row_bytes_max ({most}), so it has no document; its \
                 large values are not shown"
            ));
            return;
        }
        let columns = state.row.as_ref().map(|row| row.columns().names());
        match self.stored(&state.documents).await {
            Ok(stored) => {
                let pairs = state.documents.into_iter().zip(stored);
                view.documents = pairs
                    .zip(self.definition.sources_of(table))
                    .map(|((expected, stored), source)| {
                        let ExpectedDocument { id, json } = expected;
                        let source = self.definition.source(source);
                        let stored = stored.map_source(|raw| mask::document(raw, source, columns));
                        compare(self.index(&id), id.id.to_string(), json, stored)
                    })
                    .collect();
                view.differs = Some(view.documents.iter().any(|document| document.differs));
            }
            Err(reason) => view.reason = Some(reason),
        }
    }

    /// What Elasticsearch has, in the order of `documents`; or why that is not known.
    async fn stored(&self, documents: &[ExpectedDocument]) -> Result<Vec<StoredDocument>, String> {
        #[derive(Deserialize)]
        struct MultiGetAnswer {
            docs: Vec<StoredDocument>,
        }
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let Some(elasticsearch) = &self.elasticsearch else {
            return Err("no Elasticsearch is configured".to_owned());
        };
        let docs: Vec<Value> = documents
            .iter()
            .map(|document| json!({ "_index": self.index(&document.id), "_id": &*document.id.id }))
            .collect();
        let body = json!({ "docs": docs });
        let answer = elasticsearch.send(Verb::Post, "/_mget", Some(&body)).await;
        let answer = answer.map_err(|_| "Elasticsearch does not answer".to_owned())?;
        if !answer.is_success() {
            return Err(format!("Elasticsearch answers with status {}", answer.status));
        }
        let parsed: MultiGetAnswer = serde_json::from_slice(&answer.body)
            .map_err(|_| "Elasticsearch's answer does not read".to_owned())?;
        if parsed.docs.len() != documents.len() {
            return Err("Elasticsearch's answer has another number of documents".to_owned());
        }
        Ok(parsed.docs)
    }

    /// The index that a document is in.
    fn index(&self, document: &DocumentId) -> String {
        let index = &self.definition.indices[usize::from(document.index.0)];
        format!("{}{}", self.index_prefix, index.name)
    }
}
