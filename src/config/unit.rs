//! The syntax of sizes and durations: a whole number and its unit. Pure.
//!
//! Not here: the limits of each setting (`settings`).

use std::time::Duration;

pub(super) const KIB: u64 = 1 << 10;
pub(super) const MIB: u64 = 1 << 20;
pub(super) const GIB: u64 = 1 << 30;
pub(super) const TIB: u64 = 1 << 40;
pub(super) const SECOND: u64 = 1000;
pub(super) const MINUTE: u64 = 60 * SECOND;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;

const SIZES: &[(&str, u64)] = &[("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB), ("B", 1)];
const TIMES: &[(&str, u64)] = &[("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", 1)];

/// Parses a size such as `64MiB` to bytes. The error is a reason for an error message.
pub(super) fn size(text: &str) -> Result<u64, &'static str> {
    measured(text, SIZES, "is not a size; a number needs its unit, B, KiB, MiB, GiB or TiB")
}

/// Parses a duration such as `250ms`, `5s` or `10m`. The error is a reason for an error message.
pub(super) fn time(text: &str) -> Result<Duration, &'static str> {
    measured(text, TIMES, "is not a duration; a number needs its unit, ms, s, m, h or d")
        .map(Duration::from_millis)
}

/// A size in bytes as text, in the largest unit that divides it.
#[must_use]
pub(super) fn size_text(bytes: u64) -> String {
    text(bytes, SIZES)
}

/// A duration in milliseconds as text, in the largest unit that divides it.
#[must_use]
pub(super) fn time_text(milliseconds: u64) -> String {
    text(milliseconds, TIMES)
}

/// Parses a whole number and one of `units`, and multiplies the number by the unit's factor.
fn measured(text: &str, units: &[(&str, u64)], reason: &'static str) -> Result<u64, &'static str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim()).ok_or(reason)?;
    let number: u64 = number.parse().map_err(|_| reason)?;
    number.checked_mul(*factor).ok_or("is too large")
}

fn text(value: u64, units: &[(&str, u64)]) -> String {
    let unit = units.iter().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    match unit {
        Some((name, factor)) => format!("{}{name}", value / factor),
        None => format!("0{}", if units.first() == SIZES.first() { "B" } else { "s" }),
    }
}

#[cfg(test)]
mod tests {
    use super::{size, size_text, time, time_text};

    #[test]
    fn sizes_need_a_unit() {
        let check =
            |text: &str, expected: Option<u64>| assert_eq!(size(text).ok(), expected, "{text}");
        check("64MiB", Some(64 << 20));
        check("4 GiB", Some(4 << 30));
        check("100B", Some(100));
        check("0B", Some(0));
        for wrong in ["", "64", "MiB", "64MB", "64mib", "-1B", "1.5GiB", "99999999999TiB", "1_0B"] {
            check(wrong, None);
        }
    }

    #[test]
    fn durations_need_a_unit() {
        let check = |text: &str, expected: Option<u128>| {
            assert_eq!(time(text).ok().map(|time| time.as_millis()), expected, "{text}");
        };
        check("250ms", Some(250));
        check("5s", Some(5_000));
        check("10m", Some(600_000));
        check("2h", Some(7_200_000));
        check("7d", Some(604_800_000));
        for wrong in ["", "5", "s", "5 years", "5S", "-5s", "0.5s", "99999999999999999999s"] {
            check(wrong, None);
        }
    }

    #[test]
    fn values_print_as_they_are_parsed() {
        for text in ["64MiB", "1B", "0B", "1025B", "3KiB", "4GiB"] {
            assert_eq!(size_text(size(text).unwrap()), text);
        }
        for text in ["250ms", "5s", "0s", "61s", "10m", "90m", "7d"] {
            let milliseconds = u64::try_from(time(text).unwrap().as_millis()).unwrap();
            assert_eq!(time_text(milliseconds), text);
        }
    }
}
