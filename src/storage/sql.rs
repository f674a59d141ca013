//! How positions, counts and sentences travel to PostgreSQL and back.
//!
//! Not here: any SQL text; each stands beside the function that runs it.

use postgres_types::PgLsn;
use tokio_postgres::{Client, Error};

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

/// Which sentences a database can store. A sentence quotes what Elasticsearch answered, and has
/// characters of walferry's own, such as an ellipsis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StorableText {
    /// All but NUL.
    Unicode,
    /// ASCII is in every encoding; what else there is depends on it.
    Ascii,
}

impl StorableText {
    /// By the encoding of the session's database.
    ///
    /// # Errors
    /// The error of the query.
    pub(crate) async fn of(client: &Client) -> Result<Self, Error> {
        let row = client.query_one("select pg_catalog.current_setting('server_encoding')", &[]);
        let encoding: String = row.await?.try_get(0)?;
        Ok(if matches!(encoding.as_str(), "UTF8" | "SQL_ASCII") {
            Self::Unicode
        } else {
            Self::Ascii
        })
    }

    /// The sentence with a substitute for each character that cannot be stored.
    pub(crate) fn sentence(self, text: &str) -> String {
        if self == Self::Unicode || text.is_ascii() {
            return text.replace('\0', "");
        }
        let mut stored = String::with_capacity(text.len());
        for character in text.chars() {
            match character {
                '\0' => {}
                '…' => stored.push_str("..."),
                '‘' | '’' => stored.push('\''),
                '“' | '”' | '„' => stored.push('"'),
                '–' | '—' => stored.push('-'),
                ascii if ascii.is_ascii() => stored.push(ascii),
                _ => stored.push('?'),
            }
        }
        stored
    }
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
    fn a_sentence_has_only_what_the_database_can_store() {
        let sentence = "failed to parse … of “ş”\0";
        assert_eq!(StorableText::Unicode.sentence(sentence), "failed to parse … of “ş”");
        assert_eq!(StorableText::Ascii.sentence(sentence), "failed to parse ... of \"?\"");
    }

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
