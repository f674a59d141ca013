//! The sources of settings. In descending precedence: flags, environment variables, the
//! configuration file, defaults.
//!
//! Not here: parsing the text of a value (`values`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::error::{LineNumber, Nearest, Origin, PrintedValue};
use super::setting::Setting;
use super::settings::{self, SETTINGS};

/// Environment variables by name.
pub type Strings = BTreeMap<String, String>;

/// The tables of the configuration file that define documents. They are not settings.
const DEFINITION: &[&str] = &["table", "index"];
/// The environment variable with the path of the configuration file.
const FILE_VARIABLE: &str = "WALFERRY_CONFIG";

/// The environment variables of this process.
#[must_use]
pub fn environment() -> Strings {
    let text = |name: std::ffi::OsString| name.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

/// The settings on the command line.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// The path of the configuration file (`--config`).
    pub file: Option<PathBuf>,
    /// For each flag: the flag as written, the key of its setting, and the value.
    pub values: Vec<(String, String, String)>,
}

/// The text of each setting, with its origin.
pub(super) struct Sources {
    texts: BTreeMap<&'static str, (Origin, String)>,
    /// The tables of the configuration file that define documents.
    pub(super) definition: Option<toml::Table>,
}

impl Sources {
    /// Reads all sources in ascending precedence.
    pub(super) fn read(flags: &Flags, environment: &Strings) -> Result<Self, ConfigError> {
        let mut sources = Self { texts: BTreeMap::new(), definition: None };
        for setting in SETTINGS.iter().filter(|setting| !setting.default.is_empty()) {
            let text = setting.default.to_owned();
            sources.texts.insert(setting.key, (Origin::Default(setting.key), text));
        }
        let named = environment.get(FILE_VARIABLE).filter(|path| !path.is_empty());
        match (&flags.file, named) {
            (Some(path), _) => sources.take_file(path, "--config")?,
            (None, Some(path)) => sources.take_file(Path::new(path), FILE_VARIABLE)?,
            (None, None) => {}
        }
        sources.take_environment(environment)?;
        sources.take_flags(flags)?;
        Ok(sources)
    }

    /// The text of a setting; `None` if no source has a value. An empty text is no value.
    pub(super) fn get(&self, key: &'static str) -> Option<(&Origin, &str)> {
        let (origin, text) = self.texts.get(key)?;
        Some((origin, text.as_str())).filter(|(_, text)| !text.is_empty())
    }

    /// Reads the configuration file. `origin` is the flag or the variable that names it.
    fn take_file(&mut self, path: &Path, origin: &str) -> Result<(), ConfigError> {
        let text = read(path, origin)?;
        let table = text.parse::<toml::Table>().map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: LineNumber(error.span().map(|span| {
                1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
            })),
            // The error itself is not printed: it quotes the line, which can contain a password.
            reason: error.message().to_owned(),
        })?;
        let (definition, settings): (toml::Table, toml::Table) =
            table.into_iter().partition(|(key, _)| DEFINITION.contains(&key.as_str()));
        self.definition = Some(definition).filter(|definition| !definition.is_empty());
        self.take_table(path, "", settings)
    }

    /// Reads the settings of one table. `prefix` is the section, followed by a dot.
    fn take_table(
        &mut self,
        path: &Path,
        prefix: &str,
        table: toml::Table,
    ) -> Result<(), ConfigError> {
        for (name, value) in table {
            let key = format!("{prefix}{name}");
            let origin = Origin::File { key: key.clone(), path: path.to_owned() };
            let section = format!("{key}.");
            match (settings::find(&key), value) {
                (Some(setting), value) => {
                    let text = plain(value).ok_or_else(|| ConfigError::Invalid {
                        origin: origin.clone(),
                        value: PrintedValue(None),
                        reason: "is not a single value".to_owned(),
                        good: format!("{} = {:?}", setting.key, setting.valid()),
                    })?;
                    self.texts.insert(setting.key, (origin, text));
                }
                (None, toml::Value::Table(inner))
                    if SETTINGS.iter().any(|setting| setting.key.starts_with(&section)) =>
                {
                    self.take_table(path, &section, inner)?;
                }
                (None, _) => {
                    let nearest = Nearest(nearest(&key, file_names()));
                    return Err(ConfigError::Unknown { origin, nearest });
                }
            }
        }
        Ok(())
    }

    /// Reads the environment variables, and rejects unknown ones with the prefix `WALFERRY_`.
    fn take_environment(&mut self, environment: &Strings) -> Result<(), ConfigError> {
        for setting in SETTINGS {
            let names = std::iter::once(setting.variable()).chain(setting.alias.map(str::to_owned));
            for name in names {
                if let Some(text) = variable(environment, setting, &name)? {
                    self.texts.insert(setting.key, (Origin::Environment(name), text));
                    break;
                }
            }
        }
        for name in environment.keys().filter(|name| name.starts_with("WALFERRY_")) {
            if !is_known(name) && !is_service_link(name) {
                let origin = Origin::Environment(name.clone());
                let nearest = Nearest(nearest(name, variables()));
                return Err(ConfigError::Unknown { origin, nearest });
            }
        }
        Ok(())
    }

    /// Reads the flags. A secret must not be given on the command line.
    fn take_flags(&mut self, flags: &Flags) -> Result<(), ConfigError> {
        for (flag, key, text) in &flags.values {
            let origin = Origin::Flag(flag.clone());
            let Some(setting) = settings::find(key) else {
                let nearest = Nearest(nearest(key, file_names()));
                return Err(ConfigError::Unknown { origin, nearest });
            };
            if setting.secret {
                return Err(ConfigError::Invalid {
                    origin,
                    value: PrintedValue(None),
                    reason: "would be readable by everyone who lists processes".to_owned(),
                    good: format!("it to the environment variable {}", setting.best_variable()),
                });
            }
            self.texts.insert(setting.key, (origin, text.clone()));
        }
        Ok(())
    }
}

