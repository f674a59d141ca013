//! Reads Rust and SQL source for what users see of it: codes of log lines, codes of problems, and sentences.
//!
//! Sources are searched by what they contain, not by their path, so a file may move.
//!
//! Not here: macro expansion. A sentence that is put together from pieces appears as its pieces.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A piece of Rust code.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    /// A string literal, escapes resolved.
    Text(String),
    Sign(char),
}

impl Token {
    fn is(&self, word: &str) -> bool {
        match self {
            Self::Word(text) => text == word,
            Self::Sign(sign) => word.len() == 1 && word.starts_with(*sign),
            Self::Text(_) => false,
        }
    }

    fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    fn word(&self) -> &str {
        if let Self::Word(text) = self { text } else { "" }
    }
}

/// A line of the log: its stable code, its level and its words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LogLine {
    pub(crate) code: String,
    pub(crate) level: String,
    pub(crate) words: String,
}

const LEVELS: [&str; 3] = ["error", "warn", "info"];

/// Every line of the log that has a code, from `info` upwards.
pub(crate) fn log_lines(rust: &str) -> BTreeSet<LogLine> {
    let tokens = tokens_without_tests(rust);
    let mut found = BTreeSet::new();
    for at in 0..tokens.len() {
        let level = tokens[at].word();
        let opens = is_at(&tokens, at + 1, "!") && is_at(&tokens, at + 2, "(");
        if !opens || !LEVELS.contains(&level) {
            continue;
        }
        let inside = enclosed(&tokens, at + 2);
        let Some(event) = inside.windows(2).position(|two| two[0].is("event") && two[1].is("="))
        else {
            continue;
        };
        let code = inside.get(event + 2).and_then(Token::text).unwrap_or("(not a literal)");
        let words = inside.last().or(inside.first()).and_then(Token::text);
        let before = inside.len().checked_sub(2).and_then(|at| inside[at].text());
        found.insert(LogLine {
            code: code.to_owned(),
            level: level.to_owned(),
            words: words.or(before).unwrap_or_default().to_owned(),
        });
    }
    found
}

/// The stable codes of problems: those that `Problem::new` is given, those that stand in a pair
/// with their sentence, and those that a function `code` returns.
pub(crate) fn problem_codes(rust: &str) -> BTreeSet<String> {
    let tokens = tokens_without_tests(rust);
    let mut found = BTreeSet::new();
    for at in 0..tokens.len() {
        let makes_one = is_at(&tokens, at + 3, "new")
            && (tokens[at].is("Problem")
                || tokens[at].is("Self") && is_at(&tokens, at + 5, "StatusCode"));
        let inside = if makes_one {
            enclosed(&tokens, at + 4)
        } else if tokens[at].is("fn") && is_at(&tokens, at + 1, "code") {
            let body = (at..tokens.len()).find(|at| tokens[*at].is("{"));
            body.map_or(&[][..], |body| enclosed(&tokens, body))
        } else {
            &[]
        };
        found.extend(inside.iter().filter_map(Token::text).filter(|text| is_code(text)));
        let pair = tokens.get(at + 1..at + 4).map(|three| (three[0].text(), three[2].text()));
        if let (true, true, Some((Some(code), Some(sentence)))) =
            (tokens[at].is("("), is_at(&tokens, at + 2, ","), pair)
            && is_code(code)
            && at.checked_sub(1).is_none_or(|before| tokens[before].word().is_empty())
            && rust.contains("Problem::new")
            && words(sentence) > 2
        {
            found.insert(code);
        }
    }
    found.into_iter().map(str::to_owned).collect()
}

/// The files that a file at `path` declares for tests alone: `#[cfg(test)] mod forged;`.
pub(crate) fn test_files(path: &Path, rust: &str) -> Vec<PathBuf> {
    let all = tokens(rust);
    let visibility = ["pub", "(", "super", "crate", ")"];
    let is_declared = |at: &usize| {
        let words = all[..*at].iter().rev();
        let skipped =
            words.take_while(|token| visibility.iter().any(|word| token.is(word))).count();
        let attribute = (at - skipped).checked_sub(TEST_ONLY.len());
        let declares = all[*at].is("mod") && is_at(&all, at + 2, ";");
        declares && attribute.is_some_and(|start| is_test_only(&all, start))
    };
    let folder = match path.file_stem().and_then(|stem| stem.to_str()) {
        Some("mod" | "lib" | "main") => path.parent().unwrap_or(path).to_owned(),
        _ => path.with_extension(""),
    };
    let names = (0..all.len()).filter(is_declared).map(|at| all[at + 1].word());
    names.map(|name| folder.join(name).with_extension("rs")).collect()
}

