//! One finding for each fact that is not as required.

use crate::engine::preflight::facts::{
    Privilege, PublicationFacts, RoleFacts, ServerFacts, SlotFacts, TableFacts,
};
use crate::engine::preflight::{Facts, Severity, evaluate};

/// Facts of a database without any finding.
fn valid() -> Facts {
    let name = ("public".to_owned(), "listings".to_owned());
    Facts {
        publication_name: "walferry".to_owned(),
        slot_name: "walferry".to_owned(),
        server: ServerFacts {
            version: 180_000,
            database: "app".to_owned(),
            settings_kept: true,
            wal_level: "logical".to_owned(),
            slots_max: 10,
            senders_max: 10,
            slot_wal_keep_mib: 20_000,
            idle_slot_timeout: Some(0),
            ..ServerFacts::default()
        },
        role: RoleFacts { name: "ferry".to_owned(), replication: true, ..RoleFacts::default() },
        tables: vec![TableFacts {
            name: name.clone(),
            exists: true,
            is_table: true,
            can_select: true,
            has_primary_key: true,
            replica_identity: 'f',
            ..TableFacts::default()
        }],
        publication: Some(PublicationFacts {
            all_operations: true,
            tables: vec![name],
            ..PublicationFacts::default()
        }),
        ..Facts::default()
    }
}

/// Alters valid facts; expects one finding that contains `what` and `remedy`.
fn check(severity: Severity, alter: fn(&mut Facts), what: &str, remedy: &str) {
    let mut facts = valid();
    alter(&mut facts);
    let findings = evaluate(&facts);
    let [finding] = findings.as_slice() else { panic!("{what}: {findings:?}") };
    assert_eq!(finding.severity, severity, "{finding}");
    assert!(finding.what.contains(what), "{finding}");
    assert!(finding.remedy.contains(remedy), "{finding}");
}

fn fault(alter: fn(&mut Facts), what: &str, remedy: &str) {
    check(Severity::Fault, alter, what, remedy);
}

fn advice(alter: fn(&mut Facts), what: &str, remedy: &str) {
    check(Severity::Advice, alter, what, remedy);
}

fn published(facts: &mut Facts) -> &mut PublicationFacts {
    facts.publication.as_mut().unwrap()
}

#[test]
fn nothing_is_found_where_all_is_valid() {
    assert_eq!(evaluate(&valid()), []);
}

#[test]
fn the_server() {
    fault(|f| f.server.version = 130_012, "PostgreSQL 13", "supported");
    fault(|f| f.server.version = 190_000, "PostgreSQL 19", "supported");
    fault(
        |f| f.server.wal_level = "replica".into(),
        "wal_level is replica",
        "alter system set wal_level = 'logical'",
    );
    fault(|f| f.server.slots_used = 10, "max_replication_slots", "= 15");
    fault(|f| f.server.senders_used = 10, "max_wal_senders", "= 15");
    fault(|f| f.server.is_standby = true, "standby", "primary");
    advice(|f| f.pooler_address = true, "pooler", "direct address");
    fault(
        |f| f.server.read_only_by = Some("user".into()),
        "default_transaction_read_only is on (set by: user)",
        "reset default_transaction_read_only",
    );
    fault(|f| f.server.settings_kept = false, "pooler", "direct address");
    advice(|f| f.server.slot_wal_keep_mib = -1, "max_slot_wal_keep_size", "alter system");
    advice(|f| f.server.idle_slot_timeout = Some(60), "idle_replication_slot_timeout", "= 0");
}

#[test]
fn an_existing_slot_needs_no_other() {
    let mut facts = valid();
    facts.server.slots_used = 10;
    facts.slot = Some(own_slot());
    assert_eq!(evaluate(&facts), []);
}

#[test]
fn a_slot_other_than_the_stored_one() {
    fault(|f| f.stored.has_position = true, "does not exist", "walferry rebuild --yes");
    let ahead = |f: &mut Facts| {
        f.slot = Some(own_slot());
        (f.stored.has_position, f.stored.slot_is_ahead) = (true, true);
    };
    fault(ahead, "past the stored position", "walferry rebuild --yes");
}

