//! What people may see of a table: the columns that a document shows. Every other one is private.
//! Pure.
//!
//! Not here: masking what is not visible (`admin`).

use std::collections::BTreeSet;

use super::definition::{Base, Definition, DocumentSource, FieldValue};
use crate::change::TableId;

/// The columns of a table that some document shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VisibleColumns {
    /// Shown by name: in a field, embedded, or as the label of a path.
    named: BTreeSet<String>,
    /// For each source that takes all columns: those that it leaves out.
    all_except: Vec<BTreeSet<String>>,
}

impl VisibleColumns {
    /// Whether some document shows this column.
    #[must_use]
    pub fn shows(&self, column: &str) -> bool {
        self.named.contains(column) || self.all_except.iter().any(|left| !left.contains(column))
    }
}

impl Definition {
    /// What documents show of the table with this name; nothing of a table that is not declared.
    #[must_use]
    pub fn visible_columns(&self, table: &str) -> VisibleColumns {
        let mut visible = VisibleColumns::default();
        let is_it = |id: TableId| self.tables[usize::from(id.0)].name == table;
        for source in self.indices.iter().flat_map(|index| &index.sources) {
            if is_it(source.table) {
                source.add_own(&mut visible);
            }
            for field in &source.fields {
                let (shown, path) = match &field.value {
                    FieldValue::Embed { table, columns, path, .. } if is_it(*table) => {
                        visible.named.extend(columns.iter().cloned());
                        (*table, path.is_some())
                    }
                    FieldValue::Path { table, .. } => (*table, true),
                    _ => continue,
                };
                let tree = self.tree(shown).filter(|_| path && is_it(shown));
                visible.named.extend(tree.map(|tree| tree.label.clone()));
            }
        }
        visible
    }
}

impl DocumentSource {
    /// Adds what the source's documents show of their own row.
    fn add_own(&self, visible: &mut VisibleColumns) {
        if let Base::AllExcept(except) = &self.base {
            let replaced = self.fields.iter().map(|field| &field.name);
            visible.all_except.push(except.iter().chain(replaced).cloned().collect());
        }
        for field in &self.fields {
            match &field.value {
                FieldValue::Column(column) => _ = visible.named.insert(column.clone()),
                FieldValue::Geo { lat, lon } => visible.named.extend([lat.clone(), lon.clone()]),
                FieldValue::Suggest { input, .. } => visible.named.extend(input.iter().cloned()),
                FieldValue::Constant(_) | FieldValue::Embed { .. } | FieldValue::Path { .. } => {}
            }
        }
    }

    /// Whether this source's documents have a field of this name, where its table has `columns`.
    #[must_use]
    pub fn has_field(&self, name: &str, columns: Option<&[String]>) -> bool {
        let is_column = || columns.is_none_or(|columns| columns.iter().any(|c| c == name));
        match &self.base {
            _ if self.fields.iter().any(|field| field.name == name) => true,
            Base::AllExcept(except) => !except.iter().any(|c| c == name) && is_column(),
            Base::Nothing => false,
        }
    }

    /// The members that the field of this name shows of an embedded row; `None` where the field
    /// embeds none.
    #[must_use]
    pub fn embedded_members(&self, name: &str) -> Option<Vec<&str>> {
        let field = self.fields.iter().find(|field| field.name == name)?;
        let FieldValue::Embed { columns, path, .. } = &field.value else { return None };
        Some(columns.iter().chain(path).map(String::as_str).collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::document::definition::Definition;
    use crate::engine::document::parse;

    fn check(definition: &Definition, table: &str, shown: &str, private: &str) {
        let visible = definition.visible_columns(table);
        for column in shown.split_whitespace() {
            assert!(visible.shows(column), "{table}.{column} is shown");
        }
        for column in private.split_whitespace() {
            assert!(!visible.shows(column), "{table}.{column} is private");
        }
    }

    #[test]
    fn the_built_in_definition_hides_what_it_excepts() {
        let definition = parse::parse(None).unwrap();
        check(&definition, "profiles", "id username full_name bio rating", "email phone");
        check(&definition, "listings", "id title latitude user_id attributes", "");
        check(&definition, "sessions", "", "id secret");
    }

    #[test]
    fn a_column_is_private_unless_a_document_shows_it() {
        let text = r#"
            [[table]]
            name = "accounts"
            [[table]]
            name = "shops"
            [[table]]
            name = "regions"
            parent = "above"
            label = "title"
            [[index]]
            name = "accounts"
            [[index.source]]
            table = "accounts"
            columns = false
            [[index.source.field]]
            name = "who"
            column = "name"
            [[index.source.field]]
            name = "shop"
            embed = { table = "shops", by = "shop_id", columns = ["name"] }
            [[index.source.field]]
            name = "where"
            path = { table = "regions", start = "region_id" }
        "#;
        let definition = parse::parse(Some(&text.parse().unwrap())).unwrap();
        check(&definition, "accounts", "name", "id password_hash shop_id region_id who");
        check(&definition, "shops", "name", "id iban");
        check(&definition, "regions", "title", "above note");
        let source = &definition.indices[0].sources[0];
        assert!(source.has_field("who", None) && !source.has_field("password_hash", None));
        assert_eq!(source.embedded_members("shop"), Some(vec!["name"]));
        assert_eq!(source.embedded_members("who"), None);
    }
}
