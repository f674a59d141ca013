//! Positions in the write-ahead log.

use std::fmt;
use std::str::FromStr;

/// A byte address in PostgreSQL's write-ahead log (`pg_lsn`). Zero is PostgreSQL's
/// `InvalidXLogRecPtr`: no position.
///
/// It prints as `pg_lsn` does: the upper and the lower 32 bits in hexadecimal, separated by a
/// slash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:X}/{:X}", self.0 >> 32, self.0 & 0xffff_ffff)
    }
}

/// A text that is not an LSN: two hexadecimal numbers of up to 32 bits, separated by a slash.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0:?} is not an LSN; write it like 0/16B3748")]
pub struct ParseLsnError(pub String);

impl FromStr for Lsn {
    type Err = ParseLsnError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || ParseLsnError(text.to_owned());
        let (high, low) = text.split_once('/').ok_or_else(wrong)?;
        let high = u32::from_str_radix(high, 16).map_err(|_| wrong())?;
        let low = u32::from_str_radix(low, 16).map_err(|_| wrong())?;
        Ok(Self(u64::from(high) << 32 | u64::from(low)))
    }
}

/// The position of a change in commit order. Positions compare by commit LSN, then by ordinal.
///
/// The LSN of the change itself does not serve: changes of concurrent transactions interleave in
/// the WAL, and one `heap_multi_insert` record of a `COPY` holds many rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The final LSN of the transaction, from `Begin` (protocol section "Logical Replication
    /// Message Formats").
    pub commit_lsn: Lsn,
    /// The number of the change within its transaction, from 0.
    pub ordinal: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.commit_lsn, self.ordinal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_lsn_prints_as_it_is_parsed() {
        for text in ["0/0", "0/16B3748", "16/B374D848", "FFFFFFFF/FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>().unwrap().to_string(), text);
        }
        for text in ["", "0", "0/", "/0", "0/G", "1FFFFFFFF/0", "0/1FFFFFFFF"] {
            assert_eq!(text.parse::<Lsn>(), Err(ParseLsnError(text.to_owned())));
        }
    }

    #[test]
    fn positions_order_by_commit_first() {
        let at = |lsn, ordinal| Position { commit_lsn: Lsn(lsn), ordinal };
        assert!(at(1, 9) < at(2, 0));
        assert!(at(2, 0) < at(2, 1));
    }
}
