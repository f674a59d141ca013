//! Dates and times: ISO text of PostgreSQL to the XSD form that `to_jsonb` gives.
//!
//! A `T` takes the place of the space, and a zone always has minutes. Infinity, `BC` and years
//! past 9999 stay as they are.

use super::string::escape;

/// Appends a `timestamp` as a JSON string.
pub(super) fn write_timestamp(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let rest = date_and_t(text, out);
    escape(rest, out);
    out.push(b'"');
}

/// Appends a `timestamp with time zone` as a JSON string.
pub(super) fn write_timestamptz(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let rest = date_and_t(text, out);
    let (rest, era) = match rest.strip_suffix(b" BC") {
        Some(rest) => (rest, b" BC".as_slice()),
        None => (rest, b"".as_slice()),
    };
    escape(rest, out);
    if let [.., b'+' | b'-', b'0'..=b'9', b'0'..=b'9'] = rest {
        out.extend_from_slice(b":00");
    }
    out.extend_from_slice(era);
    out.push(b'"');
}

/// Appends what precedes the first space, and a `T`; returns what follows it. Infinity has no
/// space.
fn date_and_t<'a>(text: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    let Some(space) = text.iter().position(|&byte| byte == b' ') else { return text };
    escape(&text[..space], out);
    out.push(b'T');
    &text[space + 1..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let mut out = Vec::new();
        write_timestamptz(text.as_bytes(), &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("\"{expected}\""));
    }

    #[test]
    fn times_are_in_xsd_form() {
        check("2026-01-02 03:04:05+00", "2026-01-02T03:04:05+00:00");
        check("2026-01-02 03:04:05.123456+00", "2026-01-02T03:04:05.123456+00:00");
        check("0044-03-15 00:00:00+00 BC", "0044-03-15T00:00:00+00:00 BC");
        check("20000-01-01 00:00:00-11", "20000-01-01T00:00:00-11:00");
        check("2026-01-02 03:04:05+05:30", "2026-01-02T03:04:05+05:30");
        check("-infinity", "-infinity");
        let mut out = Vec::new();
        write_timestamp(b"0044-03-15 01:02:03 BC", &mut out);
        assert_eq!(out, b"\"0044-03-15T01:02:03 BC\"");
    }
}
