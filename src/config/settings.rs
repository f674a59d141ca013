//! The list of all settings. Pure.
//!
//! A default is written as in a configuration file and is parsed by the same parser.
//!
//! Not here: the types of a setting (`setting`), and the parsers of sizes and times (`unit`) and
//! of server addresses (`endpoint`).

use super::setting::{Setting, ValueKind};
use super::unit::{DAY, GIB, HOUR, KIB, MIB, MINUTE, SECOND, TIB};

/// All settings, in the order of docs/configuration.md.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "database.url",
        alias: Some("DATABASE_URL"),
        kind: ValueKind::Text(
            "`postgres://` URL or `key=value` pairs; `sslmode` disable, prefer, require, verify-ca or \
             verify-full; `sslrootcert`",
        ),
        unset: "required",
        purpose: "where PostgreSQL is, the role and the database; a direct connection, not a pooler",
        example: "postgres://walferry:PASSWORD@127.0.0.1:5432/app",
        secret: true,
        ..Setting::PLAIN
    },
    Setting {
        key: "database.password",
        kind: ValueKind::Text("any text"),
        unset: "the URL's",
        purpose: "the role's password, where it shall not stand in the URL",
        example: "a password",
        secret: true,
        ..Setting::PLAIN
    },
    Setting {
        key: "database.connect_timeout",
        kind: ValueKind::Time { min: 100, max: 5 * MINUTE },
        default: "5s",
        purpose: "how long one attempt to connect may take",
        ..Setting::PLAIN
    },
    Setting {
        key: "elasticsearch.url",
        alias: Some("ELASTICSEARCH_URL"),
        kind: ValueKind::Text("`http://` or `https://` URLs, separated by commas"),
        unset: "required",
        purpose: "the nodes of the cluster",
        example: "http://127.0.0.1:9200",
        secret: true,
        ..Setting::PLAIN
    },
    Setting {
        key: "elasticsearch.username",
        kind: ValueKind::Text("any text"),
        unset: "the URL's",
        purpose: "user for basic authentication",
        example: "walferry",
        ..Setting::PLAIN
    },
    Setting {
        key: "elasticsearch.password",
        kind: ValueKind::Text("any text"),
        unset: "the URL's",
        purpose: "password for basic authentication",
        example: "a password",
        secret: true,
        ..Setting::PLAIN
    },
    Setting {
        key: "elasticsearch.api_key",
        kind: ValueKind::Text("the encoded key, base64"),
        unset: "none",
        purpose: "API key, instead of user and password",
        example: "the `encoded` field of the answer that created the key",
        secret: true,
        ..Setting::PLAIN
    },
    Setting {
        key: "elasticsearch.certificate_authority",
        kind: ValueKind::Text("path of a PEM file"),
        unset: "the system's",
        purpose: "whose certificates are trusted",
        example: "/etc/walferry/elasticsearch-ca.pem",
        ..Setting::PLAIN
    },
    Setting {
        key: "elasticsearch.gzip",
        kind: ValueKind::Flag,
        unset: "true, unless all nodes are on loopback",
        purpose: "compress request bodies",
        example: "true",
        ..Setting::PLAIN
    },
    Setting {
        key: "elasticsearch.request_timeout",
        kind: ValueKind::Time { min: SECOND, max: 10 * MINUTE },
        default: "30s",
        purpose: "how long one request may take, its answer included",
        ..Setting::PLAIN
    },
    Setting {
        key: "elasticsearch.refresh",
        kind: ValueKind::OneOf(&["adaptive", "index"]),
        default: "adaptive",
        purpose: "`adaptive`: while caught up, a bulk asks for a refresh, at most every 50 ms; \
                  `index`: the index decides",
        ..Setting::PLAIN
    },
    Setting {
        key: "listen",
        kind: ValueKind::Text(
            "address and port; only loopback, unless `api.tokens`, a JWT setting or `api.insecure_no_auth` is set",
        ),
        default: "127.0.0.1:3002",
        purpose: "where the HTTP server listens",
        ..Setting::PLAIN
    },
    Setting {
        key: "slot",
        kind: ValueKind::Text("1 to 63 of `a-z`, `0-9` and `_`"),
        default: "walferry",
        purpose: "name of the replication slot, and of this instance",
        ..Setting::PLAIN
    },
    Setting {
        key: "publication",
        kind: ValueKind::Text("1 to 63 bytes"),
        default: "walferry",
        purpose: "name of the publication",
        ..Setting::PLAIN
    },
    Setting {
        key: "index_prefix",
        kind: ValueKind::Text(
            "up to 100 of `a-z`, `0-9`, `.`, `_` and `-`, beginning with a letter or digit",
        ),
        unset: "empty",
        purpose: "put before every index and alias name",
        example: "staging-",
        ..Setting::PLAIN
    },
    Setting {
        key: "limits.batch_changes_max",
        kind: ValueKind::Count { min: 1, max: 100_000 },
        default: "2000",
        purpose: "changes recorded in one transaction",
        ..Setting::PLAIN
    },
    Setting {
        key: "limits.batch_bytes_max",
        kind: ValueKind::Size { min: 64 * KIB, max: 256 * MIB },
        default: "2MiB",
        purpose: "row text recorded in one transaction",
        ..Setting::PLAIN
    },
    Setting {
        key: "limits.row_bytes_max",
        kind: ValueKind::Size { min: 64 * KIB, max: 512 * MIB },
        default: "64MiB",
        purpose: "text of one row; of a larger one, values over 1 KiB are recorded as size and hash, and its \
                  documents are refused. walferry holds up to five times as much while a row of this size passes",
        ..Setting::PLAIN
    },
    Setting {
        key: "limits.fanout_rows_max",
        kind: ValueKind::Count { min: 1, max: 10_000 },
        default: "500",
        purpose: "rows that a fan-out rewrites at once, between other changes; if more rows show a \
                  changed row, they are rewritten in the background",
        ..Setting::PLAIN
    },
    Setting {
        key: "limits.bulk_actions_max",
        kind: ValueKind::Count { min: 1, max: 100_000 },
        default: "2000",
        purpose: "documents in one bulk request",
        ..Setting::PLAIN
    },
    Setting {
        key: "limits.bulk_bytes_max",
        kind: ValueKind::Size { min: 64 * KIB, max: 100 * MIB },
        default: "4MiB",
        purpose: "one bulk request before compression; Elasticsearch refuses more than 100 MiB",
        ..Setting::PLAIN
    },
    Setting {
        key: "limits.bulks_in_flight_max",
        kind: ValueKind::Count { min: 1, max: 32 },
        default: "2",
        purpose: "bulk requests under way at once",
        ..Setting::PLAIN
    },
    Setting {
        key: "limits.actions_bytes_max",
        kind: ValueKind::Size { min: MIB, max: 4 * GIB },
        default: "16MiB",
        purpose: "documents held between their rendering and their verdict; at least `limits.bulk_bytes_max`",
        ..Setting::PLAIN
    },
    Setting {
        key: "limits.memory_max",
        kind: ValueKind::Size { min: 32 * MIB, max: 64 * GIB },
        default: "128MiB",
        purpose: "rows, documents and batches held at once, beyond what the process itself needs; at least twice \
            `limits.actions_bytes_max`",
        ..Setting::PLAIN
    },
    Setting {
        key: "limits.retained_wal_bytes_max",
        kind: ValueKind::Size { min: 16 * MIB, max: 1024 * TIB },
        unset: "half of `max_slot_wal_keep_size`, or 4GiB if that is unlimited",
        purpose: "WAL that the slot may retain before changes recorded as `pending` count as settled",
        example: "4GiB",
        ..Setting::PLAIN
    },
    Setting {
        key: "limits.shutdown_grace",
        kind: ValueKind::Time { min: 0, max: 5 * MINUTE },
        default: "7s",
        purpose: "how long what is in flight is waited for after SIGTERM",
        ..Setting::PLAIN
    },
    Setting {
        key: "queue.completed_retention",
        kind: ValueKind::Time { min: HOUR, max: 3650 * DAY },
        default: "7d",
        purpose: "how long completed jobs are kept",
        ..Setting::PLAIN
    },
    Setting {
        key: "queue.audit_retention",
        kind: ValueKind::Time { min: DAY, max: 3650 * DAY },
        default: "365d",
        purpose: "how long operations stay in the audit log; of refused attempts it keeps the newest 10,000",
        ..Setting::PLAIN
    },
    Setting {
        key: "queue.attempts_max",
        kind: ValueKind::Count { min: 1, max: 100 },
        default: "3",
        purpose: "attempts that Elasticsearch may refuse before a job is `failed`; \
                  trouble with the service does not count",
        ..Setting::PLAIN
    },
    Setting {
        key: "queue.retry_delay_min",
        kind: ValueKind::Time { min: 10, max: HOUR },
        default: "1s",
        purpose: "wait after the first refusal; doubles with each, less up to half at random",
        ..Setting::PLAIN
    },
    Setting {
        key: "queue.retry_delay_max",
        kind: ValueKind::Time { min: 10, max: DAY },
        default: "5m",
        purpose: "the longest wait between two attempts",
        ..Setting::PLAIN
    },
    Setting {
        key: "api.tokens",
        kind: ValueKind::Text(
            "`NAME:ROLE:SHA256` or `NAME:ROLE:SHA256:YYYY-MM-DD`, as `walferry token create` prints them, \
             separated by commas or white space",
        ),
        unset: "none",
        purpose: "who may use the API: hashes of tokens, with a role (viewer, operator or admin) \
                  and perhaps the last day",
        example: "what `walferry token create` prints",
        secret: true,
        ..Setting::PLAIN
    },
    Setting {
        key: "api.jwks_url",
        kind: ValueKind::Text("`https://` URL, or `http://` on loopback"),
        unset: "none",
        purpose: "keys for JWTs signed with ES256 or RS256; for Supabase the address of its Auth, \
                  then `/.well-known/jwks.json`",
        example: "https://PROJECT.supabase.co/auth/v1/.well-known/jwks.json",
        ..Setting::PLAIN
    },
    Setting {
        key: "api.jwt_secret",
        kind: ValueKind::Text("at least 32 bytes"),
        unset: "none",
        purpose: "secret for JWTs signed with HS256, Supabase's older way",
        example: "the whole JWT secret of the project",
        secret: true,
        ..Setting::PLAIN
    },
    Setting {
        key: "api.jwt_issuer",
        kind: ValueKind::Text("any text"),
        unset: "what stands before `/.well-known/jwks.json` in `api.jwks_url`; required with `api.jwt_secret` alone",
        purpose: "the only `iss` that a JWT may have",
        example: "https://PROJECT.supabase.co/auth/v1",
        ..Setting::PLAIN
    },
    Setting {
        key: "api.jwt_audience",
        kind: ValueKind::Text("any text"),
        default: "authenticated",
        purpose: "what must be in a JWT's `aud`",
        ..Setting::PLAIN
    },
    Setting {
        key: "api.jwt_role_claim",
        kind: ValueKind::Text(
            "claims with dots between them; not `user_metadata`, which users can change",
        ),
        default: "app_metadata.walferry_role",
        purpose: "where a JWT says viewer, operator or admin; `user_role` for a Supabase hook's claim",
        ..Setting::PLAIN
    },
    Setting {
        key: "api.cors_origins",
        kind: ValueKind::Text(
            "origins such as `https://admin.example.com`, separated by commas or white space",
        ),
        unset: "none",
        purpose: "other sites whose pages may use the API",
        example: "https://admin.example.com",
        ..Setting::PLAIN
    },
    Setting {
        key: "api.hosts",
        kind: ValueKind::Text(
            "names such as `walferry.example.com`, separated by commas or white space",
        ),
        unset: "none",
        purpose: "names that clients may ask by, besides IP addresses, names without a dot and the hosts of \
                  `api.cors_origins`",
        example: "walferry.example.com",
        ..Setting::PLAIN
    },
    Setting {
        key: "api.trusted_proxies",
        kind: ValueKind::Text(
            "addresses and networks such as `10.0.0.0/8`, separated by commas or white space",
        ),
        unset: "none",
        purpose: "reverse proxies whose `X-Forwarded-For` names the client, for rate limits and the audit log",
        example: "127.0.0.1",
        ..Setting::PLAIN
    },
    Setting {
        key: "api.environment",
        kind: ValueKind::Text("up to 40 characters"),
        unset: "none",
        purpose: "what the page calls this installation, so that nobody takes it for another",
        example: "production",
        ..Setting::PLAIN
    },
    Setting {
        key: "api.audit_reads",
        kind: ValueKind::Flag,
        default: "false",
        purpose: "write down in the audit log who reads which record or job, once a minute; of reads it keeps the \
                  newest 100,000",
        ..Setting::PLAIN
    },
    Setting {
        key: "api.insecure_no_auth",
        kind: ValueKind::Flag,
        default: "false",
        purpose: "allow `listen` to be an address that other machines reach, although nobody is asked who they are",
        ..Setting::PLAIN
    },
];

/// The setting with this key in the configuration file.
pub(super) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

#[cfg(test)]
mod tests {
    use super::{SETTINGS, Setting};

    #[test]
    fn every_setting_is_complete_and_listed_once() {
        for (number, setting) in SETTINGS.iter().enumerate() {
            let Setting { key, purpose, example, default, unset, .. } = setting;
            assert!(!purpose.is_empty() && !setting.valid().is_empty(), "{key}");
            assert_ne!(example, default, "{key} has its example twice");
            assert_ne!(
                default.is_empty(),
                unset.is_empty(),
                "{key} has a default or says what holds"
            );
            assert!(SETTINGS.iter().skip(number + 1).all(|other| other.key != *key), "{key} twice");
        }
    }
}
