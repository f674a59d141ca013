//! How positions, counts and sentences travel to PostgreSQL and back.
//!
//! Not here: any SQL text; each stands beside the function that runs it.

use postgres_types::PgLsn;

use crate::change::{Lsn, Position};

/// An LSN as a parameter of a statement.
pub(crate) fn pg_lsn(lsn: Lsn) -> PgLsn {
    PgLsn::from(lsn.0)
}

/// An LSN of a row.
pub(crate) fn lsn(lsn: PgLsn) -> Lsn {
    Lsn(lsn.into())
}

/// A count as `bigint`; none that this process can reach is past its range.
pub(crate) fn bigint(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A `bigint` that is a count; negative ones, which nothing writes, read as 0.
pub(crate) fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// A sentence that quotes what Elasticsearch answered, as a `text`, which takes no NUL.
pub(crate) fn without_nul(error: &str) -> String {
    error.replace('\0', "")
}

/// A position of a row.
pub(crate) fn position(commit_lsn: PgLsn, ordinal: i64) -> Position {
    Position { commit_lsn: lsn(commit_lsn), ordinal: count(ordinal) }
}

/// The 64-bit transaction id nearest to `reference` whose low half is `xid`.
///
/// Right as long as the two are less than 2^31 transactions apart, which PostgreSQL itself
/// guarantees for transactions that matter.
#[must_use]
pub fn widen_xid(xid: u32, reference: u64) -> u64 {
    const HALF: u64 = 1 << 31;
    const WHOLE: u64 = 1 << 32;
    let same_epoch = (reference & !(WHOLE - 1)) | u64::from(xid);
    if same_epoch > reference + HALF && same_epoch >= WHOLE {
        same_epoch - WHOLE
    } else if reference > same_epoch + HALF {
        same_epoch + WHOLE
    } else {
        same_epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_id_is_widened_near_its_reference() {
        let check = |xid, reference, expected| {
            assert_eq!(widen_xid(xid, reference), expected, "{xid:#x} near {reference:#x}");
        };
        check(7, 5, 7);
        check(5, 7, 5);
        check(0xffff_fff0, 5, 0xffff_fff0); // no epoch below the first
        check(5, 0xffff_fff0, 0x1_0000_0005);
        check(0xffff_fff0, 0x1_0000_0005, 0xffff_fff0);
        check(0, 0x2_ffff_ffff, 0x3_0000_0000);
        check(0xffff_ffff, 0x3_0000_0000, 0x2_ffff_ffff);
        check(0x9000_0000, 0x2_8000_0000, 0x2_9000_0000);
    }
}
