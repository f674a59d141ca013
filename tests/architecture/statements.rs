//! Rules on SQL: one module reads the replication slots, columns are read by name, and each file of
//! SQL says what its parameters are.
//!
//! Not here: which moves of a job's status a statement may make (`moves`).

#![allow(clippy::string_slice, reason = "every position is that of a match in the same text")]

use super::source::{strings, tokens};
use super::{files_below, sources};

/// Columns that are still read by number; the count only goes down.
const BY_NUMBER_MAX: usize = 20;

/// Whether a statement reads `pg_replication_slots`.
fn reads_slots(sql: &str) -> bool {
    let words: Vec<&str> = sql.split_whitespace().collect();
    words.windows(2).any(|pair| {
        let table = pair[1].trim_end_matches([';', ')', ',']);
        ["from", "join"].contains(&pair[0].trim_start_matches('('))
            && matches!(table, "pg_replication_slots" | "pg_catalog.pg_replication_slots")
    })
}

/// How often a text reads a column of a row by its number.
fn columns_by_number(text: &str) -> usize {
    let tokens = tokens(text);
    let word = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let reads = |at: &usize| {
        let receiver = at.checked_sub(2).map_or("", word);
        let is_row = word(*at) == "try_get" || matches!(receiver, "row" | "?" | ")");
        let mut open = at + 1;
        if word(open) == "::" {
            while open < tokens.len() && word(open) != "(" {
                open += 1;
            }
        }
        let number = word(open + 1);
        ["get", "try_get"].contains(&word(*at))
            && word(at.saturating_sub(1)) == "."
            && is_row
            && word(open) == "("
            && word(open + 2) == ")"
            && !number.is_empty()
            && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    (0..tokens.len()).filter(reads).count()
}

/// What is wrong with a file of SQL: it opens with a comment that names each parameter.
fn header_breaches(sql: &str) -> Vec<String> {
    let header: String = sql.lines().take_while(|line| line.starts_with("--")).collect();
    if header.is_empty() {
        return vec!["does not open with a comment".to_owned()];
    }
    if !sql.is_ascii() {
        return vec!["is not ASCII, which every encoding of a database has".to_owned()];
    }
    let body = sql.lines().skip_while(|line| line.starts_with("--"));
    let body: String = body.map(|line| format!("{line}\n")).collect();
    let parameters = (1..=9).map(|number| format!("${number}"));
    let unnamed = parameters.filter(|name| body.contains(name) && !header.contains(name));
    unnamed.map(|name| format!("does not say what {name} is")).collect()
}

/// The names of columns that a file reads.
fn columns_read(text: &str) -> Vec<&str> {
    let reads = text.match_indices("get").filter(|(at, _)| {
        let before = &text[..*at];
        before.ends_with("row.") || before.ends_with("?.") || before.ends_with(".try_")
    });
    let arguments = reads.filter_map(|(at, get)| {
        let rest = &text[at + get.len()..];
        if rest.starts_with("::<") { rest.split_once(">(") } else { rest.split_once('(') }
    });
    arguments.filter_map(|(_, rest)| rest.strip_prefix('"')?.split('"').next()).collect()
}

/// Whether a statement may give a column this name: it is a word of it that `as` does not rename.
fn may_name(sql: &str, column: &str) -> bool {
    let is_word = |c: char| c == '_' || c.is_alphanumeric();
    sql.match_indices(column).any(|(at, _)| {
        let rest = &sql[at + column.len()..];
        !sql[..at].ends_with(is_word)
            && !rest.starts_with(is_word)
            && !rest.trim_start().starts_with("as ")
    })
}

#[test]
fn every_column_that_is_read_has_its_name_from_a_statement() {
    let statements = files_below("src", "sql");
    let folder = |file: &str| file.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    let mut breaches = Vec::new();
    for (file, text) in sources() {
        let near = statements.iter().filter(|(other, _)| folder(other) == folder(&file));
        let mut sql: Vec<String> = near.map(|(_, text)| text.clone()).collect();
        sql.extend(strings(&text).into_iter().filter(|string| string.contains(' ')));
        for column in columns_read(&text) {
            if !sql.iter().any(|sql| may_name(sql, column)) {
                breaches.push(format!("src/{file} reads {column}, which no statement names"));
            }
        }
    }
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
    let read =
        r#"row.try_get::<_, Option<Vec<u8>>>("a")?; x(&[])?.get("b"); row.get(n); map.get("c")"#;
    assert_eq!(columns_read(read), ["a", "b"]);
    assert!(may_name("select t.a, b as c", "a") && may_name("select b as c", "c"));
    assert!(!may_name("select t.b as c, bb", "b"));
}

#[test]
fn every_file_of_sql_names_its_parameters() {
    let files = files_below("src", "sql");
    let breaches: Vec<String> = files
        .iter()
        .flat_map(|(file, text)| {
            header_breaches(text).into_iter().map(move |breach| format!("src/{file} {breach}"))
        })
        .collect();
    assert!(breaches.is_empty(), "{}", breaches.join("\n"));
    assert_eq!(header_breaches("select 1").len(), 1);
    assert_eq!(header_breaches("-- One.\n-- $1 id.\nselect $1, $2, $3").len(), 2);
}

#[test]
fn only_the_catalog_reads_replication_slots() {
    let mut files = files_below("src", "sql");
    for (file, text) in sources() {
        files.extend(strings(&text).into_iter().map(|string| (file.clone(), string)));
    }
    let breaches: Vec<&str> = files
        .iter()
        // The remedies that are printed for an operator are no statements of walferry's.
        .filter(|(file, _)| !file.starts_with("engine/preflight/database/"))
        .filter(|(file, text)| !file.starts_with("postgres/catalog/") && reads_slots(text))
        .map(|(file, _)| file.as_str())
        .collect();
    assert!(breaches.is_empty(), "these read pg_replication_slots: {breaches:?}");
    assert!(files.iter().any(|(_, text)| reads_slots(text)), "the rule finds the catalog's own");
}

#[test]
fn columns_are_read_by_name() {
    let found: Vec<(String, usize)> = sources()
        .into_iter()
        .map(|(file, text)| (file, columns_by_number(&text)))
        .filter(|(_, count)| *count > 0)
        .collect();
    let total: usize = found.iter().map(|(_, count)| count).sum();
    assert!(total <= BY_NUMBER_MAX, "{total} columns are read by number: {found:?}");
}

#[test]
fn a_statement_on_slots_is_found() {
    assert!(reads_slots("select 1 from pg_replication_slots"));
    assert!(reads_slots("select (select count(*) from\n pg_catalog.pg_replication_slots), 2"));
    assert!(reads_slots("from a left join pg_replication_slots s on true"));
    assert!(!reads_slots("grant select on pg_catalog.pg_replication_slots to r"));
    assert!(!reads_slots("select * from pg_stat_replication_slots"));
}

#[test]
fn a_column_by_number_is_found() {
    let check = |text: &str, expected| assert_eq!(columns_by_number(text), expected, "{text}");
    check("fn f() { row.get(0); row.try_get::<_, Option<i64>>(12)?; x.query()?.get(1) }", 3);
    check(
        "fn f() { bytes.get(0); row.get(\"a\"); rows.get(n); row.get::<_, i32>(\"b\"); map.get(&0) }",
        0,
    );
}
