//! The names of the waits, and what is known of each.

use std::time::Duration;

use crate::telemetry::readiness::Component;

/// What a task of the pipeline waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WaitName {
    /// The recorder: PostgreSQL writes a batch of jobs.
    Record,
    /// The recorder, while live: the feed takes a batch.
    LiveRoom,
    /// The recorder, while it writes nothing: the feed comes to the end of the table.
    TableEnd,
    /// The feed: PostgreSQL returns unfinished jobs, or what is known of them.
    Claim,
    /// The feed: a snapshot of the source tables that shows what the stream has delivered, with
    /// their locks.
    Snapshot,
    /// The feed: PostgreSQL returns rows of the source tables.
    Read,
    /// The run: PostgreSQL reads or stores how far loads and reads have come.
    Progress,
    /// The feed: Elasticsearch answers for earlier actions, so that there is room for more.
    ActionRoom,
    /// The feed: Elasticsearch answers for every action sent.
    Barrier,
    /// The feed: the documents of a truncated table are listed.
    Listing,
    /// The feed: the transactions end that ran when the first load began.
    LoadBegin,
    /// The feed: the transactions end that ran before a job without a position was claimed.
    ExternalPosition,
    /// The sink: Elasticsearch answers a bulk request.
    Bulk,
    /// The sink: the checkpoint takes settled batches.
    CheckpointRoom,
    /// The checkpoint: PostgreSQL writes the fate of jobs.
    Settle,
    /// The run: Elasticsearch answers for the first time, and its indices are prepared.
    Elasticsearch,
    /// The stream: the recorder takes what was decoded.
    RecorderRoom,
    /// The stream or the feed: bytes that are held are released.
    MemoryRoom,
    /// The supervisor: PostgreSQL answers the queries of every second.
    Supervise,
    /// The lease is renewed.
    Lease,
}

/// What is known of a wait beside its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitDescription {
    /// The name in metrics and answers.
    pub name: &'static str,
    /// What is awaited, to follow the words "waits for".
    pub waits_for: &'static str,
    /// A longer wait is reported.
    pub bound: Duration,
    /// What happens past the bound, apart from the report.
    pub past_bound: &'static str,
    /// What a person can do.
    pub advice: &'static str,
    /// The server that is awaited. While it is down, the wait needs no issue of its own.
    pub component: Component,
}

const NOTHING: &str = "the wait goes on";
const CAPTURES: &str = "changes are captured without the feed";
const SEE_ACTIVITY: &str =
    "see pg_stat_activity for walferry's sessions and for what blocks them (pg_blocking_pids)";
const SEE_ELASTICSEARCH: &str = "see that Elasticsearch answers \
    (GET /api/v1/elasticsearch/test-connection) and is not overloaded";
const SEE_OLD: &str =
    "end the oldest transactions (pg_stat_activity, by xact_start), or wait for their end";

impl WaitName {
    /// All waits.
    pub const ALL: [Self; 20] = [
        Self::Record,
        Self::LiveRoom,
        Self::TableEnd,
        Self::Claim,
        Self::Snapshot,
        Self::Read,
        Self::Progress,
        Self::ActionRoom,
        Self::Barrier,
        Self::Listing,
        Self::LoadBegin,
        Self::ExternalPosition,
        Self::Bulk,
        Self::CheckpointRoom,
        Self::Settle,
        Self::Elasticsearch,
        Self::RecorderRoom,
        Self::MemoryRoom,
        Self::Supervise,
        Self::Lease,
    ];

    /// The description of the wait.
    #[must_use]
    pub const fn description(self) -> WaitDescription {
        DESCRIPTIONS[self as usize]
    }
}

