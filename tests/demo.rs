//! The demo's sample loads into the application's tables, and its traffic breaks none of their rules.

use std::time::Duration;

use super::contract::root;
use super::support::TestBed;

const LIMIT: Duration = Duration::from_secs(60);
const ROLE: &str = include_str!("demo/role.sql");
const SAMPLE: &str = include_str!("demo/sample.sql");

#[tokio::test]
async fn the_sample_is_a_market_with_deep_categories_and_its_traffic_goes_on() {
    let bed = TestBed::new("demo").await;
    bed.sql.run(SAMPLE).await;
    let deepest = "with recursive tree as (
            select id, 1 as depth from categories where parent_id is null
            union all
            select c.id, depth + 1 from categories c join tree t on c.parent_id = t.id)
        select max(depth) from tree";
    assert_eq!(bed.sql.value::<i32>(deepest, &[]).await, 4);
    let active = "select count(*) from listings where status = 'active'";
    assert!(bed.sql.value::<i64>(active, &[]).await > 400);

    bed.sql.run("select demo.step() from generate_series(1, 1000)").await;
    let moved = "select count(*) from listings where updated_at > created_at";
    assert!(bed.sql.value::<i64>(moved, &[]).await > 200);
    assert!(bed.sql.value::<i64>(active, &[]).await > 300);
}

#[tokio::test(flavor = "multi_thread")]
async fn compose_runs_walferry_as_a_role_that_owns_nothing() {
    let compose = std::fs::read_to_string(root().join("compose.yaml")).expect("it can be read");
    let service = compose.split("\n  walferry:\n").nth(1).expect("the service is there");
    let service = service.split("\n\n").next().unwrap_or_default();
    assert!(service.contains("DATABASE_URL: postgres://walferry:walferry@"), "{service}");
    assert!(service.contains("condition: service_completed_successfully"), "{service}");
    assert!(compose.contains("command: [migrate, --runtime-role, walferry]"), "{compose}");

    // The cluster is shared, so the role has another name here.
    let bed = TestBed::new("demo_role").await;
    bed.sql.run(SAMPLE).await;
    let made =
        ROLE.replace("role walferry", "role demo_runs").replace("to walferry", "to demo_runs");
    bed.sql.run(&made).await;
    let is_plain = "select not (rolsuper or rolcreaterole or rolcreatedb or rolbypassrls)
        from pg_roles where rolname = 'demo_runs'";
    assert!(bed.sql.value::<bool>(is_plain, &[]).await);
    let (code, output) =
        bed.walferry_once(&["migrate", "--runtime-role", "demo_runs"], LIMIT).await;
    assert_eq!(code, 0, "{output}");
    let url = bed.database_url().replace("postgres@", "demo_runs:walferry@");
    let mut child = bed.walferry(&["run", "--once"]).env("DATABASE_URL", &url).spawn();
    let code = child.wait_exit(LIMIT).await;
    assert_eq!(code, 0, "{}", child.output());
    let owned = "select count(*) from pg_class where pg_get_userbyid(relowner) = 'demo_runs'";
    assert_eq!(bed.sql.value::<i64>(owned, &[]).await, 0);
}
