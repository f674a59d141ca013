//! What the configuration declares: tables, and the documents made of their rows. Pure.
//!
//! Not here: reading TOML (`engine::document::parse`) and building documents
//! (`engine::document::build`).

use std::collections::BTreeSet;

use smallvec::SmallVec;

use super::id::{DocumentId, IndexId};
use crate::change::TableId;

/// The number of a [`DocumentSource`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId {
    pub index: IndexId,
    /// The position among the index's sources.
    pub number: u16,
}

/// All tables and indices. Checked by `engine::document::parse`: every name resolves.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    pub tables: Vec<TableDefinition>,
    pub indices: Vec<IndexDefinition>,
    /// By table: the sources of other tables that embed its rows.
    pub(super) dependents: Vec<Vec<Dependent>>,
}

/// A table of which walferry reads the changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableDefinition {
    pub schema: String,
    pub name: String,
    /// For tables of which documents show paths.
    pub tree: Option<Tree>,
}

/// How rows of a table form a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// The column that holds the parent row's key.
    pub parent: String,
    /// The column that a path shows.
    pub label: String,
}

/// One index, known by its alias.
#[derive(Clone, Debug, PartialEq)]
pub struct IndexDefinition {
    pub name: String,
    pub settings: serde_json::Value,
    pub mappings: serde_json::Value,
    pub sources: Vec<DocumentSource>,
}

/// A source: the documents that one table's rows contribute to one index.
#[derive(Clone, Debug, PartialEq)]
pub struct DocumentSource {
    pub table: TableId,
    /// The prefix of `_id`, before the row's key.
    pub id_prefix: String,
    /// A row has a document if it meets all of these conditions.
    pub include: Vec<Include>,
    pub base: Base,
    pub fields: Vec<FieldDefinition>,
    /// Field and term that distinguish this source's documents from the others of the index.
    pub filter: Option<(String, String)>,
}

/// A column that must have one of some values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Include {
    pub column: String,
    /// JSON texts.
    pub values: Vec<Vec<u8>>,
}

/// Which columns become fields of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    AllExcept(Vec<String>),
    Nothing,
}

/// A computed field. It replaces a column of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldDefinition {
    pub name: String,
    pub value: FieldValue,
}

/// Where a field's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldValue {
    /// A column under another name.
    Column(String),
    /// JSON text.
    Constant(String),
    /// `{lat, lon}` if neither column is null.
    Geo { lat: String, lon: String },
    /// Columns of the row that `by` refers to; null if that row does not exist. `path` adds the
    /// labels from the root down to it, as a field of that name.
    Embed { table: TableId, by: String, columns: Vec<String>, path: Option<String> },
    /// The labels from the root down to the row that `start` refers to.
    Path { table: TableId, start: String },
    /// An input of a completion field: texts, and the elements of arrays of text.
    Suggest { input: Vec<String>, weight: u32 },
}

/// Rows of `table` that embed rows of another (or of the same) table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dependent {
    pub table: TableId,
    /// Its column that holds the embedded row's key.
    pub by: String,
    /// The columns of the embedded row that are shown.
    pub shown: Vec<String>,
    /// The path is shown: rows that refer to a descendant of the embedded row are affected too.
    pub path: bool,
    pub sources: Vec<SourceId>,
}

impl Definition {
    /// # Panics
    /// Never for ids of this definition.
    #[must_use]
    pub fn source(&self, id: SourceId) -> &DocumentSource {
        &self.indices[usize::from(id.index.0)].sources[usize::from(id.number)]
    }

    /// The sources that take rows of a table.
    #[must_use]
    pub fn sources_of(&self, table: TableId) -> SmallVec<[SourceId; 4]> {
        self.sources().filter(|id| self.source(*id).table == table).collect()
    }

    /// All sources.
    pub fn sources(&self) -> impl Iterator<Item = SourceId> {
        (0_u16..).zip(&self.indices).flat_map(|(index, definition)| {
            (0_u16..)
                .zip(&definition.sources)
                .map(move |(number, _)| SourceId { index: IndexId(index), number })
        })
    }

    /// The rows that embed rows of this table.
    #[must_use]
    pub fn dependents_of(&self, table: TableId) -> &[Dependent] {
        self.dependents.get(usize::from(table.0)).map_or(&[], Vec::as_slice)
    }

