//! How long to wait after trouble, and how much to send at once.
//!
//! The caller owns the clock and the dice. Pure.

use std::time::Duration;

use tokio::time::Instant;

/// The first wait and the longest.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub min: Duration,
    pub max: Duration,
}

impl Backoff {
    /// The wait after `attempts` failures in a row; `jitter` is in `0.0..=1.0`.
    #[must_use]
    pub fn delay(&self, attempts: u32, jitter: f64) -> Duration {
        let doubled = self.min.saturating_mul(2_u32.saturating_pow(attempts.saturating_sub(1)));
        doubled.min(self.max).mul_f64(0.5 + jitter / 2.0)
    }
}

/// Whether the service, or one index, may be sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitBreaker {
    Open,
    /// Nothing until then.
    Waiting {
        attempts: u32,
        until: Instant,
    },
    /// One request is out to see whether things are well again.
    Trying {
        attempts: u32,
    },
}

impl CircuitBreaker {
    #[must_use]
    pub fn is_open(self) -> bool {
        self == Self::Open
    }

    /// When a closed breaker may be tried.
    #[must_use]
    pub fn due(self) -> Option<Instant> {
        if let Self::Waiting { until, .. } = self { Some(until) } else { None }
    }

    /// The service failed: opens the breaker. Several requests that fail together count once.
    pub fn close(&mut self, now: Instant, wait: impl FnOnce(u32) -> Duration) {
        let attempts = match *self {
            Self::Open => 1,
            Self::Trying { attempts } => attempts.saturating_add(1),
            Self::Waiting { .. } => return,
        };
        *self = Self::Waiting { attempts, until: now + wait(attempts) };
    }

    /// Lets one try through if its time has come.
    pub fn try_now(&mut self, now: Instant) -> bool {
        match *self {
            Self::Waiting { attempts, until } if until <= now => {
                *self = Self::Trying { attempts };
                true
            }
            _ => false,
        }
    }
}

/// The size and number of bulks: halved by overload, grown back step by step.
#[derive(Clone, Copy, Debug)]
pub struct AdaptiveConcurrency {
    actions: usize,
    in_flight: usize,
    actions_max: usize,
    in_flight_max: usize,
}

impl AdaptiveConcurrency {
    #[must_use]
    pub fn new(actions_max: usize, in_flight_max: usize) -> Self {
        let (actions_max, in_flight_max) = (actions_max.max(1), in_flight_max.max(1));
        Self { actions: actions_max, in_flight: in_flight_max, actions_max, in_flight_max }
    }

    /// Documents in one bulk.
    #[must_use]
    pub fn actions(&self) -> usize {
        self.actions
    }

    /// Bulks under way at once.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub fn overloaded(&mut self) {
        self.in_flight = (self.in_flight / 2).max(1);
        self.actions = (self.actions / 2).max(self.actions_max.min(16));
    }

    pub fn well(&mut self) {
        self.actions = (self.actions + (self.actions_max / 8).max(1)).min(self.actions_max);
        if self.actions == self.actions_max {
            self.in_flight = (self.in_flight + 1).min(self.in_flight_max);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { min: Duration::from_millis(100), max: Duration::from_secs(10) };

    #[test]
    fn waits_double_up_to_the_longest() {
        let check = |attempts, jitter, expected| {
            assert_eq!(BACKOFF.delay(attempts, jitter), Duration::from_millis(expected));
        };
        check(1, 1.0, 100);
        check(1, 0.0, 50);
        check(2, 1.0, 200);
        check(5, 0.5, 1200);
        check(8, 1.0, 10_000);
        check(u32::MAX, 1.0, 10_000);
    }

    #[test]
    fn a_breaker_counts_failures_once_per_try() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut breaker = CircuitBreaker::Open;
        breaker.close(now, |attempts| second * attempts);
        breaker.close(now, |attempts| second * attempts);
        assert_eq!(breaker, CircuitBreaker::Waiting { attempts: 1, until: now + second });
        assert!(!breaker.try_now(now));
        assert!(breaker.try_now(now + second));
        assert!(!breaker.try_now(now + second));
        breaker.close(now, |attempts| second * attempts);
        assert_eq!(breaker.due(), Some(now + 2 * second));
    }

    #[test]
    fn overload_halves_and_health_restores() {
        let mut concurrency = AdaptiveConcurrency::new(1000, 4);
        for _ in 0..20 {
            concurrency.overloaded();
        }
        assert_eq!((concurrency.actions(), concurrency.in_flight()), (16, 1));
        for _ in 0..20 {
            concurrency.well();
        }
        assert_eq!((concurrency.actions(), concurrency.in_flight()), (1000, 4));
    }
}
