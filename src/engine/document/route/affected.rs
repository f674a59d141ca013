//! The documents of a change's own rows. Pure.

use std::borrow::Cow;

use super::keys::RowKeys;
use crate::change::{Change, Operation, Row};
use crate::engine::document::build::included;
use crate::engine::document::definition::{Definition, DocumentSource, SourceId};
use crate::engine::document::id::DocumentId;

/// What a change does to a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The document is built from the change's new row.
    Index,
    /// The document is deleted.
    Delete,
}

/// A document that a change affects by its own row.
#[derive(Clone, Debug)]
pub struct AffectedDocument<'c> {
    pub document: DocumentId,
    pub source: SourceId,
    /// The old or the new row, whose key is the document's.
    pub row: &'c Row,
    pub effect: Effect,
}

/// The documents of a change's own rows: that of the new key, and that of the old key if the key
/// was deleted or changed. A row that had no document before the change and has none after it
/// affects nothing.
#[must_use]
pub fn documents<'c>(
    definition: &Definition,
    change: &'c Change,
    keys: &impl RowKeys,
) -> Vec<AffectedDocument<'c>> {
    let mut affected = Vec::with_capacity(2);
    let key = |row: &'c Option<Row>| {
        let row = row.as_ref()?;
        Some((keys.text(change.table, row)?, row))
    };
    let old = key(&change.old);
    let new = key(&change.new);
    let has_moved = match (&old, &new) {
        (Some((old_key, _)), Some((new_key, _))) => old_key != new_key,
        (old, _) => old.is_some(),
    };
    for source in definition.sources_of(change.table) {
        let declared = definition.source(source);
        // `None` if the old row lacks the columns of a condition: it may have had a document.
        let was_included = match change.operation {
            Operation::Insert => Some(false),
            _ => change.old.as_ref().and_then(|row| known_inclusion(declared, row)),
        };
        let mut add = |(key, row): &(Cow<'c, str>, &'c Row), effect| {
            let document = definition.document(source, key);
            affected.push(AffectedDocument { document, source, row, effect });
        };
        if let (true, Some(old)) = (has_moved, &old)
            && was_included != Some(false)
        {
            add(old, Effect::Delete);
        }
        if let Some(new) = &new {
            if included(declared, new.1) || change.incomplete {
                add(new, Effect::Index);
            } else if !has_moved && was_included != Some(false) {
                add(new, Effect::Delete);
            }
        }
    }
    affected
}

/// Whether a row has a document in this source; `None` if it lacks the column of a condition.
fn known_inclusion(source: &DocumentSource, row: &Row) -> Option<bool> {
    let has_columns = source.include.iter().all(|i| row.get(&i.column).is_some());
    has_columns.then(|| included(source, row))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::change::Columns;
    use crate::engine::document::parse;
    use crate::engine::document::route::testing::{ById, change};

    const ACTIVE: &str = r#"{"id":"a","status":"active"}"#;
    const DRAFT: &str = r#"{"id":"a","status":"draft"}"#;
    const MOVED: &str = r#"{"id":"b","status":"active"}"#;

    fn check_documents(table: &str, old: Option<&str>, new: Option<&str>, expected: &[&str]) {
        let definition = parse::parse(None).unwrap();
        let change = change(&definition, table, old, new);
        assert_eq!(shown(&definition, &change), expected, "{table} {old:?} -> {new:?}");
    }

    fn shown(definition: &Definition, change: &Change) -> Vec<String> {
        let affected = documents(definition, change, &ById);
        let names = affected.iter().map(|t| {
            let index = &definition.indices[usize::from(t.source.index.0)].name;
            format!("{:?} {index}/{}", t.effect, t.document.id)
        });
        names.collect()
    }

    #[test]
    fn a_listing_has_documents_while_it_is_active() {
        let index = ["Index listings/a", "Index ai_suggestions/listing:a"];
        let delete = ["Delete listings/a", "Delete ai_suggestions/listing:a"];
        check_documents("listings", None, Some(ACTIVE), &index);
        check_documents("listings", None, Some(DRAFT), &[]);
        check_documents("listings", Some(DRAFT), Some(ACTIVE), &index);
        check_documents("listings", Some(ACTIVE), Some(ACTIVE), &index);
        check_documents("listings", Some(ACTIVE), Some(DRAFT), &delete);
        check_documents("listings", Some(DRAFT), Some(DRAFT), &[]);
        check_documents("listings", Some(ACTIVE), None, &delete);
        check_documents("listings", Some(DRAFT), None, &[]);
        check_documents("listings", Some(r#"{"id":"a"}"#), None, &delete);
    }

    #[test]
    fn a_changed_key_deletes_the_old_document_and_makes_the_new() {
        check_documents(
            "listings",
            Some(ACTIVE),
            Some(MOVED),
            &[
                "Delete listings/a",
                "Index listings/b",
                "Delete ai_suggestions/listing:a",
                "Index ai_suggestions/listing:b",
            ],
        );
    }

    #[test]
    fn an_old_row_that_is_not_whole_is_taken_for_a_document() {
        let gone = ["Delete listings/a", "Delete ai_suggestions/listing:a"];
        let definition = parse::parse(None).unwrap();
        let check = |old: Option<&str>, new: Option<&str>, expected: &[&str]| {
            let mut change = change(&definition, "listings", Some(ACTIVE), new);
            change.old = old.map(|json| {
                let whole = Row::parse(json, None).unwrap();
                let columns = Arc::new(Columns::new(vec!["id".to_owned(), "status".to_owned()]));
                Row::new(columns, whole.json().to_vec().into(), vec![Some(6..9), None])
            });
            assert_eq!(shown(&definition, &change), expected, "{old:?} -> {new:?}");
        };
        check(None, Some(DRAFT), &gone);
        check(Some(r#"{"id":"a"}"#), Some(DRAFT), &gone);
        check(Some(r#"{"id":"a"}"#), None, &gone);
        let moved = [gone[0], "Index listings/b", gone[1], "Index ai_suggestions/listing:b"];
        check(Some(r#"{"id":"a"}"#), Some(MOVED), &moved);
    }

    #[test]
    fn what_did_not_arrive_whole_is_built() {
        let definition = parse::parse(None).unwrap();
        let mut change = change(&definition, "listings", Some(DRAFT), Some(DRAFT));
        change.incomplete = true;
        let expected = ["Index listings/a", "Index ai_suggestions/listing:a"];
        assert_eq!(shown(&definition, &change), expected);
    }

    #[test]
    fn a_category_is_a_document_of_its_own_and_a_suggestion_while_active() {
        let category = |active| format!(r#"{{"id":"c","is_active":{active}}}"#);
        let (on, off) = (category(true), category(false));
        let check = |old, new, expected: &[&str]| check_documents("categories", old, new, expected);
        let own = "Index categories/c";
        check(None, Some(&on), &[own, "Index ai_suggestions/category:c"]);
        check(None, Some(&off), &[own]);
        check(Some(&on), Some(&off), &[own, "Delete ai_suggestions/category:c"]);
        check(Some(&off), Some(&off), &[own]);
        check(Some(&off), None, &["Delete categories/c"]);
    }
}
