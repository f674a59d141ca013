//! The description of one setting: its names, its default and the values that it accepts. Pure.
//!
//! Not here: the list of settings (`settings`), and the parsers of sizes and times (`unit`).

use super::unit::{size_text, time_text};

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// The key in the configuration file: `section.key`.
    pub key: &'static str,
    /// A second environment variable, in addition to `WALFERRY_<SECTION>_<KEY>`.
    pub alias: Option<&'static str>,
    /// The values that the setting accepts.
    pub kind: ValueKind,
    /// The default, as written in a configuration file; empty if the setting has none.
    pub default: &'static str,
    /// For a setting without a default: the behaviour without a value.
    pub unset: &'static str,
    /// The meaning of the setting, for documentation and error messages.
    pub purpose: &'static str,
    /// A value for error messages, where the default does not serve as one.
    pub example: &'static str,
    /// True if the value must not be printed.
    pub secret: bool,
}

impl Setting {
    /// The values that most settings share.
    pub(super) const PLAIN: Self = Self {
        key: "",
        alias: None,
        kind: ValueKind::Flag,
        default: "",
        unset: "",
        purpose: "",
        example: "",
        secret: false,
    };

    /// A valid value for error messages.
    #[must_use]
    pub const fn valid(&self) -> &'static str {
        if self.example.is_empty() { self.default } else { self.example }
    }
}

/// The values that a setting accepts. Sizes are in bytes and times in milliseconds. Limits are
/// inclusive.
#[derive(Clone, Copy, Debug)]
pub enum ValueKind {
    /// A size with a unit.
    Size {
        /// The smallest size.
        min: u64,
        /// The largest size.
        max: u64,
    },
    /// A duration with a unit.
    Time {
        /// The shortest duration.
        min: u64,
        /// The longest duration.
        max: u64,
    },
    /// A whole number.
    Count {
        /// The smallest number.
        min: u64,
        /// The largest number.
        max: u64,
    },
    /// `true` or `false`.
    Flag,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// Text with its own syntax, which this sentence describes.
    Text(&'static str),
}

impl ValueKind {
    /// The accepted values as a phrase.
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

impl Setting {
    /// The environment variable `WALFERRY_<SECTION>_<KEY>`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("WALFERRY_{}", self.key.replace('.', "_").to_ascii_uppercase())
    }

    /// The environment variable that error messages name: the alias if the setting has one.
    #[must_use]
    pub fn best_variable(&self) -> String {
        self.alias.map_or_else(|| self.variable(), str::to_owned)
    }
}
