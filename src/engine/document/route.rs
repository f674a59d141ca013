//! Which documents a change touches, and which rows a document needs. Pure.
//!
//! Not here: reading these rows, and the rows that show a changed one (`feed`).

use std::borrow::Cow;

use smallvec::SmallVec;

use super::build::{Embedded, included};
use super::definition::{Definition, Dependent, FieldValue, SourceId};
use super::id::DocumentId;
use crate::change::{Change, Operation, Row, TableId};

/// What becomes of a touched document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Built from the change's new row.
    Index,
    /// Deleted.
    Delete,
}

/// One document that a change touches by its own row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AffectedDocument {
    pub document: DocumentId,
    pub source: SourceId,
    /// The key's parts.
    pub key: Vec<String>,
    pub effect: Effect,
}

/// How keys are taken from rows: the parts, and the one text that they make.
pub trait Keys {
    /// Empty where the row does not carry its key.
    fn parts(&self, table: TableId, row: &Row) -> Vec<String>;
    fn text(&self, parts: &[String]) -> String;
}

/// The documents of a change's own rows: that of the new key, and that of an old key which is
/// gone or has moved. A row known to have had no document, and to have none now, touches nothing.
#[must_use]
pub fn documents(
    definition: &Definition,
    change: &Change,
    keys: &impl Keys,
) -> Vec<AffectedDocument> {
    let mut touched = Vec::with_capacity(2);
    let part = |row: &Option<Row>| {
        row.as_ref().map(|row| keys.parts(change.table, row)).filter(|parts| !parts.is_empty())
    };
    let (old_key, new_key) = (part(&change.old), part(&change.new));
    for source in definition.sources_of(change.table) {
        let declared = definition.source(source);
        let holds = |row: &Option<Row>| {
            // A row without these columns (the key alone, for one) tells nothing.
            let tells = |row: &&Row| declared.include.iter().all(|i| row.get(&i.column).is_some());
            row.as_ref().filter(tells).map(|row| included(declared, row))
        };
        let was = match change.operation {
            Operation::Insert => Some(false),
            _ => holds(&change.old),
        };
        let mut touch = |key: &Vec<String>, effect| {
            let document = definition.document(source, &keys.text(key));
            touched.push(AffectedDocument { document, source, key: key.clone(), effect });
        };
        let moved = old_key.is_some() && old_key != new_key;
        if let (true, Some(key)) = (moved, &old_key)
            && was != Some(false)
        {
            touch(key, Effect::Delete);
        }
        if let Some(key) = &new_key {
            let is = change.new.as_ref().is_some_and(|row| included(declared, row));
            if is || change.incomplete {
                touch(key, Effect::Index);
            } else if !moved && was != Some(false) {
                touch(key, Effect::Delete);
            }
        }
    }
    touched
}

/// What shows the changed row in other rows' documents, with the row whose key they refer by.
#[must_use]
pub fn dependents<'d, 'c>(
    definition: &'d Definition,
    change: &'c Change,
    keys: &impl Keys,
) -> Vec<(&'d Dependent, &'c Row)> {
    let list = definition.dependents_of(change.table);
    let mut found: Vec<(&Dependent, &Row)> = Vec::new();
    for dependent in list {
        match (&change.old, &change.new) {
            (None, Some(row)) | (Some(row), None) => found.push((dependent, row)),
            (Some(old), Some(new)) => {
                let parts = |row| keys.parts(change.table, row);
                let moved = parts(old) != parts(new);
                if moved {
                    found.push((dependent, old));
                }
                if moved || !shows_the_same(dependent, old, new) {
                    found.push((dependent, new));
                }
            }
            (None, None) => {}
        }
    }
    // Rows that show the changed one's path are rewritten whole: once is enough.
    let paths: SmallVec<[(&Dependent, &Row); 4]> =
        found.iter().filter(|(dependent, _)| dependent.path).copied().collect();
    found.retain(|(dependent, row)| {
        dependent.path
            || !paths.iter().any(|(path, of)| std::ptr::eq(*of, *row) && covers(path, dependent))
    });
    found
}

/// Whether rewriting what shows the path rewrites all that shows the row.
fn covers(path: &Dependent, row: &Dependent) -> bool {
    path.table == row.table
        && path.by == row.by
        && row.sources.iter().all(|source| path.sources.contains(source))
}

fn shows_the_same(dependent: &Dependent, old: &Row, new: &Row) -> bool {
    dependent.shown.iter().all(|column| match (old.get(column), new.get(column)) {
        (Some(old), Some(new)) => old == new,
        _ => false,
    })
}

/// A row that a document shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequiredRow {
    pub table: TableId,
    pub key: String,
    /// All rows above it as well.
    pub path: bool,
}

