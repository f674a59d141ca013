//! The sessions of one run on the queue, each with its user.
//!
//! Not here: the sessions that the lease and the stream live on (`prepare`).

use std::sync::Arc;
use std::time::Duration;

use super::prepare::Prepared;
use super::{Context, Fault};
use crate::engine::supervisor::rescue;
use crate::storage::queue::claim::Claimer;
use crate::storage::queue::partitions;
use crate::storage::queue::record;
use crate::storage::queue::rescue::Rescuer;
use crate::storage::queue::retry::RetryPolicy;
use crate::storage::queue::settle::Settler;

/// The time for the locks of parts that are made when a run begins.
const PARTS_PATIENCE: Duration = Duration::from_secs(1);

/// The run's sessions, each with its user.
pub(super) struct Stores {
    pub(super) claims: Claimer,
    pub(super) storage: record::Recorder,
    pub(super) settler: Settler,
    pub(super) rescuer: Rescuer,
    /// For operations: their states, and the moments that their documents are true of.
    pub(super) operate: tokio_postgres::Client,
    pub(super) reader: Arc<tokio_postgres::Client>,
    pub(super) feed: Arc<tokio_postgres::Client>,
    /// Reads only, for the supervisor and the stream.
    pub(super) watch: Arc<tokio_postgres::Client>,
}

impl Stores {
    pub(super) async fn open(context: &Context, prepared: &mut Prepared) -> Result<Self, Fault> {
        make_parts(&prepared.control).await;
        let xid_reference = xid_reference(&prepared.control).await?;
        let client = prepared.session(context, "claim").await?;
        let claims = Claimer::new(client, &prepared.lease, Arc::clone(&prepared.keys)).await;
        let mut claims = claims?;
        rescue::log_orphans(claims.reset_orphans().await?);
        let client = prepared.session(context, "record").await?;
        let keys = Arc::clone(&prepared.keys);
        let storage = record::Recorder::new(client, &prepared.lease, keys, xid_reference).await;
        let client = prepared.session(context, "settle").await?;
        let policy = policy(context);
        let settler = Settler::new(client, &prepared.lease, policy).await?;
        let client = prepared.session(context, "rescue").await?;
        let rescuer = Rescuer::new(client, &prepared.lease, policy).await?;
        Ok(Self {
            claims,
            storage: storage?,
            settler,
            rescuer,
            operate: prepared.session(context, "operate").await?,
            reader: Arc::new(prepared.session(context, "read").await?),
            feed: Arc::new(prepared.session(context, "feed").await?),
            watch: Arc::new(prepared.session(context, "watch").await?),
        })
    }
}

/// Makes the parts before the first change is recorded, so that no row of today needs to be moved.
/// What cannot be done at once is left to the duty (`engine::supervisor::upkeep`).
async fn make_parts(control: &tokio_postgres::Client) {
    if let Err(error) = partitions::make_within(control, PARTS_PATIENCE).await {
        tracing::debug!(%error, "the queue's parts are not made yet");
    }
}

fn policy(context: &Context) -> RetryPolicy {
    let queue = &context.config.queue;
    RetryPolicy {
        attempts_max: queue.attempts_max,
        delay_min: queue.retry_delay_min,
        delay_max: queue.retry_delay_max,
    }
}

async fn xid_reference(control: &tokio_postgres::Client) -> Result<u64, Fault> {
    let sql = "select pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text";
    let row = control.query_one(sql, &[]).await?;
    let text: String = row.get(0);
    text.parse().map_err(|error: std::num::ParseIntError| Fault::passing(&error))
}
