//! The demo's sample loads into the application's tables, and its traffic breaks none of their rules.

use super::support::TestBed;

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
