//! The source changes under it: columns, keys, types, identities. The application is never harmed,
//! nothing leaks, and nothing is deleted by DDL.

use std::time::Duration;

use super::{RECOVERY_MAX, ROWS, listing, listings};
use crate::scene::{Scene, until};
use crate::support::launcher::new_file;

/// How long a refusal may take.
const REFUSAL_MAX: Duration = Duration::from_secs(30);

/// The built-in definition with one replacement.
fn altered_definition(from: &str, to: &str) -> String {
    let built_in = include_str!("../../src/engine/document/default.toml");
    let altered = built_in.replace(from, to);
    assert_ne!(altered, built_in, "{from} is there");
    new_file("walferry.toml", &altered)
}

/// A definition of one index for each of these tables, and one that embeds `makers` in `goods`.
fn plain_definition(tables: &[&str]) -> String {
    let mut text = String::new();
    for table in tables {
        text += &format!("[[table]]\nname = \"{table}\"\n");
    }
    for table in tables {
        text += &format!("[[index]]\nname = \"{table}\"\n[[index.source]]\ntable = \"{table}\"\n");
        if *table == "goods" {
            text += "[[index.source.field]]\nname = \"made\"\n\
                     embed = { table = \"makers\", by = \"maker\", columns = [\"id\", \"name\"] }\n";
        }
    }
    new_file("walferry.toml", &text)
}

/// `walferry ARGUMENTS` with a definition; its output.
async fn with_definition(scene: &Scene, file: &str, arguments: &[&str], code: i32) -> String {
    let mut walferry = scene.bed.walferry(arguments).env("WALFERRY_CONFIG", file).spawn();
    let found = walferry.wait_exit(REFUSAL_MAX).await;
    assert_eq!(found, code, "walferry {arguments:?}: {}", walferry.output());
    walferry.output()
}