/// Where a string is no sentence for users: what a defect says, what only a developer sees, what is
/// compared with another program's text.
const NOT_FOR_USERS: [&str; 14] = [
    "assert",
    "assert_eq",
    "assert_ne",
    "batch_execute",
    "contains",
    "debug",
    "debug_assert",
    "debug_assert_eq",
    "ends_with",
    "expect",
    "panic",
    "starts_with",
    "trace",
    "unreachable",
];

const SQL_BEGINNINGS: [&str; 40] = [
    "alter", "analyze", "and", "begin", "case", "coalesce", "comment", "copy", "create", "declare",
    "delete", "do", "drop", "execute", "explain", "from", "grant", "insert", "join", "left",
    "lock", "merge", "on", "or", "order", "refresh", "reindex", "reset", "return", "revoke", "set",
    "show", "to", "truncate", "union", "update", "values", "when", "where", "with",
];

/// What occurs in pieces of SQL and in no sentence.
const SQL_SIGNS: [&str; 21] = [
    "$1",
    "(select ",
    " order by ",
    "::",
    "null;",
    " as (",
    "%I",
    "%L",
    "(*)",
    "at time zone",
    "coalesce(",
    "execute function",
    " as materialized",
    " is not null",
    " is not true",
    " = null",
    "case when",
    "(writer, ",
    "job_seconds(",
    "with grant option",
    "with time zone",
];

/// Every string of three words or more that users may read, and the words of errors and of the log
/// regardless of their number. Placeholders lose their names: `{slot}` becomes `{}`.
pub(crate) fn sentences(rust: &str) -> BTreeSet<String> {
    let tokens = tokens_without_tests(rust);
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = Vec::new();
    for at in 0..tokens.len() {
        match &tokens[at] {
            Token::Sign('(' | '[') => open.push(opener(&tokens, at)),
            Token::Sign('{') => open.push(""),
            Token::Sign(')' | ']' | '}') => drop(open.pop()),
            Token::Text(text) => {
                let in_attribute = open.contains(&"#");
                let always = in_attribute && open.contains(&"error");
                let never = in_attribute || open.iter().any(|name| NOT_FOR_USERS.contains(name));
                if is_sql(text) {
                    found.extend(sql_sentences(text));
                } else if always || !never && is_sentence(text) {
                    found.insert(without_names(text));
                }
            }
            _ => {}
        }
    }
    found.extend(log_lines(rust).into_iter().map(|line| without_names(&line.words)));
    found.retain(|sentence| words(sentence) > 0);
    found
}

/// Sentences that SQL writes: its strings of three words or more.
pub(crate) fn sql_sentences(sql: &str) -> BTreeSet<String> {
    let without_comments = sql.lines().map(|line| line.split("--").next().unwrap_or(line));
    let sql: String = without_comments.collect::<Vec<_>>().join("\n");
    let strings = sql.split('\'').skip(1).step_by(2);
    let prose = strings.filter(|text| is_sentence(text) && !is_sql(text));
    prose.map(without_names).collect()
}

fn is_code(text: &str) -> bool {
    let mut characters = text.chars();
    characters.next().is_some_and(|first| first.is_ascii_lowercase())
        && characters.all(|c| c == '_' || c.is_ascii_lowercase())
}

fn is_sentence(text: &str) -> bool {
    let markup = ["\r", "charset=", "-src", "=()", "| ---", "` | "];
    words(&without_names(text)) > 2 && !markup.iter().any(|sign| text.contains(sign))
}

/// How many words of two letters or more there are.
fn words(text: &str) -> usize {
    let words = text.split_whitespace().filter(|word| {
        word.split(|c: char| !c.is_alphabetic()).any(|part| part.chars().count() > 1)
    });
    words.count()
}

/// Whether `text` is a statement, or a piece of one.
fn is_sql(text: &str) -> bool {
    let is_prose = text.contains("; run `") || text.contains('…') || text.contains(" -- ");
    let is_piece = SQL_SIGNS.iter().any(|sign| text.contains(sign));
    !is_prose && (is_piece || begins_as_sql(text))
}

