//! Conversion of JSON numbers to the form that `jsonb` prints.
//!
//! `jsonb` stores numbers as `numeric`: all digits are kept, trailing zeros included; exponents
//! are expanded; negative zero is zero; numbers beyond the range of `numeric` are rejected.
//!
//! Not here: arithmetic. The conversion moves digits and does not compute with them.

/// The digits before the decimal point that `numeric` holds (PostgreSQL, "Numeric Types").
const INTEGER_DIGITS_MAX: i64 = 131_072;
/// The digits after the decimal point that `numeric` holds.
const FRACTION_DIGITS_MAX: i64 = 16_383;
/// The largest exponent that `numeric_in` accepts, of either sign.
const EXPONENT_MAX: i64 = 1_073_741_823;
/// The length in digits up to which an exponent is expanded. A longer number keeps its exponent,
/// which is equal by value, so that a short text cannot produce a large output.
const EXPANDED_MAX: i64 = 1_024;

/// Why a number was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberError {
    /// The text does not begin with a JSON number.
    Malformed,
    /// The number is beyond the range of `numeric`.
    TooLarge,
}

/// The parts of a JSON number.
struct NumberParts<'a> {
    negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
    /// `None` if the number has no exponent.
    exponent: Option<i64>,
    /// The length of the number's text in bytes.
    len: usize,
}

/// Appends the number at the beginning of `text` and returns the length of its text in bytes.
///
/// # Errors
/// [`NumberError`]. Nothing is appended then.
pub(super) fn write_prefix(text: &[u8], out: &mut Vec<u8>) -> Result<usize, NumberError> {
    let parts = scan(text).ok_or(NumberError::Malformed)?;
    let zero = !parts.integer.iter().chain(parts.fraction).any(|&digit| digit != b'0');
    if parts.exponent.is_none() && parts.len < 1_000 {
        let from = usize::from(zero && parts.negative);
        out.extend_from_slice(&text[from..parts.len]);
        return Ok(parts.len);
    }
    let exponent = parts.exponent.unwrap_or(0);
    let integer_len = length(parts.integer);
    let fraction_len = (length(parts.fraction) - exponent).max(0);
    let leading = parts.integer.iter().chain(parts.fraction).take_while(|&&d| d == b'0').count();
    let magnitude = integer_len + exponent - i64::try_from(leading).unwrap_or(i64::MAX);
    if exponent.abs() > EXPONENT_MAX
        || fraction_len > FRACTION_DIGITS_MAX
        || (!zero && magnitude > INTEGER_DIGITS_MAX)
    {
        return Err(NumberError::TooLarge);
    }
    if zero && fraction_len > EXPANDED_MAX {
        out.extend_from_slice(&text[usize::from(parts.negative)..parts.len]);
    } else if zero {
        out.push(b'0');
        if fraction_len > 0 {
            out.push(b'.');
            fill(fraction_len, out);
        }
    } else if parts.exponent.is_none() || magnitude.max(0) + fraction_len > EXPANDED_MAX {
        out.extend_from_slice(&text[..parts.len]);
    } else {
        expand(&parts, integer_len + exponent, fraction_len, out);
    }
    Ok(parts.len)
}

/// Appends a number other than zero without its exponent. `point` is the number of digits before
/// the decimal point; below zero, zeros follow the point.
fn expand(parts: &NumberParts<'_>, point: i64, fraction_len: i64, out: &mut Vec<u8>) {
    if parts.negative {
        out.push(b'-');
    }
    let place = |index: usize| i64::try_from(index).unwrap_or(i64::MAX);
    let digits = || parts.integer.iter().chain(parts.fraction).copied().enumerate();
    let whole = digits().filter(|&(index, _)| place(index) < point).map(|(_, digit)| digit);
    let from = out.len();
    out.extend(whole.skip_while(|&digit| digit == b'0'));
    if out.len() > from {
        fill(point - length(parts.integer) - length(parts.fraction), out);
    } else {
        out.push(b'0');
    }
    if fraction_len > 0 {
        out.push(b'.');
        fill(-point, out);
        out.extend(digits().filter(|&(index, _)| place(index) >= point).map(|(_, digit)| digit));
    }
}

