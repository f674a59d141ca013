//! `timestamp with time zone` as a number of microseconds, UTC.
//!
//! PostgreSQL's binary format counts microseconds from 2000-01-01 (`POSTGRES_EPOCH_JDATE` in
//! `timestamp.h`). This type counts them from 1970-01-01.

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};
use postgres_types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// Microseconds from the Unix epoch, 1970-01-01, to PostgreSQL's epoch, 2000-01-01.
const UNIX_TO_POSTGRES: i64 = 946_684_800_000_000;

/// A `timestamptz` as microseconds since 1970-01-01 UTC. `i64::MIN` and `i64::MAX` are
/// `-infinity` and `infinity`, as in PostgreSQL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub i64);

impl Micros {
    /// The current time of the system clock.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// The value in PostgreSQL's binary format: microseconds since 2000-01-01 UTC.
    #[must_use]
    pub const fn to_wire(self) -> i64 {
        match self.0 {
            i64::MIN | i64::MAX => self.0,
            finite => finite.saturating_sub(UNIX_TO_POSTGRES),
        }
    }
}

impl<'a> FromSql<'a> for Micros {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(match i64::from_be_bytes(raw.try_into()?) {
            // -infinity and infinity
            infinite @ (i64::MIN | i64::MAX) => infinite,
            finite => finite.saturating_add(UNIX_TO_POSTGRES),
        }))
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }
}

impl ToSql for Micros {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        out.put_i64(self.to_wire());
        Ok(IsNull::No)
    }

    fn accepts(ty: &Type) -> bool {
        *ty == Type::TIMESTAMPTZ
    }

    to_sql_checked!();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_format_counts_from_the_year_2000() {
        assert_eq!(Micros(UNIX_TO_POSTGRES).to_wire(), 0);
        assert_eq!(Micros(0).to_wire(), -UNIX_TO_POSTGRES);
        for wire in [i64::MIN, i64::MAX, 0, -1, 1] {
            let read = Micros::from_sql(&Type::TIMESTAMPTZ, &wire.to_be_bytes()).unwrap();
            assert_eq!(read.to_wire(), wire, "infinities stay");
        }
    }
}
