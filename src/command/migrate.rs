//! `walferry migrate`: has the queue's module prepare the database, and says what it did.

use super::error::CommandError;
use super::output::say;
use super::session::{connect, tables};
use crate::config::Config;
use crate::storage::schema;
use crate::storage::schema::{MigrateOptions, Report, TakenOver};

pub(super) async fn run(config: &Config, runtime_role: Option<String>) -> Result<(), CommandError> {
    let options = MigrateOptions {
        tables: tables(config)?,
        publication: config.publication.clone(),
        slot: config.slot.clone(),
        runtime_role,
    };
    let session = connect(config).await?;
    let report = schema::run(&session.client, &options).await?;
    Ok(say(&describe(&report, &config.publication, &config.slot))?)
}

fn describe(report: &Report, publication: &str, slot: &str) -> String {
    let mut lines = Vec::new();
    if !report.applied.is_empty() {
        lines.push(format!("applied: {}", report.applied.join(", ")));
    }
    if report.publication_created {
        lines.push(format!("created: publication {publication}"));
    }
    let lists = [
        ("added to the publication", &report.tables_added),
        ("set to replica identity full", &report.identities_set),
        (
            "set to replica identity default, since generated columns exclude full",
            &report.identities_default,
        ),
        ("handed to the runtime role", &report.granted),
        ("row security switched off, which would filter the runtime role", &report.unsecured),
        ("taken away, since only default privileges had given it", &report.withheld),
        ("revoked, since row security had shown it nothing", &report.revoked),
    ];
    if let Some(role) = &report.taken_back_from {
        lines.push(format!("taken back from role {role}: the ownership of walferry's objects"));
    }
    for (what, names) in lists.iter().filter(|(_, names)| !names.is_empty()) {
        lines.push(format!("{what}: {}", names.join(", ")));
    }
    if let Some(taken) = &report.taken_over {
        lines.extend(taken_over(taken, slot));
    }
    if lines.is_empty() {
        return "everything is in place".to_owned();
    }
    lines.join("\n")
}

fn taken_over(taken: &TakenOver, slot: &str) -> Vec<String> {
    let TakenOver { at, slot_created, rows, dropped, notes } = taken;
    let mut lines = Vec::new();
    if *slot_created {
        lines.push(format!("created: replication slot {slot}"));
    }
    lines.push(format!("taken over: the original queue; changes after {at} come from slot {slot}"));
    let count = |(status, count): &(String, i64)| match status.as_str() {
        "pending" | "completed" | "failed" => format!("{count} {status}"),
        status => format!("{count} {status} (now pending)"),
    };
    if !rows.is_empty() {
        let counts: Vec<String> = rows.iter().map(count).collect();
        lines.push(format!("jobs kept: {}", counts.join(", ")));
    }
    if !dropped.is_empty() {
        lines.push(format!("dropped: {}", dropped.join(", ")));
    }
    lines.extend(notes.iter().map(|note| format!("note: {note}")));
    lines
}

#[cfg(test)]
mod tests {
    use super::describe;
    use crate::change::Lsn;
    use crate::storage::schema::{Report, TakenOver};

    #[test]
    fn a_second_time_says_that_nothing_was_to_do() {
        assert_eq!(describe(&Report::default(), "walferry", "s"), "everything is in place");
        let report = Report { publication_created: true, ..Report::default() };
        assert_eq!(describe(&report, "w", "s"), "created: publication w");
    }

    #[test]
    fn a_take_over_says_what_became_of_what() {
        let taken = TakenOver {
            at: Lsn(16),
            slot_created: true,
            rows: vec![("failed".to_owned(), 2), ("processing".to_owned(), 1)],
            dropped: vec!["trigger t on listings".to_owned()],
            notes: vec!["function f() stays".to_owned()],
        };
        let report = Report { taken_over: Some(taken), ..Report::default() };
        let expected = "created: replication slot s\n\
            taken over: the original queue; changes after 0/10 come from slot s\n\
            jobs kept: 2 failed, 1 processing (now pending)\n\
            dropped: trigger t on listings\n\
            note: function f() stays";
        assert_eq!(describe(&report, "w", "s"), expected);
    }
}
