//! Numbers, in the form that `jsonb` prints them.
//!
//! `jsonb` keeps numbers as `numeric`: digits and trailing zeros stay, an exponent is
//! multiplied out, minus zero is zero, and what exceeds the range of `numeric` is refused.
//!
//! Not here: arithmetic. Digits are moved, never computed.

/// Digits of a number before its point, in `numeric`.
const INTEGER_DIGITS_MAX: i64 = 131_072;
/// Digits of a number after its point, in `numeric`.
const FRACTION_DIGITS_MAX: i64 = 16_383;
/// The largest exponent that `numeric` reads, of either sign.
const EXPONENT_MAX: i64 = 1_073_741_823;
/// A number whose exponent would make it longer than this keeps the exponent: the same number,
/// and a short text cannot become a huge one.
const EXPANDED_MAX: i64 = 1_024;

/// Why a number was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberError {
    /// Not a JSON number.
    Malformed,
    /// Beyond the range of `numeric`.
    TooLarge,
}

/// A JSON number's parts.
struct Parts<'a> {
    negative: bool,
    integer: &'a [u8],
    fraction: &'a [u8],
    /// `None` where there is none.
    exponent: Option<i64>,
    /// Bytes of the whole number.
    len: usize,
}

/// Appends the number that `text` begins with and returns its length. Nothing is written on
/// an error.
///
/// # Errors
/// [`NumberError`].
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

/// Appends a number other than zero without its exponent. `point` is the place of the decimal
/// point, counted from the first digit.
fn expand(parts: &Parts<'_>, point: i64, fraction_len: i64, out: &mut Vec<u8>) {
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

fn fill(zeros: i64, out: &mut Vec<u8>) {
    let len = out.len() + usize::try_from(zeros).unwrap_or(0);
    out.resize(len, b'0');
}

fn length(digits: &[u8]) -> i64 {
    i64::try_from(digits.len()).unwrap_or(i64::MAX)
}

/// The JSON number that `text` begins with.
fn scan(text: &[u8]) -> Option<Parts<'_>> {
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
        let below = text.get(at) == Some(&b'-');
        at += usize::from(matches!(text.get(at), Some(b'+' | b'-')));
        let power = digits(text, &mut at);
        if power.is_empty() {
            return None;
        }
        let add = |sum: i64, digit: &u8| {
            sum.saturating_mul(10).saturating_add(i64::from(digit - b'0')).min(EXPONENT_MAX + 1)
        };
        let power = power.iter().fold(0, add);
        exponent = Some(if below { -power } else { power });
    }
    Some(Parts { negative, integer, fraction, exponent, len: at })
}

/// The digits at `at`, which moves past them.
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
    fn digits_stay() {
        for text in ["0", "7", "-12", "0.5", "0.000", "-1.50", "12345678901234567890.10"] {
            check(text, text);
        }
        let long = "9".repeat(131_072);
        check(&long, &long);
    }

    #[test]
    fn exponents_are_multiplied_out() {
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
    fn beyond_numeric_is_refused() {
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
