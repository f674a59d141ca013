//! The tables that the definition names. Pure.

use super::name::{label, quoted};
use crate::engine::preflight::facts::{ColumnFacts, Facts, TableFacts};
use crate::engine::preflight::finding::Finding;
use crate::postgres::quote_identifier;

/// The findings about the tables of the definition.
pub(in crate::engine::preflight) fn tables(facts: &Facts, findings: &mut Vec<Finding>) {
    facts.tables.iter().for_each(|table| check_table(facts, table, findings));
}

fn check_table(facts: &Facts, table: &TableFacts, findings: &mut Vec<Finding>) {
    let role = &facts.role.name;
    let name = label(&table.name);
    let quoted = quoted(&table.name);
    if !table.exists {
        findings.push(Finding::fault(
            format!("table {name} does not exist"),
            "the definition of the documents names it",
            "create it, or leave it out of the definition in the TOML file",
        ));
        return;
    }
    if !table.is_table || table.unlogged {
        let what = if table.is_table { "is unlogged or temporary" } else { "is not a table" };
        findings.push(Finding::fault(
            format!("{name} {what}"),
            "only permanent tables are written to WAL",
            format!("alter table {quoted} set logged; -- or name the table behind the view"),
        ));
        return;
    }
    if !table.can_select {
        let schema = quote_identifier(&table.name.0);
        let quoted_role = quote_identifier(role);
        findings.push(Finding::fault(
            format!("role {role} may not read {name}"),
            "rows are read for the first load and for embedded values",
            format!(
                "grant usage on schema {schema} to {quoted_role};\n\
                 grant select on {quoted} to {quoted_role};"
            ),
        ));
    }
    if !table.has_primary_key {
        findings.push(Finding::fault(
            format!("table {name} has no primary key"),
            "the key is the document's id, and PostgreSQL publishes no UPDATE or DELETE without one",
            format!("alter table {quoted} add primary key (id); -- the columns that identify a row"),
        ));
    } else {
        identity(facts, table, findings);
    }
    if !table.children.is_empty() {
        findings.push(Finding::advice(
            format!("{} inherit from table {name}", table.children.join(", ")),
            "documents are made of the table's own rows, not of those of its children",
            "-- nothing to do, or declare the children as tables of the definition",
        ));
    }
}

/// The findings about the old rows that the stream carries.
fn identity(facts: &Facts, table: &TableFacts, findings: &mut Vec<Finding>) {
    let name = label(&table.name);
    let quoted = quoted(&table.name);
    let excludes_full = excludes_full(facts, table);
    let serves = if excludes_full { "default" } else { "full" };
    let set = |table: &str| format!("alter table only {table} replica identity {serves};");
    let no_index = table.replica_identity == 'i' && !table.has_identity_index;
    if table.replica_identity == 'n' || no_index {
        findings.push(Finding::fault(
            format!("table {name} has no replica identity"),
            "PostgreSQL refuses every UPDATE and DELETE of the application while it is published",
            set(&quoted),
        ));
    } else if table.replica_identity == 'f' && excludes_full {
        findings.push(Finding::fault(
            format!(
                "table {name} has replica identity full, and generated columns that are not \
                 published"
            ),
            "PostgreSQL refuses every UPDATE and DELETE of the application while it is published",
            set(&quoted),
        ));
    } else if table.replica_identity == 'i'
        && table.columns.iter().any(|column| column.in_key && !column.in_identity)
    {
        findings.push(Finding::fault(
            format!("the replica identity of table {name} is an index without its primary key"),
            "a deleted row would come without its key, and its document would stay",
            set(&quoted),
        ));
    } else if table.replica_identity != 'f' && !excludes_full {
        findings.push(Finding::advice(
            format!("table {name} does not log old rows (replica identity is not full)"),
            "the queue's change_data then lacks what a row was before, and long values that did \
             not change are read back one by one",
            format!("alter table {quoted} replica identity full;"),
        ));
    }
    let full = table.parts_with_full_identity.iter().filter(|_| excludes_full);
    let refused: Vec<&String> = table.parts_without_identity.iter().chain(full).collect();
    if !refused.is_empty() {
        let parts = refused.iter().map(|part| part.as_str()).collect::<Vec<_>>().join(", ");
        findings.push(Finding::fault(
            format!("partitions of table {name} have no replica identity that serves: {parts}"),
            "PostgreSQL refuses every UPDATE and DELETE of the application while they are published",
            refused.iter().map(|part| set(part)).collect::<Vec<_>>().join("\n"),
        ));
    }
}

/// Whether REPLICA IDENTITY FULL would make PostgreSQL refuse UPDATEs and DELETEs: since 18, a
/// generated column that is not published may not be part of it. None of the virtual ones is.
fn excludes_full(facts: &Facts, table: &TableFacts) -> bool {
    let publishes_stored = facts.publication.as_ref().is_some_and(|found| found.publishes_stored);
    let unpublished =
        |column: &ColumnFacts| column.generated && !(column.stored && publishes_stored);
    facts.server.version >= 180_000 && table.columns.iter().any(unpublished)
}
