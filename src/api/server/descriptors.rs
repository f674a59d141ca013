//! The limit of open descriptors, and the part of it that the HTTP server may use.
//!
//! A connection takes a descriptor. Without a limit of its own the server would use all of them, and
//! the pipeline could not connect to PostgreSQL or Elasticsearch again.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What is asked for, where the hard limit allows it.
const WANTED: u64 = 4096;

/// Those that the pipeline, the log and the server's own sessions keep.
const RESERVED: u64 = 256;

/// Raises the soft limit of this process as far as it may; returns how many descriptors the
/// connections of the HTTP server may take.
pub(super) fn raise() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.current.unwrap_or(u64::MAX);
    let wanted = limit.maximum.unwrap_or(WANTED).min(WANTED);
    let raised = Rlimit { current: Some(wanted), maximum: limit.maximum };
    let is_raised = current < wanted && setrlimit(Resource::Nofile, raised).is_ok();
    let held = if is_raised { wanted } else { current };
    for_connections(held)
}

/// At least some, so that a very low limit leaves the server of use.
fn for_connections(limit: u64) -> usize {
    let left = limit.saturating_sub(RESERVED).max(limit / 4).max(8);
    usize::try_from(left).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pipeline_keeps_a_part_of_any_limit() {
        assert_eq!(for_connections(4096), 3840);
        assert_eq!(for_connections(1024), 768);
        assert_eq!(for_connections(256), 64);
        assert_eq!(for_connections(u64::MAX), usize::try_from(u64::MAX - 256).unwrap());
    }
}
