//! Facts about PostgreSQL → findings, each with the SQL that mends it. Pure.

use super::facts::{Facts, TableFacts};
use super::{Finding, Severity, TableName};
use crate::postgres::{quote_identifier, quote_qualified};

const VERSIONS: std::ops::RangeInclusive<i32> = 14..=18;
const QUEUE: (&str, &str) = ("public", "elasticsearch_sync_queue");

pub(super) fn server(facts: &Facts, findings: &mut Vec<Finding>) {
    let server = &facts.server;
    let major = server.version / 10_000;
    if facts.pooler_address || !server.settings_kept {
        findings.push(fault(
            "the address is that of a pooler, not of PostgreSQL",
            "replication can't pass a pooler, and a pooler hands one session to many clients",
            "set DATABASE_URL to the direct address (usually port 5432 of the database's own host)",
        ));
    }
    if !VERSIONS.contains(&major) {
        let what = format!("PostgreSQL {major} is not supported");
        findings.push(fault(what, "walferry is made for 14 to 18", "use a supported version"));
    }
    if server.is_standby {
        findings.push(fault(
            "the server is a standby",
            "the queue is written in the same database as the tables",
            "set DATABASE_URL to the primary",
        ));
    }
    if server.wal_level != "logical" {
        findings.push(fault(
            format!("wal_level is {}", server.wal_level),
            "changes of rows can only be read from WAL of level logical",
            "alter system set wal_level = 'logical';\n-- then restart PostgreSQL",
        ));
    }
    let slots = (facts.slot.is_none(), server.slots_used, server.slots_max);
    if matches!(slots, (true, used, max) if used >= max) {
        findings.push(no_place("max_replication_slots", server.slots_used, server.slots_max));
    }
    if facts.slot.is_none() && server.senders_used >= server.senders_max {
        findings.push(no_place("max_wal_senders", server.senders_used, server.senders_max));
    }
    if server.slot_wal_keep_mib < 0 {
        findings.push(advice(
            "max_slot_wal_keep_size is unlimited",
            "if walferry is down for long, the slot keeps WAL until the disk is full",
            "alter system set max_slot_wal_keep_size = '20GB'; -- what the disk can spare\nselect pg_reload_conf();",
        ));
    }
    if server.idle_slot_timeout.is_some_and(|timeout| timeout > 0) {
        findings.push(advice(
            "idle_replication_slot_timeout is set",
            "if walferry is down for longer, its slot is invalidated, and all has to be loaded anew",
            "alter system set idle_replication_slot_timeout = 0;\nselect pg_reload_conf();",
        ));
    }
}

fn no_place(setting: &str, used: i64, max: i64) -> Finding {
    fault(
        format!("all {max} of {setting} are taken"),
        "walferry needs one",
        format!(
            "alter system set {setting} = {};\n-- then restart PostgreSQL; or drop what is unused: \
             select slot_name, active from pg_replication_slots;",
            used.max(max) + 5
        ),
    )
}

pub(super) fn role(facts: &Facts, findings: &mut Vec<Finding>) {
    let role = &facts.role;
    let name = quote_identifier(&role.name);
    if !role.replication && !role.superuser {
        findings.push(fault(
            format!("role {} has no REPLICATION attribute", role.name),
            "without it PostgreSQL refuses to stream changes",
            format!("alter role {name} replication;"),
        ));
    }
    let filtered: Vec<&TableFacts> =
        facts.tables.iter().filter(|table| table.row_security_active).collect();
    if !filtered.is_empty() && !role.bypass_rls && !role.superuser {
        let tables: Vec<String> = filtered.iter().map(|table| dotted(&table.name)).collect();
        findings.push(fault(
            format!("row-level security hides rows of {} from role {}", tables.join(", "), role.name),
            "rows that can't be read would be taken for deleted ones; walferry's reads fail instead",
            format!("alter role {name} bypassrls;"),
        ));
    }
}

