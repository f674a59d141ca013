//! The places of connections: how many there are, how many one address may take, and which one is
//! given up for a newcomer. Pure.
//!
//! A connection that waits for a request gives its place up when places run out: first one that never
//! sent a request, the oldest of the address that has the most. A connection whose request is being
//! answered keeps its place. So a client that sends its request at once is answered, however many
//! connections stay open without one.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::rate;

/// How many connections there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct PlaceLimits {
    /// Of all addresses.
    pub(super) total: usize,
    /// Of one address.
    pub(super) per_address: usize,
    /// Of `total`, those that only clients on loopback get: probes, and an operator on the machine.
    pub(super) reserved: usize,
}

/// All places.
#[derive(Debug)]
pub(super) struct Places {
    limits: PlaceLimits,
    table: Mutex<PlaceTable>,
}

#[derive(Debug, Default)]
struct PlaceTable {
    taken: HashMap<u64, TakenPlace>,
    by_address: HashMap<IpAddr, usize>,
    /// Of the places taken, those of clients on loopback.
    of_loopback: usize,
    /// The number of the next place, and of the next wait.
    next: u64,
}

#[derive(Debug)]
struct TakenPlace {
    address: IpAddr,
    is_loopback: bool,
    /// The number of the wait for a request; `None` while one is answered.
    waits_since: Option<u64>,
    has_asked: bool,
    given_up: CancellationToken,
}

/// A connection's place. Dropping it frees it.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    given_up: CancellationToken,
}

/// A request that is being answered. Dropping it begins the wait for the next one.
#[derive(Debug)]
pub(super) struct RequestInPlace(Arc<Place>);

impl Places {
    pub(super) fn new(limits: PlaceLimits) -> Arc<Self> {
        Arc::new(Self { limits, table: Mutex::default() })
    }

