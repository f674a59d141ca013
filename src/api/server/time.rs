//! Times as answers have them: ISO 8601, UTC, to the millisecond. Pure.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400;

/// `2026-01-31T12:00:00.000Z`. A clock before 1970 counts as 1970.
pub(in crate::api) fn iso8601(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let (year, month, day) = civil(since.as_secs() / DAY);
    let of_day = since.as_secs() % DAY;
    let hour = of_day / 3600;
    let minute = of_day / 60 % 60;
    let second = of_day % 60;
    let millisecond = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millisecond:03}Z")
}

/// Parses a time as ISO 8601 writes it: `2026-01-31T12:00:00.5+03:00`, `…Z`. Seconds and their
/// fraction may be left out. `None` for other texts, and for times before 1970 or after 9999.
pub(in crate::api) fn parse(text: &str) -> Option<SystemTime> {
    let (date, rest) = text.split_once(['T', 't', ' '])?;
    let zone = rest.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = rest.split_at_checked(zone)?;
    let mut parts = date.split('-').map(digits);
    let year = parts.next()??;
    let month = parts.next()??;
    let day = parts.next()??;
    let in_range = date.len() == 10 && parts.next().is_none() && (1970..=9999).contains(&year);
    if !in_range || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = clock.split(':').map(digits);
    let hour = parts.next()??;
    let minute = parts.next()??;
    let second = parts.next().unwrap_or(Some(0))?;
    let millisecond: u64 = digits(&format!("{fraction:0<3}").chars().take(3).collect::<String>())?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let offset = match zone {
        "Z" | "z" => 0,
        zone => {
            let (hours, minutes) = zone.get(1..)?.split_once(':')?;
            let minutes = i64::try_from(digits(hours)? * 60 + digits(minutes)?).ok()?;
            if zone.starts_with('-') { -minutes } else { minutes }
        }
    };
    let day = days(year, month, day).filter(|days| civil(*days) == (year, month, day))?;
    let seconds = day * DAY + hour * 3600 + minute * 60 + second;
    let seconds = u64::try_from(i64::try_from(seconds).ok()? - offset * 60).ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_millis(millisecond))
}

fn digits(text: &str) -> Option<u64> {
    let all = !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| all)
}

/// Days from 1970-01-01; the inverse of [`civil`].
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year - 1 } else { year };
    let month_from_march = if month > 2 { month - 3 } else { month + 9 };
    let era = year / 400;
    let year_of_era = year % 400;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    (era * 146_097 + day_of_era).checked_sub(719_468)
}

/// Year, month and day of a day counted from 1970-01-01, in the proleptic Gregorian calendar.
/// Years begin in March here, so that the leap day comes last.
fn civil(days: u64) -> (u64, u64, u64) {
    const DAYS_PER_400_YEARS: u64 = 146_097;
    let days = days + 719_468; // from 0000-03-01
    let era = days / DAYS_PER_400_YEARS;
    let day_of_era = days % DAYS_PER_400_YEARS;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::{iso8601, parse};

    #[test]
    fn times_are_read_with_their_offset() {
        let check = |text: &str, expected: &str| {
            assert_eq!(parse(text).map(iso8601).as_deref(), Some(expected), "{text}");
        };
        check("2026-11-24T10:00:00Z", "2026-11-24T10:00:00.000Z");
        check("2026-11-24T10:00Z", "2026-11-24T10:00:00.000Z");
        check("2026-11-24T10:00:00.25+03:00", "2026-11-24T07:00:00.250Z");
        check("2000-02-29 23:59:59.9999-00:30", "2000-03-01T00:29:59.999Z");
        check("1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000Z");
        for wrong in [
            "",
            "today",
            "2026-11-24",
            "2026-11-24T10:00:00",
            "2026-02-30T00:00Z",
            "1969-12-31T00:00Z",
            "2026-11-24T25:00Z",
            "2026-1-4T10:00Z",
            "2026-11-24T10:00:00+3",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn times_print_in_utc() {
        let check = |seconds: u64, expected| {
            let time = UNIX_EPOCH + Duration::from_millis(seconds * 1000 + 7);
            assert_eq!(iso8601(time), expected);
        };
        check(0, "1970-01-01T00:00:00.007Z");
        check(951_782_399, "2000-02-28T23:59:59.007Z");
        check(951_782_400, "2000-02-29T00:00:00.007Z");
        check(1_756_204_200, "2025-08-26T10:30:00.007Z");
        check(4_107_542_400, "2100-03-01T00:00:00.007Z");
    }
}
