//! Numbers that the environment tells a test.

/// The variable's number, if it is set.
#[expect(clippy::disallowed_methods, reason = "a test is told its seeds by the environment")]
pub(crate) fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a whole number"))
}