#[test]
fn an_unfinished_take_over() {
    advice(|f| f.take_over.unfinished = true, "take-over", "walferry migrate");
}

#[test]
fn the_role() {
    fault(|f| f.role.replication = false, "REPLICATION", "alter role \"ferry\" replication;");
    fault(|f| f.tables[0].row_security_active = true, "row-level security", "bypassrls;");
}

#[test]
fn the_tables() {
    fault(
        |f| f.tables[0].can_select = false,
        "may not read public.listings",
        "grant select on \"public\".\"listings\" to \"ferry\";",
    );
    fault(|f| f.tables[0].has_primary_key = false, "no primary key", "add primary key");
    fault(|f| f.tables[0].unlogged = true, "unlogged", "set logged");
    advice(|f| f.tables[0].replica_identity = 'd', "replica identity", "replica identity full;");
    fault(
        |f| {
            f.tables[0].exists = false;
            published(f).tables.clear();
        },
        "public.listings does not exist",
        "create it",
    );
}

#[test]
fn the_publication() {
    fault(
        |f| f.publication = None,
        "does not exist",
        "create publication \"walferry\" for table \"public\".\"listings\";",
    );
    fault(
        |f| published(f).tables.clear(),
        "is not in publication",
        "add table \"public\".\"listings\";",
    );
    fault(|f| published(f).all_tables = true, "contains the queue", "drop publication");
    fault(|f| published(f).all_operations = false, "operations", "publish =");
    fault(
        |f| published(f).filtered = vec![("public".into(), "listings".into())],
        "a part of",
        "set table",
    );
    fault(
        |f| published(f).tables.push(("public".into(), "elasticsearch_sync_queue".into())),
        "contains the queue",
        "set table \"public\".\"listings\";",
    );
    advice(
        |f| published(f).tables.push(("public".into(), "orders".into())),
        "contains public.orders",
        "drop table \"public\".\"orders\";",
    );
}

#[test]
fn walferrys_own_objects() {
    fault(
        |f| f.objects_missing = vec!["walferry.lease".into()],
        "walferry.lease",
        "walferry migrate",
    );
    fault(
        |f| f.privileges_missing = vec![Privilege { verb: "select", object: "walferry.lease" }],
        "may not write walferry.lease",
        "grant select on walferry.lease to \"ferry\";",
    );
    fault(
        |f| f.privileges_missing = vec![Privilege { verb: "select", object: "walferry.lease" }],
        "may not write walferry.lease",
        "walferry migrate --runtime-role ferry",
    );
}

fn own_slot() -> SlotFacts {
    SlotFacts {
        plugin: "pgoutput".into(),
        database: "app".into(),
        wal_status: "reserved".into(),
        ..SlotFacts::default()
    }
}

#[test]
fn the_slot() {
    fault(
        |f| f.slot = Some(SlotFacts { plugin: "wal2json".into(), ..own_slot() }),
        "wal2json",
        "WALFERRY_SLOT",
    );
    fault(
        |f| f.slot = Some(SlotFacts { plugin: String::new(), ..own_slot() }),
        "physical",
        "WALFERRY_SLOT",
    );
    fault(
        |f| f.slot = Some(SlotFacts { database: "other".into(), ..own_slot() }),
        "other",
        "WALFERRY_SLOT",
    );
    fault(
        |f| f.slot = Some(SlotFacts { wal_status: "lost".into(), ..own_slot() }),
        "is lost",
        "rebuild",
    );
    fault(
        |f| {
            let invalidation_reason = Some("idle_timeout".into());
            f.slot = Some(SlotFacts { invalidation_reason, ..own_slot() });
        },
        "idle_timeout",
        "rebuild",
    );
    advice(
        |f| f.slot = Some(SlotFacts { wal_status: "unreserved".into(), ..own_slot() }),
        "about to be lost",
        "max_slot_wal_keep_size",
    );
}
