//! Types as users make them, and values of them as SQL expressions.

use super::samples::Pool;

/// Enumerations, domains, row types; the extensions come with PostgreSQL.
pub(super) const USER_TYPES: &str = r#"
    create extension hstore; create extension citext; create extension ltree; create extension cube;
    create type color as enum ('red', 'dark "blue"', 'a,b');
    create type color_range as range (subtype = color);
    create domain small as int check (value < 1000);
    create domain smaller as small check (value < 100);
    create domain smalls as small[];
    create domain boxed as box;
    create domain loose as json;
    create domain moment as timestamptz;
    create type empty_row as ();
    create type point3 as (x float8, "y ""q""\" numeric, dropped int, z smaller);
    alter type point3 drop attribute dropped;
    alter type point3 rename attribute z to "Z é";
    create type nested as (p point3, ps point3[], c color, m moment, j json, b jsonb, t text, h hstore,
        ss smalls, bx box[], v int2vector, i int4range);
    create domain nested_domain as nested;
    create table tabled (id bigint, at timestamp, n nested_domain);"#;

/// Type and expressions.
pub(super) const USER_VALUES: Pool = &[
    ("color", &["'red'", "'dark \"blue\"'"]),
    ("color[]", &["array['red', 'dark \"blue\"', 'a,b', null]::color[]"]),
    ("color_range", &["'[red,\"dark \"\"blue\"\"\")'"]),
    ("small", &["7"]),
    ("smaller", &["7"]),
    ("smaller[]", &["array[1, null]::smaller[]"]),
    ("smalls", &["array[1, null]", "'[5:6]={1,2}'"]),
    ("smalls[]", &["array['{1,2}'::smalls, '{}', null]"]),
    ("boxed", &["'(1,1),(0,0)'"]),
    ("boxed[]", &["array['(1,1),(0,0)'::boxed, '(2,2),(0,0)']"]),
    ("loose", &["'{\"a\" : 1e1, \"a\":2e1}'", "'\"\\u0000\"'"]),
    ("loose[]", &["array['{\"a\" : 1e1}'::loose, '[ ]', null]"]),
    ("moment", &["'2026-01-02 03:04:05+03'", "'infinity'"]),
    ("moment[]", &["array['2026-01-02 03:04:05+03'::moment, '0001-01-01 BC']"]),
    ("empty_row", &["row()"]),
    ("empty_row[]", &["array[row()::empty_row]"]),
    ("point3", &["row(1, 2.50, 3)", "row(null, null, null)", "row('-0', 'NaN', 3)"]),
    ("point3[]", &["array[row(1e20, 2.50, 3)::point3, null, row(null, null, null)]"]),
    (
        "nested",
        &[
            "row(null, null, null, null, null, null, null, null, null, null, null, null)",
            r#"row(row(1, 2.50, 3), array[row(1, 2, 3)::point3, null], 'a,b', '2026-01-02 03:04:05+00',
              '{"x\"y" : [1.0e1], "z":"\\"}', '{"x": "a\"\\b"}', E'q"\\ \n(,)', 'a=>1, "b\"\\\\"=>NULL',
              '{1,2}', array['(1,1),(0,0)'::box, '(2,2),(0,0)'], '1 2', '[1,5)')"#,
            r#"row(row(null, null, null), '{}', null, 'infinity', '1e400000', '1', '', '', '{}', '{}', '', 'empty')"#,
        ],
    ),
    (
        "nested_domain[]",
        &[r#"array[row(row(1, 2.50, 3), null, 'red', null, '[ 1 ]', '{"a": "\\"}', '"', 'k=>"\""',
            null, null, null, null)::nested_domain]"#],
    ),
    (
        "tabled",
        &[
            r#"row(1, '2026-01-02 03:04:05', row(row(1, 2.50, 3), array[row(1, 2, 3)::point3], null, null,
            null, '"\""', 'a"b', null, null, null, null, null))"#,
        ],
    ),
    ("hstore", &["''", r#"'a=>1, b=>NULL, "c d\"\\"=>"e, f=>g", n=>"NULL"'"#]),
    ("hstore[]", &[r#"array['a=>"x\"y"'::hstore, '', null]"#]),
    ("citext", &["'Aa\"'"]),
    ("ltree", &["'Top.Science'"]),
    ("cube", &["'(1,2),(3,4)'"]),
];

/// An enumeration with its own cast to `json`.
pub(super) const CAST_TYPE: &str = "
    create type mood as enum ('good', 'bad');
    create type plain as enum ('x');
    create function mood_json(mood) returns json language sql as 'select to_json(length($1::text))';
    create cast (mood as json) with function mood_json(mood);
    create cast (plain as json) with inout;
    create type moods as (a int, m mood);";
