//! Denied attempts, summed by client and reason for a minute. Pure.
//!
//! The first attempt of a minute is reported at once, the others as one number when the minute is
//! over. So a flood of attempts is neither a flood of log lines nor one of rows in the audit log.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use tokio::time::Instant;

use super::rate;

/// How long attempts are summed.
const WINDOW: Duration = Duration::from_secs(60);

/// Sums at once. Attempts of further clients are summed together, by their reason.
const SUMS_MAX: usize = 256;

/// Whose attempts are summed, and why they were denied.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(in crate::api) struct DenialKey {
    /// The network of the client; unspecified for the clients that are summed together.
    pub(in crate::api) address: IpAddr,
    /// The client's name; empty without an identity.
    pub(in crate::api) name: String,
    /// The code of the answer.
    pub(in crate::api) code: &'static str,
    /// What was asked for, by a client with an identity; else empty.
    pub(in crate::api) action: &'static str,
}

/// What is to be reported of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) struct FirstOfMinute {
    /// It is the first of its kind.
    pub(in crate::api) is_first: bool,
    /// It is the first of its kind that would have changed something.
    pub(in crate::api) is_first_change: bool,
}

/// The attempts of a minute that were not reported one by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::api) struct DenialSum {
    pub(in crate::api) key: DenialKey,
    /// All of them.
    pub(in crate::api) attempts: u64,
    /// Those that would have changed something.
    pub(in crate::api) changes: u64,
}

/// All sums.
#[derive(Debug, Default)]
pub(in crate::api) struct Denials(HashMap<DenialKey, Window>);

#[derive(Debug)]
struct Window {
    began: Instant,
    attempts: u64,
    changes: u64,
    has_change: bool,
}

impl Denials {
    /// Adds an attempt; returns whether it is to be reported by itself.
    pub(in crate::api) fn add(
        &mut self,
        key: DenialKey,
        is_change: bool,
        now: Instant,
    ) -> FirstOfMinute {
        let mut key = DenialKey { address: rate::network(key.address), ..key };
        if !self.0.contains_key(&key) && self.0.len() >= SUMS_MAX {
            let address = Ipv6Addr::UNSPECIFIED.into();
            key = DenialKey { address, name: String::new(), action: "", code: key.code };
        }
        let is_first = !self.0.contains_key(&key);
        let window = self.0.entry(key).or_insert(Window {
            began: now,
            attempts: 0,
            changes: 0,
            has_change: false,
        });
        let is_first_change = is_change && !window.has_change;
        window.has_change |= is_change;
        window.attempts += u64::from(!is_first);
        window.changes += u64::from(is_change && !is_first_change);
        FirstOfMinute { is_first, is_first_change }
    }

    /// Ends the sums whose minute is over, all of them with `at_once`.
    pub(in crate::api) fn ended(&mut self, now: Instant, at_once: bool) -> Vec<DenialSum> {
        let is_over =
            |window: &Window| at_once || now.saturating_duration_since(window.began) >= WINDOW;
        let ended = self.0.extract_if(|_, window| is_over(window));
        let sums = ended.map(|(key, window)| DenialSum {
            key,
            attempts: window.attempts,
            changes: window.changes,
        });
        sums.filter(|sum| sum.attempts > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(address: &str, code: &'static str) -> DenialKey {
        DenialKey { address: address.parse().unwrap(), name: String::new(), code, action: "" }
    }

    const FIRST: FirstOfMinute = FirstOfMinute { is_first: true, is_first_change: false };
    const SUMMED: FirstOfMinute = FirstOfMinute { is_first: false, is_first_change: false };

    #[test]
    fn one_attempt_a_minute_is_reported_and_the_others_are_a_number() {
        let mut denials = Denials::default();
        let now = Instant::now();
        let guess = key("192.0.2.1", "token_unknown");
        assert_eq!(denials.add(guess.clone(), false, now), FIRST);
        for _ in 0..9 {
            assert_eq!(denials.add(guess.clone(), false, now), SUMMED);
        }
        let change = denials.add(guess.clone(), true, now);
        assert_eq!(change, FirstOfMinute { is_first: false, is_first_change: true });
        assert_eq!(denials.add(guess.clone(), true, now), SUMMED);
        assert_eq!(denials.add(key("192.0.2.2", "token_unknown"), false, now), FIRST);
        assert_eq!(denials.ended(now + WINDOW / 2, false), []);
        let sum = DenialSum { key: guess.clone(), attempts: 11, changes: 1 };
        assert_eq!(denials.ended(now + WINDOW, false), [sum]);
        assert_eq!(denials.add(guess, false, now + WINDOW), FIRST);
    }

    #[test]
    fn clients_beyond_the_limit_are_summed_together() {
        let mut denials = Denials::default();
        let now = Instant::now();
        let mut reported = 0;
        for number in 0..100_000_u32 {
            let address = IpAddr::from(std::net::Ipv4Addr::from(number));
            let guess = DenialKey { address, ..key("192.0.2.1", "token_unknown") };
            reported += usize::from(denials.add(guess, true, now).is_first);
        }
        assert_eq!(reported, SUMS_MAX + 1);
        let sums = denials.ended(now, true);
        let [sum] = sums.as_slice() else { panic!("{sums:?}") };
        assert!(sum.key.address.is_unspecified());
        assert_eq!(sum.attempts, 100_000 - u64::try_from(SUMS_MAX).unwrap() - 1);
    }
}