/// The text of an environment variable. A secret can also be in the file that the variable
/// `<NAME>_FILE` names.
fn variable(
    environment: &Strings,
    setting: &Setting,
    name: &str,
) -> Result<Option<String>, ConfigError> {
    let direct = environment.get(name).filter(|text| !text.is_empty());
    let file_name = format!("{name}_FILE");
    let file = environment.get(&file_name).filter(|path| setting.secret && !path.is_empty());
    match (direct, file) {
        (Some(_), Some(_)) => Err(ConfigError::Both { first: name.to_owned(), second: file_name }),
        (Some(text), None) => Ok(Some(text.clone())),
        (None, Some(path)) => {
            read(Path::new(path), &file_name).map(|text| Some(text.trim_end().to_owned()))
        }
        (None, None) => Ok(None),
    }
}

fn read(path: &Path, origin: &str) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        origin: origin.to_owned(),
        source,
    })
}

/// A TOML value as the text of an environment variable; `None` for tables and other values without
/// such a text.
fn plain(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        toml::Value::Array(values) => {
            let texts: Option<Vec<String>> = values.into_iter().map(plain).collect();
            texts.map(|texts| texts.join(","))
        }
        _ => None,
    }
}

fn is_known(name: &str) -> bool {
    name == FILE_VARIABLE
        || SETTINGS.iter().any(|setting| {
            let variable = setting.variable();
            name == variable || (setting.secret && name.strip_suffix("_FILE") == Some(&variable))
        })
}

/// True for the variables that Kubernetes sets in every pod for a service named `walferry` or
/// `walferry-…` (Kubernetes, "Service", environment variables).
fn is_service_link(name: &str) -> bool {
    let Some((_, rest)) = name.rsplit_once("_PORT") else {
        return name.ends_with("_SERVICE_HOST");
    };
    rest.is_empty()
        || name.contains("_SERVICE_PORT_")
        || rest.contains("_TCP")
        || rest.contains("_UDP")
}

/// The environment variables of all settings.
fn variables() -> impl Iterator<Item = String> {
    let own = SETTINGS.iter().map(Setting::variable);
    own.chain([FILE_VARIABLE.to_owned()])
}

/// All keys and tables of the configuration file.
fn file_names() -> impl Iterator<Item = String> {
    let keys = SETTINGS.iter().map(|setting| setting.key.to_owned());
    let sections =
        SETTINGS.iter().filter_map(|setting| Some(setting.key.split_once('.')?.0.to_owned()));
    keys.chain(sections).chain(DEFINITION.iter().map(|&name| name.to_owned()))
}

/// The most similar name, if the same key exists in another section, or if the edit distance is at
/// most two or a third of the name's length.
fn nearest(name: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let last = |name: &str| name.rsplit('.').next().map(str::to_owned);
    let scored = names.map(|candidate| {
        let same_key = last(&candidate) == last(name);
        (if same_key { 1 } else { distance(name, &candidate) }, candidate)
    });
    let (steps, best) = scored.min()?;
    (steps <= 2.max(name.len() / 3)).then_some(best)
}

/// The Levenshtein distance: the number of insertions, deletions and replacements.
fn distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, a) in left.bytes().enumerate() {
        let mut diagonal = i;
        let mut previous = i + 1;
        for (b, cell) in right.bytes().zip(row.iter_mut().skip(1)) {
            let replaced = diagonal + usize::from(a != b);
            diagonal = *cell;
            previous = replaced.min(diagonal + 1).min(previous + 1);
            *cell = previous;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{distance, file_names, is_service_link, nearest};

    #[test]
    fn distances() {
        let check = |left, right, expected| assert_eq!(distance(left, right), expected);
        check("", "", 0);
        check("slot", "slot", 0);
        check("slto", "slot", 2);
        check("kitten", "sitting", 3);
        check("", "abc", 3);
    }

    #[test]
    fn the_nearest_name_is_offered_when_it_is_near() {
        let check = |name: &str, expected: Option<&str>| {
            assert_eq!(nearest(name, file_names()).as_deref(), expected, "{name}");
        };
        check("sloot", Some("slot"));
        check("limits.bulk_byte_max", Some("limits.bulk_bytes_max"));
        check("elasticsarch", Some("elasticsearch"));
        check("tables", Some("table"));
        check("bulk_bytes_max", Some("limits.bulk_bytes_max"));
        check("zebra", None);
    }

    #[test]
    fn kubernetes_may_set_its_service_variables() {
        for name in [
            "WALFERRY_SERVICE_HOST",
            "WALFERRY_SERVICE_PORT",
            "WALFERRY_SERVICE_PORT_HTTP",
            "WALFERRY_PORT",
            "WALFERRY_PORT_3002_TCP",
            "WALFERRY_PORT_3002_TCP_ADDR",
            "WALFERRY_METRICS_PORT_9000_TCP_PROTO",
        ] {
            assert!(is_service_link(name), "{name}");
        }
        for name in ["WALFERRY_SLOTS", "WALFERRY_PORTS", "WALFERRY_HOST"] {
            assert!(!is_service_link(name), "{name}");
        }
    }
}
