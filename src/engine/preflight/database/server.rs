//! The server: its version, its settings, and the way it is reached. Pure.

use crate::engine::preflight::facts::{Facts, ServerFacts};
use crate::engine::preflight::finding::Finding;

const VERSIONS: std::ops::RangeInclusive<i32> = 14..=18;

/// The findings about the server and its settings.
pub(in crate::engine::preflight) fn server(facts: &Facts, findings: &mut Vec<Finding>) {
    let server = &facts.server;
    let major = server.version / 10_000;
    if !server.settings_kept {
        findings.push(Finding::fault(
            "the address is that of a pooler, not of PostgreSQL",
            "replication can't pass a pooler, and a pooler hands one session to many clients",
            "set DATABASE_URL to the direct address (usually port 5432 of the database's own host)",
        ));
    }
    if facts.pooler_address {
        findings.push(Finding::advice(
            "the address looks like that of a pooler",
            "replication can't pass a pooler; the server itself listens on another port",
            "set DATABASE_URL to the direct address (usually port 5432 of the database's own host)",
        ));
    }
    if !VERSIONS.contains(&major) {
        let what = format!("PostgreSQL {major} is not supported");
        findings.push(Finding::fault(
            what,
            "walferry is made for 14 to 18",
            "use a supported version",
        ));
    }
    writable(server, findings);
    if server.wal_level != "logical" {
        findings.push(Finding::fault(
            format!("wal_level is {}", server.wal_level),
            "changes of rows can only be read from WAL of level logical",
            "alter system set wal_level = 'logical';\n-- then restart PostgreSQL",
        ));
    }
    if facts.slot.is_none() {
        resources(server, findings);
    }
    retention(server, findings);
}

/// The queue is written on the same server.
fn writable(server: &ServerFacts, findings: &mut Vec<Finding>) {
    if server.is_standby {
        findings.push(
            Finding::fault(
                "the server is a standby",
                "the queue is written in the same database as the tables",
                "set DATABASE_URL to the primary",
            )
            .that_may_pass(),
        );
    } else if let Some(source) = &server.read_only_by {
        findings.push(Finding::fault(
            format!("default_transaction_read_only is on (set by: {source})"),
            "the queue could not be written",
            "alter role … reset default_transaction_read_only; -- or alter database …, or alter system",
        ).that_may_pass());
    }
}

/// What the server does with the slot of a walferry that is down.
fn retention(server: &ServerFacts, findings: &mut Vec<Finding>) {
    if server.slot_wal_keep_mib < 0 {
        findings.push(Finding::advice(
            "max_slot_wal_keep_size is unlimited",
            "if walferry is down for long, the slot keeps WAL until the disk is full",
            "alter system set max_slot_wal_keep_size = '20GB'; -- what the disk can spare\nselect pg_reload_conf();",
        ));
    }
    if server.idle_slot_timeout.is_some_and(|timeout| timeout > 0) {
        findings.push(Finding::advice(
            "idle_replication_slot_timeout is set",
            "if walferry is down for longer, its slot is invalidated, and all has to be loaded anew",
            "alter system set idle_replication_slot_timeout = 0;\nselect pg_reload_conf();",
        ));
    }
}

/// A new slot and its WAL sender must not exceed the server's limits.
fn resources(server: &ServerFacts, findings: &mut Vec<Finding>) {
    if server.slots_used >= server.slots_max {
        findings.push(exhausted("max_replication_slots", server.slots_used, server.slots_max));
    }
    if server.senders_used >= server.senders_max {
        findings.push(exhausted("max_wal_senders", server.senders_used, server.senders_max));
    }
}

fn exhausted(setting: &str, used: i64, max: i64) -> Finding {
    Finding::fault(
        format!("all {max} of {setting} are taken"),
        "walferry needs one",
        format!(
            "alter system set {setting} = {};\n-- then restart PostgreSQL; or drop what is unused: \
             select slot_name, active from pg_replication_slots;",
            used.max(max) + 5
        ),
    )
}
