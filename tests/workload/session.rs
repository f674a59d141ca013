//! One client of the database: random transactions, savepoints that are rolled back, transactions
//! whose first write is older than another's commit. The server may die under it at any time.
//!
//! Not here: which statements (`statements`).

use std::pin::pin;
use std::time::Duration;

use fastrand::Rng;
use futures_util::SinkExt;
use tokio_postgres::{Client, Config, Error, NoTls};
use tokio_util::sync::CancellationToken;

use super::statements::{Extras, Step, step, truncate};
use super::universe::{TICK, any_listing, any_profile, ticked};

/// Between two attempts to reach a server that is down.
const RECONNECT_EVERY: Duration = Duration::from_millis(50);

/// A client with its own dice.
pub(crate) struct Session {
    config: Config,
    rng: Rng,
    extras: Extras,
    /// The first session also changes the tables' columns and truncates.
    is_first: bool,
}

impl Session {
    pub(crate) fn new(config: Config, seed: u64, number: u64, extras: Extras) -> Session {
        let rng = Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number);
        Session { config, rng, extras, is_first: number == 0 }
    }

    /// Sends `transactions` transactions, or fewer if stopped; returns how many committed.
    pub(crate) async fn run(mut self, transactions: usize, stop: CancellationToken) -> usize {
        let mut committed = 0;
        let mut clients = None;
        for n in 0..transactions {
            if stop.is_cancelled() {
                break;
            }
            let pair = match clients.take() {
                Some(pair) => pair,
                None => match self.connect(&stop).await {
                    Some(pair) => pair,
                    None => break,
                },
            };
            let answer = if self.is_first && n % 40 == 20 {
                alter(&pair.0, n).await
            } else if self.is_first && self.extras.truncate && n % 40 == 39 {
                whole(&pair.0, truncate(&mut self.rng, self.extras)).await
            } else if self.rng.u8(..8) == 0 {
                self.interleaved(&pair).await
            } else {
                self.transaction(&pair.0).await
            };
            match answer {
                Ok(true) => committed += 1,
                Ok(false) => {}
                // The server chose this session to give way: whatever stands is given up.
                Err(error) if is_conflict(&error) => {
                    for client in [&pair.0, &pair.1] {
                        let undone = client.batch_execute("rollback").await;
                        assert!(undone.is_ok() || client.is_closed(), "{undone:?}");
                    }
                }
                // A commit cut off may have happened or not; the witness knows.
                Err(error) => assert!(is_outage(&error), "{error}: {error:?}"),
            }
            if !pair.0.is_closed() && !pair.1.is_closed() {
                clients = Some(pair);
            }
        }
        committed
    }

    async fn connect(&self, stop: &CancellationToken) -> Option<(Client, Client)> {
        loop {
            if let (Ok(one), Ok(two)) = (connect(&self.config).await, connect(&self.config).await) {
                return Some((one, two));
            }
            let stopped = tokio::time::timeout(RECONNECT_EVERY, stop.cancelled()).await;
            if stopped.is_ok() {
                return None;
            }
        }
    }

    async fn transaction(&mut self, client: &Client) -> Result<bool, Error> {
        client.batch_execute("begin").await?;
        for _ in 0..self.rng.u8(1..9) {
            client.batch_execute("savepoint one").await?;
            let step = step(&mut self.rng, self.extras);
            let is_undone = self.rng.u8(..8) == 0;
            let outcome = send(client, step).await;
            if outcome.as_ref().is_err_and(is_outage) {
                return outcome.map(|()| false);
            }
            let end = if outcome.is_err() || is_undone { "rollback to one" } else { "release one" };
            client.batch_execute(end).await?;
        }
        let is_kept = self.rng.u8(..12) > 0;
        client.batch_execute(if is_kept { "commit" } else { "rollback" }).await?;
        Ok(is_kept)
    }

    /// `late` writes first and commits last, before and after `early` writes the same rows.
    async fn interleaved(&mut self, (late, early): &(Client, Client)) -> Result<bool, Error> {
        let rng = &mut self.rng;
        let (listing, profile) = (any_listing(rng), any_profile(rng));
        let steps = [
            (late, "begin".to_owned()),
            (
                late,
                format!(
                    "update profiles set full_name = {} where id = {profile}",
                    ticked("Geç Kalan")
                ),
            ),
            (early, "begin".to_owned()),
            (
                early,
                format!(
                    "update listings set view_count = {TICK}, price = 100, user_id = coalesce(
                     (select id from profiles where id = {profile}), user_id) where id = {listing}"
                ),
            ),
            (early, "commit".to_owned()),
            (
                late,
                format!(
                    "update listings set view_count = {TICK}, price = 300 where id = {listing}"
                ),
            ),
            (late, "commit".to_owned()),
        ];
        for (client, sql) in steps {
            if let Err(error) = client.batch_execute(&sql).await {
                if is_outage(&error) {
                    return Err(error);
                }
                // Another session holds one of the rows: give up both, whatever stands.
                late.batch_execute("rollback").await?;
                early.batch_execute("rollback").await?;
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A column more, with and without a default, and every row touched: the stream says nothing of a
/// row that only its table's definition changed.
async fn alter(client: &Client, n: usize) -> Result<bool, Error> {
    let sql = format!(
        "begin;
         alter table listings add column ek_{n} jsonb default '{{\"yeni\": 1.0}}', add column not_{n} text;
         alter table profiles add column ek_{n} bigint default 9007199254740993;
         alter table categories add column ek_{n} timestamptz;
         update listings set view_count = {TICK};
         update profiles set full_name = {};
         update categories set ek_{n} = now(), name = {};
         commit",
        ticked("Yeni Sütun"),
        ticked("Yeni Sütun"),
    );
    whole(client, vec![sql]).await
}

/// Sends whole transactions; one that fails is rolled back.
async fn whole(client: &Client, transactions: Vec<String>) -> Result<bool, Error> {
    let mut is_kept = true;
    for sql in transactions {
        match client.batch_execute(&sql).await {
            Err(error) if is_outage(&error) => return Err(error),
            Err(_) => {
                client.batch_execute("rollback").await?;
                is_kept = false;
            }
            Ok(()) => {}
        }
    }
    Ok(is_kept)
}

async fn send(client: &Client, step: Step) -> Result<(), Error> {
    match step {
        Step::Sql(sql) => client.batch_execute(&sql).await,
        Step::Copy(lines) => {
            let sql = format!("copy listings ({}) from stdin", super::universe::COLUMNS);
            let mut sink = pin!(client.copy_in(&sql).await?);
            sink.send(bytes::Bytes::from(lines)).await?;
            sink.finish().await.map(|_rows| ())
        }
    }
}

/// Opens a connection for which waiting on locks ends soon; its task ends with the client.
pub(crate) async fn connect(config: &Config) -> Result<Client, Error> {
    let (client, connection) = config.connect(NoTls).await?;
    // The client reports what ends its connection; nobody else needs to hear it.
    tokio::spawn(async move { drop(connection.await) });
    client.batch_execute("set lock_timeout = '3s'; set deadlock_timeout = '50ms'").await?;
    Ok(client)
}

/// A deadlock, a lock that was not had in time.
fn is_conflict(error: &Error) -> bool {
    error.code().is_some_and(|code| ["40P01", "40001", "55P03"].contains(&code.code()))
}

/// Whether the server went away, rather than refused the statement.
fn is_outage(error: &Error) -> bool {
    error.as_db_error().is_none_or(|error| error.code().code().starts_with("57P"))
}
