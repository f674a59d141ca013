//! The rows that embed a changed row in their documents. Pure.

use smallvec::SmallVec;

use super::keys::RowKeys;
use crate::change::{Change, Row};
use crate::engine::document::definition::{Definition, Dependent};

/// The rows that embed the changed row, each with the state of the changed row (the old or the new
/// one) that they refer to by its key.
#[must_use]
pub fn dependents<'d, 'c>(
    definition: &'d Definition,
    change: &'c Change,
    keys: &impl RowKeys,
) -> Vec<(&'d Dependent, &'c Row)> {
    let list = definition.dependents_of(change.table);
    let mut found: Vec<(&Dependent, &Row)> = Vec::new();
    for dependent in list {
        match (&change.old, &change.new) {
            (None, Some(row)) | (Some(row), None) => found.push((dependent, row)),
            (Some(old), Some(new)) => {
                let moved = keys.text(change.table, old) != keys.text(change.table, new);
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
    // A document that shows the path is rebuilt whole, so it is not listed for the columns again.
    let paths: SmallVec<[(&Dependent, &Row); 4]> =
        found.iter().filter(|(dependent, _)| dependent.path).copied().collect();
    found.retain(|(dependent, row)| {
        dependent.path
            || !paths.iter().any(|(path, of)| std::ptr::eq(*of, *row) && covers(path, dependent))
    });
    found
}

/// Whether rebuilding the documents with the path also rebuilds all documents with the columns.
fn covers(path: &Dependent, row: &Dependent) -> bool {
    path.table == row.table
        && path.by == row.by
        && row.sources.iter().all(|source| path.sources.contains(source))
}

/// Whether the columns that are shown have the same values before and after the change.
fn shows_the_same(dependent: &Dependent, old: &Row, new: &Row) -> bool {
    dependent.shown.iter().all(|column| match (old.get(column), new.get(column)) {
        (Some(old), Some(new)) => old == new,
        _ => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::document::parse;
    use crate::engine::document::route::testing::{ById, change};

    const ACTIVE: &str = r#"{"id":"a","status":"active"}"#;

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
}