    /// Whether documents embed rows of this table.
    #[must_use]
    pub fn is_embedded(&self, table: TableId) -> bool {
        !self.dependents_of(table).is_empty()
    }

    /// What documents of other tables a row of `table` is part of; none without such documents.
    #[must_use]
    pub fn tree(&self, table: TableId) -> Option<&Tree> {
        self.tables.get(usize::from(table.0))?.tree.as_ref()
    }

    /// The document of a source for a row's key.
    #[must_use]
    pub fn document(&self, source: SourceId, key: &str) -> DocumentId {
        let prefix = &self.source(source).id_prefix;
        let id =
            if prefix.is_empty() { key.into() } else { [prefix.as_str(), key].concat().into() };
        DocumentId::new(source.index, id)
    }

    /// The key's text in a document's id; `None` for a document of another source.
    #[must_use]
    pub fn key_of<'a>(&self, source: SourceId, id: &'a str) -> Option<&'a str> {
        id.strip_prefix(self.source(source).id_prefix.as_str())
    }

    /// The table of this name.
    #[must_use]
    pub fn table(&self, schema: &str, name: &str) -> Option<TableId> {
        let number = self.tables.iter().position(|t| t.schema == schema && t.name == name)?;
        Some(TableId(u16::try_from(number).ok()?))
    }

    /// Every column that the definition names on a table. Each must be in the catalog: a misspelt
    /// exception would publish a private column.
    #[must_use]
    pub fn columns_named(&self, table: TableId) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        if let Some(tree) = self.tree(table) {
            names.extend([tree.parent.as_str(), tree.label.as_str()]);
        }
        for source in self.indices.iter().flat_map(|index| &index.sources) {
            for FieldDefinition { value, .. } in &source.fields {
                if let FieldValue::Embed { table: embedded, columns, .. } = value
                    && *embedded == table
                {
                    names.extend(columns.iter().map(String::as_str));
                }
            }
            if source.table == table {
                names.extend(source.columns_named());
            }
        }
        names
    }
}

impl DocumentSource {
    /// The columns that the definition names on the source's own rows.
    fn columns_named(&self) -> Vec<&str> {
        let mut names = self.inputs();
        if let Base::AllExcept(except) = &self.base {
            names.extend(except.iter().map(String::as_str));
        }
        names
    }

    /// Whether its documents depend on this column of their own row.
    #[must_use]
    pub fn depends_on(&self, column: &str) -> bool {
        let is_base = match &self.base {
            Base::AllExcept(except) => {
                !except.iter().any(|name| name == column)
                    && !self.fields.iter().any(|field| field.name == column)
            }
            Base::Nothing => false,
        };
        is_base || self.inputs().contains(&column)
    }

    /// Whether its documents embed rows of this table.
    #[must_use]
    pub fn embeds(&self, table: TableId) -> bool {
        self.fields.iter().any(|field| match &field.value {
            FieldValue::Embed { table: embedded, .. }
            | FieldValue::Path { table: embedded, .. } => *embedded == table,
            _ => false,
        })
    }

    /// The columns that conditions and fields are made of.
    fn inputs(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.include.iter().map(|i| i.column.as_str()).collect();
        for field in &self.fields {
            match &field.value {
                FieldValue::Column(column) => names.push(column),
                FieldValue::Constant(_) => {}
                FieldValue::Geo { lat, lon } => names.extend([lat.as_str(), lon.as_str()]),
                FieldValue::Embed { by, .. } => names.push(by),
                FieldValue::Path { start, .. } => names.push(start),
                FieldValue::Suggest { input, .. } => names.extend(input.iter().map(String::as_str)),
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::document::parse;

    fn check(table: &str, expected: &str) {
        let definition = parse::parse(None).unwrap();
        let table = definition.table("public", table).unwrap();
        let names: Vec<&str> = definition.columns_named(table).into_iter().collect();
        assert_eq!(names.join(" "), expected);
    }

    #[test]
    fn every_named_column_is_listed() {
        check("listings", "category_id latitude longitude status tags title user_id");
        check(
            "profiles",
            "avatar_url email full_name id is_verified location phone rating username",
        );
        check("categories", "id is_active keywords name parent_id slug");
    }
}
