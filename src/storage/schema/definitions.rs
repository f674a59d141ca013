//! The tables, views and functions that the migrations define, as statements. Pure.
//!
//! With these, what another role owned is put back to what it was: a function or a view is
//! replaced by its own definition before anything executes it.

use super::MIGRATIONS;

/// What a statement defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DefinedKind {
    Table,
    View,
    Function,
    /// Such as one that makes a function SECURITY DEFINER.
    Alteration,
}

/// The statements of the first `applied` migrations that define every function and view anew, in
/// their order.
pub(super) fn replacements(applied: i32) -> Vec<String> {
    let applied = usize::try_from(applied).unwrap_or(0);
    let texts = MIGRATIONS.iter().take(applied).flat_map(|(_, text)| statements(text));
    texts
        .filter_map(|statement| {
            let (kind, rest) = defined(statement)?;
            match kind {
                DefinedKind::Table => None,
                DefinedKind::View => Some(format!("create or replace view {rest}")),
                DefinedKind::Function => Some(format!("create or replace function {rest}")),
                DefinedKind::Alteration => Some(format!("alter function {rest}")),
            }
        })
        .collect()
}

/// The names of the tables in schema walferry, without their schema.
pub(super) fn tables() -> Vec<&'static str> {
    names(DefinedKind::Table)
}

/// The names of the views in schema walferry, without their schema.
pub(super) fn views() -> Vec<&'static str> {
    names(DefinedKind::View)
}

fn names(wanted: DefinedKind) -> Vec<&'static str> {
    let all = MIGRATIONS.iter().flat_map(|(_, text)| statements(text)).filter_map(defined);
    all.filter(|(kind, _)| *kind == wanted)
        .filter_map(|(_, rest)| rest.strip_prefix("walferry."))
        .filter_map(|rest| rest.split([' ', '\n', '(']).next())
        .collect()
}

/// The kind of what a statement creates, and what follows the keyword.
fn defined(statement: &str) -> Option<(DefinedKind, &str)> {
    const STARTS: [(&str, DefinedKind); 6] = [
        ("create table ", DefinedKind::Table),
        ("create view ", DefinedKind::View),
        ("create or replace view ", DefinedKind::View),
        ("create function ", DefinedKind::Function),
        ("create or replace function ", DefinedKind::Function),
        ("alter function ", DefinedKind::Alteration),
    ];
    STARTS.iter().find_map(|(start, kind)| Some((*kind, statement.strip_prefix(start)?)))
}

/// The statements of a migration, without comments before them. Dollar quotes are `$$` only.
fn statements(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return found;
        }
        if rest.starts_with("--") {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
            continue;
        }
        let end = length(rest);
        let (statement, after) = rest.split_at(end);
        found.push(statement);
        rest = after.strip_prefix(';').unwrap_or(after);
    }
}

/// Bytes up to the semicolon that ends the statement.
fn length(text: &str) -> usize {
    let mut position = 0;
    while let Some(rest) = text.get(position..).filter(|rest| !rest.is_empty()) {
        let skipped = if rest.starts_with(';') {
            return position;
        } else if rest.starts_with("--") {
            rest.find('\n')
        } else if let Some(quoted) = rest.strip_prefix("$$") {
            quoted.find("$$").map(|length| length + 4)
        } else if let Some(quoted) = rest.strip_prefix('\'') {
            quoted.find('\'').map(|length| length + 2)
        } else {
            rest.chars().next().map(char::len_utf8)
        };
        position += skipped.unwrap_or(rest.len());
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_where_they_end() {
        let text = "-- a; comment\ncreate table walferry.a (b text); -- c;\n\
            create function walferry.f() returns text as $$ select ';' $$;\n\
            insert into t values ('it''s; so')";
        let found = statements(text);
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(found[0], "create table walferry.a (b text)");
        assert!(found[1].ends_with("$$ select ';' $$"), "{}", found[1]);
        assert_eq!(found[2], "insert into t values ('it''s; so')");
    }

    #[test]
    fn the_migrations_define_what_they_define() {
        let tables = tables();
        for name in ["lease", "position", "job_count", "audit", "queue_default", "note_move"] {
            assert!(tables.contains(&name), "{name} is not in {tables:?}");
        }
        assert!(views().contains(&"lease_state"));
        let all = replacements(i32::MAX);
        let defined = MIGRATIONS
            .iter()
            .flat_map(|(_, text)| text.lines())
            .filter(|line| line.starts_with("create") || line.starts_with("alter"))
            .filter(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                words.get(1) == Some(&"function") || words.get(3) == Some(&"function")
            });
        let views = views().len();
        assert_eq!(all.len(), defined.count() + views);
    }
}
