//! The tables that the definition names. Pure.

use super::name::{label, quoted};
use crate::engine::preflight::facts::{Facts, TableFacts};
use crate::engine::preflight::finding::Finding;
use crate::postgres::quote_identifier;

/// The findings about the tables of the definition.
pub(in crate::engine::preflight) fn tables(facts: &Facts, findings: &mut Vec<Finding>) {
    facts.tables.iter().for_each(|table| check_table(table, &facts.role.name, findings));
}

fn check_table(table: &TableFacts, role: &str, findings: &mut Vec<Finding>) {
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
    } else if table.replica_identity != 'f' {
        findings.push(Finding::advice(
            format!("table {name} does not log old rows (replica identity is not full)"),
            "the queue's change_data then lacks what a row was before, and long values that did \
             not change are read back one by one",
            format!("alter table {quoted} replica identity full;"),
        ));
    }
}