/// A sentence that happens to begin with a word of SQL has no sign of SQL in it.
fn begins_as_sql(text: &str) -> bool {
    let start = text.trim_start_matches(|c: char| c.is_whitespace() || "({;,".contains(c));
    let (first, _) = start.split_at(start.find(|c| !is_word(c)).unwrap_or(start.len()));
    let signs = [
        "=", "*", ";", ",", "%", "('", "()", "\n", " public.", " from ", " into ", " set ",
        " table ", " where ",
    ];
    let is_statement = first == "select" || first.contains("_") && first == first.to_uppercase();
    is_statement || SQL_BEGINNINGS.contains(&first) && signs.iter().any(|sign| text.contains(sign))
}

/// On one line, and with nameless placeholders.
fn without_names(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        plain.push_str(before);
        plain.push('{');
        let name = after.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '.');
        let (_, end) = after.split_at(name.unwrap_or(after.len()));
        let is_placeholder = end.starts_with([':', '}']) && !after.starts_with('{');
        rest = if is_placeholder { end } else { after };
    }
    plain.push_str(rest);
    plain.replace('\n', "\\n").trim().to_owned()
}

/// The name before an opening bracket: `warn` for `warn!(`, `#` for an attribute's.
fn opener(tokens: &[Token], at: usize) -> &str {
    let before = |count: usize| at.checked_sub(count).map(|at| &tokens[at]);
    match before(1) {
        Some(Token::Word(name)) => name,
        Some(Token::Sign('!')) => before(2).map_or("", Token::word),
        Some(Token::Sign('#')) => "#",
        _ => "",
    }
}

/// What stands between the bracket at `open` and its partner.
fn enclosed(tokens: &[Token], open: usize) -> &[Token] {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        match token {
            Token::Sign('(' | '[' | '{') => depth += 1,
            Token::Sign(')' | ']' | '}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return tokens.get(open + 1..at).unwrap_or_default();
        }
    }
    &[]
}

fn is_at(tokens: &[Token], at: usize, word: &str) -> bool {
    tokens.get(at).is_some_and(|token| token.is(word))
}

/// The attribute of what exists in tests alone.
const TEST_ONLY: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];

fn is_test_only(tokens: &[Token], at: usize) -> bool {
    TEST_ONLY.iter().enumerate().all(|(next, word)| is_at(tokens, at + next, word))
}

/// The tokens of `rust` but for items that exist in tests alone.
fn tokens_without_tests(rust: &str) -> Vec<Token> {
    let all = tokens(rust);
    let mut kept = Vec::new();
    let mut at = 0;
    while at < all.len() {
        if !is_test_only(&all, at) {
            kept.push(all[at].clone());
            at += 1;
            continue;
        }
        let end = (at + TEST_ONLY.len()..all.len()).find(|at| all[*at].is("{") || all[*at].is(";"));
        at = match end {
            Some(end) if all[end].is("{") => end + enclosed(&all, end).len() + 2,
            Some(end) => end + 1,
            None => all.len(),
        };
    }
    kept
}

fn tokens(rust: &str) -> Vec<Token> {
    let source: Vec<char> = rust.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < source.len() {
        let next = source.get(at + 1).copied().unwrap_or(' ');
        match source[at] {
            '/' if next == '/' => at = position(&source, at, "\n"),
            '/' if next == '*' => at = position(&source, at, "*/") + 2,
            '"' => at = read_text(&source, at, &mut found),
            'r' if next == '"' || next == '#' => at = read_raw_text(&source, at, &mut found),
            'b' if next == '"' => at += 1,
            '\'' => at = after_quote(&source, at),
            c if is_word(c) => {
                let length = source[at..].iter().take_while(|c| is_word(**c)).count();
                found.push(Token::Word(source[at..at + length].iter().collect()));
                at += length;
            }
            c => {
                if !c.is_whitespace() {
                    found.push(Token::Sign(c));
                }
                at += 1;
            }
        }
    }
    found
}

fn read_text(source: &[char], open: usize, found: &mut Vec<Token>) -> usize {
    let mut text = String::new();
    let mut at = open + 1;
    while at < source.len() && source[at] != '"' {
        if source[at] != '\\' {
            text.push(source[at]);
            at += 1;
            continue;
        }
        match source.get(at + 1).copied().unwrap_or(' ') {
            '\n' => {
                let blank = source[at + 1..].iter().take_while(|c| c.is_whitespace()).count();
                at += 1 + blank;
                continue;
            }
            'n' => text.push('\n'),
            'r' => text.push('\r'),
            't' => text.push('\t'),
            c => text.push(c),
        }
        at += 2;
    }
    found.push(Token::Text(text));
    at + 1
}

