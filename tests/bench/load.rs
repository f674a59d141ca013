//! The rows of the measurements: active listings of about 0.9 kB as JSON.
//!
//! Not here: servers, processes and time.

use crate::support::Sql;

pub(crate) const SELLERS: u32 = 2000;
pub(crate) const CATEGORIES: u32 = 200;
/// The rows of a transaction of the backlog.
const BATCH: u32 = 500;
const STEP: usize = 500;

/// Inserts sellers and a tree of categories with three levels, before the first start of walferry.
pub(crate) async fn prepare(sql: &Sql) {
    let statements = format!(
        "insert into profiles (id, username, full_name, avatar_url, email, location, rating)
         select {}, 'user' || n, 'Satıcı ' || n, 'https://cdn.example.com/' || n || '.png',
                'user' || n || '@example.com', 'İstanbul', 4.50
         from generate_series(1, {SELLERS}) n;
         insert into categories (id, parent_id, name, slug)
         select {}, case when n > 10 then {} end, 'Kategori ' || n, 'kategori-' || n
         from generate_series(1, {CATEGORIES}) n",
        id("a", "n"),
        id("b", "n"),
        id("b", "n / 10"),
    );
    sql.run(&statements).await;
}

/// Inserts `inserts` listings and then changes `updates` of their prices, 500 in a transaction.
pub(crate) async fn backlog(sql: &Sql, inserts: u32, updates: u32) {
    for first in (1..=inserts).step_by(STEP) {
        insert(sql, first, first + BATCH - 1).await;
    }
    for first in (1..=updates).step_by(STEP) {
        let statement = format!(
            "update listings set price = price + 1, updated_at = now()
             where id in (select {} from generate_series({first}, {}) n)",
            // The updates are spread over all listings and change each once.
            id("c", &format!("(n * 7919 % {inserts} + 1)")),
            first + BATCH - 1,
        );
        sql.run(&statement).await;
    }
}

/// Inserts the listings `first` to `last` in one transaction.
pub(crate) async fn insert(sql: &Sql, first: u32, last: u32) {
    insert_in(sql, first, last, &format!("(n % {CATEGORIES} + 1)")).await;
}

/// Inserts the listings `first` to `last`, each in the category with the number `category`.
pub(crate) async fn insert_in(sql: &Sql, first: u32, last: u32, category: &str) {
    let statement = format!(
        "insert into listings (id, user_id, category_id, title, description, price, status, city,
                               latitude, longitude, attributes, tags, images)
         select {}, {}, {}, 'Satılık ürün numara ' || n, repeat('Temiz kullanılmış, kutusu duruyor. ', 8),
                n % 10000 + 0.90, 'active', 'Ankara', 39.9 + n % 100 / 1000.0, 32.8,
                jsonb_build_object('renk', 'mavi', 'beden', n % 50, 'garanti', true),
                array['satılık', 'ikinci el'], array['https://cdn.example.com/i/' || n || '.jpg']
         from generate_series({first}, {last}) n",
        id("c", "n"),
        id("a", &format!("(n % {SELLERS} + 1)")),
        id("b", category),
    );
    sql.run(&statement).await;
}

/// The SQL expression of the id of listing `n`.
pub(crate) fn id(kind: &str, n: &str) -> String {
    format!("('{kind}0000000-0000-4000-8000-' || lpad(({n})::text, 12, '0'))::uuid")
}
