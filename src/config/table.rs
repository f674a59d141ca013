//! Settings in words: the limits of a kind, and the README's table of all settings. Pure.
//!
//! Not here: the settings (`setting`).

use std::fmt::Write as _;

use super::setting::{Kind, SETTINGS, Setting};
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

/// The README's table of all settings.
#[must_use]
pub fn markdown_table() -> String {
    let mut table = String::from(
        "| key | environment variable | default | values | purpose |\n| --- | --- | --- | --- | --- |\n",
    );
    for setting in SETTINGS {
        let variable = setting.variable();
        let variables = setting
            .alias
            .map_or_else(|| format!("`{variable}`"), |alias| format!("`{alias}`, `{variable}`"));
        let default = match setting.default {
            "" => setting.unset.to_owned(),
            default => format!("`{default}`"),
        };
        let Setting { key, kind, purpose, .. } = setting;
        let written = writeln!(
            table,
            "| `{key}` | {variables} | {default} | {} | {purpose} |",
            kind.describe()
        );
        written.expect("a String takes what is written");
    }
    table
}
