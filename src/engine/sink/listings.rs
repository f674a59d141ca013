//! Runs the listings of documents, repeats those that fail, and parks those of closed indices.
//!
//! Not here: the requests of one listing (`listing`).

use std::sync::Arc;

use tokio::time::Instant;

use super::listing::{self, Listing, ListingError};
use super::{Sink, SinkError};

/// A listing and its result.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) listing: Listing,
    pub(super) outcome: Result<(), ListingError>,
}

impl Sink {
    pub(super) fn list(&mut self, listing: Listing) {
        let sender = Arc::clone(&self.sender);
        let tasks = if listing.is_probe { &mut self.probes } else { &mut self.listings };
        tasks.spawn(async move {
            let concrete = &sender.target(listing.index).concrete;
            let outcome = listing::list(sender.client(), concrete, &listing).await;
            Listed { listing, outcome }
        });
    }

    /// A listing that fails is repeated, unless its index stays closed: then its job is parked. An
    /// index that the user may not list is open once a listing succeeds, so this one goes on.
    pub(super) fn listed(&mut self, listed: Listed) -> Result<(), SinkError> {
        let Listed { mut listing, outcome } = listed;
        let index = listing.index;
        match outcome {
            Ok(()) => {
                self.dispatcher.listed(index);
                return Ok(());
            }
            Err(error @ ListingError::Refused { .. }) => return Err(error.into()),
            Err(error @ ListingError::NotAuthorised { .. }) => {
                self.dispatcher.listing_refused(index, error.to_string());
            }
            Err(ListingError::Missing(reason)) => {
                self.dispatcher.index_missing(Instant::now(), index, reason);
            }
            Err(ListingError::Unavailable) => {}
        }
        listing.attempts += 1;
        let is_parked = listing.is_probe || self.park_listing(&mut listing);
        if !is_parked || self.dispatcher.is_unlisted(index) {
            self.list(listing);
        }
        Ok(())
    }

    /// Ends a listing whose index stays closed; false if the index may be listed.
    pub(super) fn park_listing(&self, listing: &mut Listing) -> bool {
        let wait = self.dispatcher.listing_wait(Instant::now(), listing.index);
        listing.is_probe = wait.is_some_and(|wait| listing.pages.try_send(Err(wait)).is_ok());
        listing.is_probe
    }
}
