//! JSON strings in the form that `jsonb` prints.
//!
//! Quotes, backslashes and control characters are escaped; all other characters are copied. The
//! output is valid UTF-8 for any input.
//!
//! Not here: parsing JSON strings (`json`).

/// Appends `text` as a JSON string. Invalid UTF-8 is replaced by U+FFFD.
#[inline]
pub fn write_string(text: &[u8], out: &mut Vec<u8>) {
    out.reserve(text.len() + 2);
    out.push(b'"');
    escape(text, out);
    out.push(b'"');
}

/// Appends `text` escaped for a JSON string, without the quotes.
pub(super) fn escape(text: &[u8], out: &mut Vec<u8>) {
    // Most texts are plain ASCII: they are looked through once.
    if is_plain_ascii(text) {
        out.extend_from_slice(text);
    // simdutf8 leaves short texts to the standard library, which takes a byte at a time.
    } else if text.is_ascii() || simdutf8::basic::from_utf8(text).is_ok() {
        escape_valid(text, out);
    } else {
        escape_valid(String::from_utf8_lossy(text).as_bytes(), out);
    }
}

/// Whether `text` is ASCII of which nothing is escaped. Within 16 bytes there is no early end, so that
/// the compiler uses vector instructions.
fn is_plain_ascii(text: &[u8]) -> bool {
    let other = |byte: &u8| !(0x20..0x7f).contains(byte) | (*byte == b'"') | (*byte == b'\\');
    let plain = |chunk: &[u8; 16]| !chunk.iter().fold(false, |found, byte| found | other(byte));
    match text.last_chunk() {
        // The last chunk overlaps the one before it.
        Some(last) => text.as_chunks().0.iter().all(plain) && plain(last),
        None => text.is_ascii() && plain_prefix(text) == text.len(),
    }
}

/// Appends the escaped form of valid UTF-8.
fn escape_valid(text: &[u8], out: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let plain = plain_prefix(rest);
        let (before, after) = rest.split_at(plain);
        out.extend_from_slice(before);
        let Some((&byte, after)) = after.split_first() else { return };
        escape_byte(byte, out);
        rest = after;
    }
}

/// Appends a byte, escaped if it is a quote, a backslash or a control character.
pub(super) fn escape_byte(byte: u8, out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let short = match byte {
        b'"' | b'\\' => byte,
        8 => b'b',
        9 => b't',
        10 => b'n',
        12 => b'f',
        13 => b'r',
        0..0x20 => {
            out.extend_from_slice(b"\\u00");
            out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            return;
        }
        _ => {
            out.push(byte);
            return;
        }
    };
    out.extend([b'\\', short]);
}

/// The number of bytes before the first quote, backslash or control character.
#[inline]
pub(super) fn plain_prefix(text: &[u8]) -> usize {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    const SPACES: u64 = ONES * 0x20;
    const QUOTES: u64 = ONES * 0x22;
    const SLASHES: u64 = ONES * 0x5c;
    let (words, tail) = text.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        // Each term sets the high bit of the bytes that match. A borrow can set the bit of a byte
        // that does not match, but only above a byte that does, and only the lowest bit is used.
        let control = word.wrapping_sub(SPACES) & !word;
        let quote = (word ^ QUOTES).wrapping_sub(ONES) & !(word ^ QUOTES);
        let slash = (word ^ SLASHES).wrapping_sub(ONES) & !(word ^ SLASHES);
        let found = (control | quote | slash) & HIGH;
        if found != 0 {
            return index * 8 + (found.trailing_zeros() / 8) as usize;
        }
    }
    let special = |&byte: &u8| byte < 0x20 || byte == b'"' || byte == b'\\';
    words.len() * 8 + tail.iter().position(special).unwrap_or(tail.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: impl AsRef<[u8]>, expected: &str) {
        let mut out = Vec::new();
        write_string(text.as_ref(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn strings_are_escaped_as_jsonb_prints_them() {
        check("", r#""""#);
        check("plain", r#""plain""#);
        check("a\"b\\c/d", r#""a\"b\\c/d""#);
        check("\u{8}\t\n\u{c}\r\u{1}\u{1f}\u{7f}", "\"\\b\\t\\n\\f\\r\\u0001\\u001f\u{7f}\"");
        check("şğ😀 longer than eight bytes", "\"şğ😀 longer than eight bytes\"");
        check("12345678\"1234567\n", r#""12345678\"1234567\n""#);
    }

    #[test]
    fn invalid_utf8_is_replaced() {
        check(b"a\xffb", "\"a\u{fffd}b\"");
        check(b"\xe2\x82", "\"\u{fffd}\"");
    }

    #[test]
    fn every_byte_at_every_place_is_found() {
        for byte in 0..=0x7f_u8 {
            for at in 0..20 {
                let mut text = vec![b'x'; 20];
                text[at] = byte;
                let special = byte < 0x20 || byte == b'"' || byte == b'\\';
                assert_eq!(plain_prefix(&text), if special { at } else { 20 }, "{byte} at {at}");
                assert!(!(special && is_plain_ascii(&text)), "{byte} at {at}");
                assert!(special || byte == 0x7f || is_plain_ascii(&text), "{byte} at {at}");
            }
        }
        assert!(!is_plain_ascii("ÿ¿€😀ÿ¿€😀ÿ¿€😀".as_bytes()));
        assert_eq!(plain_prefix("ÿ¿€😀ÿ¿€😀ÿ¿€😀".as_bytes()), 33);
    }
}
