//! Reads Rust source well enough to judge its layout: tokens with lines, paths with their groups
//! spread out, bodies of functions, test modules.
//!
//! Not here: macro expansion and types. A path that a macro makes is not seen.

/// One token of code; comments, literals and lifetimes are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// A path as used, one for each leaf of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UsedPath {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
    /// How many inline modules stand around it.
    pub(crate) inline_depth: usize,
}

/// A function with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// Lines of its body that hold code.
    pub(crate) code_lines: usize,
}

/// The tokens of `text`.
pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let code: Vec<char> = blank_literals(text).chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(&c) = code.get(at) {
        let mut end = at + 1;
        if c == '\n' {
            line += 1;
        } else if is_word(c) {
            while code.get(end).copied().is_some_and(is_word) {
                end += 1;
            }
        } else if c == ':' && code.get(end) == Some(&':') {
            end += 1;
        }
        if !c.is_whitespace() {
            tokens.push(Token { text: code[at..end].iter().collect(), line });
        }
        at = end;
    }
    tokens
}

/// Every path of two segments or more, and every name that a `use` takes alone.
pub(crate) fn paths(tokens: &[Token]) -> Vec<UsedPath> {
    let mut found = Vec::new();
    let mut blocks: Vec<bool> = Vec::new(); // whether each open brace is a module's
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        match token.text.as_str() {
            "{" => blocks.push(at >= 2 && text_at(tokens, at - 2) == "mod"),
            "}" => drop(blocks.pop()),
            word if starts_word(word) && !is_keyword(word) && !continues_a_path(tokens, at) => {
                let depth = blocks.iter().filter(|is_module| **is_module).count();
                let taken = at > 0 && text_at(tokens, at - 1) == "use";
                let first = found.len();
                at = read_tree(tokens, at, &[], &mut found);
                found[first..].iter_mut().for_each(|path| path.inline_depth = depth);
                if !taken && found.len() == first + 1 && found[first].segments.len() == 1 {
                    found.pop();
                }
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    found
}

/// Every function with a body.
pub(crate) fn functions(tokens: &[Token]) -> Vec<Function> {
    let mut found = Vec::new();
    for at in 0..tokens.len() {
        if tokens[at].text != "fn" || !starts_word(text_at(tokens, at + 1)) {
            continue;
        }
        let Some(open) = body_of(tokens, at) else { continue };
        let close = matching(tokens, open);
        let mut lines: Vec<usize> =
            tokens[open + 1..close].iter().map(|token| token.line).collect();
        lines.dedup();
        found.push(Function {
            name: tokens[at + 1].text.clone(),
            line: tokens[at].line,
            code_lines: lines.len(),
        });
    }
    found
}

/// Number of lines of `text` that are in no inline test module.
pub(crate) fn lines_without_tests(text: &str) -> usize {
    let tokens = tokens(text);
    let words: Vec<&str> = tokens.iter().map(|token| token.text.as_str()).collect();
    let mut in_tests = 0;
    for at in 0..words.len() {
        if !words[at..].starts_with(&["#", "[", "cfg", "(", "test", ")", "]"]) {
            continue;
        }
        let module = (at + 7..words.len()).find(|next| words[*next] == "mod");
        let Some(module) = module else { continue };
        let between = &words[at + 7..module];
        let is_plain = between.iter().all(|word| !matches!(*word, "fn" | "use" | "{" | ";"));
        if is_plain && words.get(module + 2) == Some(&"{") {
            let close = matching(&tokens, module + 2);
            let last = tokens.get(close).map_or(text.lines().count(), |token| token.line);
            in_tests += last + 1 - tokens[at].line;
        }
    }
    text.lines().count() - in_tests
}

/// The contents of every string literal, escapes of line ends and quotes resolved.
pub(crate) fn strings(text: &str) -> Vec<String> {
    let source: Vec<char> = text.chars().collect();
    let mut found = Vec::new();
    let mut at = 0;
    while at < source.len() {
        let end = literal_end(&source, at).min(source.len());
        if end == at {
            at += 1;
            continue;
        }
        let literal: String = source[at..end].iter().collect();
        if let (Some(open), Some(close)) = (literal.find('"'), literal.rfind('"'))
            && open < close
            && !literal.starts_with('/')
        {
            let content = literal.get(open + 1..close).unwrap_or_default();
            found.push(content.replace("\\\n", " ").replace("\\\"", "\"").replace("\\n", "\n"));
        }
        at = end;
    }
    found
}

/// Reads one path or use tree that begins at `at`; returns where the next token to look at is.
fn read_tree(
    tokens: &[Token],
    mut at: usize,
    before: &[String],
    found: &mut Vec<UsedPath>,
) -> usize {
    let mut segments = before.to_vec();
    let line = tokens[at].line;
    loop {
        segments.push(tokens[at].text.clone());
        at += 1;
        if text_at(tokens, at) != "::" {
            break;
        }
        let next = text_at(tokens, at + 1);
        if next == "{" {
            return read_group(tokens, at + 2, &segments, found);
        }
        if !starts_word(next) && next != "*" {
            break; // a turbofish
        }
        at += 1;
    }
    found.push(UsedPath { line, segments, inline_depth: 0 });
    at
}

fn read_group(
    tokens: &[Token],
    mut at: usize,
    before: &[String],
    found: &mut Vec<UsedPath>,
) -> usize {
    while at < tokens.len() && tokens[at].text != "}" {
        let word = text_at(tokens, at);
        if word == "as" {
            at += 2; // the new name is not a path
        } else if starts_word(word) || word == "*" {
            at = read_tree(tokens, at, before, found);
        } else {
            at += 1;
        }
    }
    at + 1
}

/// Whether the word at `at` is not the first of its path. `::name` is the first: it names a crate.
fn continues_a_path(tokens: &[Token], at: usize) -> bool {
    let named = |at: usize| starts_word(text_at(tokens, at)) && !is_keyword(text_at(tokens, at));
    match at {
        0 => false,
        1 => tokens[0].text == ".",
        _ if tokens[at - 1].text == "::" => named(at - 2) || text_at(tokens, at - 2) == ">",
        _ => tokens[at - 1].text == ".",
    }
}

fn is_keyword(word: &str) -> bool {
    matches!(
        word,
        "use" | "in" | "return" | "as" | "match" | "if" | "else" | "mut" | "dyn" | "impl"
    )
}

/// The brace that opens the body of the function at `at`; `None` for a declaration.
fn body_of(tokens: &[Token], at: usize) -> Option<usize> {
    let mut depth = 0_i32;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "(" | "[" => depth += 1,
            ")" | "]" => depth -= 1,
            "{" if depth == 0 => return Some(index),
            ";" if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// The brace that closes the one at `open`; the end of the tokens when there is none.
fn matching(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_i32;
    for (index, token) in tokens.iter().enumerate().skip(open) {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return index;
        }
    }
    tokens.len()
}

fn text_at(tokens: &[Token], at: usize) -> &str {
    tokens.get(at).map_or("", |token| token.text.as_str())
}

fn starts_word(text: &str) -> bool {
    text.chars().next().is_some_and(|c| c == '_' || c.is_alphabetic())
}

fn is_word(c: char) -> bool {
    c == '_' || c.is_alphanumeric()
}

/// `text` with comments and literals made blank, every line where it was.
fn blank_literals(text: &str) -> String {
    let source: Vec<char> = text.chars().collect();
    let mut code = String::with_capacity(text.len());
    let mut at = 0;
    while at < source.len() {
        let end = literal_end(&source, at);
        if end == at {
            code.push(source[at]);
            at += 1;
            continue;
        }
        code.extend(source[at..end].iter().map(|c| if *c == '\n' { '\n' } else { ' ' }));
        at = end;
    }
    code
}

/// Where the comment, literal or lifetime that begins at `at` ends; `at` itself if none does.
fn literal_end(source: &[char], at: usize) -> usize {
    let next = source.get(at + 1).copied().unwrap_or(' ');
    let after_word = at > 0 && is_word(source[at - 1]);
    match source[at] {
        '/' if next == '/' => find(source, at, "\n"),
        '/' if next == '*' => block_comment_end(source, at),
        '"' => string_end(source, at),
        '\'' if next == '\\' => find(source, at + 3, "'") + 1,
        '\'' if source.get(at + 2) == Some(&'\'') => at + 3,
        '\'' => at + 1,
        'r' | 'b' | 'c' if !after_word => raw_string_end(source, at),
        _ => at,
    }
}

fn string_end(source: &[char], at: usize) -> usize {
    let mut end = at + 1;
    while end < source.len() && source[end] != '"' {
        end += if source[end] == '\\' { 2 } else { 1 };
    }
    end + 1
}

/// The end of `r"…"`, `r#"…"#`, `br"…"`; `at` if it is a word.
fn raw_string_end(source: &[char], at: usize) -> usize {
    let Some(r) = (at..at + 2).find(|index| source.get(*index) == Some(&'r')) else { return at };
    let hashes = source[r + 1..].iter().take_while(|c| **c == '#').count();
    if source.get(r + 1 + hashes) != Some(&'"') {
        return at;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    find(source, r + 2 + hashes, &close) + close.len()
}

fn block_comment_end(source: &[char], at: usize) -> usize {
    let (mut depth, mut end) = (0, at);
    while end < source.len() {
        match (source[end], source.get(end + 1)) {
            ('/', Some('*')) => (depth, end) = (depth + 1, end + 2),
            ('*', Some('/')) => (depth, end) = (depth - 1, end + 2),
            _ => end += 1,
        }
        if depth == 0 {
            break;
        }
    }
    end
}

/// Where `needle` begins at or after `from`; the end of the source when it does not.
fn find(source: &[char], from: usize, needle: &str) -> usize {
    let needle: Vec<char> = needle.chars().collect();
    (from..source.len()).find(|at| source[*at..].starts_with(&needle)).unwrap_or(source.len())
}
