//! What a WAL sender does, as another session sees it in `pg_stat_activity`.
//!
//! PostgreSQL 14 and 15 send nothing while a WAL sender skips a large transaction, not even an
//! answer to a request. So silence alone does not show that a connection is gone.

use tokio_postgres::{Client, Error};

const ACTIVITY: &str = "select a.wait_event_type, a.wait_event from pg_catalog.pg_stat_activity a
    where a.pid = $1";

/// The activity of a WAL sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SenderActivity {
    /// Its process has ended.
    Gone,
    /// It waits for its client, or for more WAL.
    Waiting,
    /// It decodes, or waits for a lock or the disk.
    Busy,
}

/// Reads what the WAL sender with this process id does.
///
/// # Errors
/// The error of the query.
pub async fn inspect(client: &Client, pid: i32) -> Result<SenderActivity, Error> {
    let Some(row) = client.query_opt(ACTIVITY, &[&pid]).await? else {
        return Ok(SenderActivity::Gone);
    };
    let event_type: Option<&str> = row.try_get("wait_event_type")?;
    let event: Option<&str> = row.try_get("wait_event")?;
    Ok(activity(event_type, event))
}

/// A sender that waits has read what its client sent, and would have answered.
fn activity(event_type: Option<&str>, event: Option<&str>) -> SenderActivity {
    match (event_type, event) {
        (Some("Client"), _) | (Some("Activity"), Some("WalSenderMain")) => SenderActivity::Waiting,
        _ => SenderActivity::Busy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_that_waits_for_its_client_or_for_wal_is_not_busy() {
        for (event_type, event, expected) in [
            ("Client", "ClientRead", SenderActivity::Waiting),
            ("Client", "WalSenderWaitForWAL", SenderActivity::Waiting),
            ("Client", "WalSenderWriteData", SenderActivity::Waiting),
            ("Activity", "WalSenderMain", SenderActivity::Waiting),
            ("IO", "WALRead", SenderActivity::Busy),
            ("Lock", "relation", SenderActivity::Busy),
        ] {
            assert_eq!(activity(Some(event_type), Some(event)), expected, "{event_type} {event}");
        }
        assert_eq!(activity(None, None), SenderActivity::Busy);
    }
}
