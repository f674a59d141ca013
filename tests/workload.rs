//! Random changes by several sessions at once, then the oracle.
//!
//! The dice are seeded and each seed is printed; `WALFERRY_SEED=n` runs that one alone,
//! `WALFERRY_SEEDS=n` runs n of them. What a session sends depends on the seed only; how sessions
//! interleave depends on the machine.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio_postgres::Config;
use tokio_util::sync::CancellationToken;

pub(crate) mod session;
pub(crate) mod statements;
pub(crate) mod universe;
pub(crate) mod watch;

use session::Session;
use statements::Extras;
use watch::watch;

use crate::scene::Scene;
use crate::support::launcher::note;

/// Sessions at once.
const SESSIONS: u64 = 4;

/// The settings of a seed: with every second one, most fan-outs go on in the background.
pub(crate) fn settings(seed: u64) -> &'static [(&'static str, &'static str)] {
    if seed.is_multiple_of(2) { &[] } else { &[("WALFERRY_LIMITS_FANOUT_ROWS_MAX", "6")] }
}

/// The seeds to run: those of the environment, else `usual` of them from `first` on.
#[expect(clippy::disallowed_methods, reason = "a test is told its seeds by the environment")]
pub(crate) fn seeds(first: u64, usual: u64) -> Vec<u64> {
    let number = |name| std::env::var(name).ok().map(|text| text.parse().expect("a whole number"));
    match (number("WALFERRY_SEED"), number("WALFERRY_SEEDS")) {
        (Some(seed), _) => vec![seed],
        (None, more) => (first..first + more.unwrap_or(usual)).collect(),
    }
}

/// What to do to a database.
#[derive(Clone)]
pub(crate) struct Workload {
    pub(crate) database: Config,
    pub(crate) seed: u64,
    pub(crate) extras: Extras,
}

impl Workload {
    /// Fills the tables; with deferrable keys, makes them so first. Before walferry's first start
    /// the rows belong to its first load, after it to the stream.
    pub(crate) async fn prepare(&self) {
        note(&format!("WALFERRY_SEED={}", self.seed));
        let client = session::connect(&self.database).await.expect("the database answers");
        if self.extras.deferrable_keys {
            client.batch_execute(DEFERRABLE_KEYS).await.expect("the keys become deferrable");
        }
        let mut rng = fastrand::Rng::with_seed(self.seed);
        for statement in universe::seed(&mut rng) {
            client.batch_execute(&statement).await.expect("the first rows go in");
        }
    }

    /// Runs all sessions until each has sent `transactions` transactions or `stop` is cancelled;
    /// returns how many committed.
    pub(crate) async fn run(&self, transactions: usize, stop: &CancellationToken) -> usize {
        let mut sessions = JoinSet::new();
        for number in 0..SESSIONS {
            let session = Session::new(self.database.clone(), self.seed, number, self.extras);
            sessions.spawn(session.run(transactions, stop.clone()));
        }
        sessions.join_all().await.into_iter().sum()
    }
}

/// A foreign key cannot refer to a deferrable key.
const DEFERRABLE_KEYS: &str = "
    alter table listings drop constraint listings_user_id_fkey, drop constraint listings_category_id_fkey;
    alter table categories drop constraint categories_parent_id_fkey;
    alter table profiles drop constraint profiles_pkey, add primary key (id) deferrable;
    alter table categories drop constraint categories_pkey, add primary key (id) deferrable;
    alter table listings drop constraint listings_pkey, add primary key (id) deferrable;";

/// How long catching up may take after the last transaction.
const CATCH_UP_MAX: Duration = Duration::from_secs(90);
/// Transactions of each session.
const TRANSACTIONS: usize = 120;

#[tokio::test(flavor = "multi_thread")]
async fn random_changes_end_in_equal_indices() {
    for seed in seeds(1, 2) {
        converges("random", seed, Extras { truncate: true, deferrable_keys: false }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_swapped_and_shifted_end_in_equal_indices() {
    for seed in seeds(50, 1) {
        converges("swapped", seed, Extras { truncate: seed % 2 == 0, deferrable_keys: true }).await;
    }
}

/// What stands before the first start counts too: it is loaded while the sessions write.
async fn converges(name: &str, seed: u64, extras: Extras) {
    let scene = Scene::new(name).await;
    let workload = Workload { database: scene.database(), seed, extras };
    workload.prepare().await;
    let mut walferry = scene.start_with(settings(seed));
    scene.slot_made().await;
    scene.forget_witnessed().await;
    scene.indices_made().await;
    let watched = CancellationToken::new();
    let watching = tokio::spawn(watch(scene.indices.clone(), watched.clone()));
    let committed = workload.run(TRANSACTIONS, &CancellationToken::new()).await;
    scene.settled(CATCH_UP_MAX).await;
    watched.cancel();
    let (looks, backward) = watching.await.expect("the watcher ends");
    note(&format!("seed {seed}: {committed} transactions, {looks} looks"));
    assert_eq!(backward, Vec::<String>::new(), "seed {seed}");
    scene.assert_true().await;
    walferry.stop().await;
}
