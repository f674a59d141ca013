//! `value::write` against the oracle: for every type of a real server, `to_jsonb`.
//!
//! Text is what the type's output function gives (`format('%s', …)`), as on the stream. A type
//! without a sample fails the test; types that no column can have are listed with the reason.

mod compare;
mod random;
mod samples;
mod users;

use std::collections::{BTreeMap, BTreeSet};

use tokio_postgres::Client;
use walferry::value::{JsonCategory, TypeCache, write};

use crate::support::{Sql, TestBed};
use compare::same;

const SETTINGS: &str = "
    set datestyle = 'ISO';
    set timezone = 'UTC';
    set intervalstyle = 'postgres';
    set extra_float_digits = 3;
    set bytea_output = 'hex';
    create function pg_temp.oracle(value anyelement) returns text language plpgsql as $$
    begin
        return to_jsonb(value)::text;
    exception when others then
        return null;
    end $$;";

/// A database with the stream's settings and the function `pg_temp.oracle`: `to_jsonb`, or null
/// where that is an error.
async fn bed(name: &str) -> TestBed {
    let bed = TestBed::new(name).await;
    bed.sql.run(SETTINGS).await;
    bed
}

/// What became of a query's values.
#[derive(Default)]
struct Tally {
    equal: usize,
    /// What was written for values that the server refuses.
    refused: Vec<String>,
    wrong: Vec<String>,
}

impl Tally {
    /// Compares one value's JSON with the server's; `None` where the server refuses it.
    fn check(&mut self, kind: &JsonCategory, text: &str, expected: Option<&str>, what: &str) {
        let mut out = Vec::new();
        let poison = write(kind, text.as_bytes(), &mut out);
        let ours = String::from_utf8(out).expect("JSON is UTF-8");
        match (poison, expected) {
            (None, Some(expected)) if same(&ours, expected) => self.equal += 1,
            (Some(_), None) => self.refused.push(ours),
            _ => self.wrong.push(format!(
                "{what}: {text:.200}\n  ours   {ours:.200} {poison:?}\n  server {expected:.200?}"
            )),
        }
    }

    /// Compares all values that `query`, a set of rows of one column, gives.
    async fn check_query(&mut self, client: &Client, kind: &JsonCategory, query: &str, what: &str) {
        let query = format!(
            "select format('%s', v), pg_temp.oracle(v) from ({query}) as s(v)
             where v is distinct from null"
        );
        match client.query(&query, &[]).await {
            Err(error) => self.wrong.push(format!("{what}: {error:?}\n  {query:.600}")),
            Ok(rows) if rows.is_empty() => self.wrong.push(format!("{what}: no value")),
            Ok(rows) => {
                for row in rows {
                    let expected: Option<&str> = row.get(1);
                    self.check(kind, row.get(0), expected, what);
                }
            }
        }
    }

    /// Also has the server take, as `jsonb`, what was written for values that it refuses.
    async fn finish(self, client: &Sql, equal_min: usize, refused_min: usize) {
        assert!(self.wrong.is_empty(), "{} wrong:\n{}", self.wrong.len(), self.wrong.join("\n"));
        assert!(self.equal >= equal_min, "only {} values compared", self.equal);
        assert!(self.refused.len() >= refused_min, "only {} refused", self.refused.len());
        let taken = "select count(v::jsonb) from unnest($1::text[]) v";
        let taken: i64 = client.value(taken, &[&self.refused]).await;
        assert_eq!(usize::try_from(taken), Ok(self.refused.len()));
    }
}

/// A type of the server's catalog.
#[derive(Debug)]
struct CatalogType {
    oid: u32,
    /// Quoted, with its schema.
    name: String,
    bare_name: String,
    class: String,
    /// Of an array type; else 0.
    element: u32,
    attributes: Vec<u32>,
    /// The server's, such as 180000.
    version: i32,
}

const CATALOG: &str = "
    select t.oid, format('%I.%I', n.nspname, t.typname), t.typname::text, t.typtype::text,
           case when t.typoutput = 'array_out'::regproc then t.typelem else 0 end,
           array(select atttypid from pg_attribute a
                 where a.attrelid = t.typrelid and attnum > 0 and not attisdropped order by attnum),
           current_setting('server_version_num')::int
    from pg_type t join pg_namespace n on n.oid = t.typnamespace
    where t.oid < 16384";

async fn catalog(client: &Client) -> BTreeMap<u32, CatalogType> {
    let rows = client.query(CATALOG, &[]).await.expect("the catalog can be read");
    let read = |row: &tokio_postgres::Row| CatalogType {
        oid: row.get(0),
        name: row.get(1),
        bare_name: row.get(2),
        class: row.get(3),
        element: row.get(4),
        attributes: row.get(5),
        version: row.get(6),
    };
    rows.iter().map(|row| (row.get(0), read(row))).collect()
}

