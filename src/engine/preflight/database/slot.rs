//! The replication slot. Pure.

use crate::engine::preflight::facts::Facts;
use crate::engine::preflight::finding::Finding;

const REBUILD: &str = "walferry rebuild --yes  # the next run loads all rows into new indices";

/// The findings about the slot.
pub(in crate::engine::preflight) fn slot(facts: &Facts, findings: &mut Vec<Finding>) {
    let name = &facts.slot_name;
    let Some(slot) = &facts.slot else {
        if facts.stored.has_position {
            findings.push(Finding::fault(
                format!("slot {name} does not exist although a position is stored"),
                "what was committed since it was dropped is lost to it",
                REBUILD,
            ));
        }
        return;
    };
    if slot.plugin != "pgoutput" || slot.database != facts.server.database {
        let kind = if slot.plugin.is_empty() { "physical" } else { slot.plugin.as_str() };
        findings.push(Finding::fault(
            format!("slot {name} is somebody else's ({kind}, database {:?})", slot.database),
            "walferry reads pgoutput from a slot of its own",
            "set WALFERRY_SLOT to another name",
        ));
        return;
    }
    let lost = slot.wal_status == "lost" || slot.invalidation_reason.is_some();
    if lost {
        let reason = slot.invalidation_reason.as_deref().unwrap_or("WAL was removed");
        findings.push(Finding::fault(
            format!("slot {name} is lost ({reason})"),
            "changes that it had not delivered are gone from WAL",
            REBUILD,
        ));
    } else if facts.stored.has_position && facts.stored.slot_is_ahead {
        findings.push(Finding::fault(
            format!("slot {name} is confirmed past the stored position"),
            "it was made anew, or somebody else read it, and there is a gap",
            REBUILD,
        ));
    } else if slot.wal_status == "unreserved" {
        findings.push(Finding::advice(
            format!(
                "slot {name} is about to be lost; it retains {} MiB",
                slot.retained_bytes >> 20
            ),
            "WAL that it needs is removed at the next checkpoint",
            "let walferry catch up now, and raise max_slot_wal_keep_size",
        ));
    }
}
