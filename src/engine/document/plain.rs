//! Rewrites JSON that `jsonb` accepts and Elasticsearch's parser does not. Pure.
//!
//! Numbers of more than a thousand characters and values nested deeper than the parser's limit
//! become strings of their own text, so that the row has a document and nothing is lost. Documents
//! of the stream are sent unchanged; a refused one is rendered again by the table feed, which
//! applies this rewrite.
//!
//! Not here: which rows have documents (`build`).

/// Jackson's `StreamReadConstraints.DEFAULT_MAX_NUM_LEN`, which Elasticsearch keeps.
const NUMBER_BYTES_MAX: usize = 1000;
/// Below Jackson's default of 1000, which counts the document itself and what a bulk adds.
const DEPTH_MAX: usize = 900;

/// The document with the values that the parser refuses as strings; `None` if there are none.
#[must_use]
pub fn readable(json: &[u8]) -> Option<Vec<u8>> {
    let mut out: Option<Vec<u8>> = None;
    let mut at = 0;
    let mut copied = 0;
    let mut depth = 0_usize;
    while let Some(&byte) = json.get(at) {
        let end = match byte {
            b'"' => {
                at = string_end(json, at);
                continue;
            }
            b'{' | b'[' if depth == DEPTH_MAX => nested_end(json, at),
            b'{' | b'[' => {
                depth += 1;
                at += 1;
                continue;
            }
            b'}' | b']' => {
                depth = depth.saturating_sub(1);
                at += 1;
                continue;
            }
            b'-' | b'0'..=b'9' => number_end(json, at),
            _ => {
                at += 1;
                continue;
            }
        };
        let is_number = !matches!(byte, b'{' | b'[');
        if !is_number || end - at > NUMBER_BYTES_MAX {
            let out = out.get_or_insert_with(|| Vec::with_capacity(json.len() + 64));
            out.extend_from_slice(json.get(copied..at).unwrap_or_default());
            crate::value::write_string(json.get(at..end).unwrap_or_default(), out);
            copied = end;
        }
        at = end;
    }
    let mut out = out?;
    out.extend_from_slice(json.get(copied..).unwrap_or_default());
    Some(out)
}

/// The end of the string that begins at `start`.
fn string_end(json: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while let Some(step) = memchr::memchr2(b'"', b'\\', json.get(at..).unwrap_or_default()) {
        at += step;
        if json.get(at) == Some(&b'"') {
            return at + 1;
        }
        at += 2;
    }
    json.len()
}

/// The end of the number that begins at `start`.
fn number_end(json: &[u8], start: usize) -> usize {
    let is_number = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    start + json.get(start..).unwrap_or_default().iter().take_while(is_number).count()
}

/// The end of the object or array that begins at `start`.
fn nested_end(json: &[u8], start: usize) -> usize {
    let mut at = start;
    let mut depth = 0_usize;
    while let Some(&byte) = json.get(at) {
        match byte {
            b'"' => {
                at = string_end(json, at);
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth -= 1,
            _ => {}
        }
        at += 1;
        if depth == 0 {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, expected: Option<&str>) {
        let found = readable(json.as_bytes());
        let found = found.as_deref().map(|bytes| std::str::from_utf8(bytes).unwrap());
        assert_eq!(found, expected);
    }

    #[test]
    fn what_the_parser_takes_stays() {
        check(r#"{"a":-1.5e3,"b":["x\"]","}"],"c":{"d":null}}"#, None);
        check(&format!(r#"{{"a":{},"b":"{}"}}"#, "9".repeat(1000), "9".repeat(5000)), None);
    }

    #[test]
    fn a_long_number_becomes_a_string() {
        let long = "9".repeat(1001);
        check(
            &format!(r#"{{"a":1,"b":[{long},2]}}"#),
            Some(&format!(r#"{{"a":1,"b":["{long}",2]}}"#)),
        );
    }

    #[test]
    fn a_deep_value_becomes_a_string_of_its_text() {
        let deep =
            |inner: &str, times| format!("{}{inner}{}", "[".repeat(times), "]".repeat(times));
        check(&deep(r#"{"k":"]\""}"#, DEPTH_MAX - 1), None);
        check(&deep(r#"{"k":"]\""}"#, DEPTH_MAX), Some(&deep(r#""{\"k\":\"]\\\"\"}""#, DEPTH_MAX)));
    }
}
