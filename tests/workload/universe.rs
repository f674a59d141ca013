//! The rows that the workload plays with, as SQL literals: fixed ids, values at the edges.
//!
//! Not here: what is done to them (`statements`).

use fastrand::Rng;

pub(crate) const PROFILES: u32 = 30;
pub(crate) const CATEGORIES: u32 = 40;
pub(crate) const LISTINGS: u32 = 200;

/// Makes the tree and the rows that most statements find; run before the first session.
pub(crate) fn seed(rng: &mut Rng) -> Vec<String> {
    let mut statements = Vec::new();
    statements.extend((0..PROFILES).map(|n| insert_profile(rng, n)));
    // A parent has the lower number, so the tree is as deep as the dice make it.
    statements.extend((0..CATEGORIES).map(|n| insert_category(rng, n, (n > 2).then_some(n / 2))));
    statements.extend((0..LISTINGS).map(|n| insert_listing(rng, n)));
    statements
}

pub(crate) fn profile(n: u32) -> String {
    format!("'a0000000-0000-4000-8000-{n:012x}'")
}

pub(crate) fn category(n: u32) -> String {
    format!("'b0000000-0000-4000-8000-{n:012x}'")
}

pub(crate) fn listing(n: u32) -> String {
    format!("'c0000000-0000-4000-8000-{n:012x}'")
}

/// The `_id` of a listing, without quotes.
pub(crate) fn listing_id(n: u32) -> String {
    listing(n).replace('\'', "")
}

pub(crate) fn any_profile(rng: &mut Rng) -> String {
    profile(rng.u32(..PROFILES))
}

pub(crate) fn any_category(rng: &mut Rng) -> String {
    category(rng.u32(..CATEGORIES))
}

pub(crate) fn any_listing(rng: &mut Rng) -> String {
    listing(rng.u32(..LISTINGS))
}

/// Inserts say `where not exists`: a deferrable key cannot be the arbiter of `on conflict`.
pub(crate) fn insert_profile(rng: &mut Rng, n: u32) -> String {
    let id = profile(n);
    format!(
        "insert into profiles (id, username, full_name, avatar_url, email, phone, bio, location, rating)
         select {id}, 'user{n}', {}, {}, 'secret{n}@example.com', '+90 555 secret', {}, {}, {}
         where not exists (select from profiles where id = {id} or username = 'user{n}')",
        ticked("Şükrü Öz"),
        optional(rng, "'https://example.com/a.png'"),
        text(rng),
        text(rng),
        pick(rng, &["0", "4.50", "5", "3.14", "-9.99", "'NaN'"]),
    )
}

pub(crate) fn insert_category(rng: &mut Rng, n: u32, parent: Option<u32>) -> String {
    let id = category(n);
    format!(
        "insert into categories (id, parent_id, name, slug, icon, sort_order, is_active, keywords)
         select {id}, {}, {}, 'slug-{n}', {}, {}, {}, {}
         where not exists (select from categories where id = {id} or slug = 'slug-{n}')",
        parent.map_or("null".to_owned(), category),
        ticked("Elektronik"),
        text(rng),
        rng.i32(..),
        rng.u8(..4) > 0,
        words(rng),
    )
}

pub(crate) fn insert_listing(rng: &mut Rng, n: u32) -> String {
    let id = listing(n);
    format!(
        "insert into listings ({COLUMNS}) select {} where not exists (select from listings where id = {id})",
        listing_values(rng, &id)
    )
}

/// The columns that [`listing_values`] and [`copy_line`] fill.
pub(crate) const COLUMNS: &str =
    "id, user_id, category_id, title, description, price, status, city, latitude,
    longitude, attributes, tags, expires_at, view_count";

/// A new tick: higher in every later state of a row.
pub(crate) const TICK: &str = "nextval('oracle.tick')::integer";

/// A name that carries its tick, `name #123`.
pub(crate) fn ticked(name: &str) -> String {
    format!("'{name} #' || nextval('oracle.tick')")
}

fn listing_values(rng: &mut Rng, id: &str) -> String {
    [
        id.to_owned(),
        present("profiles", &any_profile(rng)),
        present("categories", &any_category(rng)),
        format!("'ilan ' || {}", rng.u32(..)),
        text(rng),
        price(rng),
        status(rng),
        text(rng),
        latitude(rng),
        longitude(rng),
        attributes(rng),
        words(rng),
        moment(rng),
        TICK.to_owned(),
    ]
    .join(", ")
}

