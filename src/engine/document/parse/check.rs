//! Checks of a definition: counts, unique names, names of indices, prefixes of ids that overlap. Pure.

use std::collections::BTreeSet;

use super::error::DefinitionError;
use crate::engine::document::definition::DocumentSource;

/// Refuses a count of zero, and one that does not fit the 16 bits of an id.
pub(super) fn within_limit(what: &'static str, count: usize) -> Result<(), DefinitionError> {
    match count {
        0 => Err(DefinitionError::Empty(what)),
        1..=65_535 => Ok(()),
        _ => Err(DefinitionError::TooMany(what)),
    }
}

/// Refuses a name that occurs twice. `scope` ends the error's sentence.
pub(super) fn unique<N: AsRef<str> + Ord>(
    what: &'static str,
    names: impl Iterator<Item = N>,
    scope: &str,
) -> Result<(), DefinitionError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if seen.contains(&name) {
            let name = name.as_ref().to_owned();
            return Err(DefinitionError::Twice { what, name, scope: scope.to_owned() });
        }
        seen.insert(name);
    }
    Ok(())
}

/// Whether Elasticsearch and OpenSearch accept the name. The limit of 200 bytes leaves space for a
/// prefix and the number of a generation.
pub(super) fn is_index_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 200
        && name.bytes().next().is_some_and(plain)
        && name.bytes().all(|b| plain(b) || matches!(b, b'_' | b'-'))
}

/// Whether every id belongs to one source at most, and each source has a filter by which its
/// documents can be listed.
pub(super) fn are_distinct(sources: &[DocumentSource]) -> bool {
    let begins = |a: usize, b: usize| sources[b].id_prefix.starts_with(&sources[a].id_prefix);
    let numbers = 0..sources.len();
    let overlap = numbers.clone().any(|a| numbers.clone().any(|b| a != b && begins(a, b)));
    !overlap && sources.iter().all(|source| source.filter.is_some())
}
