//! The texts of settings, parsed by the kind of each setting.
//!
//! Not here: the origin of a text (`source`), and the settings that depend on each other (`load`).

use std::time::Duration;

use super::ConfigError;
use super::endpoint::InvalidValue;
use super::error::{Origin, PrintedValue};
use super::setting::{Setting, ValueKind};
use super::settings;
use super::source::Sources;
use super::unit::{size, time};

/// The values of all settings.
pub(super) struct Values(pub(super) Sources);

/// The text of one setting.
#[derive(Clone, Copy)]
pub(super) struct SettingText<'a> {
    setting: &'static Setting,
    pub(super) origin: &'a Origin,
    pub(super) text: &'a str,
}

impl Values {
    /// The text of a setting; `None` if no source has a value.
    pub(super) fn get(&self, key: &'static str) -> Option<SettingText<'_>> {
        let (origin, text) = self.0.get(key)?;
        Some(SettingText { setting: setting(key), origin, text })
    }

    /// The text of a setting as an owned string; `None` if no source has a value.
    pub(super) fn text(&self, key: &'static str) -> Option<String> {
        self.get(key).map(|value| value.text.to_owned())
    }

    /// The text of a setting that must have a value.
    pub(super) fn required(&self, key: &'static str) -> Result<SettingText<'_>, ConfigError> {
        self.get(key).ok_or_else(|| missing(key))
    }

    /// A text without a syntax of its own; empty if no source has a value. `check` returns the
    /// reason why a text is invalid.
    pub(super) fn checked(
        &self,
        key: &'static str,
        check: fn(&str) -> Option<&'static str>,
    ) -> Result<String, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(String::new()) };
        match check(value.text) {
            None => Ok(value.text.to_owned()),
            Some(reason) => Err(value.reject(reason)),
        }
    }

    /// A text with its own syntax; `None` if no source has a value.
    pub(super) fn parsed<T>(
        &self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, InvalidValue>,
    ) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        parse(value.text).map(Some).map_err(|invalid| value.invalid(invalid))
    }

    /// A [`ValueKind::Flag`]; `None` if no source has a value.
    pub(super) fn flag(&self, key: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.text {
            "true" | "1" | "yes" | "on" => Ok(Some(true)),
            "false" | "0" | "no" | "off" => Ok(Some(false)),
            _ => Err(value.reject("is neither true nor false")),
        }
    }

    /// A [`ValueKind::OneOf`].
    pub(super) fn word(&self, key: &'static str) -> Result<&str, ConfigError> {
        let value = self.required(key)?;
        match value.setting.kind {
            ValueKind::OneOf(words) if words.contains(&value.text) => Ok(value.text),
            kind => Err(value.reject(&format!("is not {}", kind.describe()))),
        }
    }

    /// A [`ValueKind::Count`].
    pub(super) fn count(&self, key: &'static str) -> Result<usize, ConfigError> {
        let value = self.required(key)?;
        let number = value.text.parse().map_err(|_| value.reject("is not a whole number"))?;
        value.within_limits(number).map(narrow)
    }

    /// A [`ValueKind::Size`], in bytes.
    pub(super) fn size(&self, key: &'static str) -> Result<usize, ConfigError> {
        self.required(key)?.size().map(narrow)
    }

    /// As [`Self::size`]; `None` if no source has a value.
    pub(super) fn optional_size(&self, key: &'static str) -> Result<Option<u64>, ConfigError> {
        self.get(key).map(|value| value.size()).transpose()
    }

    /// A [`ValueKind::Time`].
    pub(super) fn time(&self, key: &'static str) -> Result<Duration, ConfigError> {
        let value = self.required(key)?;
        let time = time(value.text).map_err(|reason| value.reject(reason))?;
        let milliseconds = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        value.within_limits(milliseconds).map(Duration::from_millis)
    }
}

impl SettingText<'_> {
    /// The error for a value that a parser rejected. The value is not printed, because it can
    /// contain a password.
    pub(super) fn invalid(&self, invalid: InvalidValue) -> ConfigError {
        let InvalidValue { reason, good } = invalid;
        ConfigError::Invalid {
            origin: self.origin.clone(),
            value: PrintedValue(None),
            reason,
            good,
        }
    }

    /// The error for an invalid value, with the setting's example.
    pub(super) fn reject(&self, reason: &str) -> ConfigError {
        self.reject_with(reason, self.setting.valid())
    }

    /// The error for an invalid value, with a valid one.
    pub(super) fn reject_with(&self, reason: &str, good: &str) -> ConfigError {
        let printed = (!self.setting.secret).then(|| self.text.to_owned());
        ConfigError::Invalid {
            origin: self.origin.clone(),
            value: PrintedValue(printed),
            reason: reason.to_owned(),
            good: good.to_owned(),
        }
    }

    /// The text as a size in bytes.
    fn size(&self) -> Result<u64, ConfigError> {
        let bytes = size(self.text).map_err(|reason| self.reject(reason))?;
        self.within_limits(bytes)
    }

    /// Checks the limits of the setting's kind.
    fn within_limits(&self, value: u64) -> Result<u64, ConfigError> {
        let kind = self.setting.kind;
        match kind {
            ValueKind::Size { min, max }
            | ValueKind::Time { min, max }
            | ValueKind::Count { min, max }
                if !(min..=max).contains(&value) =>
            {
                Err(self.reject(&format!("is outside {}", kind.describe())))
            }
            _ => Ok(value),
        }
    }
}

/// The error for a setting without a value.
pub(super) fn missing(key: &'static str) -> ConfigError {
    let setting = setting(key);
    ConfigError::Missing {
        env: setting.best_variable(),
        purpose: setting.purpose,
        example: setting.valid(),
    }
}

fn setting(key: &'static str) -> &'static Setting {
    settings::find(key).expect("each key read here is in the list of settings")
}

/// The value as a `usize`. The limits of counts and sizes are far below its maximum.
fn narrow(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}
