//! What a user writes, and what walferry makes of it or says about it.

use std::time::Duration;

use walferry::config::{
    Authentication, Config, Flags, Needs, Refresh, SETTINGS, Setting, Strings, ValueKind, load,
};

use crate::support::launcher::new_file;

const BASE: [(&str, &str); 2] =
    [("DATABASE_URL", "postgres://ann@db/shop"), ("ELASTICSEARCH_URL", "http://127.0.0.1:9200")];

fn strings(pairs: &[(&str, &str)]) -> Strings {
    let all = BASE.iter().chain(pairs);
    all.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn read(pairs: &[(&str, &str)]) -> Result<Config, String> {
    load(&Flags::default(), &strings(pairs), Needs::Both)
        .map_err(|error| walferry::command::sentence(&error))
}

fn good(pairs: &[(&str, &str)]) -> Config {
    read(pairs).unwrap_or_else(|error| panic!("{pairs:?}: {error}"))
}

/// The error's sentence begins with the variable and contains each part.
fn bad(name: &str, value: &str, parts: &[&str]) {
    let error = read(&[(name, value)]).expect_err(name);
    assert!(error.starts_with(name), "{error}");
    for part in parts {
        assert!(error.contains(part), "{error} lacks {part}");
    }
    assert!(!error.contains("hunter2"), "{error}");
}

fn file(text: &str) -> String {
    new_file("configuration", text)
}

fn read_file(text: &str, pairs: &[(&str, &str)]) -> Result<Config, String> {
    let flags = Flags { file: Some(file(text).into()), values: Vec::new() };
    let environment = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    load(&flags, &environment.collect(), Needs::Both)
        .map_err(|error| walferry::command::sentence(&error))
}

#[test]
fn two_addresses_are_enough() {
    let config = good(&[]);
    assert_eq!(config.listen.to_string(), "127.0.0.1:3002");
    assert_eq!((config.slot.as_str(), config.publication.as_str()), ("walferry", "walferry"));
    assert_eq!(config.index_prefix, "");
    assert_eq!(config.limits.batch_changes_max, 2000);
    assert_eq!(config.limits.batch_bytes_max, 2 << 20);
    assert_eq!(config.limits.bulk_actions_max, 2000);
    assert_eq!(config.limits.bulk_bytes_max, 4 << 20);
    assert_eq!(config.limits.bulks_in_flight_max, 2);
    assert_eq!(config.limits.actions_bytes_max, 16 << 20);
    assert_eq!(config.limits.retained_wal_bytes_max, None);
    assert_eq!(config.limits.shutdown_grace, Duration::from_secs(7));
    assert_eq!(config.queue.completed_retention, Duration::from_secs(7 * 86_400));
    assert_eq!(config.elasticsearch.request_timeout, Duration::from_secs(30));
    assert_eq!(config.elasticsearch.refresh, Refresh::Adaptive);
    assert!(!config.elasticsearch.gzip, "the node is on loopback");
    assert!(config.definition.is_none());
}

#[test]
fn bodies_are_compressed_unless_the_node_is_on_this_machine_or_somebody_says_so() {
    let check = |url: &str, gzip: &str, expected: bool| {
        let config = good(&[("ELASTICSEARCH_URL", url), ("WALFERRY_ELASTICSEARCH_GZIP", gzip)]);
        assert_eq!(config.elasticsearch.gzip, expected, "{url} {gzip}");
    };
    check("http://127.0.0.1:9200", "", false);
    check("http://127.0.0.1:9200", "true", true);
    check("https://es1:9200,https://es2:9200", "", true);
    check("https://es1:9200", "false", false);
}

#[test]
fn flags_over_environment_over_file_over_defaults() {
    let file = file("slot = 'from_file'\npublication = 'from_file'\nindex_prefix = 'file-'\n");
    let environment = strings(&[
        ("WALFERRY_SLOT", "from_environment"),
        ("WALFERRY_PUBLICATION", "from_environment"),
    ]);
    let flag = ("--slot".to_owned(), "slot".to_owned(), "from_flag".to_owned());
    let flags = Flags { file: Some(file.into()), values: vec![flag] };
    let config = load(&flags, &environment, Needs::Both).unwrap();
    assert_eq!(config.slot, "from_flag");
    assert_eq!(config.publication, "from_environment");
    assert_eq!(config.index_prefix, "file-");
    assert_eq!(config.limits.batch_changes_max, 2000);
}

#[test]
fn the_file_may_be_named_by_a_variable() {
    let file = file("slot = 'named'\n");
    assert_eq!(good(&[("WALFERRY_CONFIG", &file)]).slot, "named");
}

#[test]
fn a_file_may_say_everything() {
    let text = "
        [database]
        url = 'host=db user=ann dbname=shop'
        [elasticsearch]
        url = ['http://es1:9200', 'http://es2:9200']
        gzip = false
        api_key = 'abc'
        [limits]
        batch_changes_max = 10
        retained_wal_bytes_max = '1GiB'
        [[table]]
        name = 'orders'
        [[index]]
        name = 'orders'";
    let config = read_file(text, &[]).unwrap();
    assert_eq!(config.elasticsearch.nodes.len(), 2);
    assert!(!config.elasticsearch.gzip);
    assert!(matches!(config.elasticsearch.authentication, Authentication::ApiKey(_)));
    assert_eq!(config.limits.batch_changes_max, 10);
    assert_eq!(config.limits.retained_wal_bytes_max, Some(1 << 30));
    let definition = config.definition.unwrap();
    assert_eq!(definition.keys().collect::<Vec<_>>(), ["index", "table"]);
}

#[test]
fn what_a_file_gets_wrong_is_named_with_its_place() {
    let check = |text: &str, parts: &[&str]| {
        let error = read_file(text, &BASE).expect_err(text);
        for part in parts {
            assert!(error.contains(part), "{error} lacks {part}");
        }
        assert!(!error.contains("hunter2"), "{error}");
    };
    check("slto = 'x'", &["slto in ", "configuration-", "did you mean slot?"]);
    check("[limits]\nbulk_size = 1", &["limits.bulk_size in "]);
    check("[elasticsarch]\nurl = 'x'", &["elasticsarch in", "did you mean elasticsearch?"]);
    check("bulk_bytes_max = '1MiB'", &["did you mean limits.bulk_bytes_max?"]);
    check(
        "[limits]\nbulk_bytes_max = 4096",
        &["limits.bulk_bytes_max in ", "\"4096\"", "unit", "4MiB"],
    );
    check("[limits]\nshutdown_grace = 8", &["\"8\"", "unit", "7s"]);
    check("[limits]\nshutdown_grace = 1.5", &["is not a single value", "7s"]);
    check("slot = 'a'\n\nslot = ", &["line 3", "is not TOML"]);
    check("[elasticsearch]\npassword = 'hunter2", &["line 2", "is not TOML"]);
}

#[test]
fn what_is_missing_is_named_with_its_purpose() {
    let check = |present: &[(&str, &str)], needs, parts: &[&str]| {
        let environment = present.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let error = load(&Flags::default(), &environment, needs).unwrap_err().to_string();
        assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    };
    check(&[], Needs::Both, &["DATABASE_URL is not set", "postgres://"]);
    check(&BASE[..1], Needs::Both, &["ELASTICSEARCH_URL is not set", "http://127.0.0.1:9200"]);
    check(&[("DATABASE_URL", "")], Needs::Database, &["DATABASE_URL is not set"]);
    let database_only = strings(&BASE[..1]);
    assert!(load(&Flags::default(), &database_only, Needs::Database).is_ok());
}

#[test]
fn values_that_cannot_be_right_are_refused() {
    bad("DATABASE_URL", "mysql://ann:hunter2@db/shop", &["mysql://", "write postgres://"]);
    bad("DATABASE_URL", "postgres://ann:hunter2@db", &["names no database"]);
    bad("ELASTICSEARCH_URL", "ftp://ann:hunter2@es", &["ftp:"]);
    bad("WALFERRY_LISTEN", "3002", &["=\"3002\"", "127.0.0.1:3002"]);
    bad("WALFERRY_LISTEN", "0.0.0.0:3002", &["other machines", "api.insecure_no_auth"]);
    bad("WALFERRY_LISTEN", "[::]:3002", &["other machines"]);
    for slot in ["My_Slot", "a-b", "ö", &"x".repeat(64)] {
        bad("WALFERRY_SLOT", slot, &["is not a slot's name", "write walferry"]);
    }
    for prefix in ["Staging-", "-a", "_a", ".a", "a*", "a b", "a/b", "a,b", "a#", &"x".repeat(101)]
    {
        bad("WALFERRY_INDEX_PREFIX", prefix, &["can't begin an index name"]);
    }
    bad("WALFERRY_ELASTICSEARCH_REFRESH", "always", &["adaptive or index"]);
    bad("WALFERRY_ELASTICSEARCH_GZIP", "maybe", &["neither true nor false"]);
    bad("WALFERRY_LIMITS_ACTIONS_BYTES_MAX", "2MiB", &["less than limits.bulk_bytes_max"]);
    bad("WALFERRY_SLOTT", "x", &["is not a setting; did you mean WALFERRY_SLOT?"]);
}

#[test]
fn every_setting_refuses_what_is_malformed_or_out_of_range() {
    for setting in SETTINGS {
        let variable = setting.variable();
        match setting.kind {
            ValueKind::Size { min, max } => {
                bad(&variable, "5", &["unit", setting.example]);
                bad(&variable, &format!("{}B", min - 1), &["is outside"]);
                bad(&variable, &format!("{}B", max + 1), &["is outside"]);
            }
            ValueKind::Time { min, max } => {
                bad(&variable, "5", &["unit", setting.example]);
                bad(&variable, &format!("{}ms", max + 1), &["is outside"]);
                if min > 0 {
                    bad(&variable, &format!("{}ms", min - 1), &["is outside"]);
                }
            }
            ValueKind::Count { min, max } => {
                bad(&variable, "many", &["is not a whole number"]);
                bad(&variable, &(min - 1).to_string(), &["is outside"]);
                bad(&variable, &(max + 1).to_string(), &["is outside"]);
            }
            ValueKind::Flag => bad(&variable, "maybe", &["neither true nor false"]),
            ValueKind::OneOf(_) => bad(&variable, "something", &["is not"]),
            ValueKind::Text(_) => {}
        }
    }
}

#[test]
fn every_default_is_within_its_own_limits() {
    for Setting { key, default, .. } in
        SETTINGS.iter().filter(|setting| !setting.default.is_empty())
    {
        let flag = ("--set".to_owned(), (*key).to_owned(), (*default).to_owned());
        let flags = Flags { file: None, values: vec![flag] };
        assert!(load(&flags, &strings(&[]), Needs::Both).is_ok(), "{key} = {default}");
    }
}

#[test]
fn other_machines_may_reach_it_only_when_somebody_says_so() {
    let config =
        good(&[("WALFERRY_LISTEN", "0.0.0.0:3002"), ("WALFERRY_API_INSECURE_NO_AUTH", "true")]);
    assert_eq!(config.listen.to_string(), "0.0.0.0:3002");
    assert!(config.api.insecure_no_auth);
}

#[test]
fn other_machines_may_reach_it_when_everybody_is_asked_who_they_are() {
    let beyond = ("WALFERRY_LISTEN", "0.0.0.0:3002");
    let hash = "ab".repeat(32);
    let token = format!("ann:viewer:{hash}");
    let config = good(&[beyond, ("WALFERRY_API_TOKENS", &token)]);
    assert!(config.api.authenticates() && !config.api.insecure_no_auth);
    let jwks = "https://p.supabase.co/auth/v1/.well-known/jwks.json";
    let jwt = good(&[beyond, ("WALFERRY_API_JWKS_URL", jwks)]).api.jwt.unwrap();
    assert_eq!(jwt.issuer, "https://p.supabase.co/auth/v1");
    assert_eq!(jwt.audience, "authenticated");
    assert_eq!(jwt.role_claim, ["app_metadata", "walferry_role"]);
    assert!(jwt.secret.is_none());
    let file = format!("[api]\ntokens = ['ann:viewer:{hash}', 'bob:admin:{}']", "cd".repeat(32));
    assert_eq!(read_file(&file, &BASE).unwrap().api.tokens.len(), 2);
}

#[test]
fn what_opens_the_api_is_checked_and_never_printed() {
    bad("WALFERRY_API_TOKENS", "wf_hunter2", &["number 1", "walferry token create"]);
    bad("WALFERRY_API_JWT_SECRET", "hunter2", &["32 bytes"]);
    bad("WALFERRY_API_JWT_ISSUER", "https://a.example", &["api.jwks_url or api.jwt_secret"]);
    bad("WALFERRY_API_JWT_ROLE_CLAIM", "user_metadata.role", &["can change themselves"]);
    bad("WALFERRY_API_JWKS_URL", "http://auth.example/keys", &["anybody on the way"]);
    bad("WALFERRY_API_CORS_ORIGINS", "*", &["every site"]);
    bad("WALFERRY_API_ENVIRONMENT", &"x".repeat(41), &["longer than 40"]);
    let secret = "hunter2-hunter2-hunter2-hunter2-hunter2";
    let error = read(&[("WALFERRY_API_JWT_SECRET", secret)]).unwrap_err();
    assert!(error.contains("WALFERRY_API_JWT_ISSUER is not set"), "{error}");
    let issuer = ("WALFERRY_API_JWT_ISSUER", "https://a.example");
    let config = good(&[("WALFERRY_API_JWT_SECRET", secret), issuer]);
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn credentials_come_from_one_place() {
    let check = |pairs: &[(&str, &str)], expected: &str| {
        let text = match read(pairs) {
            Ok(config) => match config.elasticsearch.authentication {
                Authentication::None => "nobody".to_owned(),
                Authentication::Basic { username, password } => {
                    format!("{username}:{}", password.0)
                }
                Authentication::ApiKey(key) => format!("key {}", key.0),
            },
            Err(error) => error,
        };
        assert!(text.contains(expected), "{text}");
    };
    let url = ("ELASTICSEARCH_URL", "http://bob:one@es");
    check(&[], "nobody");
    check(&[url], "bob:one");
    check(&[url, ("WALFERRY_ELASTICSEARCH_PASSWORD", "two")], "bob:two");
    check(&[("WALFERRY_ELASTICSEARCH_API_KEY", "k")], "key k");
    check(&[url, ("WALFERRY_ELASTICSEARCH_API_KEY", "k")], "are both set");
    check(&[("WALFERRY_ELASTICSEARCH_USERNAME", "bob")], "ELASTICSEARCH_PASSWORD is not set");
    check(&[("WALFERRY_ELASTICSEARCH_PASSWORD", "two")], "ELASTICSEARCH_USERNAME is not set");
}

#[test]
fn a_secret_may_stand_in_a_file_of_its_own() {
    let path = file("hunter2\n");
    let path = path.as_str();
    let config = good(&[("WALFERRY_DATABASE_PASSWORD_FILE", path)]);
    assert_eq!(config.database.connect.get_password(), Some(b"hunter2".as_slice()));
    let both = [("WALFERRY_DATABASE_PASSWORD_FILE", path), ("WALFERRY_DATABASE_PASSWORD", "x")];
    assert!(read(&both).unwrap_err().contains("are both set"));
}

#[test]
fn secrets_do_not_print() {
    let config = good(&[
        ("DATABASE_URL", "postgres://ann:hunter2@db/shop"),
        ("ELASTICSEARCH_URL", "http://ann:hunter2@es:9200"),
    ]);
    assert!(!format!("{config:?}").contains("hunter2"));
    let flags = Flags {
        file: None,
        values: vec![("--set".into(), "elasticsearch.password".into(), "hunter2".into())],
    };
    let error = load(&flags, &strings(&[]), Needs::Both).unwrap_err().to_string();
    assert!(error.contains("lists processes") && !error.contains("hunter2"), "{error}");
}
