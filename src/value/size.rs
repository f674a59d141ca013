//! Whether a JSON text fits into one `jsonb`.
//!
//! `jsonb` keeps each length in 28 bits, and its parser keeps a container's elements in one
//! allocation of less than 1 GiB. Sizes are exact but for numbers with a point and what follows
//! a string: there the estimate is a few bytes too high.
//!
//! Not here: what to do about a text that does not fit.

/// Bytes of a string, and of a container with all that is in it.
pub(super) const STRING_MAX: usize = 0x0fff_ffff;
/// Elements of an array.
const ARRAY_ELEMENTS_MAX: usize = 1 << 24;
/// Members of an object, repeated ones included.
pub(super) const OBJECT_MEMBERS_MAX: usize = 1 << 23;
/// What a container keeps about each key and value.
const ENTRY: usize = 4;
/// Below this no text can exceed a limit: a number in an array, two bytes of text, takes 12.
const FITS_ALWAYS: usize = 16 << 20;

/// Whether `json`, a valid JSON text without repeated keys, fits into one `jsonb` value.
/// A text above 16 MiB is read through.
#[must_use]
pub fn fits_jsonb(json: &[u8]) -> bool {
    json.len() <= FITS_ALWAYS || fits(json, STRING_MAX, ARRAY_ELEMENTS_MAX, OBJECT_MEMBERS_MAX)
}

fn fits(json: &[u8], bytes_max: usize, elements_max: usize, members_max: usize) -> bool {
    let bytes_max = bytes_max + ENTRY; // one is counted for the outermost value, which has none
    let mut bytes = 0_usize;
    // For each open container: whether it is an object, and the commas seen in it.
    let mut open: Vec<(bool, usize)> = Vec::new();
    let mut padding = 0;
    let mut at = 0;
    while let Some(&byte) = json.get(at) {
        let rest = &json[at..];
        let mut len = 1;
        match byte {
            b'"' => {
                let (text_len, decoded) = string(rest);
                len = text_len;
                bytes += ENTRY + decoded;
                padding = 3;
            }
            b'{' | b'[' => {
                open.push((byte == b'{', 1));
                bytes += ENTRY + padding + 4;
                padding = 0;
            }
            b'}' | b']' => {
                open.pop();
            }
            b',' => {
                if let Some((object, count)) = open.last_mut() {
                    *count += 1;
                    if *count > if *object { members_max } else { elements_max } {
                        return false;
                    }
                }
            }
            b'-' | b'0'..=b'9' => {
                len = rest.iter().position(|b| b",]} \n\t\r".contains(b)).unwrap_or(rest.len());
                bytes += ENTRY + padding + number(&rest[..len]);
                padding = 0;
            }
            b't' | b'f' | b'n' => {
                len = rest.iter().position(|b| !b.is_ascii_lowercase()).unwrap_or(rest.len());
                bytes += ENTRY;
            }
            _ => {}
        }
        at += len;
        if bytes > bytes_max {
            return false;
        }
    }
    true
}

/// The bytes of a `numeric`: a length, a header, and two bytes for four digits on either side of
/// the point; a multiple of four, as the next is aligned.
fn number(text: &[u8]) -> usize {
    let digits = text.iter().filter(|byte| byte.is_ascii_digit()).count();
    let header = if digits > 60 { 4 } else { 2 };
    let whole = digits + usize::from(text.first() == Some(&b'-')) == text.len();
    let groups = digits.div_ceil(4) + usize::from(!whole);
    (4 + header + 2 * groups).next_multiple_of(4)
}

/// The length of the string that `text` begins with, and of what it stands for.
fn string(text: &[u8]) -> (usize, usize) {
    let (mut at, mut decoded) = (1, 0);
    while let Some(next) = memchr::memchr2(b'"', b'\\', text.get(at..).unwrap_or_default()) {
        decoded += next;
        at += next;
        match (text.get(at), text.get(at + 1)) {
            (Some(b'"'), _) => return (at + 1, decoded),
            (_, Some(b'u')) => at += 6,
            _ => at += 2,
        }
        decoded += 1;
    }
    (text.len().max(1), decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, bytes_max: usize, expected: bool) {
        assert_eq!(fits(json.as_bytes(), bytes_max, 4, 2), expected, "{json}");
    }

    #[test]
    fn sizes_are_those_of_jsonb() {
        check("\"abc\"", 3, true);
        check("\"abc\"", 2, false);
        check("\"\\n\\u0001\\\"\"", 3, true);
        check("\"\\n\\u0001\\\"\"", 2, false);
        check("[true,null,{},[]]", 28, true);
        check("[true,null,{},[]]", 27, false);
        check("{\"a\":\"\"}", 13, true);
        check("{\"a\":\"\"}", 12, false);
        check("[1,12345]", 4 + 2 * 4 + 8 + 12, true);
        check("[-1,12345]", 4 + 2 * 4 + 8 + 12 - 1, false);
        check("[0.5]", 4 + 4 + 12, true);
        check("[0.5]", 4 + 4 + 12 - 1, false);
    }

    #[test]
    fn elements_and_members_are_counted_per_container() {
        check("[1,2,3,4]", 500, true);
        check("[1,2,3,4,5]", 500, false);
        check("[[1,2,3],[1,2,3,4]]", 500, true);
        check("{\"a\":[1,2,3],\"b\":1}", 500, true);
        check("{\"a\":1,\"b\":1,\"c\":1}", 500, false);
    }

    #[test]
    fn a_text_cut_short_ends() {
        check("\"abc", 500, true);
        check("\"abc\\", 500, true);
        check("[[", 500, true);
        check("]]", 500, true);
    }
}
