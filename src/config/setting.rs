//! The list of all settings, and the grammar of their values. Pure.
//!
//! A default is written here as a user would write it and goes through the same parser.
//!
//! Not here: addresses of servers, which have a grammar of their own (`endpoint`).

use std::fmt::Write as _;
use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

const SIZES: &[(&str, u64)] = &[("TiB", TIB), ("GiB", GIB), ("MiB", MIB), ("KiB", KIB), ("B", 1)];
const TIMES: &[(&str, u64)] = &[("d", DAY), ("h", HOUR), ("m", MINUTE), ("s", SECOND), ("ms", 1)];

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// Its key in the TOML file: `section.key`.
    pub key: &'static str,
    /// A second environment variable for it, beside `WALFERRY_<SECTION>_<KEY>`.
    pub alias: Option<&'static str>,
    pub kind: Kind,
    /// As a user would write it; empty for none.
    pub default: &'static str,
    /// What holds when there is neither a value nor a default.
    pub unset: &'static str,
    pub purpose: &'static str,
    /// A good value for error messages.
    pub example: &'static str,
    pub secret: bool,
}

/// What a value may be. Sizes are in bytes, times in milliseconds; both ends are allowed.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Size {
        min: u64,
        max: u64,
    },
    Time {
        min: u64,
        max: u64,
    },
    Count {
        min: u64,
        max: u64,
    },
    Flag,
    OneOf(&'static [&'static str]),
    /// Text with a grammar of its own; the words describe it.
    Text(&'static str),
}

const PLAIN: Setting = Setting {
    key: "",
    alias: None,
    kind: Kind::Flag,
    default: "",
    unset: "",
    purpose: "",
    example: "",
    secret: false,
};