/// Appends zeros; none if the number is below zero.
fn fill(zeros: i64, out: &mut Vec<u8>) {
    let len = out.len() + usize::try_from(zeros).unwrap_or(0);
    out.resize(len, b'0');
}

fn length(digits: &[u8]) -> i64 {
    i64::try_from(digits.len()).unwrap_or(i64::MAX)
}

/// The JSON number at the beginning of `text`.
fn scan(text: &[u8]) -> Option<NumberParts<'_>> {
    let negative = text.first() == Some(&b'-');
    let mut at = usize::from(negative);
    let integer = digits(text, &mut at);
    if integer.is_empty() || (integer.len() > 1 && integer[0] == b'0') {
        return None;
    }
    let mut fraction: &[u8] = &[];
    if text.get(at) == Some(&b'.') {
        at += 1;
        fraction = digits(text, &mut at);
        if fraction.is_empty() {
            return None;
        }
    }
    let mut exponent = None;
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1;
        exponent = Some(scan_exponent(text, &mut at)?);
    }
    Some(NumberParts { negative, integer, fraction, exponent, len: at })
}

/// The sign and the digits of an exponent at `at`. Advances `at` past them. The magnitude is
/// limited to `EXPONENT_MAX + 1`.
fn scan_exponent(text: &[u8], at: &mut usize) -> Option<i64> {
    let is_negative = text.get(*at) == Some(&b'-');
    *at += usize::from(matches!(text.get(*at), Some(b'+' | b'-')));
    let digits = digits(text, at);
    if digits.is_empty() {
        return None;
    }
    let append = |sum: i64, digit: &u8| {
        sum.saturating_mul(10).saturating_add(i64::from(digit - b'0')).min(EXPONENT_MAX + 1)
    };
    let magnitude = digits.iter().fold(0, append);
    Some(if is_negative { -magnitude } else { magnitude })
}

/// The digits at `at`. Advances `at` past them.
fn digits<'a>(text: &'a [u8], at: &mut usize) -> &'a [u8] {
    let rest = text.get(*at..).unwrap_or_default();
    let count = rest.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    *at += count;
    &rest[..count]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let mut out = Vec::new();
        assert_eq!(write_prefix(text.as_bytes(), &mut out), Ok(text.len()), "{text:.40}");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    fn refused(text: &str, error: NumberError) {
        let mut out = Vec::new();
        assert_eq!(write_prefix(text.as_bytes(), &mut out), Err(error), "{text:.40}");
        assert_eq!(out, b"");
    }

    #[test]
    fn digits_are_kept() {
        for text in ["0", "7", "-12", "0.5", "0.000", "-1.50", "12345678901234567890.10"] {
            check(text, text);
        }
        let long = "9".repeat(131_072);
        check(&long, &long);
    }

    #[test]
    fn exponents_are_expanded() {
        check("1e+20", "100000000000000000000");
        check("1e-07", "0.0000001");
        check("1.500e2", "150.0");
        check("1.50E+1", "15.0");
        check("12e-1", "1.2");
        check("-12e-3", "-0.012");
        check("0.05e3", "50");
        check("1.0e-5", "0.000010");
        check("1.234e0", "1.234");
        check("100e-2", "1.00");
        check("1e131071", "1e131071");
        check("1e-16383", "1e-16383");
    }

    #[test]
    fn zero_has_no_sign() {
        check("-0", "0");
        check("-0.00", "0.00");
        check("-0e-3", "0.000");
        check("0e400000", "0");
        check("0.00e1", "0.0");
    }

    #[test]
    fn numbers_beyond_numeric_are_rejected() {
        for text in ["1e400000", "1e131072", "10e131071", "1e-16384", "0e-16384", "0e1073741824"] {
            refused(text, NumberError::TooLarge);
        }
        refused("1e-99999999999999999999", NumberError::TooLarge);
        refused(&"9".repeat(131_073), NumberError::TooLarge);
        refused(&format!("0.{}1", "0".repeat(16_383)), NumberError::TooLarge);
        check("0.1e131072", "0.1e131072");
        check("0e1073741823", "0");
    }

    #[test]
    fn other_text_is_malformed() {
        for text in ["", "-", "01", "1.", ".5", "1e", "1e+", "NaN", "Infinity", "-Infinity", "+1"] {
            refused(text, NumberError::Malformed);
        }
    }
}
