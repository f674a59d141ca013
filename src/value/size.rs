//! Whether a JSON text fits into one `jsonb` value.
//!
//! `jsonb` stores each length in 28 bits, and its parser keeps the elements of a container in one
//! allocation of less than 1 GiB (PostgreSQL, `jsonb.h` and `jsonb_util.c`). Sizes are exact,
//! except that the estimate for fractional numbers and for the padding after a string is a few
//! bytes too high.
//!
//! Not here: the handling of a text that does not fit.

/// The greatest size in bytes of a string, and of a container with its content.
pub(super) const STRING_MAX: usize = 0x0fff_ffff;
/// The greatest number of elements of an array.
const ARRAY_ELEMENTS_MAX: usize = 1 << 24;
/// The greatest number of members of an object, members with equal keys included.
pub(super) const OBJECT_MEMBERS_MAX: usize = 1 << 23;
/// The size in bytes of a `JEntry`, of which a container has one for each key and value.
const ENTRY: usize = 4;
/// The length in bytes up to which no text can exceed a limit: a number in an array has at least
/// two bytes of text and takes 12 bytes.
const FITS_ALWAYS: usize = 16 << 20;

/// True if `json` fits into one `jsonb` value. `json` must be valid JSON without equal keys.
/// Only a text above 16 MiB is scanned.
#[must_use]
pub fn fits_jsonb(json: &[u8]) -> bool {
    json.len() <= FITS_ALWAYS || fits(json, STRING_MAX, ARRAY_ELEMENTS_MAX, OBJECT_MEMBERS_MAX)
}

/// An array or object that is not closed yet.
struct CountedContainer {
    /// The number of elements or members so far.
    elements: usize,
    max: usize,
}

fn fits(json: &[u8], bytes_max: usize, elements_max: usize, members_max: usize) -> bool {
    // The scan counts an entry for the outermost value, which has none.
    let counted_max = bytes_max + ENTRY;
    let mut bytes = 0_usize;
    let mut open: Vec<CountedContainer> = Vec::new();
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
                let max = if byte == b'{' { members_max } else { elements_max };
                open.push(CountedContainer { elements: 1, max });
                bytes += ENTRY + padding + 4;
                padding = 0;
            }
            b'}' | b']' => {
                open.pop();
            }
            b',' => {
                if let Some(container) = open.last_mut() {
                    container.elements += 1;
                    if container.elements > container.max {
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
        if bytes > counted_max {
            return false;
        }
    }
    true
}

/// The size in bytes of a number: a length, the header of a `numeric`, and two bytes for each four
/// digits on either side of the decimal point, padded to a multiple of four.
fn number(text: &[u8]) -> usize {
    let digits = text.iter().filter(|byte| byte.is_ascii_digit()).count();
    let header = if digits > 60 { 4 } else { 2 };
    let whole = digits + usize::from(text.first() == Some(&b'-')) == text.len();
    let groups = digits.div_ceil(4) + usize::from(!whole);
    (4 + header + 2 * groups).next_multiple_of(4)
}

/// The length in bytes of the string at the beginning of `text`, and of its decoded form.
fn string(text: &[u8]) -> (usize, usize) {
    let mut at = 1;
    let mut decoded = 0;
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
    fn a_truncated_text_ends_the_scan() {
        check("\"abc", 500, true);
        check("\"abc\\", 500, true);
        check("[[", 500, true);
        check("]]", 500, true);
    }
}