pub(super) fn tables(facts: &Facts, findings: &mut Vec<Finding>) {
    for table in &facts.tables {
        let name = dotted(&table.name);
        let quoted = quoted(&table.name);
        if !table.exists {
            findings.push(fault(
                format!("table {name} does not exist"),
                "the definition of the documents names it",
                "create it, or leave it out of the definition in the TOML file",
            ));
            continue;
        }
        if !table.is_table || table.unlogged {
            let what = if table.is_table { "is unlogged or temporary" } else { "is not a table" };
            findings.push(fault(
                format!("{name} {what}"),
                "only permanent tables are written to WAL",
                format!("alter table {quoted} set logged; -- or name the table behind the view"),
            ));
            continue;
        }
        if !table.can_select {
            let (schema, role) =
                (quote_identifier(&table.name.0), quote_identifier(&facts.role.name));
            findings.push(fault(
                format!("role {} may not read {name}", facts.role.name),
                "rows are read for the first load and for embedded values",
                format!(
                    "grant usage on schema {schema} to {role};\ngrant select on {quoted} to {role};"
                ),
            ));
        }
        if !table.has_primary_key {
            findings.push(fault(
                format!("table {name} has no primary key"),
                "the key is the document's id, and PostgreSQL publishes no UPDATE or DELETE without one",
                format!("alter table {quoted} add primary key (id); -- the columns that identify a row"),
            ));
        } else if table.replica_identity != 'f' {
            findings.push(advice(
                format!("table {name} does not log old rows (replica identity is not full)"),
                "the queue's change_data then lacks what a row was before, and long values that did \
                 not change are read back one by one",
                format!("alter table {quoted} replica identity full;"),
            ));
        }
    }
}

pub(super) fn own_objects(facts: &Facts, findings: &mut Vec<Finding>) {
    if !facts.objects_missing.is_empty() {
        findings.push(fault(
            format!("{} not there yet", facts.objects_missing.join(", ")),
            "the queue and walferry's position are kept in them",
            format!(
                "walferry migrate --runtime-role {}  # with DATABASE_URL of the tables' owner",
                facts.role.name
            ),
        ));
    }
    if facts.take_over.unfinished {
        findings.push(advice(
            "the take-over of the original system is not finished",
            "completed jobs, triggers or the function of it are still where they were",
            "walferry migrate  # with DATABASE_URL of the tables' owner",
        ));
    }
    if facts.privileges_missing.is_empty() {
        return;
    }
    let role = quote_identifier(&facts.role.name);
    let objects: Vec<&str> = facts.privileges_missing.iter().map(|lack| lack.object).collect();
    let grants: Vec<String> = facts
        .privileges_missing
        .iter()
        .map(|lack| format!("grant {} on {} to {role};", lack.verb, lack.object))
        .collect();
    findings.push(fault(
        format!("role {} may not write {}", facts.role.name, objects.join(", ")),
        "jobs and positions are written there",
        format!("grant usage on schema walferry to {role};\n{}", grants.join("\n")),
    ));
}

pub(super) fn publication(facts: &Facts, findings: &mut Vec<Finding>) {
    let name = &facts.publication_name;
    let quoted_name = quote_identifier(name);
    let wanted: Vec<String> =
        facts.tables.iter().filter(|table| table.exists).map(|table| quoted(&table.name)).collect();
    let wanted = wanted.join(", ");
    let anew = format!(
        "drop publication if exists {quoted_name};\ncreate publication {quoted_name} for table {wanted};"
    );
    let Some(publication) = &facts.publication else {
        findings.push(fault(
            format!("publication {name} does not exist"),
            "it says which tables are on the stream",
            match wanted.as_str() {
                "" => "walferry migrate  # once the tables are there".to_owned(),
                wanted => format!("create publication {quoted_name} for table {wanted};"),
            },
        ));
        return;
    };
    let is_queue =
        |table: &TableName| (table.0.as_str(), table.1.as_str()) == QUEUE || table.0 == "walferry";
    if publication.all_tables || publication.tables.iter().any(is_queue) {
        findings.push(fault(
            format!("publication {name} contains the queue"),
            "the stream would feed itself",
            if publication.all_tables {
                anew
            } else {
                format!("alter publication {quoted_name} set table {wanted};")
            },
        ));
        return;
    }
    if !publication.all_operations {
        findings.push(fault(
            format!("publication {name} leaves out some operations"),
            "what is not published is never indexed",
            format!("alter publication {quoted_name} set (publish = 'insert, update, delete, truncate');"),
        ));
    }
    if !publication.filtered.is_empty() {
        findings.push(fault(
            format!("publication {name} publishes only a part of {}", list(&publication.filtered)),
            "rows or columns that are filtered out are missing in documents and in the queue",
            format!("alter publication {quoted_name} set table {wanted};"),
        ));
    }
    let published = |table: &&TableFacts| publication.tables.contains(&table.name);
    for table in facts.tables.iter().filter(|table| table.exists && !published(table)) {
        findings.push(fault(
            format!("table {} is not in publication {name}", dotted(&table.name)),
            "its changes are not on the stream",
            format!("alter publication {quoted_name} add table {};", quoted(&table.name)),
        ));
    }
    let known = |table: &TableName| facts.tables.iter().any(|known| known.name == *table);
    for table in publication.tables.iter().filter(|table| !known(table)) {
        findings.push(advice(
            format!("publication {name} contains {}, which no document is made of", dotted(table)),
            "its changes are sent and thrown away",
            format!("alter publication {quoted_name} drop table {};", quoted(table)),
        ));
    }
}

