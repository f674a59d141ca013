//! What may stand on the command line.

use std::path::PathBuf;
use std::time::SystemTime;

use clap::{Args, Parser, Subcommand};
use uuid::Uuid;

use crate::admin::jobs::filter::{Filter, STATUSES};
use crate::config::{self, Flags, Role};
use crate::storage::audit;
use crate::storage::queue::status::Status;

/// Keeps Elasticsearch consistent with PostgreSQL, with one audit row per change.
///
/// Settings come from flags, over environment variables, over the TOML file, over defaults.
/// DATABASE_URL and ELASTICSEARCH_URL are the two that have no default.
#[derive(Debug, Parser)]
#[command(name = "walferry", version, arg_required_else_help = true)]
pub struct Arguments {
    /// TOML file with settings and the definition of documents [env: WALFERRY_CONFIG]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where the HTTP server listens [env: WALFERRY_LISTEN] [default: 127.0.0.1:3002]
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Name of the replication slot [env: WALFERRY_SLOT] [default: walferry]
    #[arg(long, global = true, value_name = "NAME")]
    slot: Option<String>,
    /// Name of the publication [env: WALFERRY_PUBLICATION] [default: walferry]
    #[arg(long, global = true, value_name = "NAME")]
    publication: Option<String>,
    /// Put before every index name [env: WALFERRY_INDEX_PREFIX]
    #[arg(long, global = true, value_name = "PREFIX")]
    index_prefix: Option<String>,
    /// Any other setting by its key, such as limits.bulk_bytes_max=8MiB; may be repeated
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = key_value)]
    set: Vec<(String, String)>,
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Index what is there, then every change, until stopped
    Run {
        /// Catch up with the WAL that is there now, then end
        #[arg(long)]
        once: bool,
    },
    /// Prepare the database: the queue, walferry's own tables, the publication; may be repeated
    Migrate {
        /// The role that `run` connects as, if it is another one
        #[arg(long, value_name = "ROLE")]
        runtime_role: Option<String>,
    },
    /// Make the queue's day parts ahead and drop those of completed jobs no longer kept; `run` does
    /// the same every hour
    Maintain {
        /// Only say what would be done
        #[arg(long)]
        dry_run: bool,
        /// Also compare the statistics with all rows, and mend them
        #[arg(long)]
        recount: bool,
    },
    /// Say what is wrong, why, and which SQL mends it; alters nothing
    Check,
    /// Forget the position and drop the slot: the next run loads all rows into new indices
    Rebuild {
        /// Do it; without this, only say what would be done
        #[arg(long)]
        yes: bool,
    },
    #[command(flatten)]
    Queue(QueueCommand),
    /// Print the description of the HTTP API (OpenAPI 3.1)
    Openapi,
    /// Tokens for the HTTP API
    Token {
        #[command(subcommand)]
        what: TokenCommand,
    },
    /// Ask a running walferry on this machine whether it lives; for containers without curl
    Healthcheck,
}

