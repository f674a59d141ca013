//! A definition from TOML: `[[table]]` and `[[index]]`, each name checked.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::Value;

use super::definition::{Base, Definition, Field, FieldValue, Include, Index, Source, Table, Tree};
use super::dependents::dependents;
use crate::change::TableId;

/// The definition that is used where the configuration has none.
pub const DEFAULT: &str = include_str!("default.toml");

/// A definition that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    #[error("the definition of documents is not understood")]
    Syntax(#[from] toml::de::Error),
    #[error("{place} names the table {name:?}, which no [[table]] declares (declared: {known})")]
    UnknownTable { place: String, name: String, known: String },
    #[error("[[table]] {name:?} has only one of `parent` and `label`; a path needs both")]
    HalfTree { name: String },
    #[error("{place} needs `parent` and `label` on the [[table]] {name:?}")]
    NoTree { place: String, name: String },
    #[error(
        "index name {name:?} is refused by Elasticsearch; use at most 200 bytes of lower-case \
         letters, digits, _ and -, and begin with a letter or digit"
    )]
    IndexName { name: String },
    #[error(
        "field {field:?} of index {index:?} must have exactly one of column, constant, geo, embed, path, suggest"
    )]
    FieldValue { index: String, field: String },
    #[error("field {field:?} of index {index:?} has weight {weight}; the most is {}", i32::MAX)]
    Weight { index: String, field: String, weight: u32 },
    #[error(
        "include.{column} of index {index:?} must be a list of one or more texts, numbers or booleans"
    )]
    Include { index: String, column: String },
    #[error(
        "index {index:?} has several sources; each needs a `filter`, and an `id_prefix` that no \
         other one begins with"
    )]
    Ambiguous { index: String },
    #[error(
        "filter {field} = {term:?} of index {index:?} names no field of its source with that \
         constant; add one"
    )]
    Filter { index: String, field: String, term: String },
    #[error("{what} {name:?} is declared twice{place}")]
    Twice { what: &'static str, name: String, place: String },
    #[error("the definition declares no {0}")]
    Empty(&'static str),
    #[error("too many {0}; at most 65535")]
    TooMany(&'static str),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    table: Vec<RawTable>,
    #[serde(default)]
    index: Vec<RawIndex>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTable {
    name: String,
    #[serde(default = "public")]
    schema: String,
    parent: Option<String>,
    label: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawIndex {
    name: String,
    #[serde(default)]
    settings: serde_json::Map<String, Value>,
    #[serde(default)]
    mappings: serde_json::Map<String, Value>,
    source: Vec<RawSource>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSource {
    table: String,
    #[serde(default)]
    id_prefix: String,
    #[serde(default)]
    include: BTreeMap<String, Vec<Value>>,
    #[serde(default = "yes")]
    columns: bool,
    #[serde(default)]
    except: Vec<String>,
    filter: Option<RawFilter>,
    #[serde(default)]
    field: Vec<RawField>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFilter {
    field: String,
    term: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawField {
    name: String,
    column: Option<String>,
    constant: Option<Value>,
    geo: Option<RawGeo>,
    embed: Option<RawEmbed>,
    path: Option<RawPath>,
    suggest: Option<RawSuggest>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGeo {
    lat: String,
    lon: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEmbed {
    table: String,
    by: String,
    columns: Vec<String>,
    path: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPath {
    table: String,
    start: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSuggest {
    input: Vec<String>,
    weight: u32,
}

impl RawTable {
    fn qualified(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

fn public() -> String {
    "public".to_owned()
}

const fn yes() -> bool {
    true
}

/// The definition in a configuration file's `table` and `index` keys; the built-in one for `None`.
///
/// # Errors
/// [`DefinitionError`].
pub fn parse(given: Option<&toml::Table>) -> Result<Definition, DefinitionError> {
    let file: File = match given {
        Some(table) => File::deserialize(toml::Value::Table(table.clone()))?,
        None => toml::from_str(DEFAULT)?,
    };
    let tables = tables(&file.table)?;
    let known = Known { raw: &file.table, tables: &tables };
    let mut indices = Vec::with_capacity(file.index.len());
    for raw in file.index {
        indices.push(known.index(raw)?);
    }
    unique("index", indices.iter().map(|index| index.name.as_str()), "")?;
    within_limit("[[index]]", indices.len())?;
    let mut definition = Definition { tables, indices, dependents: Vec::new() };
    definition.dependents = dependents(&definition);
    Ok(definition)
}

fn tables(raw: &[RawTable]) -> Result<Vec<Table>, DefinitionError> {
    let mut tables = Vec::with_capacity(raw.len());
    for table in raw {
        let tree = match (table.parent.clone(), table.label.clone()) {
            (Some(parent), Some(label)) => Some(Tree { parent, label }),
            (None, None) => None,
            _ => return Err(DefinitionError::HalfTree { name: table.name.clone() }),
        };
        tables.push(Table { schema: table.schema.clone(), name: table.name.clone(), tree });
    }
    // The queue's `table_name` has no schema, so bare names must differ.
    unique("table", raw.iter().map(|table| table.name.clone()), "")?;
    within_limit("[[table]]", tables.len())?;
    Ok(tables)
}

/// Numbers of tables, indices and sources have 16 bits.
fn within_limit(what: &'static str, count: usize) -> Result<(), DefinitionError> {
    match count {
        0 => Err(DefinitionError::Empty(what)),
        1..=65_535 => Ok(()),
        _ => Err(DefinitionError::TooMany(what)),
    }
}

fn unique<N: AsRef<str> + Ord>(
    what: &'static str,
    names: impl Iterator<Item = N>,
    place: &str,
) -> Result<(), DefinitionError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if seen.contains(&name) {
            let (name, place) = (name.as_ref().to_owned(), place.to_owned());
            return Err(DefinitionError::Twice { what, name, place });
        }
        seen.insert(name);
    }
    Ok(())
}

/// What Elasticsearch and OpenSearch take, with room for a prefix and a generation's number.
fn is_index_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 200
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|b| plain(b) || matches!(b, b'_' | b'-'))
}

struct Known<'a> {
    raw: &'a [RawTable],
    tables: &'a [Table],
}

impl Known<'_> {
    fn table(&self, place: &str, name: &str) -> Result<TableId, DefinitionError> {
        let matches = |t: &RawTable| t.name == name || t.qualified() == name;
        let (place, name) = (place.to_owned(), name.to_owned());
        match (0_u16..).zip(self.raw).find(|(_, table)| matches(table)) {
            Some((number, _)) => Ok(TableId(number)),
            None => {
                let known: Vec<&str> = self.raw.iter().map(|t| t.name.as_str()).collect();
                Err(DefinitionError::UnknownTable { place, name, known: known.join(", ") })
            }
        }
    }

    fn tree(&self, place: &str, name: &str) -> Result<TableId, DefinitionError> {
        let table = self.table(place, name)?;
        match self.tables[usize::from(table.0)].tree {
            Some(_) => Ok(table),
            None => Err(DefinitionError::NoTree { place: place.to_owned(), name: name.to_owned() }),
        }
    }

    fn index(&self, raw: RawIndex) -> Result<Index, DefinitionError> {
        if !is_index_name(&raw.name) {
            return Err(DefinitionError::IndexName { name: raw.name });
        }
        let mut sources: Vec<Source> = Vec::with_capacity(raw.source.len());
        for source in raw.source {
            sources.push(self.source(&raw.name, source)?);
        }
        within_limit("[[index.source]]", sources.len())?;
        if sources.len() > 1 && !told_apart(&sources) {
            return Err(DefinitionError::Ambiguous { index: raw.name });
        }
        let (settings, mappings) = (Value::Object(raw.settings), Value::Object(raw.mappings));
        Ok(Index { name: raw.name, settings, mappings, sources })
    }

    fn source(&self, index: &str, raw: RawSource) -> Result<Source, DefinitionError> {
        let place = format!("a source of index {index:?}");
        let fields: Result<Vec<Field>, _> =
            raw.field.into_iter().map(|field| self.field(index, field)).collect();
        let fields = fields?;
        unique("field", fields.iter().map(|f| f.name.as_str()), &format!(" in {place}"))?;
        let include: Result<Vec<Include>, _> = raw
            .include
            .into_iter()
            .map(|(column, values)| include(index, column, &values))
            .collect();
        if let Some(RawFilter { field, term }) = &raw.filter {
            let json = Value::from(term.as_str()).to_string();
            let value = FieldValue::Constant(json);
            if !fields.iter().any(|f| f.name == *field && f.value == value) {
                let (index, field, term) = (index.to_owned(), field.clone(), term.clone());
                return Err(DefinitionError::Filter { index, field, term });
            }
        }
        Ok(Source {
            table: self.table(&place, &raw.table)?,
            id_prefix: raw.id_prefix,
            include: include?,
            base: if raw.columns { Base::AllExcept(raw.except) } else { Base::Nothing },
            fields,
            filter: raw.filter.map(|f| (f.field, f.term)),
        })
    }

    fn field(&self, index: &str, raw: RawField) -> Result<Field, DefinitionError> {
        let place = format!("field {:?} of index {index:?}", raw.name);
        if let Some(RawSuggest { weight, .. }) = raw.suggest
            && i32::try_from(weight).is_err()
        {
            let index = index.to_owned();
            return Err(DefinitionError::Weight { index, field: raw.name, weight });
        }
        let mut values = Vec::new();
        values.extend(raw.column.map(FieldValue::Column));
        values.extend(raw.constant.map(|value| FieldValue::Constant(value.to_string())));
        values.extend(raw.geo.map(|geo| FieldValue::Geo { lat: geo.lat, lon: geo.lon }));
        values
            .extend(raw.suggest.map(|s| FieldValue::Suggest { input: s.input, weight: s.weight }));
        if let Some(path) = raw.path {
            let table = self.tree(&place, &path.table)?;
            values.push(FieldValue::Path { table, start: path.start });
        }
        if let Some(RawEmbed { table, by, columns, path }) = raw.embed {
            let table = match path {
                Some(_) => self.tree(&place, &table)?,
                None => self.table(&place, &table)?,
            };
            unique("field", columns.iter().chain(&path), &format!(" in {place}"))?;
            values.push(FieldValue::Embed { table, by, columns, path });
        }
        match <[FieldValue; 1]>::try_from(values) {
            Ok([value]) => Ok(Field { name: raw.name, value }),
            Err(_) => Err(DefinitionError::FieldValue { index: index.to_owned(), field: raw.name }),
        }
    }
}

fn include(index: &str, column: String, values: &[Value]) -> Result<Include, DefinitionError> {
    let scalar = |v: &Value| v.is_string() || v.is_boolean() || v.is_number();
    if values.is_empty() || !values.iter().all(scalar) {
        return Err(DefinitionError::Include { index: index.to_owned(), column });
    }
    Ok(Include { column, values: values.iter().map(|v| v.to_string().into_bytes()).collect() })
}

/// No id could be of two sources, and each source's documents can be listed.
fn told_apart(sources: &[Source]) -> bool {
    let begins = |a: usize, b: usize| sources[b].id_prefix.starts_with(&sources[a].id_prefix);
    let places = 0..sources.len();
    let meet = places.clone().any(|a| places.clone().any(|b| a != b && begins(a, b)));
    !meet && sources.iter().all(|source| source.filter.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::document::id::IndexId;

    #[test]
    fn the_built_in_definition_has_the_four_indices() {
        let definition = parse(None).unwrap();
        let names: Vec<&str> = definition.indices.iter().map(|i| i.name.as_str()).collect();
        assert_eq!(names, ["listings", "profiles", "categories", "ai_suggestions"]);
        let categories = definition.table("public", "categories").unwrap();
        let dependents = definition.dependents_of(categories);
        let below: Vec<(&str, bool)> = dependents.iter().map(|d| (d.by.as_str(), d.path)).collect();
        assert!(below.contains(&("category_id", true)), "{below:?}");
        assert!(below.contains(&("id", true)), "{below:?}");
        assert_eq!(definition.sources().count(), 5);
        assert_eq!(IndexId(3), definition.sources().last().unwrap().index);
    }

    fn check(text: &str, expected: &str) {
        let table: toml::Table = text.parse().unwrap();
        let error = parse(Some(&table)).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        let error = format!("{error}: {cause}");
        assert!(error.contains(expected), "{text}\n{error}");
    }

    #[test]
    fn a_definition_that_cannot_be_used_says_why() {
        check("", "declares no [[table]]");
        check("[[table]]\nname='a'", "declares no [[index]]");
        check("[[table]]\nname='a'\n[[table]]\nname='a'", "table \"a\" is declared twice");
        check("[[table]]\nname='a'\nkey='x'", "unknown field `key`");
        check("[[table]]\nname='a'\nparent='p'", "only one of `parent` and `label`");
        let index =
            |rest: &str| format!("[[table]]\nname='a'\n[[table]]\nname='b'\nschema='s'\n{rest}");
        let named =
            |name: &str| index(&format!("[[index]]\nname='{name}'\nsource=[{{table='a'}}]"));
        for name in ["", "A", "_a", "-a", "a b", "a*", "ş", "a/b", &"a".repeat(201)] {
            check(&named(name), &format!("index name {name:?} is refused"));
        }
        check(&[named("i"), "x=1".to_owned()].join("\n"), "unknown field `x`");
        check(&index("[[index]]\nname='i'\nsource=[]"), "declares no [[index.source]]");
        check(&index("[[index]]\nname='i'\nsource=[{table='c'}]"), "(declared: a, b)");
        check(&index("[[index]]\nname='i'\nsettings=1\nsource=[{table='a'}]"), "expected a map");
        let twice = "[[index]]\nname='i'\nsource=[{table='a'}]\n";
        check(&index(&twice.repeat(2)), "index \"i\" is declared twice");
    }

    #[test]
    fn a_source_that_cannot_be_used_says_why() {
        let source = |rest: &str| {
            format!("[[table]]\nname='a'\n[[index]]\nname='i'\n[[index.source]]\ntable='a'\n{rest}")
        };
        let field = |f: &str| source(&format!("[[index.source.field]]\nname='f'\n{f}\n"));
        check(&field(""), "exactly one of");
        check(&field("column='x'\nconstant=1"), "exactly one of");
        check(&field("path={table='a',start='id'}"), "needs `parent` and `label`");
        check(&field("embed={table='a',by='x',columns=['y'],path='p'}"), "needs `parent`");
        check(
            &field("embed={table='a',by='x',columns=['y','y']}"),
            "field \"y\" is declared twice",
        );
        check(&field("suggest={input=['x'],weight=2147483648}"), "the most is 2147483647");
        check(&field("column='x'\n[[index.source.field]]\nname='f'\ncolumn='y'"), "declared twice");
        for values in ["[]", "[[1]]", "[nan]"] {
            check(&source(&format!("include={{x={values}}}")), "include.x of index \"i\"");
        }
        check(&source("filter={field='kind',term='t'}"), "add one");
        check(&source("fliter={field='kind',term='t'}"), "unknown field `fliter`");
        let apart = |one: &str, two: &str| {
            let one_of = |prefix: &str| {
                format!(
                    "table='a'\nid_prefix='{prefix}'\nfilter={{field='k',term='t'}}\n\
                     field=[{{name='k',constant='t'}}]\n"
                )
            };
            format!(
                "[[table]]\nname='a'\n[[index]]\nname='i'\n[[index.source]]\n{}[[index.source]]\n{}",
                one_of(one),
                one_of(two)
            )
        };
        for (one, two) in [("", ""), ("x", "x"), ("", "x:"), ("x:", "x:y:")] {
            check(&apart(one, two), "several sources");
        }
        assert!(parse(Some(&apart("x:", "y:").parse().unwrap())).is_ok());
        check(&apart("x:", "y:").replace("filter={field='k',term='t'}\n", ""), "several sources");
    }

    #[test]
    fn a_table_of_another_schema_is_named_with_it() {
        // The queue tells tables by their bare names.
        check("[[table]]\nname='b'\n[[table]]\nname='b'\nschema='s'", "declared twice");
        let text = "[[table]]\nname='a'\n[[table]]\nname='b'\nschema='s'\n[[index]]\nname='i'\nsource=[{table='s.b'}]";
        let definition = parse(Some(&text.parse().unwrap())).unwrap();
        assert_eq!(definition.indices[0].sources[0].table, TableId(1));
        assert_eq!(definition.table("s", "b"), Some(TableId(1)));
    }
}