    /// A place for a connection from this address; `None` if there is none, and none that waits.
    pub(super) fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let given_up = CancellationToken::new();
        let number = self.table().take(self.limits, address, given_up.clone())?;
        Some(Place { places: Arc::clone(self), number, given_up })
    }

    fn table(&self) -> MutexGuard<'_, PlaceTable> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PlaceTable {
    fn take(
        &mut self,
        limits: PlaceLimits,
        address: IpAddr,
        given_up: CancellationToken,
    ) -> Option<u64> {
        let is_loopback = address.to_canonical().is_loopback();
        let address = rate::network(address);
        let of_address = self.by_address.get(&address).copied().unwrap_or(0);
        if of_address >= limits.per_address {
            self.give_one_up(|taken| taken.address == address)?;
        }
        let of_others = self.taken.len() - self.of_loopback;
        if !is_loopback && of_others >= limits.total.saturating_sub(limits.reserved) {
            self.give_one_up(|taken| !taken.is_loopback)?;
        } else if self.taken.len() >= limits.total {
            self.give_one_up(|_| true)?;
        }
        let number = self.number();
        let waits_since = Some(number);
        let taken = TakenPlace { address, is_loopback, waits_since, has_asked: false, given_up };
        self.taken.insert(number, taken);
        *self.by_address.entry(address).or_default() += 1;
        self.of_loopback += usize::from(is_loopback);
        Some(number)
    }

    /// Frees the place of a connection that waits for a request.
    fn give_one_up(&mut self, may_go: impl Fn(&TakenPlace) -> bool) -> Option<()> {
        let waiting = self.taken.iter().filter(|(_, taken)| may_go(taken));
        let waiting =
            waiting.filter_map(|(number, taken)| Some((number, taken, taken.waits_since?)));
        let (number, ..) = waiting.max_by_key(|(_, taken, since)| {
            let of_address = self.by_address.get(&taken.address).copied().unwrap_or(0);
            (of_address, !taken.has_asked, Reverse(*since))
        })?;
        let number = *number;
        self.free(number)?.given_up.cancel();
        Some(())
    }

    fn free(&mut self, number: u64) -> Option<TakenPlace> {
        let taken = self.taken.remove(&number)?;
        self.of_loopback -= usize::from(taken.is_loopback);
        if let Some(count) = self.by_address.get_mut(&taken.address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&taken.address);
            }
        }
        Some(taken)
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Place {
    /// Cancelled when a newcomer got the place.
    pub(super) fn given_up(&self) -> CancellationToken {
        self.given_up.clone()
    }

    /// A request has begun.
    pub(super) fn begin(self: &Arc<Self>) -> RequestInPlace {
        if let Some(taken) = self.places.table().taken.get_mut(&self.number) {
            taken.waits_since = None;
            taken.has_asked = true;
        }
        RequestInPlace(Arc::clone(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.table().free(self.number);
    }
}

impl Drop for RequestInPlace {
    fn drop(&mut self) {
        let mut table = self.0.places.table();
        let since = table.number();
        if let Some(taken) = table.taken.get_mut(&self.0.number) {
            taken.waits_since = Some(since);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LIMITS: PlaceLimits = PlaceLimits { total: 8, per_address: 4, reserved: 2 };
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn far(number: u8) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, number).into()
    }

    fn take(places: &Arc<Places>, address: IpAddr) -> Arc<Place> {
        Arc::new(places.take(address).unwrap())
    }

    fn are_given_up(places: &[Arc<Place>]) -> Vec<bool> {
        places.iter().map(|place| place.given_up.is_cancelled()).collect()
    }

    #[test]
    fn a_newcomer_gets_the_place_of_the_oldest_that_waits() {
        let places = Places::new(LIMITS);
        let old: Vec<_> = (0..4).map(|_| take(&places, HERE)).collect();
        let first = old[0].begin();
        let _newcomer = take(&places, HERE);
        assert_eq!(are_given_up(&old), [false, true, false, false]);
        // It waits anew, but has sent a request: one that never did goes first.
        drop(first);
        let _another = take(&places, HERE);
        assert_eq!(are_given_up(&old), [false, true, true, false]);
    }

    #[test]
    fn a_connection_with_a_request_keeps_its_place() {
        let places = Places::new(LIMITS);
        let old: Vec<_> = (0..4).map(|_| take(&places, HERE)).collect();
        let requests: Vec<_> = old.iter().map(Place::begin).collect();
        assert!(places.take(HERE).is_none());
        assert_eq!(are_given_up(&old), [false; 4]);
        drop(requests);
        assert!(places.take(HERE).is_some());
    }

    #[test]
    fn clients_on_loopback_have_places_that_others_do_not_get() {
        let places = Places::new(LIMITS);
        let others: Vec<_> = (0..6).map(|number| take(&places, far(number))).collect();
        let requests: Vec<_> = others.iter().map(Place::begin).collect();
        assert!(places.take(far(9)).is_none());
        let probes = [take(&places, HERE), take(&places, HERE)];
        let third = take(&places, HERE);
        assert_eq!(are_given_up(&probes), [true, false]);
        assert_eq!(are_given_up(&others), [false; 6]);
        drop((requests, third));
    }

    #[test]
    fn the_address_with_the_most_connections_gives_one_up() {
        let places = Places::new(LIMITS);
        let single = take(&places, far(1));
        let many: Vec<_> = (0..4).map(|_| take(&places, far(2))).collect();
        let other = take(&places, far(3));
        let _newcomer = take(&places, far(4));
        assert_eq!(are_given_up(&many), [true, false, false, false]);
        assert_eq!(are_given_up(&[single, other]), [false; 2]);
    }

    #[test]
    fn a_place_that_is_left_is_free() {
        let places = Places::new(LIMITS);
        for _ in 0..100 {
            let place = take(&places, HERE);
            drop(place.begin());
        }
        let table = places.table();
        assert!(table.taken.is_empty() && table.by_address.is_empty());
        assert_eq!(table.of_loopback, 0);
    }
}