/// In the order of the names.
const DESCRIPTIONS: [WaitDescription; 20] = [
    postgres("record", "PostgreSQL to write a batch of jobs"),
    WaitDescription {
        name: "live_room",
        waits_for: "the feed to take a batch of the stream",
        bound: Duration::from_secs(15),
        past_bound: CAPTURES,
        advice: SEE_ELASTICSEARCH,
        component: Component::Elasticsearch,
    },
    WaitDescription {
        name: "table_end",
        waits_for: "the feed to come to the end of the unfinished jobs",
        bound: Duration::from_secs(600),
        past_bound: "changes are captured once nothing settles for 10 s",
        advice: "see whether the number of pending jobs falls; if it does, wait",
        component: Component::Elasticsearch,
    },
    postgres("claim", "PostgreSQL to return unfinished jobs"),
    WaitDescription {
        past_bound: "after 60 s without the locks of the tables the run begins anew",
        ..postgres(
            "snapshot",
            "a snapshot of the source tables that shows what the stream has delivered",
        )
    },
    postgres("read", "PostgreSQL to return rows of the source tables"),
    postgres("progress", "PostgreSQL to read or store how far loads and reads have come"),
    elasticsearch("action_room", "Elasticsearch to answer for earlier actions", CAPTURES),
    elasticsearch("barrier", "Elasticsearch to answer for every action sent", CAPTURES),
    elasticsearch("listing", "Elasticsearch to list the documents of a truncated table", CAPTURES),
    WaitDescription {
        name: "load_begin",
        waits_for: "the transactions that ran when the first load began to end",
        bound: Duration::from_secs(60),
        past_bound: "the wait goes on; changes are captured",
        advice: SEE_OLD,
        component: Component::Database,
    },
    WaitDescription {
        name: "external_position",
        waits_for: "transactions that are older than a job without a position to end",
        bound: Duration::from_secs(60),
        past_bound: "the jobs get the position of the last change fed",
        advice: SEE_OLD,
        component: Component::Database,
    },
    WaitDescription {
        name: "bulk",
        waits_for: "Elasticsearch to answer a bulk request",
        bound: Duration::from_secs(90),
        past_bound: "the request is given up after its time-out and sent again",
        advice: SEE_ELASTICSEARCH,
        component: Component::Elasticsearch,
    },
    postgres("checkpoint_room", "the checkpoint to take settled batches"),
    postgres("settle", "PostgreSQL to write the fate of jobs"),
    elasticsearch(
        "elasticsearch",
        "Elasticsearch to answer, and its indices to be prepared",
        CAPTURES,
    ),
    WaitDescription {
        name: "recorder_room",
        waits_for: "the recorder to take decoded changes",
        bound: Duration::from_secs(600),
        past_bound: "nothing more is read from the slot; its WAL is retained",
        advice: "see the other waits: the recorder has one of its own",
        component: Component::Database,
    },
    elasticsearch(
        "memory_room",
        "rows and documents that are held to be worked off (limits.memory_max)",
        "nothing more is taken in; the slot's WAL is retained",
    ),
    postgres("supervise", "PostgreSQL to answer the supervisor's queries"),
    WaitDescription {
        bound: Duration::from_secs(4),
        past_bound: "another instance may take over",
        ..postgres("lease", "PostgreSQL to renew the lease")
    },
];

const fn postgres(name: &'static str, waits_for: &'static str) -> WaitDescription {
    WaitDescription {
        name,
        waits_for,
        bound: Duration::from_secs(30),
        past_bound: NOTHING,
        advice: SEE_ACTIVITY,
        component: Component::Database,
    }
}

const fn elasticsearch(
    name: &'static str,
    waits_for: &'static str,
    past_bound: &'static str,
) -> WaitDescription {
    WaitDescription {
        name,
        waits_for,
        bound: Duration::from_secs(30),
        past_bound,
        advice: SEE_ELASTICSEARCH,
        component: Component::Elasticsearch,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_its_own_description() {
        for (number, name) in WaitName::ALL.into_iter().enumerate() {
            assert_eq!(name as usize, number);
            let mut snake = String::new();
            for letter in format!("{name:?}").chars() {
                if letter.is_ascii_uppercase() && !snake.is_empty() {
                    snake.push('_');
                }
                snake.push(letter.to_ascii_lowercase());
            }
            assert_eq!(name.description().name, snake);
        }
    }
}
