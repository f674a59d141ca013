//! Every statement that sets a job's status, held against `Status::may_become`.
//!
//! Such a statement names the moves that it makes in a comment before it, as
//! `-- moves: pending -> processing, pending -> failed`. The statuses that it sets and those that its
//! condition names must be those of the comment. A statement that inserts jobs with a status says
//! which in `-- begins: pending`, held against `Status::may_begin`; jobs that are copied from
//! another table have `-- keeps status`.
//!
//! Not here: what triggers and other roles do to the table.

#![allow(clippy::string_slice, reason = "every position is that of a match in the same text")]

use walferry::storage::queue::status::Status;

use super::source::strings;
use super::{files_below, sources};

const SETS: &str = "-- moves: ";
const BEGINS: &str = "-- begins: ";
const KEEPS: &str = "-- keeps status";

/// What is wrong with the statements of one text of SQL. `functions` are the migrations, in which
/// the results of called functions are looked up.
fn breaches(sql: &str, functions: &str) -> Vec<String> {
    let mut breaches = Vec::new();
    let mut start = 0;
    for at in word_starts(sql, "update") {
        let Some(update) = Update::parse(&sql[at..], functions) else { continue };
        match marker(&sql[start..at], SETS) {
            None => breaches.push(format!("no `{SETS}` before: {}", head(&sql[at..]))),
            Some(moves) => breaches.extend(update.differences(moves)),
        }
        start = at;
    }
    for verb in ["insert into", "copy"] {
        for at in word_starts(sql, verb) {
            if names_status(&sql[at..]) {
                breaches.extend(begin_breaches(&sql[..at], &sql[at..]));
            }
        }
    }
    breaches
}

/// An update that sets a status.
struct Update {
    to: Vec<Status>,
    /// Empty where the condition is put in elsewhere.
    from: Vec<Status>,
}

impl Update {
    fn parse(sql: &str, functions: &str) -> Option<Self> {
        let set = clause(sql, "set")?;
        let items = top_level_items(set);
        let (_, value) = items.iter().find_map(|item| {
            let (column, value) = item.split_once('=')?;
            (column.trim().trim_start_matches("q.") == "status").then_some((column, value))
        })?;
        let mut to = quoted_statuses(value);
        for name in called(value) {
            let body = functions.split(&format!("function walferry.{name}(")).nth(1);
            to.extend(quoted_statuses(body.and_then(|body| body.split(";\n").next())?));
        }
        to.sort_by_key(|status| status.as_str());
        to.dedup();
        let from = clause(sql, "where").map(compared_statuses).unwrap_or_default();
        Some(Self { to, from })
    }

    /// How the statement differs from the moves that its comment names, and which of these are none.
    fn differences(&self, moves: &str) -> Vec<String> {
        let mut breaches = Vec::new();
        let mut marked_from = Vec::new();
        let mut marked_to = Vec::new();
        for drawn in moves.split(',') {
            let words = drawn.split_once("->").map(|(from, to)| (from.trim(), to.trim()));
            let statuses = words.map(|(from, to)| (Status::from_word(from), Status::from_word(to)));
            let Some((Some(from), Some(to))) = statuses else {
                breaches.push(format!("`{drawn}` is no move"));
                continue;
            };
            if !from.may_become(to) {
                breaches.push(format!("{} may not become {}", from.as_str(), to.as_str()));
            }
            marked_from.push(from);
            marked_to.push(to);
        }
        let differs = |marked: &[Status], found: &[Status]| {
            marked.iter().any(|status| !found.contains(status))
                || found.iter().any(|status| !marked.contains(status))
        };
        if differs(&marked_to, &self.to) {
            breaches.push(format!("sets {:?}, the comment says {moves}", self.to));
        }
        if !self.from.is_empty() && differs(&marked_from, &self.from) {
            breaches.push(format!("moves from {:?}, the comment says {moves}", self.from));
        }
        breaches
    }
}

fn begin_breaches(before: &str, sql: &str) -> Vec<String> {
    if before.contains(KEEPS) {
        return Vec::new();
    }
    let Some(words) = marker(before, BEGINS) else {
        return vec![format!("no `{BEGINS}` before: {}", head(sql))];
    };
    let wrong = words
        .split(',')
        .map(str::trim)
        .filter(|word| !Status::from_word(word).is_some_and(Status::may_begin));
    wrong.map(|word| format!("a job may not begin as {word}")).collect()
}

/// Whether an `insert into` or `copy` of the queue lists the column.
fn names_status(sql: &str) -> bool {
    let Some((table, rest)) = sql.split_once('(') else { return false };
    let columns = rest.split(')').next().unwrap_or_default();
    table.contains("elasticsearch_sync_queue")
        && columns.split(',').any(|column| column.trim() == "status")
}

/// What stands behind the last `name` in a text, up to the end of its line.
fn marker<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let at = text.rfind(name)?;
    text[at + name.len()..].lines().next()
}

/// Where `word` begins in code, not in a comment or in a longer word.
fn word_starts(sql: &str, word: &str) -> Vec<usize> {
    let found = sql.match_indices(word).map(|(at, _)| at);
    found
        .filter(|at| {
            let line = sql[..*at].rsplit('\n').next().unwrap_or_default();
            let is_start = !sql[..*at].ends_with(is_word);
            is_start && !sql[at + word.len()..].starts_with(is_word) && !line.contains("--")
        })
        .collect()
}

