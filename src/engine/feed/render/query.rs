//! The queries of a read transaction: rows by key, after a key, by a reference, and below a key.
//!
//! Not here: the transaction and its snapshot (`read`).

use std::sync::Arc;

use bytes::Bytes;
use tokio_postgres::types::ToSql;

use super::read::{KeyedRow, ReadError, ReadTransaction, RowReader};
use crate::change::{Columns, CutValues, Row, TableId};
use crate::engine::document::shape::TableShape;
use crate::postgres::catalog::table::LackingColumn;
use crate::postgres::quote_identifier as quote;
use crate::value;

/// Rows whose `column` has one of the values.
#[derive(Clone, Copy, Debug)]
pub struct Referring<'a> {
    pub column: &'a str,
    pub values: &'a [String],
}

impl ReadTransaction<'_> {
    /// The rows with these keys; those that are not there are left out.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn by_key(
        &mut self,
        table: TableId,
        keys: &[Vec<String>],
    ) -> Result<Vec<KeyedRow>, ReadError> {
        let shape = self.shape(table);
        let (condition, count) = shape.key_is_any();
        let columns: Vec<Vec<&str>> = (0..count)
            .map(|part| keys.iter().map(|key| key.get(part).map_or("", String::as_str)).collect())
            .collect();
        let parameters: Vec<&(dyn ToSql + Sync)> =
            columns.iter().map(|c| c as &(dyn ToSql + Sync)).collect();
        self.rows(table, &format!("where {condition}"), &parameters).await
    }

    /// The next rows in the order of the key, after the given one.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn after(
        &mut self,
        table: TableId,
        after: Option<&[String]>,
        limit: i64,
    ) -> Result<Vec<KeyedRow>, ReadError> {
        let shape = self.shape(table);
        let order = shape.key_order();
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&limit];
        let condition = match after {
            Some(parts) => {
                parameters.extend(parts.iter().map(|p| p as &(dyn ToSql + Sync)));
                format!("where {}", shape.key_is_after(2))
            }
            None => String::new(),
        };
        self.rows(table, &format!("{condition} order by {order} limit $1"), &parameters).await
    }

    /// The next rows whose `column` has one of the values, in the order of the key.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn referring(
        &mut self,
        table: TableId,
        referring: Referring<'_>,
        after: Option<&[String]>,
        limit: i64,
    ) -> Result<Vec<KeyedRow>, ReadError> {
        let Referring { column, values } = referring;
        let shape = self.shape(table);
        let order = shape.key_order();
        let kind = shape.column_type(column).unwrap_or("text");
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&limit, &values];
        let mut condition = format!("where t.{} = any($2::text[]::{kind}[])", quote(column));
        if let Some(parts) = after {
            parameters.extend(parts.iter().map(|p| p as &(dyn ToSql + Sync)));
            condition = format!("{condition} and {}", shape.key_is_after(3));
        }
        self.rows(table, &format!("{condition} order by {order} limit $1"), &parameters).await
    }

    /// How many rows have one of the values in `column`, counted up to a limit.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn count_referring(
        &mut self,
        table: TableId,
        referring: Referring<'_>,
        limit: i64,
    ) -> Result<i64, ReadError> {
        let Referring { column, values } = referring;
        let shape = self.shape(table);
        let kind = shape.column_type(column).unwrap_or("text");
        let sql = format!(
            "select count(*) from (
                 select from {table} t where t.{column} = any($2::text[]::{kind}[]) limit $1
             ) found",
            table = shape.own_rows(),
            column = quote(column),
        );
        let rows = self.query(&shape.label(), &sql, &[&limit, &values]).await?;
        Ok(rows.first().map_or(0, |row| row.get(0)))
    }

    /// The keys of all rows below the given ones along `parent`, the given ones included.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn descendants(
        &mut self,
        table: TableId,
        parent: &str,
        keys: &[String],
    ) -> Result<Vec<String>, ReadError> {
        let shape = self.shape(table);
        let Some(key) = shape.key.first() else { return Ok(Vec::new()) };
        let sql = format!(
            "with recursive below(k) as (
                 select k from unnest($1::text[]::{kind}[]) as given(k)
                 union
                 select t.{key} from {table} t join below on t.{parent} = below.k)
             select pg_catalog.to_jsonb(k) #>> '{{}}' from below",
            kind = key.type_name,
            key = quote(&key.name),
            table = shape.own_rows(),
            parent = quote(parent),
        );
        let name = shape.label();
        let rows = self.query(&name, &sql, &[&keys]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    fn shape(&self, table: TableId) -> TableShape {
        self.reader.shapes.of(table).clone()
    }

    /// All columns of the rows that the tail of the query selects.
    async fn rows(
        &mut self,
        table: TableId,
        tail: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<KeyedRow>, ReadError> {
        let shape = self.shape(table);
        let label = shape.label();
        let columns = self.present_columns(&label, &shape).await?;
        let names = columns.iter().map(|(name, _)| name.as_str());
        let sql = limited(names, &shape.own_rows(), tail, self.reader.row_bytes_max);
        let found = self.query(&label, &sql, parameters).await?;
        let names: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
        let shared = self.reader.share(table, names);
        let mut rows = Vec::with_capacity(found.len());
        // Each answer is dropped when its row has been made, so that a large one is not held twice.
        for answer in found {
            let texts = (0..columns.len()).map(|i| answer.get::<_, Option<&str>>(i));
            let mut row = self.reader.object(&shared, &columns, texts);
            if let Some(sizes) = answer.get::<_, Option<Vec<i32>>>(columns.len()) {
                row = row.with_cut(cut_values(&sizes));
            }
            drop(answer);
            rows.push(KeyedRow { key: shape.key_text(&row), row });
        }
        let bytes = rows.iter().map(|found| found.key.len() + found.row.size()).sum();
        self.reader.rows.add(bytes);
        Ok(rows)
    }

    /// Column names and types as the catalog has them now.
    async fn present_columns(
        &mut self,
        label: &str,
        shape: &TableShape,
    ) -> Result<Vec<(String, u32)>, ReadError> {
        let sql = "select a.attname::text, a.atttypid
             from pg_catalog.pg_attribute a
             where a.attrelid = $1::text::regclass and a.attnum > 0 and not a.attisdropped
             order by a.attnum";
        let rows = self.query(label, sql, &[&shape.qualified()]).await?;
        let columns: Vec<(String, u32)> = rows.iter().map(|row| (row.get(0), row.get(1))).collect();
        if let Some(column) = shape.lacking(|name| columns.iter().any(|(known, _)| known == name)) {
            let (table, column) = (label.to_owned(), column.to_owned());
            return Err(ReadError::Lacking(LackingColumn { table, column }));
        }
        let must_load =
            |oid: &u32| self.reader.kinds.get(*oid).is_none_or(|kind| kind.is_alterable());
        let unknown: Vec<u32> = columns.iter().map(|(_, oid)| *oid).filter(must_load).collect();
        if !unknown.is_empty() {
            let client = Arc::clone(&self.reader.client);
            let loaded = self.reader.kinds.load(&client, &unknown).await;
            loaded.map_err(|source| ReadError::Rows { table: label.to_owned(), source })?;
        }
        Ok(columns)
    }

    async fn query(
        &mut self,
        table: &str,
        sql: &str,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<tokio_postgres::Row>, ReadError> {
        let failed = |source| ReadError::Rows { table: table.to_owned(), source };
        let statement = match self.reader.statements.get(sql) {
            Some(known) => known.clone(),
            None => {
                let new = self.reader.client.prepare(sql).await.map_err(failed)?;
                self.reader.statements.insert(sql.to_owned(), new.clone());
                new
            }
        };
        self.reader.client.query(&statement, parameters).await.map_err(failed)
    }
}

impl RowReader {
    /// One allocation of column names for all rows of the same shape.
    fn share(&mut self, table: TableId, names: Vec<String>) -> Arc<Columns> {
        match self.columns.get(&table) {
            Some(known) if known.names() == names => Arc::clone(known),
            _ => {
                let new = Arc::new(Columns::new(names));
                self.columns.insert(table, Arc::clone(&new));
                new
            }
        }
    }

    fn object<'t>(
        &self,
        shared: &Arc<Columns>,
        columns: &[(String, u32)],
        texts: impl Iterator<Item = Option<&'t str>>,
    ) -> Row {
        let mut json = Vec::with_capacity(512);
        let mut spans = Vec::with_capacity(columns.len());
        json.push(b'{');
        for ((name, oid), text) in columns.iter().zip(texts) {
            if json.len() > 1 {
                json.push(b',');
            }
            value::write_string(name.as_bytes(), &mut json);
            json.push(b':');
            let start = json.len();
            match (text, self.kinds.get(*oid)) {
                (None, _) => json.extend_from_slice(b"null"),
                (Some(text), Some(kind)) => {
                    // The job has the note of an altered value.
                    if let Some(substitution) = value::write(&kind, text.as_bytes(), &mut json) {
                        tracing::debug!(
                            column = name,
                            reason = substitution.reason,
                            "value altered"
                        );
                    }
                }
                (Some(text), None) => value::write_string(text.as_bytes(), &mut json),
            }
            spans.push(span(start, json.len()));
        }
        json.push(b'}');
        Row::new(Arc::clone(shared), Bytes::from(json), spans)
    }
}

/// The text of each column, and the sizes of all if the row has more text than a row may have. The
/// server then keeps large values to itself: a client that asked for them would have to hold them.
fn limited<'n>(
    names: impl Iterator<Item = &'n str>,
    table: &str,
    tail: &str,
    bytes_max: usize,
) -> String {
    let kept_max = CutValues::KEPT_BYTES_MAX;
    let mut texts = Vec::new();
    let mut shown = Vec::new();
    let mut sizes = Vec::new();
    for (number, name) in names.enumerate() {
        let name = quote(name);
        // `is null` would hold for a composite value of nulls too.
        texts.push(format!(
            "case when t.{name} is distinct from null then pg_catalog.format('%s', t.{name}) end \
             as c{number}"
        ));
        shown.push(format!(
            "case when bytes <= {bytes_max} or pg_catalog.octet_length(c{number}) <= {kept_max} \
             then c{number} end"
        ));
        sizes.push(format!("coalesce(pg_catalog.octet_length(c{number}), 0)"));
    }
    let (texts, shown) = (texts.join(", "), shown.join(", "));
    let list = sizes.join(", ");
    let sum = sizes.join(" + ");
    // `offset 0` keeps the server from making each text again where it is used.
    format!(
        "select {shown}, case when bytes > {bytes_max} then array[{list}] end
         from (select *, 0::bigint + {sum} as bytes
               from (select {texts} from {table} t {tail} offset 0) texts offset 0) sized"
    )
}

/// What the server left out, by the sizes of all values.
fn cut_values(sizes: &[i32]) -> CutValues {
    let sizes = sizes.iter().map(|bytes| usize::try_from(*bytes).unwrap_or(0)).enumerate();
    CutValues {
        row_bytes: sizes.clone().map(|(_, bytes)| bytes).sum(),
        values: sizes.filter(|(_, bytes)| *bytes > CutValues::KEPT_BYTES_MAX).collect(),
    }
}

fn span(start: usize, end: usize) -> Option<std::ops::Range<u32>> {
    Some(u32::try_from(start).ok()?..u32::try_from(end).ok()?)
}
