//! One random statement at a time, the same for the same dice.
//!
//! A statement may well fail (a key that stands already, a row that others refer to) or touch
//! nothing: then the session rolls back to its savepoint and goes on.
//!
//! Not here: transactions and their interleaving (`session`).

use fastrand::Rng;

use super::universe::{
    CATEGORIES, LISTINGS, PROFILES, TICK, any_category, any_listing, any_profile, attributes,
    category, copy_line, insert_category, insert_listing, insert_profile, latitude, listing,
    longitude, moment, price, profile, seed, status, text, ticked, words,
};

/// What a session sends.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Sql(String),
    /// Lines of a COPY into `listings`.
    Copy(String),
}

/// What else may happen than inserts, updates and deletes of some rows.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extras {
    /// TRUNCATE of one table and of several.
    pub(crate) truncate: bool,
    /// The keys are deferrable, so keys are swapped and rotated. No foreign key can refer to them:
    /// what would leave a listing without seller or category is left out instead.
    pub(crate) deferrable_keys: bool,
}

/// The next statement.
pub(crate) fn step(rng: &mut Rng, extras: Extras) -> Step {
    let sql = match rng.u32(..100) {
        0..12 => insert_listing_anywhere(rng),
        12..58 => update_listing(rng),
        58..64 => format!("delete from listings where id = {}", any_listing(rng)),
        64..76 => change_profile(rng, extras),
        76..92 => change_category(rng, extras),
        92..94 => return Step::Copy((0..rng.u32(1..40)).map(|_| copy_line(rng)).collect()),
        94..97 if extras.deferrable_keys => move_keys(rng),
        97 | 98 => refill(rng),
        _ => delete_copies(rng),
    };
    Step::Sql(sql)
}

fn insert_listing_anywhere(rng: &mut Rng) -> String {
    let n = rng.u32(..LISTINGS);
    insert_listing(rng, n)
}

fn update_listing(rng: &mut Rng) -> String {
    let change = match rng.u32(..12) {
        0..3 => format!("status = {}", status(rng)),
        3 => format!("price = {}", price(rng)),
        4 => format!("title = 'yeni başlık ' || {}, tags = {}", rng.u32(..), words(rng)),
        5 => format!("latitude = {}, longitude = {}", latitude(rng), longitude(rng)),
        6 => format!("attributes = {}, expires_at = {}", attributes(rng), moment(rng)),
        7 => format!("category_id = {}", any_category(rng)),
        8 => format!("user_id = {}", any_profile(rng)),
        // Does not compress away: it stands out of line, and most later updates leave it unchanged.
        9 => format!(
            "description = (select string_agg(md5(i::text || '{}'), '') from generate_series(1, 3200) i)",
            rng.u32(..)
        ),
        10 => format!("id = {}", any_listing(rng)),
        _ => format!("city = {}, updated_at = clock_timestamp()", text(rng)),
    };
    let rows = match rng.u32(..10) {
        0 => format!("category_id = {} and {}", any_category(rng), !change.starts_with("id")),
        _ => format!("id = {}", any_listing(rng)),
    };
    format!("update listings set {change}, view_count = {TICK} where {rows}")
}

fn change_profile(rng: &mut Rng, extras: Extras) -> String {
    let n = rng.u32(..PROFILES);
    let id = profile(n);
    match rng.u32(..10) {
        0 => insert_profile(rng, n),
        1 if !extras.deferrable_keys => format!("delete from profiles where id = {id}"),
        2 => format!("update profiles set email = 'secret{}', phone = 'secret' where id = {id}", rng.u32(..)),
        3 if !extras.deferrable_keys => format!(
            "update profiles p set id = {}, full_name = {} where id = {id}
             and not exists (select from listings where user_id = p.id)",
            any_profile(rng),
            ticked("Ayşe Taşındı"),
        ),
        _ => format!(
            "update profiles set full_name = {}, rating = {}, is_verified = not is_verified, location = {}
             where id = {id}",
            ticked("Ayşe Çağlar"),
            rng.u8(..9),
            text(rng),
        ),
    }
}

fn change_category(rng: &mut Rng, extras: Extras) -> String {
    let n = rng.u32(..CATEGORIES);
    let id = category(n);
    match rng.u32(..10) {
        0 | 1 => {
            let parent = rng.bool().then(|| rng.u32(..CATEGORIES));
            insert_category(rng, n, parent)
        }
        2 if !extras.deferrable_keys => format!(
            "delete from categories c where id = {id} and not exists (select from listings where category_id = c.id)
             and not exists (select from categories where parent_id = c.id)"
        ),
        // May make a ring: `path` stops at the first id that it has seen.
        3 => format!("update categories set parent_id = {} where id = {id}", any_category(rng)),
        4 => format!("update categories set parent_id = null, sort_order = sort_order / 2 where id = {id}"),
        5 => format!("update categories set is_active = not is_active where id = {id}"),
        6 => format!("update categories set keywords = {} where id = {id}", words(rng)),
        _ => format!("update categories set name = {} where id = {id}", ticked("Kategori")),
    }
}

/// A swap, a rotation or a shift of keys that stand: the stream removes keys that are alive again.
fn move_keys(rng: &mut Rng) -> String {
    let (table, name, count, set): (_, fn(u32) -> String, _, _) = match rng.u32(..3) {
        0 => ("profiles", profile, PROFILES, format!("full_name = {}", ticked("Takas"))),
        1 => ("categories", category, CATEGORIES, format!("name = {}", ticked("Takas"))),
        _ => ("listings", listing, LISTINGS, format!("view_count = {TICK}")),
    };
    let first = rng.u32(..count - 3);
    let (a, b, c) = (name(first), name(first + 1), name(first + 2));
    let last = if rng.bool() { format!("when {c} then {a}") } else { String::new() };
    let (to, rows) = if last.is_empty() {
        (a.clone(), format!("{a}, {b}"))
    } else {
        (c.clone(), format!("{a}, {b}, {c}"))
    };
    format!(
        "update {table} set {set}, id = (case id::text when {a} then {b} when {b} then {to} {last} end)::uuid
         where id in ({rows})"
    )
}

/// Empties tables and fills them again, in one transaction or in two.
pub(crate) fn truncate(rng: &mut Rng, extras: Extras) -> Vec<String> {
    let empty = match rng.u32(..4) {
        0 | 1 => "truncate listings",
        _ if extras.deferrable_keys => "truncate listings",
        2 => "truncate profiles cascade",
        _ => "truncate listings, categories, profiles",
    };
    let fill = seed(rng).join("; ");
    if rng.bool() {
        vec![format!("begin; {empty}; {fill}; commit")]
    } else {
        vec![format!("begin; {empty}; commit"), format!("begin; {fill}; commit")]
    }
}

fn refill(rng: &mut Rng) -> String {
    let mut statements = Vec::new();
    for _ in 0..6 {
        let n = rng.u32(..PROFILES);
        statements.push(insert_profile(rng, n));
        let n = rng.u32(..CATEGORIES);
        let parent = (n > 2).then_some(n / 2);
        statements.push(insert_category(rng, n, parent));
        statements.push(insert_listing_anywhere(rng));
    }
    statements.join("; ")
}

fn delete_copies(rng: &mut Rng) -> String {
    format!(
        "delete from listings where id in (select id from listings where id > 'd0000000-0000-4000-8000-{:012x}'
         order by id limit 25)",
        rng.u64(..1 << 48)
    )
}
