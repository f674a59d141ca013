//! Rate limits: a token bucket for each name and address, in a table with a limit.
//!
//! The limits are far above the needs of a page and a few scripts. They keep a client in an endless
//! loop, or one that guesses tokens, from using up the capacity of others. A refused token counts
//! against the address that presents it, and a good token from that address stays good.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const ENTRIES_MAX: usize = 4096;
/// Between two sweeps for buckets that are full again.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::api) enum RateClass {
    Read,
    Action,
    /// A token that is refused.
    Failure,
}

impl RateClass {
    /// How many a second, and how many at once.
    const fn limit(self) -> (f64, f64) {
        match self {
            Self::Read => (200.0, 1000.0),
            Self::Action => (20.0, 60.0),
            Self::Failure => (10.0 / 60.0, 20.0),
        }
    }
}

/// A client's name and address; the name is empty without a credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct BucketKey {
    class: RateClass,
    name: String,
    address: IpAddr,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// All buckets.
#[derive(Debug, Default)]
pub(in crate::api) struct Rates(Mutex<BucketTable>);

#[derive(Debug, Default)]
struct BucketTable {
    buckets: HashMap<BucketKey, Bucket>,
    swept_at: Option<Instant>,
}

impl Rates {
    /// Takes one.
    ///
    /// # Errors
    ///
    /// How long to wait until there is one.
    pub(in crate::api) fn take(
        &self,
        class: RateClass,
        name: &str,
        address: IpAddr,
        now: Instant,
    ) -> Result<(), Duration> {
        let key = BucketKey { class, name: name.to_owned(), address: network(address) };
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        table.take(key, now)
    }
}

impl BucketTable {
    fn take(&mut self, mut key: BucketKey, now: Instant) -> Result<(), Duration> {
        let (rate, burst) = key.class.limit();
        if !self.buckets.contains_key(&key) && self.buckets.len() >= ENTRIES_MAX {
            self.sweep(now);
            if self.buckets.len() >= ENTRIES_MAX {
                // Clients beyond the limit of the table share one bucket of each class.
                key =
                    BucketKey { name: String::new(), address: Ipv6Addr::UNSPECIFIED.into(), ..key };
            }
        }
        let bucket = self.buckets.entry(key).or_insert(Bucket { left: burst, at: now });
        let left = bucket.left_at(now, rate, burst);
        if left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - left) / rate));
        }
        *bucket = Bucket { left: left - 1.0, at: now };
        Ok(())
    }

    fn sweep(&mut self, now: Instant) {
        if self.swept_at.is_some_and(|at| now.duration_since(at) < SWEEP_EVERY) {
            return;
        }
        self.swept_at = Some(now);
        self.buckets.retain(|key, bucket| {
            let (rate, burst) = key.class.limit();
            bucket.left_at(now, rate, burst) < burst
        });
    }
}

impl Bucket {
    fn left_at(&self, now: Instant, rate: f64, burst: f64) -> f64 {
        let since = now.saturating_duration_since(self.at).as_secs_f64();
        burst.min(self.left + since * rate)
    }
}

/// One machine has 2^64 addresses of IPv6 to ask from.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn taken(rates: &Rates, class: RateClass, name: &str, address: IpAddr, now: Instant) -> usize {
        (0..5000).take_while(|_| rates.take(class, name, address, now).is_ok()).count()
    }

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let rates = Rates::default();
        let now = Instant::now();
        assert_eq!(taken(&rates, RateClass::Read, "ann", HERE, now), 1000);
        assert_eq!(taken(&rates, RateClass::Action, "ann", HERE, now), 60);
        assert_eq!(taken(&rates, RateClass::Failure, "", HERE, now), 20);
        let later = now + Duration::from_secs(1);
        assert_eq!(taken(&rates, RateClass::Read, "ann", HERE, later), 200);
        assert_eq!(taken(&rates, RateClass::Action, "ann", HERE, later), 20);
        assert_eq!(taken(&rates, RateClass::Failure, "", HERE, later), 0);
        let wait = rates.take(RateClass::Failure, "", HERE, later).unwrap_err();
        assert!((4.9..5.1).contains(&wait.as_secs_f64()), "{wait:?}");
        assert_eq!(taken(&rates, RateClass::Failure, "", HERE, later + wait), 1);
    }

    #[test]
    fn a_client_does_not_use_up_another_s_share() {
        let rates = Rates::default();
        let now = Instant::now();
        taken(&rates, RateClass::Action, "ann", HERE, now);
        taken(&rates, RateClass::Failure, "", HERE, now);
        assert!(rates.take(RateClass::Action, "bob", HERE, now).is_ok());
        assert!(rates.take(RateClass::Action, "ann", "10.0.0.1".parse().unwrap(), now).is_ok());
        assert!(rates.take(RateClass::Read, "ann", HERE, now).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let rates = Rates::default();
        let now = Instant::now();
        let at = |text: &str| text.parse().unwrap();
        assert_eq!(taken(&rates, RateClass::Failure, "", at("2001:db8::1"), now), 20);
        assert_eq!(taken(&rates, RateClass::Failure, "", at("2001:db8::2:2"), now), 0);
        assert_eq!(taken(&rates, RateClass::Failure, "", at("2001:db8:0:1::1"), now), 20);
        assert_eq!(taken(&rates, RateClass::Failure, "", at("127.0.0.9"), now), 20);
        assert_eq!(taken(&rates, RateClass::Failure, "", at("::ffff:127.0.0.9"), now), 0);
    }

    #[test]
    fn the_table_has_a_limit_and_drops_full_buckets() {
        let rates = Rates::default();
        let now = Instant::now();
        let address = |number: u32| IpAddr::from(std::net::Ipv4Addr::from(number));
        for number in 0..20_000 {
            rates.take(RateClass::Failure, "", address(number), now).unwrap_or_default();
        }
        let length = || rates.0.lock().unwrap().buckets.len();
        assert!(length() <= ENTRIES_MAX + 3, "{}", length());
        assert!(rates.take(RateClass::Failure, "", address(30_000), now).is_err(), "shared");
        assert!(rates.take(RateClass::Failure, "", address(1), now).is_ok(), "its own");
        let later = now + Duration::from_secs(150);
        assert!(rates.take(RateClass::Failure, "", address(30_000), later).is_ok());
        assert!(length() < 10, "{}", length());
    }
}