/// `check` and `run` refuse what stands, in the same words.
async fn both_refuse(scene: &Scene, words: &[&str]) {
    for command in ["check", "run"] {
        let output = scene.command(&[command], 3).await;
        for word in words {
            assert!(output.contains(word), "{command} does not say {word:?}: {output}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_never_breaks_the_application() {
    let scene = Scene::new("unharmed").await;
    scene.sql(ROWS).await;
    scene
        .sql(
            "alter table listings add column twice numeric generated always as (price * 2) stored;
             alter table profiles add column twice numeric generated always as (rating * 2) stored;
             create table profiles_old () inherits (profiles)",
        )
        .await;
    scene.bed.migrate().await;
    let full = "select count(*) from pg_class where relname in ('listings', 'profiles')
        and relreplident = 'f'";
    assert_eq!(scene.number(full).await, 0, "PostgreSQL would refuse updates");
    scene.sql("update profiles set full_name = 'Ayşe Ö.'").await;
    scene
        .sql(
            "insert into profiles_old (username, full_name, email) values ('eski', 'Eski', 'e');
             update profiles_old set full_name = 'Eskisi'; delete from profiles_old",
        )
        .await;
    let checked = scene.command(&["check"], 0).await;
    assert!(checked.contains("profiles_old inherit from table public.profiles"), "{checked}");
    // Generated columns are not on the stream, and yet live documents have them.
    let mut walferry = scene.ready().await;
    scene.documents_become_true(RECOVERY_MAX).await;
    scene.sql(&listings(1, 3)).await;
    scene
        .sql("update listings set price = 7, description = 'b'; update profiles set rating = 4")
        .await;
    scene.documents_become_true(RECOVERY_MAX).await;
    let found = scene.bed.elasticsearch.document(&scene.bed.index("listings"), &listing(2)).await;
    let twice = found.expect("it is there")["twice"].as_f64();
    assert_eq!(twice, Some(14.0), "the generated column is in the document");
    // What an earlier version set is told, and mended.
    scene.sql("alter table listings replica identity full").await;
    let words = ["listings", "generated columns", "replica identity default"];
    assert_eq!(walferry.wait_exit(REFUSAL_MAX).await, 3, "{}", walferry.output_end());
    both_refuse(&scene, &words).await;
    scene.bed.migrate().await;
    scene.sql("update listings set price = 8").await;
    scene.once().await;
    scene.documents_become_true(RECOVERY_MAX).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_children_are_no_documents() {
    let scene = Scene::unwitnessed("children").await;
    scene
        .sql(
            "create table profiles_old () inherits (profiles);
             insert into profiles_old (username, full_name, email) values ('eski', 'Eski', 'e')",
        )
        .await;
    scene.sql(ROWS).await;
    scene.once().await;
    assert_eq!(scene.indices.all("profiles").await.len(), 1, "the child's row is not the parent's");
    let published = "select count(*) from pg_publication_tables where tablename = 'profiles_old'";
    assert_eq!(scene.number(published).await, 0);
    scene.sql("alter publication walferry add table only profiles_old").await;
    both_refuse(&scene, &["public.profiles_old", "no replica identity", "drop table only"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_identity_that_does_not_serve_is_a_fault() {
    let scene = Scene::unwitnessed("identities").await;
    scene.once().await;
    let words = ["table public.profiles has no replica identity", "replica identity full"];
    scene.sql("alter table profiles replica identity nothing").await;
    both_refuse(&scene, &words).await;
    scene.sql("alter table profiles replica identity using index profiles_username_key").await;
    both_refuse(&scene, &["an index without its primary key", "replica identity full"]).await;
    scene.sql("alter table profiles drop constraint profiles_username_key").await;
    both_refuse(&scene, &words).await;
    scene.sql("alter table profiles replica identity full").await;
    scene.once().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_without_its_key_never_counts_as_done() {
    let scene = Scene::unwitnessed("keyless").await;
    scene.sql(ROWS).await;
    let mut walferry = scene.ready().await;
    scene
        .sql(
            "begin; alter table profiles replica identity using index profiles_username_key;
             delete from profiles; commit",
        )
        .await;
    assert_eq!(walferry.wait_exit(REFUSAL_MAX).await, 3, "{}", walferry.output_end());
    scene.sql("alter table profiles replica identity full").await;
    let mut walferry = scene.start_with(&[("WALFERRY_QUEUE_RETRY_DELAY_MIN", "100ms")]);
    let failed = "select count(*) from elasticsearch_sync_queue where status = 'failed'";
    until(RECOVERY_MAX, "its job has failed", async || scene.number(failed).await == 1).await;
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misspelt_column_is_refused_with_the_nearest_name() {
    let scene = Scene::unwitnessed("misspelt").await;
    scene.sql(ROWS).await;
    let file =
        altered_definition("except = [\"email\", \"phone\"]", "except = [\"e_mail\", \"phone\"]");
    for command in ["check", "run"] {
        let output = with_definition(&scene, &file, &[command], 3).await;
        assert!(
            output.contains("column e_mail of table public.profiles does not exist"),
            "{output}"
        );
        assert!(output.contains("write \"email\" instead of \"e_mail\""), "{output}");
    }
    assert_eq!(
        scene.bed.elasticsearch.indices(&scene.bed.index_prefix).await,
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_column_neither_leaks_nor_deletes() {
    for (name, rename, back, table) in [
        (
            "private",
            "alter table profiles rename email to email_address; update profiles set bio = 'b'",
            "alter table profiles rename email_address to email",
            "column email of table public.profiles",
        ),
        (
            "condition",
            "alter table listings rename status to state; update listings set title = title || '!'",
            "alter table listings rename state to status",
            "column status of table public.listings",
        ),
    ] {
        let scene = Scene::new(&format!("renamed_{name}")).await;
        scene.sql(ROWS).await;
        scene.sql(&listings(1, 3)).await;
        let mut walferry = scene.ready().await;
        scene.documents_become_true(RECOVERY_MAX).await;
        let before = scene.versions().await;
        // At once, before the catalog is looked at again.
        scene.sql(&format!("begin; {rename}; commit")).await;
        assert_eq!(walferry.wait_exit(REFUSAL_MAX).await, 3, "{}", walferry.output_end());
        assert!(walferry.output().contains(table), "{}", walferry.output_end());
        assert_eq!(scene.versions().await, before, "{name}: no document was touched");
        both_refuse(&scene, &[table, "does not exist"]).await;
        // The rows of the time in between are on the stream, and the column has its name again.
        scene.sql(back).await;
        scene.once().await;
        scene.documents_become_true(RECOVERY_MAX).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_renamed_for_a_moment_is_followed() {
    let scene = Scene::new("renamed").await;
    scene.sql(ROWS).await;
    let mut walferry = scene.ready().await;
    scene.documents_become_true(RECOVERY_MAX).await;
    scene.forget_witnessed().await;
    scene.sql(&listings(1, 2)).await;
    scene.settled(RECOVERY_MAX).await;
    let inside = listings(3, 5).replace("into listings", "into l2");
    scene
        .sql(&format!(
            "begin; alter table listings rename to l2; {inside};
             delete from l2 where id = '{}'; alter table l2 rename to listings; commit",
            listing(1)
        ))
        .await;
    scene.documents_become_true(RECOVERY_MAX).await;
    assert_eq!(scene.indices.all("listings").await.len(), 4);
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_altered_while_running_is_read_anew() {
    let scene = Scene::new("retyped").await;
    scene.sql(ROWS).await;
    scene
        .sql(
            "create type addr as (street text, number int);
             alter table profiles add column home addr default row(null, null)",
        )
        .await;
    let mut walferry = scene.ready().await;
    // A composite value of nulls is an object by every feed.
    scene.documents_become_true(RECOVERY_MAX).await;
    scene.sql("update profiles set bio = 'b'").await;
    scene.documents_become_true(RECOVERY_MAX).await;
    scene.sql("alter type addr add attribute floor int").await;
    scene.sql("update profiles set home = row('z', 3, 6)").await;
    scene.documents_become_true(RECOVERY_MAX).await;
    until(RECOVERY_MAX, "the run begins again", async || {
        walferry.output().contains("the columns of table public.profiles were altered")
    })
    .await;
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.sql("update profiles set home = row('y', 4, 7)").await;
    scene.documents_become_true(RECOVERY_MAX).await;
    let kind = "select count(*) from elasticsearch_sync_queue
        where change_data -> 'new' -> 'home' ->> 'floor' = '7'";
    assert_eq!(scene.number(kind).await, 1, "the receipt has the new attribute");
    walferry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_a_key_is_refused_by_name() {
    let scene = Scene::unwitnessed("unfit_keys").await;
    scene
        .sql(
            "create extension citext; create extension ltree;
             create collation blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             create type pair as (a int, b int); create domain code as citext;
             create table k_citext (id citext primary key);
             create table k_ltree (id ltree primary key);
             create table k_domain (id code primary key);
             create table k_array (id text[] primary key);
             create table k_jsonb (id jsonb primary key);
             create table k_pair (id pair primary key);
             create table k_blind (id text collate blind primary key);
             create table makers (id numeric(10, 2) primary key, name text);
             create table goods (id bigint primary key, maker int, \"_id\" text, \"_routing\" text)",
        )
        .await;
    let tables = [
        "k_citext", "k_ltree", "k_domain", "k_array", "k_jsonb", "k_pair", "k_blind", "makers",
        "goods",
    ];
    let file = plain_definition(&tables);
    let output = with_definition(&scene, &file, &["check"], 3).await;
    for table in &tables[..7] {
        let named = format!("key column id of table public.{table} has the type ");
        assert!(output.contains(&named), "{table}: {output}");
    }
    let reference = "maker of table public.goods is integer, and the key id of table public.makers \
                     is numeric(10,2)";
    assert!(output.contains(reference), "{output}");
    for column in ["_id", "_routing"] {
        let named = format!("column {column} of table public.goods cannot be a field");
        assert!(output.contains(&named), "{output}");
    }
    let output = with_definition(&scene, &file, &["run"], 3).await;
    assert!(output.contains("of table public.goods cannot be a field"), "{output}");
    assert!(output.contains("more: walferry check"), "{output}");
}

#[tokio::test(flavor = "multi_thread")]
async fn integers_of_any_width_refer_to_each_other_and_parts_are_no_strangers() {
    let scene = Scene::unwitnessed("widths").await;
    scene
        .sql(
            "create table makers (id int primary key, name text);
             create table goods (id bigint primary key, maker bigint) partition by range (id);
             create table goods_low partition of goods for values from (0) to (1000);
             insert into makers values (1, 'a');
             insert into goods values (1, 1), (2, 3000000000)",
        )
        .await;
    let file = plain_definition(&["makers", "goods"]);
    let mut walferry = scene.start_with(&[("WALFERRY_CONFIG", &file)]);
    walferry.wait_ready(RECOVERY_MAX).await;
    scene.sql("insert into goods values (3, 1); update makers set name = 'b'").await;
    let completed = "select count(*) from elasticsearch_sync_queue where status = 'completed'";
    until(RECOVERY_MAX, "all is done", async || scene.number(completed).await == 2).await;
    let index = scene.bed.index("goods");
    for (id, maker) in [("1", "b"), ("3", "b")] {
        let found = scene.bed.elasticsearch.document(&index, id).await.expect("it is there");
        assert_eq!(found["made"]["name"], maker, "{found}");
    }
    let found = scene.bed.elasticsearch.document(&index, "2").await.expect("it is there");
    assert!(found["made"].is_null(), "{found}");
    assert!(!walferry.output().contains("not configured"), "{}", walferry.output_end());
    walferry.stop().await;
}
