//! The facts that are evaluated, as plain values.

use super::TableName;
use crate::engine::document::definition::Definition;
use crate::engine::sink::privileges::LackingPrivilege;
use crate::postgres::catalog::standby::SynchronousReplication;

/// The facts about PostgreSQL.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The name in the configuration.
    pub publication_name: String,
    /// The name in the configuration.
    pub slot_name: String,
    /// The host's name or the port are those of a pooler, and the server listens elsewhere.
    pub pooler_address: bool,
    pub server: ServerFacts,
    pub role: RoleFacts,
    /// Of the definition, in its order.
    pub tables: Vec<TableFacts>,
    /// What the documents are made of.
    pub definition: Option<Definition>,
    /// `None` if it does not exist.
    pub publication: Option<PublicationFacts>,
    /// walferry's own objects that do not exist.
    pub objects_missing: Vec<String>,
    /// Privileges on walferry's own objects that the role lacks.
    pub privileges_missing: Vec<Privilege>,
    /// `None` if it does not exist.
    pub slot: Option<SlotFacts>,
    pub stored: StoredFacts,
    pub take_over: TakeOverFacts,
    pub synchronous: SynchronousReplication,
}

/// The state of the take-over of the original system.
#[derive(Clone, Copy, Debug, Default)]
pub struct TakeOverFacts {
    /// Jobs or objects of the original system have not been removed yet.
    pub unfinished: bool,
    /// The next run replaces its indices.
    pub replaces_indices: bool,
}

/// The server's settings.
#[derive(Clone, Debug, Default)]
pub struct ServerFacts {
    /// `server_version_num`, such as 180000.
    pub version: i32,
    pub is_standby: bool,
    /// Where `default_transaction_read_only` is set, if it is on.
    pub read_only_by: Option<String>,
    /// The port on which the server itself listens; `None` for a Unix-domain socket.
    pub port: Option<i32>,
    pub database: String,
    /// The start-up settings of the session are in effect; a pooler ignores them.
    pub settings_kept: bool,
    pub wal_level: String,
    pub slots_max: i64,
    pub slots_used: i64,
    pub senders_max: i64,
    pub senders_used: i64,
    /// MiB; -1 is unlimited.
    pub slot_wal_keep_mib: i64,
    /// PostgreSQL 18 and later, in its own unit; 0 is off.
    pub idle_slot_timeout: Option<i64>,
}

/// The role that walferry connects as.
#[derive(Clone, Debug, Default)]
pub struct RoleFacts {
    pub name: String,
    pub superuser: bool,
    pub replication: bool,
    pub bypass_rls: bool,
}

/// One table of the definition.
#[derive(Clone, Debug, Default)]
pub struct TableFacts {
    pub name: TableName,
    pub exists: bool,
    /// A table or a partitioned table, not a view or another kind of relation.
    pub is_table: bool,
    pub unlogged: bool,
    pub can_select: bool,
    /// Row-level security applies to the role.
    pub row_security_active: bool,
    pub has_primary_key: bool,
    /// `d`efault, `f`ull, `n`othing, `i`ndex.
    pub replica_identity: char,
    /// The index of a replica identity by index exists.
    pub has_identity_index: bool,
    /// Tables that inherit from it and are not its partitions, quoted.
    pub children: Vec<String>,
    /// Partitions whose replica identity is nothing, quoted.
    pub parts_without_identity: Vec<String>,
    /// Partitions whose replica identity is full, quoted.
    pub parts_with_full_identity: Vec<String>,
    /// Its columns, in their order.
    pub columns: Vec<ColumnFacts>,
}

/// A column of a table of the definition.
#[derive(Clone, Debug, Default)]
pub struct ColumnFacts {
    pub name: String,
    /// As `format_type` prints it.
    pub type_name: String,
    pub generated: bool,
    /// Generated and stored.
    pub stored: bool,
    pub in_key: bool,
    /// In the index of the replica identity.
    pub in_identity: bool,
    /// The object id of the type, or of the type that a domain is made of.
    pub base_type: u32,
    /// The type's modifier, such as precision and scale; -1 without one.
    pub modifier: i32,
    /// Why a key cannot have such a column, in a word; empty where it can.
    pub unfit_for_keys: String,
}

impl TableFacts {
    /// The column of that name.
    #[must_use]
    pub fn column(&self, name: &str) -> Option<&ColumnFacts> {
        self.columns.iter().find(|column| column.name == name)
    }
}

/// The publication.
#[derive(Clone, Debug, Default)]
pub struct PublicationFacts {
    pub all_tables: bool,
    /// Inserts, updates, deletes and truncates are all published.
    pub all_operations: bool,
    pub tables: Vec<TableName>,
    /// Tables with a row filter, or of which a column is not published.
    pub filtered: Vec<TableName>,
    /// Tables whose UPDATEs and DELETEs PostgreSQL refuses for want of a replica identity.
    pub lacking_identity: Vec<TableName>,
    /// Stored generated columns are published.
    pub publishes_stored: bool,
}

/// A privilege on an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Privilege {
    /// As in `grant`: `select, insert, update`.
    pub verb: &'static str,
    /// As in `grant … on`: `table walferry.lease`.
    pub object: &'static str,
}

/// The stored position of the slot.
#[derive(Clone, Copy, Debug, Default)]
pub struct StoredFacts {
    /// Changes have been recorded from the slot.
    pub has_position: bool,
    /// `confirmed_flush_lsn` is above the stored position.
    pub slot_is_ahead: bool,
}

/// The replication slot.
#[derive(Clone, Debug, Default)]
pub struct SlotFacts {
    pub plugin: String,
    pub database: String,
    pub wal_status: String,
    pub invalidation_reason: Option<String>,
    pub retained_bytes: i64,
}

/// The cluster.
#[derive(Clone, Debug, Default)]
pub struct ElasticsearchFacts {
    /// `elasticsearch` or `opensearch`.
    pub distribution: String,
    pub version: String,
    /// `action.auto_create_index`, if the role may read it.
    /// `rest.action.multi.allow_explicit_index` is false.
    pub refuses_explicit_index: bool,
    pub auto_create_index: Option<String>,
    /// Names of aliases that are indices.
    pub names_taken: Vec<String>,
    /// Privileges that the user lacks; none where the cluster has no security.
    pub lacking_privileges: Vec<LackingPrivilege>,
}
