//! Fields of log lines: a line of JSON has no member twice.

use super::source::{Token, tokens};
use super::{Rule, check, check_sources};

/// Members that a line of JSON has without a field.
const OWN: [&str; 4] = ["level", "message", "target", "timestamp"];

/// Names of fields that a log line has twice, or that its line has anyway.
fn has_no_field_twice(_: &str, text: &str) -> Vec<String> {
    let tokens = tokens(text);
    let is = |at: usize, text: &str| tokens.get(at).is_some_and(|token| token.text == text);
    let levels = ["error", "warn", "info", "debug", "trace"];
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if !levels.contains(&tokens[at].text.as_str()) || !is(at + 1, "!") || !is(at + 2, "(") {
            continue;
        }
        let mut seen = OWN.to_vec();
        for name in fields(&tokens[at + 2..]) {
            if seen.contains(&name) {
                found.push(format!("line {}: the field {name} twice", tokens[at].line));
            }
            seen.push(name);
        }
    }
    found
}

/// The names of a macro's fields; its literals are left out of the tokens.
fn fields(arguments: &[Token]) -> Vec<&str> {
    let mut depth = 0_usize;
    let mut starts = false;
    let mut names = Vec::new();
    for (at, token) in arguments.iter().enumerate() {
        match token.text.as_str() {
            "(" | "[" | "{" => {
                depth += 1;
                starts = depth == 1;
                continue;
            }
            ")" | "]" | "}" => depth -= 1,
            "," if depth == 1 => {
                starts = true;
                continue;
            }
            "%" | "?" if starts => continue,
            name if starts && depth == 1 => {
                let next = arguments.get(at + 1).map_or("", |next| next.text.as_str());
                if ["=", ",", ")", ".", ":"].contains(&next) {
                    names.push(name);
                }
            }
            _ => {}
        }
        starts = false;
        if depth == 0 {
            break;
        }
    }
    names
}

#[test]
fn no_line_of_the_log_has_a_member_twice() {
    check_sources(has_no_field_twice);
}

#[test]
fn a_field_that_a_line_has_anyway_is_found() {
    let rule: Rule = has_no_field_twice;
    check(rule, "a.rs", "fn f() { info!(event = \"a\", target, affected, \"done\") }", 1);
    check(rule, "a.rs", "fn f() { warn!(event = \"a\", %error, error = f(x, level), \"x\") }", 1);
    check(
        rule,
        "a.rs",
        "fn f() { debug!(event = \"a\", subject = target, n = { level }, \"x\") }",
        0,
    );
    check(rule, "a.rs", "fn f() { info!(target: \"a\", event = \"b\", \"x {}\", level()) }", 1);
}
