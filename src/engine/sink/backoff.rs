//! The wait after a failure, the circuit breaker, and the size and number of bulk requests. Pure.
//!
//! The caller supplies the time and the random numbers.

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

/// Whether requests to the service, or to one index, are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CircuitBreaker {
    /// Requests are sent.
    Closed,
    /// No request is sent before `until`.
    Open { attempts: u32, until: Instant },
    /// One probe is in flight; no other request is sent.
    HalfOpen { attempts: u32 },
}

impl CircuitBreaker {
    /// Whether requests are sent without a restriction.
    #[must_use]
    pub fn is_closed(self) -> bool {
        self == Self::Closed
    }

    /// When an open breaker lets a probe through.
    #[must_use]
    pub fn due(self) -> Option<Instant> {
        if let Self::Open { until, .. } = self { Some(until) } else { None }
    }

    /// Opens the breaker after a failure. Requests that fail while it is open do not count.
    pub fn trip(&mut self, now: Instant, wait: impl FnOnce(u32) -> Duration) {
        let attempts = match *self {
            Self::Closed => 1,
            Self::HalfOpen { attempts } => attempts.saturating_add(1),
            Self::Open { .. } => return,
        };
        *self = Self::Open { attempts, until: now + wait(attempts) };
    }

    /// Lets one probe through if the wait has ended.
    pub fn try_half_open(&mut self, now: Instant) -> bool {
        match *self {
            Self::Open { attempts, until } if until <= now => {
                *self = Self::HalfOpen { attempts };
                true
            }
            _ => false,
        }
    }
}

/// The size and number of bulk requests: halved by overload, increased in steps afterwards.
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
        let actions_max = actions_max.max(1);
        let in_flight_max = in_flight_max.max(1);
        Self { actions: actions_max, in_flight: in_flight_max, actions_max, in_flight_max }
    }

    /// Documents in one bulk.
    #[must_use]
    pub fn actions(&self) -> usize {
        self.actions
    }

    /// Bulk requests in flight at once.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Halves both limits.
    pub fn decrease(&mut self) {
        self.in_flight = (self.in_flight / 2).max(1);
        self.actions = (self.actions / 2).max(self.actions_max.min(16));
    }

    /// Increases the size by a step, and at the full size the number of requests.
    pub fn increase(&mut self) {
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
    fn a_breaker_counts_one_failure_a_probe() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let mut breaker = CircuitBreaker::Closed;
        breaker.trip(now, |attempts| second * attempts);
        breaker.trip(now, |attempts| second * attempts);
        assert_eq!(breaker, CircuitBreaker::Open { attempts: 1, until: now + second });
        assert!(!breaker.try_half_open(now));
        assert!(breaker.try_half_open(now + second));
        assert!(!breaker.try_half_open(now + second));
        breaker.trip(now, |attempts| second * attempts);
        assert_eq!(breaker.due(), Some(now + 2 * second));
    }

    #[test]
    fn overload_halves_the_limits_and_success_restores_them() {
        let mut concurrency = AdaptiveConcurrency::new(1000, 4);
        for _ in 0..20 {
            concurrency.decrease();
        }
        assert_eq!((concurrency.actions(), concurrency.in_flight()), (16, 1));
        for _ in 0..20 {
            concurrency.increase();
        }
        assert_eq!((concurrency.actions(), concurrency.in_flight()), (1000, 4));
    }
}
