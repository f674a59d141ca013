//! Whether an update leaves a document as it is. Pure.
//!
//! Not here: whether Elasticsearch has the document (`sink::indexed`).

use crate::change::{Change, Operation};
use crate::engine::document::build::included;
use crate::engine::document::definition::{Definition, SourceId};

/// Whether the old and the new row of an update give the same document of this source. False where
/// the stream does not carry both rows whole, or where a document embeds rows of its own table: the
/// row may be one of them.
///
/// Changes of embedded rows do not count: they rewrite the documents by themselves.
#[must_use]
pub fn is_unchanged(definition: &Definition, source: SourceId, change: &Change) -> bool {
    let declared = definition.source(source);
    let (Some(old), Some(new)) = (&change.old, &change.new) else { return false };
    change.operation == Operation::Update
        && !change.incomplete
        && !declared.embeds(change.table)
        && old.columns() == new.columns()
        && included(declared, old)
        && old.columns().names().iter().enumerate().all(|(at, name)| {
            let is_same = match (old.at(at), new.at(at)) {
                (Some(old), Some(new)) => old == new,
                _ => return false,
            };
            is_same || !declared.depends_on(name)
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::document::parse;
    use crate::engine::document::route::testing::change;

    fn check(table: &str, index: &str, old: &str, new: &str, expected: bool) {
        let definition = parse::parse(None).unwrap();
        let change = change(&definition, table, Some(old), Some(new));
        let source = definition
            .sources_of(change.table)
            .into_iter()
            .find(|source| definition.indices[usize::from(source.index.0)].name == index);
        let found = is_unchanged(&definition, source.unwrap(), &change);
        assert_eq!(found, expected, "{index}: {old} -> {new}");
    }

    #[test]
    fn a_column_that_no_field_is_made_of_changes_nothing() {
        let old = r#"{"id":"a","status":"active","title":"x","tags":null,"view_count":1}"#;
        let viewed = r#"{"id":"a","status":"active","title":"x","tags":null,"view_count":2}"#;
        check("listings", "ai_suggestions", old, viewed, true);
        check("listings", "listings", old, viewed, false);
        check("listings", "listings", old, old, true);
        let titled = r#"{"id":"a","status":"active","title":"y","tags":null,"view_count":1}"#;
        check("listings", "ai_suggestions", old, titled, false);
    }

    #[test]
    fn a_row_without_a_document_before_or_not_whole_is_a_change() {
        let active = r#"{"id":"a","status":"active"}"#;
        check("listings", "listings", r#"{"id":"a","status":"draft"}"#, active, false);
        check("listings", "listings", r#"{"id":"a"}"#, active, false);
    }

    #[test]
    fn a_document_that_embeds_its_own_table_is_rewritten() {
        let row = r#"{"id":"c","name":"x","slug":"x","parent_id":null,"is_active":true}"#;
        let definition = parse::parse(None).unwrap();
        let table = definition.table("public", "categories").unwrap();
        let embeds = |source| definition.source(source).embeds(table);
        for source in definition.sources_of(table) {
            let index = &definition.indices[usize::from(source.index.0)].name;
            check("categories", index, row, row, !embeds(source));
        }
    }
}
