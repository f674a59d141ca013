//! The publication: what is in it, and what is wrong with that.
//!
//! Not here: creating or altering it; `migrate` and `check` print that SQL.

use std::collections::BTreeMap;

use tokio_postgres::{Client, Error};

use crate::postgres::{quote_identifier, quote_qualified};

/// A publication and its tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    pub name: String,
    pub inserts: bool,
    pub updates: bool,
    pub deletes: bool,
    pub truncates: bool,
    pub all_tables: bool,
    /// Changes of partitions come under the name of the partitioned table.
    pub via_partition_root: bool,
    pub tables: Vec<PublishedTable>,
}

/// A table of a publication.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishedTable {
    pub schema: String,
    pub name: String,
    /// `WHERE (…)`: rows would be missing.
    pub has_row_filter: bool,
    /// A column list: columns would be missing.
    pub has_column_list: bool,
}

const PUBLICATION: &str = "
    select pubinsert, pubupdate, pubdelete, pubtruncate, puballtables, pubviaroot
    from pg_catalog.pg_publication where pubname = $1";

const PUBLISHED_TABLES: &str = include_str!("publication_tables.sql");

const IDENTITIES: &str = include_str!("publication_identities.sql");

const HAS_SCHEMAS: &str = "select
    pg_catalog.to_regclass('pg_catalog.pg_publication_namespace') is not null as has_schemas";

const SCHEMAS: &str = include_str!("publication_schemas.sql");

/// Reads a publication; `None` where there is none of that name.
///
/// # Errors
/// What the queries return.
pub async fn inspect(client: &Client, name: &str) -> Result<Option<Publication>, Error> {
    let Some(row) = client.query_opt(PUBLICATION, &[&name]).await? else { return Ok(None) };
    let mut publication = Publication {
        name: name.to_owned(),
        inserts: row.try_get("pubinsert")?,
        updates: row.try_get("pubupdate")?,
        deletes: row.try_get("pubdelete")?,
        truncates: row.try_get("pubtruncate")?,
        all_tables: row.try_get("puballtables")?,
        via_partition_root: row.try_get("pubviaroot")?,
        tables: Vec::new(),
    };
    for row in client.query(PUBLISHED_TABLES, &[&name]).await? {
        publication.tables.push(PublishedTable {
            schema: row.try_get("schema")?,
            name: row.try_get("name")?,
            has_row_filter: row.try_get("has_row_filter")?,
            has_column_list: row.try_get("has_column_list")?,
        });
    }
    Ok(Some(publication))
}

/// The identity of each published table by `schema.name`: another one means that the table, the
/// publication or the table's place in it was made anew, or that other operations are published.
///
/// # Errors
/// What the queries return.
pub async fn identities(client: &Client, name: &str) -> Result<BTreeMap<String, String>, Error> {
    let mut schemas = BTreeMap::new();
    if client.query_one(HAS_SCHEMAS, &[]).await?.try_get("has_schemas")? {
        for row in client.query(SCHEMAS, &[&name]).await? {
            schemas.insert(row.try_get::<_, String>("schema")?, row.try_get::<_, u32>("member")?);
        }
    }
    let mut identities = BTreeMap::new();
    for row in client.query(IDENTITIES, &[&name]).await? {
        let schema: &str = row.try_get("schema")?;
        let own: Option<u32> = row.try_get("member")?;
        let member = own.or_else(|| schemas.get(schema).copied()).unwrap_or(0);
        let table: &str = row.try_get("table_and_publication")?;
        let operations: &str = row.try_get("operations")?;
        identities.insert(row.try_get("name")?, format!("{table}/{member}/{operations}"));
    }
    Ok(identities)
}

/// Something wrong with the publication: a sentence, and the SQL that mends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub sentence: String,
    pub sql: Option<String>,
}

impl Publication {
    /// What is wrong, given the configured tables and the tables that must never be published
    /// (the queue and its partitions: the stream would feed itself), each `(schema, name)`.
    #[must_use]
    pub fn problems(
        &self,
        configured: &[(String, String)],
        is_own: impl Fn(&str, &str) -> bool,
    ) -> Vec<Problem> {
        let publication = quote_identifier(&self.name);
        let mut problems = Vec::new();
        let missing = [
            (self.inserts, "insert"),
            (self.updates, "update"),
            (self.deletes, "delete"),
            (self.truncates, "truncate"),
        ];
        for (_, operation) in missing.iter().filter(|(published, _)| !published) {
            problems.push(Problem {
                sentence: format!("publication {} does not publish {operation}", self.name),
                sql: Some(format!(
                    "alter publication {publication} set (publish = 'insert, update, delete, \
                     truncate');"
                )),
            });
        }
        for (schema, name) in configured {
            let table = quote_qualified(schema, name);
            match self.tables.iter().find(|t| t.schema == *schema && t.name == *name) {
                None => problems.push(Problem {
                    sentence: format!("table {schema}.{name} is not in publication {}", self.name),
                    sql: Some(format!("alter publication {publication} add table {table};")),
                }),
                Some(found) if found.has_row_filter || found.has_column_list => {
                    let what = if found.has_row_filter { "rows" } else { "columns" };
                    problems.push(Problem {
                        sentence: format!(
                            "publication {} leaves out {what} of table {schema}.{name}; publish \
                             the whole table",
                            self.name
                        ),
                        sql: Some(format!(
                            "alter publication {publication} drop table {table}; alter \
                             publication {publication} add table {table};"
                        )),
                    });
                }
                Some(_) => {}
            }
        }
        for table in self.tables.iter().filter(|table| is_own(&table.schema, &table.name)) {
            let (schema, name) = (&table.schema, &table.name);
            let drop = format!(
                "alter publication {publication} drop table {};",
                quote_qualified(schema, name)
            );
            problems.push(Problem {
                sentence: format!(
                    "publication {} holds walferry's own table {schema}.{name}: the stream would \
                     feed itself; publish the configured tables only",
                    self.name
                ),
                sql: (!self.all_tables).then_some(drop),
            });
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str) -> PublishedTable {
        PublishedTable { schema: "public".to_owned(), name: name.to_owned(), ..Default::default() }
    }

    fn check(publication: &Publication, expected: &[&str]) {
        let configured = [("public".to_owned(), "listings".to_owned())];
        let problems = publication.problems(&configured, |_, name| name == "queue");
        let found: Vec<&str> = problems.iter().map(|p| p.sentence.as_str()).collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (sentence, part) in found.iter().zip(expected) {
            assert!(sentence.contains(part), "{sentence}");
        }
    }

    #[test]
    fn what_is_missing_or_too_much_is_told() {
        let good = Publication {
            name: "w".to_owned(),
            inserts: true,
            updates: true,
            deletes: true,
            truncates: true,
            tables: vec![table("listings"), table("others")],
            ..Default::default()
        };
        check(&good, &[]);
        check(&Publication { truncates: false, ..good.clone() }, &["does not publish truncate"]);
        check(&Publication { tables: vec![], ..good.clone() }, &["is not in publication w"]);
        let filtered = PublishedTable { has_row_filter: true, ..table("listings") };
        check(&Publication { tables: vec![filtered], ..good.clone() }, &["leaves out rows"]);
        let tables = vec![table("listings"), table("queue")];
        check(&Publication { tables, ..good }, &["own table public.queue"]);
    }
}