/// All settings, in the order of the README's table.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "database.url",
        alias: Some("DATABASE_URL"),
        kind: Kind::Text(
            "`postgres://` URL or `key=value` pairs; `sslmode` disable, prefer, require, verify-ca or verify-full; `sslrootcert`",
        ),
        unset: "required",
        purpose: "where PostgreSQL is, the role and the database; a direct connection, not a pooler",
        example: "postgres://walferry:PASSWORD@127.0.0.1:5432/app",
        secret: true,
        ..PLAIN
    },
    Setting {
        key: "database.password",
        kind: Kind::Text("any text"),
        unset: "the URL's",
        purpose: "the role's password, where it shall not stand in the URL",
        example: "a password",
        secret: true,
        ..PLAIN
    },
    Setting {
        key: "database.connect_timeout",
        kind: Kind::Time { min: 100, max: 5 * MINUTE },
        default: "5s",
        purpose: "how long one attempt to connect may take",
        example: "5s",
        ..PLAIN
    },
    Setting {
        key: "elasticsearch.url",
        alias: Some("ELASTICSEARCH_URL"),
        kind: Kind::Text("`http://` or `https://` URLs, separated by commas"),
        unset: "required",
        purpose: "the nodes of the cluster",
        example: "http://127.0.0.1:9200",
        secret: true,
        ..PLAIN
    },
    Setting {
        key: "elasticsearch.username",
        kind: Kind::Text("any text"),
        unset: "the URL's",
        purpose: "user for basic authentication",
        example: "walferry",
        ..PLAIN
    },
    Setting {
        key: "elasticsearch.password",
        kind: Kind::Text("any text"),
        unset: "the URL's",
        purpose: "password for basic authentication",
        example: "a password",
        secret: true,
        ..PLAIN
    },
    Setting {
        key: "elasticsearch.api_key",
        kind: Kind::Text("the encoded key, base64"),
        unset: "none",
        purpose: "API key, instead of user and password",
        example: "the `encoded` field of the answer that created the key",
        secret: true,
        ..PLAIN
    },
    Setting {
        key: "elasticsearch.certificate_authority",
        kind: Kind::Text("path of a PEM file"),
        unset: "the system's",
        purpose: "whose certificates are trusted",
        example: "/etc/walferry/elasticsearch-ca.pem",
        ..PLAIN
    },
    Setting {
        key: "elasticsearch.gzip",
        kind: Kind::Flag,
        unset: "true, unless all nodes are on loopback",
        purpose: "compress request bodies",
        example: "true",
        ..PLAIN
    },
    Setting {
        key: "elasticsearch.request_timeout",
        kind: Kind::Time { min: SECOND, max: 10 * MINUTE },
        default: "30s",
        purpose: "how long one request may take, its answer included",
        example: "30s",
        ..PLAIN
    },
    Setting {
        key: "elasticsearch.refresh",
        kind: Kind::OneOf(&["adaptive", "index"]),
        default: "adaptive",
        purpose: "`adaptive`: while caught up, a bulk asks for a refresh, at most every 50 ms; `index`: the index decides",
        example: "adaptive",
        ..PLAIN
    },
    Setting {
        key: "listen",
        kind: Kind::Text("address and port; only loopback, unless `api.insecure_no_auth` is set"),
        default: "127.0.0.1:3002",
        purpose: "where the HTTP server listens",
        example: "127.0.0.1:3002",
        ..PLAIN
    },
    Setting {
        key: "slot",
        kind: Kind::Text("1 to 63 of `a-z`, `0-9` and `_`"),
        default: "walferry",
        purpose: "name of the replication slot, and of this instance",
        example: "walferry",
        ..PLAIN
    },
    Setting {
        key: "publication",
        kind: Kind::Text("1 to 63 bytes"),
        default: "walferry",
        purpose: "name of the publication",
        example: "walferry",
        ..PLAIN
    },
    Setting {
        key: "index_prefix",
        kind: Kind::Text(
            "up to 100 of `a-z`, `0-9`, `.`, `_` and `-`, beginning with a letter or digit",
        ),
        unset: "empty",
        purpose: "put before every index and alias name",
        example: "staging-",
        ..PLAIN
    },
    Setting {
        key: "limits.batch_changes_max",
        kind: Kind::Count { min: 1, max: 100_000 },
        default: "2000",
        purpose: "changes recorded in one transaction",
        example: "2000",
        ..PLAIN
    },
    Setting {
        key: "limits.batch_bytes_max",
        kind: Kind::Size { min: 64 * KIB, max: 256 * MIB },
        default: "2MiB",
        purpose: "row text recorded in one transaction",
        example: "2MiB",
        ..PLAIN
    },
    Setting {
        key: "limits.bulk_actions_max",
        kind: Kind::Count { min: 1, max: 100_000 },
        default: "2000",
        purpose: "documents in one bulk request",
        example: "2000",
        ..PLAIN
    },
    Setting {
        key: "limits.bulk_bytes_max",
        kind: Kind::Size { min: 64 * KIB, max: 100 * MIB },
        default: "4MiB",
        purpose: "one bulk request before compression; Elasticsearch refuses more than 100 MiB",
        example: "4MiB",
        ..PLAIN
    },
    Setting {
        key: "limits.bulks_in_flight_max",
        kind: Kind::Count { min: 1, max: 32 },
        default: "2",
        purpose: "bulk requests under way at once",
        example: "2",
        ..PLAIN
    },
    Setting {
        key: "limits.actions_bytes_max",
        kind: Kind::Size { min: MIB, max: 4 * GIB },
        default: "16MiB",
        purpose: "documents held between their rendering and their verdict; at least `limits.bulk_bytes_max`",
        example: "16MiB",
        ..PLAIN
    },
    Setting {
        key: "limits.retained_wal_bytes_max",
        kind: Kind::Size { min: 16 * MIB, max: 1024 * TIB },
        unset: "half of `max_slot_wal_keep_size`, or 4GiB if that is unlimited",
        purpose: "WAL that the slot may retain before changes recorded as `pending` count as settled",
        example: "4GiB",
        ..PLAIN
    },
    Setting {
        key: "limits.shutdown_grace",
        kind: Kind::Time { min: 0, max: 5 * MINUTE },
        default: "7s",
        purpose: "how long what is in flight is waited for after SIGTERM",
        example: "7s",
        ..PLAIN
    },
    Setting {
        key: "queue.completed_retention",
        kind: Kind::Time { min: HOUR, max: 3650 * DAY },
        default: "7d",
        purpose: "how long completed jobs are kept",
        example: "7d",
        ..PLAIN
    },
    Setting {
        key: "queue.attempts_max",
        kind: Kind::Count { min: 1, max: 100 },
        default: "3",
        purpose: "attempts that Elasticsearch may refuse before a job is `failed`; trouble with the service does not count",
        example: "3",
        ..PLAIN
    },
    Setting {
        key: "queue.retry_delay_min",
        kind: Kind::Time { min: 10, max: HOUR },
        default: "1s",
        purpose: "wait after the first refusal; doubles with each, less up to half at random",
        example: "1s",
        ..PLAIN
    },
    Setting {
        key: "queue.retry_delay_max",
        kind: Kind::Time { min: 10, max: DAY },
        default: "5m",
        purpose: "the longest wait between two attempts",
        example: "5m",
        ..PLAIN
    },
    Setting {
        key: "api.insecure_no_auth",
        kind: Kind::Flag,
        default: "false",
        purpose: "allow `listen` to be an address that other machines reach, although nobody is asked who they are",
        example: "false",
        ..PLAIN
    },
];