/// What stands between a keyword and the next one, none of them inside parentheses.
fn clause<'a>(sql: &'a str, keyword: &str) -> Option<&'a str> {
    const KEYWORDS: [&str; 4] = ["set", "from", "where", "returning"];
    let mut depth = 0_i32;
    let mut start = None;
    let mut at = 0;
    for word in sql.split_inclusive(|c: char| !is_word(c)) {
        let name = word.trim_end_matches(|c: char| !is_word(c));
        if depth == 0 && KEYWORDS.contains(&name) {
            match start {
                None if name == keyword => start = Some(at + name.len()),
                None => {}
                Some(start) => return Some(&sql[start..at]),
            }
        }
        depth += i32::from(word.ends_with('(')) - i32::from(word.ends_with(')'));
        if depth < 0 {
            break;
        }
        at += word.len();
    }
    start.map(|start| &sql[start..at.max(start)])
}

/// Items between commas that are not inside parentheses.
fn top_level_items(list: &str) -> Vec<&str> {
    let mut items = Vec::new();
    let mut depth = 0;
    let mut start = 0;
    for (at, c) in list.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&list[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    items.push(&list[start..]);
    items
}

fn quoted_statuses(sql: &str) -> Vec<Status> {
    sql.split('\'').skip(1).step_by(2).filter_map(Status::from_word).collect()
}

/// Functions of the schema that an expression calls.
fn called(sql: &str) -> Vec<&str> {
    let calls = sql.match_indices("walferry.").map(|(at, prefix)| &sql[at + prefix.len()..]);
    calls
        .filter_map(|rest| rest.split('(').next())
        .filter(|name| name.starts_with("status"))
        .collect()
}

/// The statuses that a condition compares the column with.
fn compared_statuses(condition: &str) -> Vec<Status> {
    let mut found = Vec::new();
    for at in word_starts(condition, "status") {
        let rest = condition[at + "status".len()..].trim_start();
        let rest = rest.strip_prefix("|| ''").unwrap_or(rest).trim_start();
        if let Some(value) = rest.strip_prefix("= ") {
            found.extend(quoted_statuses(value.split([' ', '\n']).next().unwrap_or("")));
        } else if let Some(list) = rest.strip_prefix("in (") {
            found.extend(quoted_statuses(list.split(')').next().unwrap_or_default()));
        }
    }
    found
}

fn head(sql: &str) -> String {
    sql.split_whitespace().take(6).collect::<Vec<_>>().join(" ")
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

#[test]
fn every_statement_makes_declared_moves_only() {
    let migrations = files_below("migrations", "sql");
    let functions: String = migrations.iter().map(|(_, text)| text.as_str()).collect();
    let mut wrong = Vec::new();
    let mut statements = 0;
    for (file, text) in migrations.iter().chain(&files_below("src", "sql")) {
        statements += usize::from(text.contains(SETS));
        wrong.extend(breaches(text, &functions).into_iter().map(|b| format!("{file}: {b}")));
    }
    for (file, text) in &sources() {
        for string in strings(text) {
            statements += usize::from(string.contains(SETS));
            wrong.extend(
                breaches(&string, &functions).into_iter().map(|b| format!("src/{file}: {b}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(statements >= 10, "{statements} statements were found to move jobs");
}

#[test]
fn an_undeclared_move_is_found() {
    let functions = "function walferry.status_after(n integer)\n\
        return case when n > 1 then 'failed' else 'pending' end;\n";
    let check = |sql: &str, expected: &[&str]| {
        let found = breaches(sql, functions);
        assert_eq!(found.len(), expected.len(), "{sql}\n{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{sql}\n{found}");
        }
    };
    let claim = "update public.elasticsearch_sync_queue q set status = 'processing', epoch = $1
        where q.id = $2 and q.status || '' = 'pending' returning q.status = 'failed'";
    check(claim, &["no `-- moves: `"]);
    check(&format!("-- moves: pending -> processing\n{claim}"), &[]);
    check(
        &format!("-- moves: failed -> processing\n{claim}"),
        &["failed may not become processing", "moves from"],
    );
    check(&format!("-- moves: pending -> failed\n{claim}"), &["sets [Processing]"]);
    check(&format!("-- moves: pending -> done\n{claim}"), &["is no move", "sets", "moves from"]);
    let reopen = "update q set started_at = null, status = 'pending' where status in ('completed')";
    check(
        &format!("-- moves: completed -> pending\n{reopen}"),
        &["completed may not become pending"],
    );
    let called = "with m as (update q set status = walferry.status_after($1), a = f(b, c) from x
        where status = 'processing') select status = 'completed' from m";
    check(&format!("-- moves: processing -> pending, processing -> failed\n{called}"), &[]);
    check(&format!("-- moves: processing -> pending\n{called}"), &["sets [Failed, Pending]"]);
    check(
        "-- update q set status = 'failed'\nupdate q set note = status where status = 'failed'",
        &[],
    );
    check("-- moves: failed -> pending\nupdate q set status = 'pending' from chosen", &[]);
    let insert = "insert into public.elasticsearch_sync_queue (id, status) values (1, $1)";
    check(insert, &["no `-- begins: `"]);
    check(&format!("-- begins: pending, processing\n{insert}"), &[]);
    check(&format!("-- begins: completed\n{insert}"), &["may not begin as completed"]);
    check(&format!("-- keeps status\n{insert}"), &[]);
    check("insert into public.elasticsearch_sync_queue (id) values (1)", &[]);
}