/// The key `id` where it stands, else another of `table`.
fn present(table: &str, id: &str) -> String {
    format!(
        "coalesce((select id from {table} where id = {id}), (select id from {table} order by id limit 1))"
    )
}

/// A line of COPY's text format for [`COLUMNS`], of a listing outside the fixed ids.
pub(crate) fn copy_line(rng: &mut Rng) -> String {
    let id = format!("d0000000-0000-4000-8000-{:012x}", rng.u64(..1 << 48));
    let plain = |literal: String| literal.replace('\'', "");
    let (user, category) = (plain(any_profile(rng)), plain(any_category(rng)));
    let status = plain(status(rng));
    let (line, number) = (rng.u32(..), rng.u32(..1000));
    format!(
        "{id}\t{user}\t{category}\tkopya {line}\tçok\\nsatır\\t\\\\ {number}\t{number}.10\t{status}\t\\N\t\
         {number}.5\t29.5\t{{\"k\": [1.10, {line}]}}\t{{a,\"b c\"}}\tinfinity\t0\n"
    )
}

pub(crate) fn status(rng: &mut Rng) -> String {
    pick(rng, &["'active'", "'active'", "'active'", "'draft'", "'inactive'", "'sold'", "'expired'"])
}

pub(crate) fn price(rng: &mut Rng) -> String {
    let edges = ["null", "0", "0.10", "9999999999.99", "19.90", "'NaN'"];
    if rng.bool() { pick(rng, &edges) } else { format!("{}.{:02}", rng.u32(..), rng.u8(..100)) }
}

pub(crate) fn latitude(rng: &mut Rng) -> String {
    pick(rng, &["null", "41.0082", "91", "-90", "0.1::float8 + 0.2", "1e-7", "39.933363"])
}

pub(crate) fn longitude(rng: &mut Rng) -> String {
    pick(rng, &["null", "28.9784", "-181", "180", "0", "3.2e1"])
}

pub(crate) fn moment(rng: &mut Rng) -> String {
    pick(
        rng,
        &[
            "null",
            "'infinity'",
            "'-infinity'",
            "'20000-02-29 12:00:00.000001+03'",
            "'0044-03-15 12:00:00+00 BC'",
            "'2026-11-23 20:00:00.1+03'",
            "'1999-12-31 23:59:59.999999-11'",
        ],
    )
}

pub(crate) fn text(rng: &mut Rng) -> String {
    pick(
        rng,
        &[
            "'İstanbul, ığüşöç IĞÜŞÖÇ'",
            "'tek '' ve çift \" tırnak, ters \\ bölü'",
            "e'satır\\nsekme\\tdönüş\\r\\b\\f\\x01\\x7f'",
            "'😀 𝒳 \u{2028}\u{feff}'",
            "''",
            "'null'",
            "repeat('uzun kelime ', 300)",
            "repeat('ğ', 40000)",
        ],
    )
}

pub(crate) fn words(rng: &mut Rng) -> String {
    pick(
        rng,
        &[
            "'{}'",
            "array['kırmızı', 'mavi']",
            "array['', null, 'virgül, \"tırnak\" ve {süslü}']",
            "array['null', e'ters \\\\ bölü', 'ünite' || chr(31) || 'ayraç', chr(30)]",
            "array[repeat('ö', 60)]",
        ],
    )
}

pub(crate) fn attributes(rng: &mut Rng) -> String {
    pick(
        rng,
        &[
            "'{}'",
            r#"'{"renk": "kırmızı", "ölçü": {"en": 1.50, "boy": [1, 2.0, null, true]}}'"#,
            r#"'{"büyük": 12345678901234567890.12345678901234567890, "küçük": 1e-30, "eksi": -0.0}'"#,
            r#"'{"a.b": {"": [[], {}, [{}]]}, "tırnak\"": "\\ \u00fc \ud83d\ude00"}'"#,
            r#"'[1, "iki", 9007199254740993]'"#,
            "'null'",
            "'1e20'",
        ],
    )
}

fn optional(rng: &mut Rng, value: &str) -> String {
    pick(rng, &["null", value])
}

fn pick(rng: &mut Rng, values: &[&str]) -> String {
    values[rng.usize(..values.len())].to_owned()
}
