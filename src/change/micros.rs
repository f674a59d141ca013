//! A moment as PostgreSQL counts it: microseconds, UTC.
//!
//! `timestamptz` travels in the binary format as microseconds since 2000-01-01 (PostgreSQL,
//! `timestamp.h`); this type counts from 1970-01-01.

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::{BufMut, BytesMut};
use postgres_types::{FromSql, IsNull, ToSql, Type, to_sql_checked};

/// From 1970-01-01 to 2000-01-01, where PostgreSQL's timestamps begin.
const UNIX_TO_POSTGRES: i64 = 946_684_800_000_000;

/// A `timestamptz` as microseconds since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub i64);

impl Micros {
    /// This machine's clock.
    #[must_use]
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }

    /// The value that PostgreSQL's binary format carries.
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
            // Both infinities.
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
    fn times_are_moved_to_the_year_2000() {
        assert_eq!(Micros(UNIX_TO_POSTGRES).to_wire(), 0);
        assert_eq!(Micros(0).to_wire(), -UNIX_TO_POSTGRES);
        for wire in [i64::MIN, i64::MAX, 0, -1, 1] {
            let read = Micros::from_sql(&Type::TIMESTAMPTZ, &wire.to_be_bytes()).unwrap();
            assert_eq!(read.to_wire(), wire, "infinities stay");
        }
    }
}
