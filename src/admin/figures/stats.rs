//! The queue's statistics as JSON, with the members of the system that walferry replaces.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Number;

use super::sample::Counts;

/// The statistics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Stats {
    pub total: i64,
    pub pending: i64,
    pub processing: i64,
    pub completed: i64,
    pub failed: i64,
    /// `processing` for longer than 30 s.
    pub stuck: i64,
    /// Milliseconds from a change's commit to its job's end.
    #[schemars(with = "f64")]
    pub avg_processing_time: Number,
    /// ISO 8601, UTC.
    pub last_processed_at: Option<String>,
}

impl From<&Counts> for Stats {
    fn from(counts: &Counts) -> Self {
        Self {
            total: counts.total,
            pending: counts.pending,
            processing: counts.processing,
            completed: counts.completed,
            failed: counts.failed,
            stuck: counts.stuck,
            avg_processing_time: milliseconds(counts.processing_time_ms),
            last_processed_at: counts.last_processed_at.clone(),
        }
    }
}

/// To the microsecond; a whole number has no fraction.
pub(crate) fn milliseconds(value: f64) -> Number {
    let rounded = (value * 1000.0).round() / 1000.0;
    let text = rounded.to_string();
    text.parse::<i64>().ok().map(Number::from).or(Number::from_f64(rounded)).unwrap_or(0.into())
}

#[cfg(test)]
mod tests {
    use super::{Stats, milliseconds};

    #[test]
    fn the_body_is_the_documented_one() {
        let stats = Stats {
            total: 7,
            pending: 1,
            processing: 2,
            completed: 3,
            failed: 1,
            stuck: 0,
            avg_processing_time: milliseconds(1250.0),
            last_processed_at: None,
        };
        let expected = concat!(
            r#"{"total":7,"pending":1,"processing":2,"completed":3,"failed":1,"stuck":0,"#,
            r#""avgProcessingTime":1250,"lastProcessedAt":null}"#,
        );
        assert_eq!(serde_json::to_string(&stats).unwrap(), expected);
    }

    #[test]
    fn milliseconds_are_numbers_for_every_input() {
        let check = |value, expected: &str| assert_eq!(milliseconds(value).to_string(), expected);
        check(0.0, "0");
        check(1250.0, "1250");
        check(15.3214, "15.321");
        check(-2.0, "-2");
        check(f64::NAN, "0");
        check(f64::INFINITY, "0");
    }
}
