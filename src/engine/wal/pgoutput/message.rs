//! The messages of `pgoutput`. Pure.

use super::tuple::Tuple;

/// A message of the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    Begin(Begin),
    Commit(Commit),
    /// The replication origin on which the transaction was first committed.
    Origin {
        name: &'a str,
    },
    Relation(Relation<'a>),
    /// A type that is not built in. Precedes a relation that uses it.
    Type {
        oid: u32,
    },
    Insert {
        relation: u32,
        new: Tuple<'a>,
    },
    Update {
        relation: u32,
        old: Option<OldTuple<'a>>,
        new: Tuple<'a>,
    },
    Delete {
        relation: u32,
        old: OldTuple<'a>,
    },
    Truncate {
        relations: Vec<u32>,
    },
    /// From `pg_logical_emit_message`.
    Logical {
        transactional: bool,
        prefix: &'a str,
    },
}

/// The begin of a transaction. Its changes follow, then its [`Commit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begin {
    pub commit_lsn: u64,
    /// Microseconds since 2000-01-01 UTC.
    pub committed_at: i64,
    pub xid: u32,
}

/// The end of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    pub commit_lsn: u64,
    pub end_lsn: u64,
    /// Microseconds since 2000-01-01 UTC.
    pub committed_at: i64,
}

/// The columns of a table, valid for the changes that follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relation<'a> {
    pub oid: u32,
    /// As sent: empty means `pg_catalog`.
    pub schema: &'a str,
    pub name: &'a str,
    /// `d` default, `n` nothing, `f` full, `i` index.
    pub replica_identity: u8,
    pub columns: Vec<Column<'a>>,
}

/// A published column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column<'a> {
    /// Part of the replica identity.
    pub is_key: bool,
    pub name: &'a str,
    pub type_oid: u32,
    pub type_modifier: i32,
}

/// The old row of an UPDATE or DELETE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldTuple<'a> {
    /// The columns of the replica identity only; the others are sent as null.
    Key(Tuple<'a>),
    /// The whole row (REPLICA IDENTITY FULL).
    Whole(Tuple<'a>),
}