impl Setting {
    /// The setting of a key.
    #[must_use]
    pub fn find(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// Its environment variable: `WALFERRY_<SECTION>_<KEY>`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("WALFERRY_{}", self.key.replace('.', "_").to_ascii_uppercase())
    }

    /// The variable that its users know best.
    #[must_use]
    pub fn best_variable(&self) -> String {
        self.alias.map_or_else(|| self.variable(), str::to_owned)
    }
}

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

/// `64MiB` → bytes. The reason, if it is not a size.
pub(super) fn size(text: &str) -> Result<u64, &'static str> {
    measured(text, SIZES, "is not a size; a number needs its unit, B, KiB, MiB, GiB or TiB")
}

/// `250ms`, `5s`, `10m` → time. The reason, if it is not a duration.
pub(super) fn time(text: &str) -> Result<Duration, &'static str> {
    measured(text, TIMES, "is not a duration; a number needs its unit, ms, s, m, h or d")
        .map(Duration::from_millis)
}

/// A size in the largest unit that divides it.
#[must_use]
pub(super) fn size_text(bytes: u64) -> String {
    text(bytes, SIZES)
}

/// Milliseconds in the largest unit that divides them.
#[must_use]
pub(super) fn time_text(milliseconds: u64) -> String {
    text(milliseconds, TIMES)
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

fn measured(text: &str, units: &[(&str, u64)], reason: &'static str) -> Result<u64, &'static str> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let (_, factor) = units.iter().find(|(name, _)| *name == unit.trim()).ok_or(reason)?;
    let number: u64 = number.parse().map_err(|_| reason)?;
    number.checked_mul(*factor).ok_or("is too large")
}

fn text(value: u64, units: &[(&str, u64)]) -> String {
    let unit = units.iter().find(|(_, factor)| value != 0 && value.is_multiple_of(*factor));
    match unit {
        Some((name, factor)) => format!("{}{name}", value / factor),
        None => format!("0{}", if units.first() == SIZES.first() { "B" } else { "s" }),
    }
}

#[cfg(test)]
mod tests {
    use super::{SETTINGS, Setting, size, size_text, time, time_text};

    #[test]
    fn sizes_need_a_unit() {
        let check =
            |text: &str, expected: Option<u64>| assert_eq!(size(text).ok(), expected, "{text}");
        check("64MiB", Some(64 << 20));
        check("4 GiB", Some(4 << 30));
        check("100B", Some(100));
        check("0B", Some(0));
        for wrong in ["", "64", "MiB", "64MB", "64mib", "-1B", "1.5GiB", "99999999999TiB", "1_0B"] {
            check(wrong, None);
        }
    }

    #[test]
    fn durations_need_a_unit() {
        let check = |text: &str, expected: Option<u128>| {
            assert_eq!(time(text).ok().map(|time| time.as_millis()), expected, "{text}");
        };
        check("250ms", Some(250));
        check("5s", Some(5_000));
        check("10m", Some(600_000));
        check("2h", Some(7_200_000));
        check("7d", Some(604_800_000));
        for wrong in ["", "5", "s", "5 years", "5S", "-5s", "0.5s", "99999999999999999999s"] {
            check(wrong, None);
        }
    }

    #[test]
    fn values_print_as_they_are_written() {
        for text in ["64MiB", "1B", "0B", "1025B", "3KiB", "4GiB"] {
            assert_eq!(size_text(size(text).unwrap()), text);
        }
        for text in ["250ms", "5s", "0s", "61s", "10m", "90m", "7d"] {
            let milliseconds = u64::try_from(time(text).unwrap().as_millis()).unwrap();
            assert_eq!(time_text(milliseconds), text);
        }
    }

    #[test]
    fn every_setting_is_complete_and_once_there() {
        for (number, setting) in SETTINGS.iter().enumerate() {
            let Setting { key, purpose, example, default, unset, .. } = setting;
            assert!(!purpose.is_empty() && !example.is_empty(), "{key}");
            assert_ne!(
                default.is_empty(),
                unset.is_empty(),
                "{key} has a default or says what holds"
            );
            assert!(SETTINGS.iter().skip(number + 1).all(|other| other.key != *key), "{key} twice");
        }
    }
}
