//! Sessions with a PostgreSQL that has TLS: verified as libpq does, and with the password bound to the
//! channel, for SQL and for replication.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::time::Duration;

use crate::scene::Scene;
use crate::support::launcher::new_file;

const SOON: Duration = Duration::from_secs(60);

/// Signed `SERVER` for 127.0.0.1.
const AUTHORITY: &str = include_str!("fixtures/tls/ca.pem");
const SERVER: &str = include_str!("fixtures/tls/server.pem");
const KEY: &str = include_str!("fixtures/tls/server.key");

/// Gives the server its certificate. It takes a key only from a file that is its own.
async fn with_certificate(scene: &Scene) {
    let data = scene.bed.servers.postgres.data_directory();
    let owner = std::fs::metadata(&data).unwrap();
    for (name, text) in [("server.crt", SERVER), ("server.key", KEY)] {
        let path = data.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    scene.sql("alter system set ssl = on").await;
    scene.sql("select pg_reload_conf()").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_verified_and_bound_to_their_channel() {
    let scene = Scene::with_own_postgres("tls", &[]).await;
    scene.sql("create role bound superuser replication login password 'right'").await;
    let authority = new_file("authority", AUTHORITY);
    let port = scene.bed.servers.postgres.port;
    let url = |parameters: &str| {
        format!("postgres://bound:right@127.0.0.1:{port}/{}?{parameters}", scene.bed.database)
    };
    let refused = async |parameters: &str, words: &str| {
        let mut check = scene.bed.walferry(&["check"]).env("DATABASE_URL", url(parameters)).spawn();
        let code = check.wait_exit(SOON).await;
        let output = check.output();
        assert!(code != 0 && output.contains(words), "{parameters}: {code}: {output}");
        assert!(!output.contains("right"), "{parameters}: {output}");
    };
    refused("sslmode=prefer&channel_binding=require", "channel binding").await;
    refused("sslmode=require", "TLS").await;

    with_certificate(&scene).await;
    let verified = format!("sslmode=verify-full&sslrootcert={authority}&channel_binding=require");
    let mut walferry = scene.bed.walferry(&["run"]).env("DATABASE_URL", url(&verified)).spawn();
    walferry.wait_ready(SOON).await;
    let sessions = "select count(*) from pg_stat_activity join pg_stat_ssl using (pid)
        where usename = 'bound' and";
    assert_eq!(scene.number(&format!("{sessions} not ssl")).await, 0);
    let replication = format!("{sessions} ssl and backend_type = 'walsender'");
    assert_eq!(scene.number(&replication).await, 1);
    walferry.stop().await;

    refused("sslmode=verify-full&sslrootcert=system", "certificate").await;
    refused("hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert=system", "certificate").await;
}
