//! Statistics of measurements, and the lines that are printed.

use std::time::Duration;

/// The median; of an even number of values, the lower of the middle two.
pub(crate) fn median<T: Copy + PartialOrd>(values: &[T]) -> T {
    percentile(values, 50)
}

/// The smallest value that is not below `percent` of all values.
pub(crate) fn percentile<T: Copy + PartialOrd>(values: &[T], percent: usize) -> T {
    let mut sorted = values.to_vec();
    sorted.sort_by(|a, b| a.partial_cmp(b).expect("measurements are numbers"));
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted[rank - 1]
}

/// A line such as `p50 12.3 ms, p95 …, p99 …, max …`.
pub(crate) fn spread(latencies: &[Duration]) -> String {
    let at = |percent| percentile(latencies, percent).as_secs_f64() * 1000.0;
    format!(
        "p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
        at(50),
        at(95),
        at(99),
        at(100)
    )
}

/// The result of one run of the backlog.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    pub(crate) seconds: f64,
    pub(crate) changes_per_second: f64,
    /// The processor time per change in microseconds.
    pub(crate) walferry: f64,
    pub(crate) postgres: f64,
    pub(crate) elasticsearch: f64,
    pub(crate) peak_mebibytes: u64,
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:>7.0} changes/s ({:.2} s); µs of CPU per change: walferry {:.1}, PostgreSQL {:.1}, \
             Elasticsearch {:.1}; walferry's share {:.1} %; peak {} MiB",
            self.changes_per_second,
            self.seconds,
            self.walferry,
            self.postgres,
            self.elasticsearch,
            100.0 * self.walferry / (self.walferry + self.postgres + self.elasticsearch),
            self.peak_mebibytes,
        )
    }
}

/// The median of each value.
pub(crate) fn median_run(runs: &[Run]) -> Run {
    let of = |figure: fn(&Run) -> f64| median(&runs.iter().map(figure).collect::<Vec<_>>());
    Run {
        seconds: of(|run| run.seconds),
        changes_per_second: of(|run| run.changes_per_second),
        walferry: of(|run| run.walferry),
        postgres: of(|run| run.postgres),
        elasticsearch: of(|run| run.elasticsearch),
        peak_mebibytes: median(&runs.iter().map(|run| run.peak_mebibytes).collect::<Vec<_>>()),
    }
}