pub(super) fn slot(facts: &Facts, findings: &mut Vec<Finding>) {
    let name = &facts.slot_name;
    let rebuild = "walferry rebuild --yes  # the next run loads all rows into new indices";
    let Some(slot) = &facts.slot else {
        if facts.stored.has_position {
            findings.push(fault(
                format!("slot {name} does not exist although a position is stored"),
                "what was committed since it was dropped is lost to it",
                rebuild,
            ));
        }
        return;
    };
    if slot.plugin != "pgoutput" || slot.database != facts.server.database {
        let kind = if slot.plugin.is_empty() { "physical" } else { slot.plugin.as_str() };
        findings.push(fault(
            format!("slot {name} is somebody else's ({kind}, database {:?})", slot.database),
            "walferry reads pgoutput from a slot of its own",
            "set WALFERRY_SLOT to another name",
        ));
        return;
    }
    let lost = slot.wal_status == "lost" || slot.invalidation_reason.is_some();
    if lost {
        let reason = slot.invalidation_reason.as_deref().unwrap_or("WAL was removed");
        findings.push(fault(
            format!("slot {name} is lost ({reason})"),
            "changes that it had not delivered are gone from WAL",
            rebuild,
        ));
    } else if facts.stored.has_position && facts.stored.slot_is_ahead {
        findings.push(fault(
            format!("slot {name} is confirmed past the stored position"),
            "it was made anew, or somebody else read it, and there is a gap",
            rebuild,
        ));
    } else if slot.wal_status == "unreserved" {
        findings.push(advice(
            format!(
                "slot {name} is about to be lost; it retains {} MiB",
                slot.retained_bytes >> 20
            ),
            "WAL that it needs is removed at the next checkpoint",
            "let walferry catch up now, and raise max_slot_wal_keep_size",
        ));
    }
}

fn dotted(name: &TableName) -> String {
    format!("{}.{}", name.0, name.1)
}

fn quoted(name: &TableName) -> String {
    quote_qualified(&name.0, &name.1)
}

fn list(names: &[TableName]) -> String {
    names.iter().map(dotted).collect::<Vec<_>>().join(", ")
}

fn fault(what: impl Into<String>, why: &str, remedy: impl Into<String>) -> Finding {
    finding(Severity::Fault, what.into(), why, remedy.into())
}

fn advice(what: impl Into<String>, why: &str, remedy: impl Into<String>) -> Finding {
    finding(Severity::Advice, what.into(), why, remedy.into())
}

fn finding(severity: Severity, what: String, why: &str, remedy: String) -> Finding {
    Finding { severity, what, why: why.to_owned(), remedy }
}

/// Facts of a database in which nothing is to be found.
#[cfg(test)]
pub(super) fn well() -> Facts {
    use super::facts::{PublicationFacts, RoleFacts, ServerFacts};
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

#[cfg(test)]
mod tests {
    use super::well;
    use crate::engine::preflight::facts::{Privilege, PublicationFacts, SlotFacts};
    use crate::engine::preflight::{Facts, Severity, evaluate};

    /// Alters well facts; expects one finding that says `what` and mends with `remedy`.
    fn check(severity: Severity, alter: fn(&mut Facts), what: &str, remedy: &str) {
        let mut facts = well();
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
    fn nothing_is_found_where_all_is_well() {
        assert_eq!(evaluate(&well()), []);
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
        fault(|f| f.pooler_address = true, "pooler", "direct address");
        fault(|f| f.server.settings_kept = false, "pooler", "direct address");
        advice(|f| f.server.slot_wal_keep_mib = -1, "max_slot_wal_keep_size", "alter system");
        advice(|f| f.server.idle_slot_timeout = Some(60), "idle_replication_slot_timeout", "= 0");
    }

    #[test]
    fn a_slot_that_is_there_needs_no_place() {
        let mut facts = well();
        facts.server.slots_used = 10;
        facts.slot = Some(own_slot());
        assert_eq!(evaluate(&facts), []);
    }

    #[test]
    fn a_slot_that_is_not_the_one_we_know() {
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
        advice(
            |f| f.tables[0].replica_identity = 'd',
            "replica identity",
            "replica identity full;",
        );
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
}
