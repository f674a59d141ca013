//! The places of clients that watch the stream of events: so many in all, and fewer for one client.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::rate;

/// Clients of the event stream at once.
pub(in crate::api) const STREAMS_MAX: usize = 200;
/// Of these, those with one name and address.
pub(in crate::api) const CLIENT_STREAMS_MAX: usize = 150;

type Client = (String, IpAddr);

/// All places. Cloning shares them.
#[derive(Clone, Debug, Default)]
pub(in crate::api) struct Streams(Arc<Mutex<HashMap<Client, usize>>>);

/// A place, freed when it is dropped.
#[derive(Debug)]
pub(in crate::api) struct StreamPlace {
    streams: Streams,
    client: Client,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::api) enum NoStream {
    /// All are taken.
    Full,
    /// The client has as many as one may have.
    ClientFull,
}

impl Streams {
    /// A place for one more stream of a client.
    ///
    /// # Errors
    ///
    /// [`NoStream`].
    pub(in crate::api) fn take(
        &self,
        name: &str,
        address: IpAddr,
    ) -> Result<StreamPlace, NoStream> {
        let client = (name.to_owned(), rate::network(address));
        let mut taken = self.taken();
        if taken.values().sum::<usize>() >= STREAMS_MAX {
            return Err(NoStream::Full);
        }
        let of_client = taken.entry(client.clone()).or_default();
        if *of_client >= CLIENT_STREAMS_MAX {
            return Err(NoStream::ClientFull);
        }
        *of_client += 1;
        drop(taken);
        Ok(StreamPlace { streams: self.clone(), client })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<Client, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for StreamPlace {
    fn drop(&mut self) {
        let mut taken = self.streams.taken();
        if let Some(count) = taken.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_leaves_places_to_others() {
        let streams = Streams::default();
        let here = IpAddr::from([127, 0, 0, 1]);
        let take = |name: &str| streams.take(name, here);
        let mut held: Vec<_> = (0..CLIENT_STREAMS_MAX).map(|_| take("ann").unwrap()).collect();
        assert_eq!(take("ann").unwrap_err(), NoStream::ClientFull);
        held.extend((CLIENT_STREAMS_MAX..STREAMS_MAX).map(|_| take("bob").unwrap()));
        assert_eq!(take("eve").unwrap_err(), NoStream::Full);
        held.truncate(1);
        assert!(take("ann").is_ok() && take("bob").is_ok());
        held.clear();
        assert!(streams.taken().is_empty());
    }
}