/// What to read of the queue, or to do to it.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// List jobs of the queue, the newest first
    Jobs {
        #[command(flatten)]
        choice: Choice,
        /// Only jobs with this status: pending, processing, completed, failed or stuck
        #[arg(long, value_parser = status)]
        status: Option<(Option<Status>, bool)>,
        /// At most this many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Try failed jobs again; a running walferry takes them up within a second
    Retry {
        #[command(flatten)]
        choice: Choice,
        /// Every failed job
        #[arg(long)]
        all: bool,
        /// Only say how many
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete failed jobs that nobody shall try again; the rows themselves are not touched
    Discard {
        #[command(flatten)]
        choice: Choice,
        /// Every failed job
        #[arg(long)]
        all: bool,
        /// Only say how many
        #[arg(long)]
        dry_run: bool,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: String,
    },
    /// Undo discards of the last day: the jobs are failed again, as they were
    Restore {
        /// Only this job; may be repeated
        #[arg(long, value_name = "ID")]
        id: Vec<i64>,
        /// Only say how many
        #[arg(long)]
        dry_run: bool,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: Option<String>,
    },
    /// Show one job with its change, column by column
    Job {
        /// Its number
        id: i64,
        /// As a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Say how the queue and its slot are; exit code 1 where that is unhealthy
    Status {
        /// As a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Let indexing go on after a stop
    Start,
    /// Halt indexing; changes are captured into the queue meanwhile
    Stop {
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: Option<String>,
    },
    /// Delete completed and failed jobs; what is unfinished stays
    Clear {
        /// Do it; without this, only say what would be done
        #[arg(long)]
        yes: bool,
        /// Why, for the audit log
        #[arg(long, value_name = "TEXT", value_parser = reason)]
        reason: Option<String>,
    },
    /// Render a record's documents anew from its row
    Resync {
        /// The table's name
        table: String,
        /// The record's id, or its key; a vertical bar joins the values of a composite key
        record_id: String,
    },
    /// Render the documents of a table's rows anew, beside the stream; a running walferry does it
    Backfill {
        /// The table's name; without it, every table that has documents
        table: Option<String>,
        /// Only rows that this SQL condition on the table's columns holds for
        #[arg(long = "where", value_name = "SQL", requires = "table", conflicts_with = "keys")]
        condition: Option<String>,
        /// Only rows with the keys in this file, one in each line; a vertical bar joins the values of
        /// a composite key
        #[arg(long, value_name = "FILE", requires = "table")]
        keys: Option<PathBuf>,
        /// At most this many rows in a second
        #[arg(long, value_name = "ROWS", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        rate: Option<u32>,
        /// Do not wait for its end
        #[arg(long)]
        detach: bool,
        /// Progress as lines of JSON on a terminal too
        #[arg(long)]
        json: bool,
    },
    /// Compare documents with their rows, beside the stream; a running walferry does it
    Verify {
        /// A table or an index; without it, every table that has documents
        name: Option<String>,
        /// About this many rows and documents of each table, drawn by chance, instead of all
        #[arg(long, value_name = "N", conflicts_with = "all",
            value_parser = clap::value_parser!(u32).range(1..=100_000))]
        sample: Option<u32>,
        /// All rows and documents, which is the default
        #[arg(long)]
        all: bool,
        /// Render anew what differs, and delete documents without a row
        #[arg(long)]
        repair: bool,
        /// Do not wait for its end
        #[arg(long)]
        detach: bool,
        /// Progress as lines of JSON on a terminal too; the last one has the differences
        #[arg(long)]
        json: bool,
    },
    /// List operations such as backfills, the newest first
    Operations {
        /// At most this many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Cancel an operation; what it has sent stays
    Cancel {
        /// Its number
        id: i64,
    },
    /// Pause an operation
    Pause {
        /// Its number
        id: i64,
    },
    /// Go on with a paused operation from where it was
    Resume {
        /// Its number
        id: i64,
    },
    /// List who did what, the newest first
    Audit {
        /// Only what this person or token did
        #[arg(long, value_name = "NAME")]
        actor: Option<String>,
        /// Only this operation, such as discard
        #[arg(long, value_name = "WORD")]
        action: Option<String>,
        /// Only this outcome
        #[arg(long, value_parser = ["started", "done", "denied", "failed"])]
        result: Option<String>,
        /// Only this day, UTC, such as 2027-01-31
        #[arg(long, value_name = "DATE", value_parser = day_end)]
        day: Option<SystemTime>,
        /// At most this many
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        limit: u32,
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
}

/// What to do about tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Draw a new token; it is shown once, walferry keeps its hash only
    Create {
        /// Whose it is, for the audit log
        #[arg(long, value_parser = token_name)]
        name: String,
        /// What its holder may do: viewer, operator or admin
        #[arg(long, value_parser = role)]
        role: Role,
        /// The last day on which it can be used, UTC, such as 2027-01-31
        #[arg(long, value_name = "DATE", value_parser = date)]
        expires: Option<String>,
    },
    /// Print the hash of the token on standard input
    Hash,
}

/// Which jobs are meant.
#[derive(Debug, Args)]
pub struct Choice {
    /// Only this job; may be repeated
    #[arg(long, value_name = "ID")]
    id: Vec<i64>,
    /// Only jobs of this table
    #[arg(long, value_name = "NAME")]
    table: Option<String>,
    /// Only jobs of this record
    #[arg(long, value_name = "UUID")]
    record: Option<Uuid>,
    /// Only jobs whose error has this in it, in any case
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
}

impl Choice {
    /// As the queue knows it.
    #[must_use]
    pub fn filter(self) -> Filter {
        let ids = (!self.id.is_empty()).then_some(self.id);
        Filter {
            ids,
            table: self.table,
            record_id: self.record,
            error: self.error,
            ..Filter::default()
        }
    }
}

impl Arguments {
    /// The flags that are settings.
    #[must_use]
    pub fn flags(&self) -> Flags {
        let named = [
            ("--listen", "listen", &self.listen),
            ("--slot", "slot", &self.slot),
            ("--publication", "publication", &self.publication),
            ("--index-prefix", "index_prefix", &self.index_prefix),
        ];
        let set = self.set.iter().map(|(key, value)| ("--set", key.as_str(), Some(value)));
        let named = named.iter().map(|(flag, key, value)| (*flag, *key, value.as_ref()));
        let values = set.chain(named).filter_map(|(flag, key, value)| {
            let flag = if flag == "--set" { format!("--set {key}") } else { flag.to_owned() };
            Some((flag, key.to_owned(), value?.clone()))
        });
        Flags { file: self.config.clone(), values: values.collect() }
    }
}

fn status(text: &str) -> Result<(Option<Status>, bool), String> {
    let found = STATUSES.iter().find(|(word, _)| *word == text);
    let words = || STATUSES.map(|(word, _)| word).join(", ");
    found.map(|(_, status)| *status).ok_or_else(|| format!("is not one of {}", words()))
}

fn reason(text: &str) -> Result<String, String> {
    audit::reason(text).ok_or_else(|| format!("write {}", audit::A_REASON))
}

fn role(text: &str) -> Result<Role, String> {
    let words = || Role::ALL.map(Role::as_str).join(", ");
    Role::from_word(text).ok_or_else(|| format!("is not one of {}", words()))
}

fn token_name(text: &str) -> Result<String, &'static str> {
    let words = "write 1 to 64 of a-z, A-Z, 0-9, '.', '_' and '-'";
    config::is_token_name(text).then(|| text.to_owned()).ok_or(words)
}

fn date(text: &str) -> Result<String, &'static str> {
    let end = config::end_of_day(text).ok_or("write a date such as 2027-01-31")?;
    (end > SystemTime::now()).then(|| text.to_owned()).ok_or("that day is over")
}

/// The moment at which a day ends.
fn day_end(text: &str) -> Result<SystemTime, &'static str> {
    config::end_of_day(text).ok_or("write a date such as 2027-01-31")
}

fn key_value(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.trim().to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::Arguments;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_stand_before_or_after_the_command() {
        let line = "walferry --slot a run --once --set limits.bulk_bytes_max=8MiB --listen x";
        let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
        let flags = arguments.flags().values;
        let text = |(flag, key, value): &(String, String, String)| format!("{flag} {key} {value}");
        assert_eq!(
            flags.iter().map(text).collect::<Vec<_>>(),
            [
                "--set limits.bulk_bytes_max limits.bulk_bytes_max 8MiB",
                "--listen listen x",
                "--slot slot a"
            ]
        );
    }
}
