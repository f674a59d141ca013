//! Prints an error and its causes as one sentence.
//!
//! Not here: errors of the PostgreSQL server, which can quote row values (`postgres::error`).

use std::error::Error;

/// An error and its causes as one sentence. A cause that repeats earlier text is omitted.
#[must_use]
pub fn sentence(error: &(dyn Error + 'static)) -> String {
    sentence_with(error, |_| None)
}

/// As [`sentence`]. If `describe` returns a text for an error of the chain, that text replaces the
/// error and all of its causes.
#[must_use]
pub fn sentence_with(
    error: &(dyn Error + 'static),
    describe: impl Fn(&(dyn Error + 'static)) -> Option<String>,
) -> String {
    let mut text = String::new();
    let mut link = Some(error);
    while let Some(current) = link {
        let described = describe(current);
        let is_last = described.is_some();
        let words = described.unwrap_or_else(|| current.to_string());
        if text.is_empty() {
            text = words;
        } else if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        if is_last {
            break;
        }
        link = current.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("could not open the box")]
    struct Outer(#[source] std::num::ParseIntError);

    #[test]
    fn the_chain_is_printed_once() {
        let error = Outer("x".parse::<u8>().unwrap_err());
        assert_eq!(sentence(&error), "could not open the box: invalid digit found in string");
    }
}
