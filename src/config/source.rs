//! Which text each setting has, and who says so: flags over environment over file over defaults.
//!
//! Not here: what the text means (`load`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::ConfigError;
use super::error::{Line, Nearest, Origin, Shown};
use super::setting::{SETTINGS, Setting};

/// Environment variables, or a test's idea of them.
pub type Strings = BTreeMap<String, String>;

/// The tables of the file that describe documents and are handed on unread.
const DEFINITION: &[&str] = &["table", "index"];
/// A variable that names the file; it is no key of the file.
const FILE_VARIABLE: &str = "WALFERRY_CONFIG";

/// This process's environment variables.
#[must_use]
pub fn environment() -> Strings {
    let text = |name: std::ffi::OsString| name.to_string_lossy().into_owned();
    std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect()
}

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--config`.
    pub file: Option<PathBuf>,
    /// Flag as written, key, value.
    pub values: Vec<(String, String, String)>,
}

/// All texts, each with where it was written.
pub(super) struct Sources {
    texts: BTreeMap<&'static str, (Origin, String)>,
    pub(super) definition: Option<toml::Table>,
}

impl Sources {
    /// Reads the file and lays the other sources over it.
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

    /// A setting's text; `None` if nobody says anything. An empty text is the same as none.
    pub(super) fn get(&self, key: &'static str) -> Option<(&Origin, &str)> {
        let (origin, text) = self.texts.get(key)?;
        Some((origin, text.as_str())).filter(|(_, text)| !text.is_empty())
    }

    fn take_file(&mut self, path: &Path, origin: &str) -> Result<(), ConfigError> {
        let text = read(path, origin)?;
        let table = text.parse::<toml::Table>().map_err(|error| ConfigError::Syntax {
            path: path.to_owned(),
            line: Line(error.span().map(|span| {
                1 + text.bytes().take(span.start).filter(|byte| *byte == b'\n').count()
            })),
            // Not the error itself: that quotes the line, and there may be a password in it.
            reason: error.message().to_owned(),
        })?;
        let (definition, settings): (toml::Table, toml::Table) =
            table.into_iter().partition(|(key, _)| DEFINITION.contains(&key.as_str()));
        self.definition = Some(definition).filter(|definition| !definition.is_empty());
        self.take_table(path, "", settings)
    }

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
            match (Setting::find(&key), value) {
                (Some(setting), value) => {
                    let text = plain(value).ok_or_else(|| ConfigError::Invalid {
                        origin: origin.clone(),
                        value: Shown(None),
                        reason: "is not a single value".to_owned(),
                        good: format!("{} = {:?}", setting.key, setting.example),
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

    fn take_flags(&mut self, flags: &Flags) -> Result<(), ConfigError> {
        for (flag, key, text) in &flags.values {
            let Some(setting) = Setting::find(key) else {
                let origin = Origin::Flag(flag.clone());
                let nearest = Nearest(nearest(key, file_names()));
                return Err(ConfigError::Unknown { origin, nearest });
            };
            let origin = Origin::Flag(flag.clone());
            if setting.secret {
                return Err(ConfigError::Invalid {
                    origin: Origin::Flag(flag.clone()),
                    value: Shown(None),
                    reason: "would be readable by everyone who lists processes".to_owned(),
                    good: format!("it to the environment variable {}", setting.best_variable()),
                });
            }
            self.texts.insert(setting.key, (origin, text.clone()));
        }
        Ok(())
    }
}

/// A variable's text; a secret may also stand in the file that `<NAME>_FILE` names.
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

/// One value as a user would write it in a variable; `None` for what has no such form.
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

/// Kubernetes sets these in every pod beside a service named `walferry` or `walferry-…`.
fn is_service_link(name: &str) -> bool {
    let Some((_, rest)) = name.rsplit_once("_PORT") else {
        return name.ends_with("_SERVICE_HOST");
    };
    rest.is_empty()
        || name.contains("_SERVICE_PORT_")
        || rest.contains("_TCP")
        || rest.contains("_UDP")
}

fn variables() -> impl Iterator<Item = String> {
    let own = SETTINGS.iter().map(Setting::variable);
    own.chain([FILE_VARIABLE.to_owned()])
}

fn file_names() -> impl Iterator<Item = String> {
    let keys = SETTINGS.iter().map(|setting| setting.key.to_owned());
    let sections =
        SETTINGS.iter().filter_map(|setting| Some(setting.key.split_once('.')?.0.to_owned()));
    keys.chain(sections).chain(DEFINITION.iter().map(|&name| name.to_owned()))
}

/// The name that differs least, if it differs by two letters or a third of its length, or is the
/// same key in another section.
fn nearest(name: &str, names: impl Iterator<Item = String>) -> Option<String> {
    let last = |name: &str| name.rsplit('.').next().map(str::to_owned);
    let scored = names.map(|candidate| {
        let same_key = last(&candidate) == last(name);
        (if same_key { 1 } else { distance(name, &candidate) }, candidate)
    });
    let (steps, best) = scored.min()?;
    (steps <= 2.max(name.len() / 3)).then_some(best)
}

/// Levenshtein's distance: insertions, deletions and replacements from one to the other.
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
