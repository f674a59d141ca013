//! What can be wrong with the configuration: the key, where its value came from, the value unless
//! it is a secret, the reason and a good value.

use std::fmt;
use std::path::PathBuf;

/// One fault of the configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{env} is not set: {purpose}; for example {env}={example}")]
    Missing { env: String, purpose: &'static str, example: &'static str },
    #[error("{origin}{value} {reason}; write {good}")]
    Invalid { origin: Origin, value: Shown, reason: String, good: String },
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
    Syntax { path: PathBuf, line: Line, reason: String },
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Flag(String),
    Environment(String),
    File { key: String, path: PathBuf },
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

/// A value as an error may show it: `="…"`, or nothing for a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown(pub Option<String>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => write!(f, "={value:?}"),
            None => Ok(()),
        }
    }
}

/// The setting that was probably meant.
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

/// A line of a file, counted from one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line(pub Option<usize>);

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(line) => write!(f, " line {line}"),
            None => Ok(()),
        }
    }
}
