//! Conversion of timestamps from PostgreSQL's ISO style to the XSD style that `to_jsonb` returns.
//!
//! The date and the time are separated by `T`, and a time zone always has minutes. `infinity`,
//! `BC` and years after 9999 are copied.
//!
//! Not here: `date` and `time`, which have the same form in both styles.

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
    let without_era = rest.strip_suffix(b" BC");
    let time = without_era.unwrap_or(rest);
    escape(time, out);
    if let [.., b'+' | b'-', b'0'..=b'9', b'0'..=b'9'] = time {
        out.extend_from_slice(b":00");
    }
    if without_era.is_some() {
        out.extend_from_slice(b" BC");
    }
    out.push(b'"');
}

/// Appends the text before the first space and a `T`; returns the text after the space. Without a
/// space (`infinity`), nothing is appended.
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
    fn timestamps_are_in_xsd_style() {
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
