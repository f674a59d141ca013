//! Settings in words: the limits of a kind. Pure.
//!
//! Not here: the settings (`setting`).

use super::setting::Kind;
use super::unit::{size_text, time_text};

impl Kind {
    /// The limits in words.
    #[must_use]
    pub fn describe(self) -> String {
        match self {
            Self::Size { min, max } => format!("{} to {}", size_text(min), size_text(max)),
            Self::Time { min, max } => format!("{} to {}", time_text(min), time_text(max)),
            Self::Count { min, max } => format!("{min} to {max}"),
            Self::Flag => "true or false".to_owned(),
            Self::OneOf(words) => words.join(" or "),
            Self::Text(words) => words.to_owned(),
        }
    }
}
