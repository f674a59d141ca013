//! Errors of the configuration. Each names the setting, the origin of its value, the value unless
//! it is secret, the reason, and a valid value.
//!
//! Not here: the exit code of an error (`command`).

use std::fmt;
use std::path::PathBuf;

/// An error of the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{env} is not set: {purpose}; for example {env}={example}")]
    Missing { env: String, purpose: &'static str, example: &'static str },
    #[error("{origin}{value} {reason}; write {good}")]
    Invalid { origin: Origin, value: PrintedValue, reason: String, good: String },
    #[error("{origin} is not a setting{nearest}")]
    Unknown { origin: Origin, nearest: Nearest },
    #[error("{first} and {second} are both set; set one of them")]
    Both { first: String, second: String },
    #[error("could not read {}, which {origin} names", path.display())]
    Read {
        path: PathBuf,
        origin: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{}{line} is not TOML: {reason}", path.display())]
    Syntax { path: PathBuf, line: LineNumber, reason: String },
}

/// The origin of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A command-line flag, as written.
    Flag(String),
    /// The environment variable of this name.
    Environment(String),
    /// A key of the configuration file.
    File {
        /// The key, with its section.
        key: String,
        /// The file.
        path: PathBuf,
    },
    /// The default of the setting with this key.
    Default(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::Environment(name) => f.write_str(name),
            Self::File { key, path } => write!(f, "{key} in {}", path.display()),
            Self::Default(key) => write!(f, "the default of {key}"),
        }
    }
}

/// A value in an error message: `="…"`, or nothing if the value is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrintedValue(pub Option<String>);

impl fmt::Display for PrintedValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => write!(f, "={value:?}"),
            None => Ok(()),
        }
    }
}

/// The setting with the most similar name, if one is similar enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nearest(pub Option<String>);

impl fmt::Display for Nearest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(name) => write!(f, "; did you mean {name}?"),
            None => f.write_str("; the README lists all of them"),
        }
    }
}

/// The number of a line of a file, from 1; `None` if the parser reported none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineNumber(pub Option<usize>);

impl fmt::Display for LineNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(line) => write!(f, " line {line}"),
            None => Ok(()),
        }
    }
}