/// Expressions that give values of a type: none if no expression can, with the reason.
fn expressions(
    of: &CatalogType,
    all: &BTreeMap<u32, CatalogType>,
) -> Result<Vec<String>, &'static str> {
    if of.class == "p" {
        return Err("a pseudo-type");
    }
    if of.element != 0 {
        let elements = expressions(&all[&of.element], all)?;
        return Ok(samples::arrays(&of.name, &all[&of.element].bare_name, &elements));
    }
    if of.class == "c" {
        let parts: Result<Vec<Vec<String>>, _> =
            of.attributes.iter().map(|oid| expressions(&all[oid], all)).collect();
        return Ok(samples::rows(&of.name, &parts?));
    }
    if let Some(reason) = samples::unproducible(&of.bare_name) {
        return Err(reason);
    }
    let mut found = samples::scalars(&of.name, &of.bare_name);
    if of.bare_name == "interval" && of.version < 170_000 {
        found.retain(|value| !value.contains("infinity"));
    }
    assert!(!found.is_empty(), "type {} has no sample in tests/values/samples.rs", of.name);
    Ok(found)
}

#[tokio::test]
async fn every_built_in_type_is_as_the_server_gives_it() {
    let bed = bed("values_built_in").await;
    let client = &bed.sql;
    client.run(samples::PREPARE).await;
    let all = catalog(client).await;
    let mut kinds = TypeCache::new();
    let oids: Vec<u32> = all.values().filter(|t| t.class != "p").map(|t| t.oid).collect();
    for of in all.values().filter(|t| samples::KNOWN_AT_ONCE.contains(&t.bare_name.as_str())) {
        assert!(kinds.get(of.oid).is_some(), "{} is not known without loading", of.name);
    }
    kinds.load(client, &oids).await.unwrap();
    let mut tally = Tally::default();
    let mut skipped = BTreeSet::new();
    for of in all.values().filter(|t| t.class != "p") {
        match expressions(of, &all) {
            Ok(values) => {
                let kind = kinds.get(of.oid).unwrap();
                let query = values.iter().map(|v| format!("select {v}")).collect::<Vec<_>>();
                tally.check_query(client, &kind, &query.join(" union all "), &of.name).await;
            }
            Err("a pseudo-type") => drop(skipped.insert(of.bare_name.trim_start_matches('_'))),
            Err(_) => {}
        }
    }
    assert_eq!(skipped, BTreeSet::from(samples::WITH_PSEUDO_PARTS), "cannot be columns");
    tally.finish(client, 2_500, 5).await;
}

#[tokio::test]
async fn types_of_users_are_as_the_server_gives_them() {
    let bed = bed("values_user").await;
    let client = &bed.sql;
    client.run(users::USER_TYPES).await;
    let mut tally = Tally::default();
    let mut kinds = TypeCache::new();
    for (name, values) in users::USER_VALUES {
        let oid: u32 = client.value("select $1::text::regtype::oid", &[name]).await;
        kinds.load(client, &[oid]).await.unwrap();
        let kind = kinds.get(oid).unwrap();
        for value in *values {
            let query = format!("select {value}::{name}");
            tally.check_query(client, &kind, &query, name).await;
        }
    }
    tally.finish(client, 33, 2).await;
}

#[tokio::test]
async fn a_type_that_only_the_server_can_convert_says_so() {
    let bed = bed("values_cast").await;
    let client = &bed.sql;
    client.run(users::CAST_TYPE).await;
    let oid =
        async |name: &str| -> u32 { client.value("select $1::text::regtype::oid", &[&name]).await };
    let mut kinds = TypeCache::new();
    for (name, exact) in [("mood", false), ("mood[]", false), ("moods", false), ("plain", true)] {
        let oid = oid(name).await;
        kinds.load(client, &[oid]).await.unwrap();
        assert_eq!(kinds.get(oid).unwrap().is_exact(), exact, "{name}");
    }
    kinds.load(client, &[4_000_000_000]).await.unwrap();
    assert!(!kinds.get(4_000_000_000).unwrap().is_exact(), "a dropped type");
}

#[tokio::test]
async fn a_changed_row_type_is_read_anew() {
    let bed = bed("values_changed").await;
    let client = &bed.sql;
    client.batch_execute("create type grows as (a int); create table t (v grows)").await.unwrap();
    let oid: u32 = client.value("select 'grows'::regtype::oid", &[]).await;
    let mut kinds = TypeCache::new();
    kinds.load(client, &[oid]).await.unwrap();
    client.run("alter type grows add attribute b text").await;
    let mut out = Vec::new();
    assert!(write(&kinds.get(oid).unwrap(), b"(1,x)", &mut out).is_some());
    assert_eq!(out, br#""(1,x)""#);
    kinds.load(client, &[oid]).await.unwrap();
    out.clear();
    assert_eq!(write(&kinds.get(oid).unwrap(), b"(1,x)", &mut out), None);
    assert_eq!(out, br#"{"a":1,"b":"x"}"#);
}

#[tokio::test]
async fn random_values_are_as_the_server_gives_them() {
    let bed = bed("values_random").await;
    let mut random = fastrand::Rng::with_seed(20);
    let kinds = TypeCache::new();
    let mut tally = Tally::default();
    for (name, oid, generate) in random::GENERATORS {
        let kind = kinds.get(*oid).unwrap();
        let literals: Vec<String> = (0..400).map(|_| generate(&mut random)).collect();
        let query = format!(
            "select format('%s', v), pg_temp.oracle(v) from (
                 select l::{name} as v from unnest($1::text[]) l) s"
        );
        let rows = bed.sql.query(&query, &[&literals]).await;
        let rows = rows.unwrap_or_else(|error| panic!("{name}: {error:?} in {literals:?}"));
        for row in rows {
            tally.check(&kind, row.get(0), row.get::<_, Option<&str>>(1), name);
        }
    }
    tally.finish(&bed.sql, 7_500, 100).await;
}
