//! Turns the TOML structure into a definition, each name resolved. Pure.

use serde_json::Value;

use super::check::{are_distinct, is_index_name, unique, within_limit};
use super::error::DefinitionError;
use super::file::{RawEmbed, RawField, RawFilter, RawIndex, RawSource, RawSuggest, RawTable};
use crate::change::TableId;
use crate::engine::document::definition::{
    Base, DocumentSource, FieldDefinition, FieldValue, Include, IndexDefinition, TableDefinition,
};

/// Resolves the tables that a definition names.
pub(super) struct Resolver<'a> {
    pub(super) raw: &'a [RawTable],
    pub(super) tables: &'a [TableDefinition],
}

impl Resolver<'_> {
    /// The table of this name. `object` begins the error's sentence.
    fn table(&self, object: &str, name: &str) -> Result<TableId, DefinitionError> {
        let matches = |t: &RawTable| t.name == name || t.qualified() == name;
        match (0_u16..).zip(self.raw).find(|(_, table)| matches(table)) {
            Some((number, _)) => Ok(TableId(number)),
            None => {
                let known: Vec<&str> = self.raw.iter().map(|t| t.name.as_str()).collect();
                Err(DefinitionError::UnknownTable {
                    object: object.to_owned(),
                    name: name.to_owned(),
                    known: known.join(", "),
                })
            }
        }
    }

    /// The table of this name, which must form a tree.
    fn tree(&self, object: &str, name: &str) -> Result<TableId, DefinitionError> {
        let table = self.table(object, name)?;
        match self.tables[usize::from(table.0)].tree {
            Some(_) => Ok(table),
            None => {
                Err(DefinitionError::NoTree { object: object.to_owned(), name: name.to_owned() })
            }
        }
    }

    /// The index of an `[[index]]`.
    pub(super) fn index(&self, raw: RawIndex) -> Result<IndexDefinition, DefinitionError> {
        if !is_index_name(&raw.name) {
            return Err(DefinitionError::IndexName { name: raw.name });
        }
        let mut sources: Vec<DocumentSource> = Vec::with_capacity(raw.source.len());
        for source in raw.source {
            sources.push(self.source(&raw.name, source)?);
        }
        within_limit("[[index.source]]", sources.len())?;
        if sources.len() > 1 && !are_distinct(&sources) {
            return Err(DefinitionError::Ambiguous { index: raw.name });
        }
        Ok(IndexDefinition {
            name: raw.name,
            settings: Value::Object(raw.settings),
            mappings: Value::Object(raw.mappings),
            sources,
        })
    }

    fn source(&self, index: &str, raw: RawSource) -> Result<DocumentSource, DefinitionError> {
        let object = format!("a source of index {index:?}");
        let mut fields = Vec::with_capacity(raw.field.len());
        for field in raw.field {
            fields.push(self.field(index, field)?);
        }
        unique("field", fields.iter().map(|f| f.name.as_str()), &format!(" in {object}"))?;
        let include: Result<Vec<Include>, _> = raw
            .include
            .into_iter()
            .map(|(column, values)| include(index, column, &values))
            .collect();
        if let Some(filter) = &raw.filter {
            require_constant(index, filter, &fields)?;
        }
        Ok(DocumentSource {
            table: self.table(&object, &raw.table)?,
            id_prefix: raw.id_prefix,
            include: include?,
            base: if raw.columns { Base::AllExcept(raw.except) } else { Base::Nothing },
            fields,
            filter: raw.filter.map(|f| (f.field, f.term)),
        })
    }

    fn field(&self, index: &str, raw: RawField) -> Result<FieldDefinition, DefinitionError> {
        let object = format!("field {:?} of index {index:?}", raw.name);
        if let Some(RawSuggest { weight, .. }) = raw.suggest
            && i32::try_from(weight).is_err()
        {
            return Err(DefinitionError::Weight {
                index: index.to_owned(),
                field: raw.name,
                weight,
            });
        }
        let mut values = Vec::new();
        values.extend(raw.column.map(FieldValue::Column));
        values.extend(raw.constant.map(|value| FieldValue::Constant(value.to_string())));
        values.extend(raw.geo.map(|geo| FieldValue::Geo { lat: geo.lat, lon: geo.lon }));
        values
            .extend(raw.suggest.map(|s| FieldValue::Suggest { input: s.input, weight: s.weight }));
        if let Some(path) = raw.path {
            let table = self.tree(&object, &path.table)?;
            values.push(FieldValue::Path { table, start: path.start });
        }
        if let Some(RawEmbed { table, by, columns, path }) = raw.embed {
            let table = match path {
                Some(_) => self.tree(&object, &table)?,
                None => self.table(&object, &table)?,
            };
            unique("field", columns.iter().chain(&path), &format!(" in {object}"))?;
            values.push(FieldValue::Embed { table, by, columns, path });
        }
        match <[FieldValue; 1]>::try_from(values) {
            Ok([value]) => Ok(FieldDefinition { name: raw.name, value }),
            Err(_) => Err(DefinitionError::FieldValue { index: index.to_owned(), field: raw.name }),
        }
    }
}

/// A filter needs a field that is constant in its source: else the documents of the source could
/// not be listed by it.
fn require_constant(
    index: &str,
    filter: &RawFilter,
    fields: &[FieldDefinition],
) -> Result<(), DefinitionError> {
    let json = Value::from(filter.term.as_str()).to_string();
    let value = FieldValue::Constant(json);
    if fields.iter().any(|f| f.name == filter.field && f.value == value) {
        return Ok(());
    }
    Err(DefinitionError::Filter {
        index: index.to_owned(),
        field: filter.field.clone(),
        term: filter.term.clone(),
    })
}

fn include(index: &str, column: String, values: &[Value]) -> Result<Include, DefinitionError> {
    let scalar = |v: &Value| v.is_string() || v.is_boolean() || v.is_number();
    if values.is_empty() || !values.iter().all(scalar) {
        return Err(DefinitionError::Include { index: index.to_owned(), column });
    }
    Ok(Include { column, values: values.iter().map(|v| v.to_string().into_bytes()).collect() })
}
