//! Names of tables in findings. Pure.

use crate::engine::preflight::TableName;
use crate::postgres::quote_qualified;

/// `schema.name`, for sentences.
pub(super) fn label(name: &TableName) -> String {
    format!("{}.{}", name.0, name.1)
}

/// `schema.name`, quoted for SQL.
pub(super) fn quoted(name: &TableName) -> String {
    quote_qualified(&name.0, &name.1)
}

/// The names, separated by commas.
pub(super) fn labels(names: &[TableName]) -> String {
    names.iter().map(label).collect::<Vec<_>>().join(", ")
}

/// The name that differs from `wanted` in the fewest characters, if any is near.
pub(super) fn nearest<'n>(wanted: &str, names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let distances = names.map(|name| (distance(wanted, name), name));
    let (distance, name) = distances.min()?;
    (distance <= wanted.chars().count().max(4) / 2).then_some(name)
}

/// The number of characters to insert, remove or replace (Levenshtein), in any case.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.to_lowercase().chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (line, character) in (1..).zip(from.to_lowercase().chars()) {
        let mut diagonal = std::mem::replace(&mut row[0], line);
        for (column, other) in (1..).zip(&to) {
            let replaced = diagonal + usize::from(character != *other);
            diagonal = row[column];
            row[column] = replaced.min(diagonal + 1).min(row[column - 1] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn the_nearest_name_is_offered() {
        let check = |wanted: &str, names: &[&str], expected: Option<&str>| {
            assert_eq!(nearest(wanted, names.iter().copied()), expected, "{wanted}");
        };
        check("e_mail", &["id", "email", "phone"], Some("email"));
        check("status", &["id", "state", "title"], Some("state"));
        check("Status", &["id", "status"], Some("status"));
        check("email", &["id", "email_address"], None);
        check("x", &[], None);
    }
}
