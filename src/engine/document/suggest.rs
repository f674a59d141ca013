//! Inputs of completion fields, without the values that Elasticsearch refuses. Pure.
//!
//! Not here: the length of an input; the field's `max_input_length` truncates it.

use serde_json::value::RawValue;

use crate::value::write_string;

/// Characters that completion fields reserve (`CompletionFieldMapper`: 0x00, 0x1E and 0x1F).
const RESERVED: [char; 3] = ['\u{0}', '\u{1e}', '\u{1f}'];

/// Appends `{"input":[…],"weight":n}`: the texts, and the elements of arrays of text, without
/// nulls, reserved characters and empty texts.
pub(super) fn write<'v>(values: impl Iterator<Item = &'v [u8]>, weight: u32, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"input":["#);
    let from = out.len();
    for value in values {
        add(value, from, out);
    }
    out.extend_from_slice(br#"],"weight":"#);
    out.extend_from_slice(itoa::Buffer::new().format(weight).as_bytes());
    out.push(b'}');
}

fn add(json: &[u8], from: usize, out: &mut Vec<u8>) {
    match json {
        br#""""# => {}
        // Reserved characters are control characters, and those JSON escapes.
        [b'"', inner @ .., b'"'] if memchr::memchr(b'\\', inner).is_none() => {
            separate(from, out);
            out.extend_from_slice(json);
        }
        [b'"', ..] => {
            let mut text: String = serde_json::from_slice(json).unwrap_or_default();
            text.retain(|c| !RESERVED.contains(&c));
            if !text.is_empty() {
                separate(from, out);
                write_string(text.as_bytes(), out);
            }
        }
        [b'[', ..] => {
            let elements: Vec<&RawValue> = serde_json::from_slice(json).unwrap_or_default();
            for element in elements {
                add(element.get().as_bytes(), from, out);
            }
        }
        _ => {}
    }
}

fn separate(from: usize, out: &mut Vec<u8>) {
    if out.len() > from {
        out.push(b',');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(values: &[&str], expected: &str) {
        let mut out = Vec::new();
        write(values.iter().map(|v| v.as_bytes()), 3, &mut out);
        let expected = format!(r#"{{"input":[{expected}],"weight":3}}"#);
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{values:?}");
    }

    #[test]
    fn texts_and_arrays_of_text_are_inputs() {
        check(&[r#""x""#, r#"["y", "x"]"#], r#""x","y","x""#);
        check(&[r#"[["İstanbul"], ["çanta ğüşıö"]]"#], r#""İstanbul","çanta ğüşıö""#);
        check(&[r#""a \"b\" \\c""#], r#""a \"b\" \\c""#);
        check(&["[]", "null", "7", "true", r#"{"a": "b"}"#, r#"[7, {"a": "b"}]"#], "");
    }

    #[test]
    fn what_completion_refuses_is_left_out() {
        check(&[r#""""#, r#"[null, "", "z"]"#], r#""z""#);
        check(&[r#""p\u0000q\u001e\u001fr""#], r#""pqr""#);
        check(&[r#""\u001f""#, r#"["\u0000", "\u001e\u001e"]"#], "");
        check(&[r#""\u0001\n""#], r#""\u0001\n""#);
    }
}