/// Adds the rows that a source's document of this row shows.
pub fn needs(definition: &Definition, source: SourceId, row: &Row, needs: &mut Vec<RequiredRow>) {
    for field in &definition.source(source).fields {
        let (table, column, path) = match &field.value {
            FieldValue::Embed { table, by, path, .. } => (*table, by, path.is_some()),
            FieldValue::Path { table, start } => (*table, start, true),
            _ => continue,
        };
        if let Some(key) = row.text(column) {
            needs.push(RequiredRow { table, key, path });
        }
    }
}

/// The first row towards the root that is not known yet; `None` when all that is needed is.
pub fn first_unknown(
    definition: &Definition,
    rows: &impl Embedded,
    need: &RequiredRow,
    knows: impl Fn(TableId, &str) -> bool,
) -> Option<RequiredRow> {
    let mut seen: SmallVec<[&Row; 8]> = SmallVec::new();
    let mut key = Cow::Borrowed(need.key.as_str());
    loop {
        if !knows(need.table, &key) {
            return Some(RequiredRow { table: need.table, key: key.into_owned(), path: need.path });
        }
        let tree = definition.tree(need.table).filter(|_| need.path)?;
        let row = rows.row(need.table, &key)?;
        if seen.iter().any(|known| std::ptr::eq(*known, row)) {
            return None;
        }
        seen.push(row);
        key = row.text_at(row.columns().index_of(&tree.parent)?)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;
    use std::sync::Arc;

    use crate::change::{Columns, Lsn, Position};
    use crate::engine::document::parse;

    struct ById;

    impl Keys for ById {
        fn parts(&self, _: TableId, row: &Row) -> Vec<String> {
            row.text("id").into_iter().collect()
        }

        fn text(&self, parts: &[String]) -> String {
            parts.concat()
        }
    }

    fn change(
        definition: &Definition,
        table: &str,
        old: Option<&str>,
        new: Option<&str>,
    ) -> Change {
        let row = |json: &str| Row::parse(json, None).unwrap();
        Change {
            position: Position { commit_lsn: Lsn(8), ordinal: 0 },
            xid: 1,
            committed_at: 0,
            table: definition.table("public", table).unwrap(),
            operation: match (old, new) {
                (None, _) => Operation::Insert,
                (Some(_), Some(_)) => Operation::Update,
                (Some(_), None) => Operation::Delete,
            },
            old: old.map(row),
            new: new.map(row),
            incomplete: false,
            note: None,
        }
    }

    fn check_documents(table: &str, old: Option<&str>, new: Option<&str>, expected: &[&str]) {
        let definition = parse::parse(None).unwrap();
        let change = change(&definition, table, old, new);
        assert_eq!(shown(&definition, &change), expected, "{table} {old:?} -> {new:?}");
    }

    fn shown(definition: &Definition, change: &Change) -> Vec<String> {
        let touched = documents(definition, change, &ById);
        let names = touched.iter().map(|t| {
            let index = &definition.indices[usize::from(t.source.index.0)].name;
            format!("{:?} {index}/{}", t.effect, t.document.id)
        });
        names.collect()
    }

    const ACTIVE: &str = r#"{"id":"a","status":"active"}"#;
    const DRAFT: &str = r#"{"id":"a","status":"draft"}"#;
    const MOVED: &str = r#"{"id":"b","status":"active"}"#;

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

    fn check_dependents(table: &str, old: Option<&str>, new: Option<&str>, expected: &[&str]) {
        let definition = parse::parse(None).unwrap();
        let change = change(&definition, table, old, new);
        let found: Vec<String> = dependents(&definition, &change, &ById)
            .iter()
            .map(|(d, row)| {
                let table = &definition.tables[usize::from(d.table.0)].name;
                let path = if d.path { "/below" } else { "" };
                format!("{table}.{}={}{path}", d.by, row.text("id").unwrap())
            })
            .collect();
        assert_eq!(found, expected, "{table} {old:?} -> {new:?}");
    }

    #[test]
    fn only_what_is_shown_is_rewritten() {
        let seller = concat!(
            r#"{"id":"u","username":"x","full_name":"y","avatar_url":null,"location":null,"#,
            r#""rating":1,"is_verified":true,"bio":"1"}"#,
        );
        check_dependents("profiles", Some(seller), Some(seller), &[]);
        check_dependents(
            "profiles",
            Some(seller),
            Some(&seller.replace(r#""bio":"1""#, r#""bio":"2""#)),
            &[],
        );
        check_dependents(
            "profiles",
            Some(seller),
            Some(&seller.replace("\"x\"", "\"z\"")),
            &["listings.user_id=u"],
        );
        let category = r#"{"id":"c","parent_id":"p","name":"n","slug":"s","icon":"i"}"#;
        check_dependents(
            "categories",
            Some(category),
            Some(&category.replace("\"i\"", "\"j\"")),
            &[],
        );
        check_dependents(
            "categories",
            Some(category),
            Some(&category.replace("\"s\"", "\"t\"")),
            &["listings.category_id=c"],
        );
        check_dependents(
            "categories",
            Some(category),
            Some(&category.replace("\"n\"", "\"m\"")),
            &["listings.category_id=c/below", "categories.id=c/below"],
        );
        check_dependents("listings", None, Some(ACTIVE), &[]);
    }

    #[test]
    fn what_comes_goes_or_moves_is_shown_anew() {
        let profile = r#"{"id":"u"}"#;
        check_dependents("profiles", None, Some(profile), &["listings.user_id=u"]);
        check_dependents("profiles", Some(profile), None, &["listings.user_id=u"]);
        let category = r#"{"id":"c","parent_id":null,"name":"n","slug":"s"}"#;
        let below = ["listings.category_id=c/below", "categories.id=c/below"];
        check_dependents("categories", Some(category), None, &below);
        check_dependents(
            "categories",
            Some(category),
            Some(&category.replace("null", "\"p\"")),
            &below,
        );
        check_dependents(
            "categories",
            Some(category),
            Some(&category.replace("\"c\"", "\"d\"")),
            &[
                "listings.category_id=c/below",
                "listings.category_id=d/below",
                "categories.id=c/below",
                "categories.id=d/below",
            ],
        );
    }

    #[test]
    fn a_path_of_one_index_does_not_cover_the_columns_of_another() {
        let text = r#"
            table = [{ name = "t" }, { name = "c", parent = "p", label = "n" }]
            [[index]]
            name = "a"
            source = [{ table = "t", field = [{ name = "c", embed = { table = "c", by = "c", columns = ["n"] } }] }]
            [[index]]
            name = "b"
            source = [{ table = "t", field = [{ name = "p", path = { table = "c", start = "c" } }] }]
        "#;
        let definition = parse::parse(Some(&text.parse().unwrap())).unwrap();
        let (old, new) = (r#"{"id":1,"p":2,"n":"x"}"#, r#"{"id":1,"p":2,"n":"y"}"#);
        let change = change(&definition, "c", Some(old), Some(new));
        let found = dependents(&definition, &change, &ById);
        let found: Vec<(bool, usize)> =
            found.iter().map(|(d, _)| (d.path, d.sources.len())).collect();
        assert_eq!(found, [(false, 1), (true, 1)]);
    }

    struct Known(TableId, HashMap<&'static str, Option<Row>>);

    impl Embedded for Known {
        fn row(&self, table: TableId, key: &str) -> Option<&Row> {
            self.1.get(key).filter(|_| table == self.0)?.as_ref()
        }
    }

    #[test]
    fn a_path_asks_for_one_row_after_another() {
        let definition = parse::parse(None).unwrap();
        let table = definition.table("public", "categories").unwrap();
        let mut known = Known(table, HashMap::new());
        let need = RequiredRow { table, key: "a".to_owned(), path: true };
        let check = |known: &Known, path: bool, expected: Option<&str>| {
            let need = RequiredRow { path, ..need.clone() };
            let unknown =
                first_unknown(&definition, known, &need, |_, key| known.1.contains_key(key));
            assert_eq!(unknown.map(|need| need.key).as_deref(), expected);
        };
        let row = |json| Some(Row::parse(json, None).unwrap());
        check(&known, true, Some("a"));
        known.1.insert("a", row(r#"{"id":"a","parent_id":"b"}"#));
        check(&known, true, Some("b"));
        check(&known, false, None);
        known.1.insert("b", row(r#"{"id":"b","parent_id":"a"}"#));
        check(&known, true, None);
        known.1.insert("b", row(r#"{"id":"b","parent_id":null}"#));
        check(&known, true, None);
        known.1.insert("b", None);
        check(&known, true, None);
    }

    #[test]
    fn a_document_needs_the_rows_that_it_shows() {
        let definition = parse::parse(None).unwrap();
        let check = |table: &str, row: &str, expected: &[&str]| {
            let row = Row::parse(row, None).unwrap();
            let table = definition.table("public", table).unwrap();
            let mut found = Vec::new();
            for source in definition.sources_of(table) {
                needs(&definition, source, &row, &mut found);
            }
            let found: Vec<String> = found
                .iter()
                .map(|n| {
                    let name = &definition.tables[usize::from(n.table.0)].name;
                    format!("{name}/{}{}", n.key, if n.path { "/.." } else { "" })
                })
                .collect();
            assert_eq!(found, expected);
        };
        let listing = r#"{"id":"l","user_id":"u","category_id":7}"#;
        check("listings", listing, &["profiles/u", "categories/7/..", "categories/7/.."]);
        check("listings", r#"{"id":"l","user_id":null}"#, &[]);
        check("categories", r#"{"id":"c"}"#, &["categories/c/..", "categories/c/.."]);
        check("profiles", r#"{"id":"p"}"#, &[]);
    }
}