fn read_raw_text(source: &[char], at: usize, found: &mut Vec<Token>) -> usize {
    let hashes = source[at + 1..].iter().take_while(|c| **c == '#').count();
    let start = at + 2 + hashes;
    if source.get(start - 1) != Some(&'"') {
        found.push(Token::Word("r".to_owned())); // `r#name`
        return start;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let end = position(source, start, &close);
    found.push(Token::Text(source[start..end].iter().collect()));
    end + close.len()
}

/// After a character's literal, or after the quote of a lifetime.
fn after_quote(source: &[char], at: usize) -> usize {
    if source.get(at + 1) == Some(&'\\') {
        return position(source, at + 3, "'") + 1;
    }
    if source.get(at + 2) == Some(&'\'') { at + 3 } else { at + 1 }
}

/// Where `needle` begins at or after `from`; the end of the source when it does not.
fn position(source: &[char], from: usize, needle: &str) -> usize {
    let needle: Vec<char> = needle.chars().collect();
    let found = (from..source.len()).find(|at| source[*at..].starts_with(&needle));
    found.unwrap_or(source.len())
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

#[cfg(test)]
mod tests {
    use super::{log_lines, problem_codes, sentences, sql_sentences};

    #[track_caller]
    fn check(found: impl IntoIterator<Item = String>, expected: &[&str]) {
        assert_eq!(found.into_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_line_of_the_log_is_found_with_its_level_and_words() {
        let text = r#"fn f() {
            tracing::warn!(event = "b", n = g(1), "words of {x}");
            info!(event = "a", error = %e, "it \
                ends",);
            debug!(event = "c", "not for users");
            let event = "d";
        }
        #[cfg(test)]
        mod tests { fn f() { warn!(event = "e", "in a test"); } }"#;
        let lines = log_lines(text);
        let line = |l: &super::LogLine| format!("{} {} {}", l.code, l.level, l.words);
        check(lines.iter().map(line), &["a info it ends", "b warn words of {x}"]);
    }

    #[test]
    fn a_problems_code_is_found_wherever_it_is_given() {
        let text = r#"
            fn f() -> Problem { Problem::new(StatusCode::OK, "no_such_job", format!("there is no {id}")) }
            fn g() -> (&'static str, &'static str) { ("locked", "another transaction holds it") }
            const fn code(self) -> &'static str { match self { Self::A => "token_unknown" } }
            fn i() -> Problem { Self { errors, ..Self::new(StatusCode::BAD_REQUEST, "bad_request", detail) } }
            fn h() { k("other_word", 1); Invalid::new("body", "is no JSON object") }"#;
        check(problem_codes(text), &["bad_request", "locked", "no_such_job", "token_unknown"]);
    }

    #[test]
    fn a_file_for_tests_is_one_that_is_declared_so() {
        let text = "mod a; #[cfg(test)] mod forged; #[cfg(test)] pub(super) mod testing; #[cfg(test)] mod t { } mod b;";
        let found = |path| {
            let files = super::test_files(std::path::Path::new(path), text);
            files.into_iter().map(|path| path.display().to_string())
        };
        check(found("src/api/auth/mod.rs"), &["src/api/auth/forged.rs", "src/api/auth/testing.rs"]);
        check(found("src/sink.rs"), &["src/sink/forged.rs", "src/sink/testing.rs"]);
    }

    #[test]
    fn sentences_are_found_and_code_is_not() {
        let text = r##"
            #[error("{0}")] A,
            #[error("slot {slot} lost {0:?}; run \
                     `walferry rebuild`")] B,
            #[expect(clippy::x, reason = "not for any user")]
            fn f() {
                g("grant select on the table", 'x', '"', r#"a "raw" sentence here"#);
                h.expect("never seen by users"); x.contains("no write index here");
                k("select a from b where c"); k("update it or set x = 'Reset from stuck state'");
                k("two words"); k("show one of these words");
            }"##;
        let expected = [
            "Reset from stuck state",
            "a \"raw\" sentence here",
            "grant select on the table",
            "show one of these words",
            "slot {} lost {:?}; run `walferry rebuild`",
        ];
        check(sentences(text), &expected);
        check(
            sql_sentences("select 'It has ended at last', 'b' -- 'not this one here'"),
            &["It has ended at last"],
        );
    }
}
