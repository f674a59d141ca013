//! The role: its attributes, and its privileges on walferry's own tables. Pure.

use super::name::label;
use crate::engine::preflight::facts::{Facts, TableFacts};
use crate::engine::preflight::finding::Finding;
use crate::postgres::quote_identifier;

/// The findings about the role.
pub(in crate::engine::preflight) fn role(facts: &Facts, findings: &mut Vec<Finding>) {
    let role = &facts.role;
    let name = quote_identifier(&role.name);
    if !role.replication && !role.superuser {
        findings.push(Finding::fault(
            format!("role {} has no REPLICATION attribute", role.name),
            "without it PostgreSQL refuses to stream changes",
            format!("alter role {name} replication;"),
        ));
    }
    let filtered: Vec<&TableFacts> =
        facts.tables.iter().filter(|table| table.row_security_active).collect();
    if !filtered.is_empty() && !role.bypass_rls && !role.superuser {
        let tables: Vec<String> = filtered.iter().map(|table| label(&table.name)).collect();
        findings.push(Finding::fault(
            format!("row-level security hides rows of {} from role {}", tables.join(", "), role.name),
            "rows that can't be read would be taken for deleted ones; walferry's reads fail instead",
            format!("alter role {name} bypassrls;"),
        ));
    }
}

/// The findings about walferry's own tables, and the role's privileges on them.
pub(in crate::engine::preflight) fn own_objects(facts: &Facts, findings: &mut Vec<Finding>) {
    if !facts.objects_missing.is_empty() {
        findings.push(Finding::fault(
            format!("{} not there yet", facts.objects_missing.join(", ")),
            "the queue and walferry's position are kept in them",
            format!(
                "walferry migrate --runtime-role {}  # with DATABASE_URL of the tables' owner",
                facts.role.name
            ),
        ));
    }
    if facts.take_over.unfinished {
        findings.push(Finding::advice(
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
    findings.push(Finding::fault(
        format!("role {} may not write {}", facts.role.name, objects.join(", ")),
        "jobs and positions are written there",
        format!(
            "walferry migrate --runtime-role {name}  # with DATABASE_URL of the tables' owner, or:\n\
             grant usage on schema walferry to {role};\n{}",
            grants.join("\n"),
            name = facts.role.name,
        ),
    ));
}
