//! Documents built from rows of the built-in definition.

use super::*;
use crate::engine::document::parse;

#[derive(Default)]
struct RowsByKey(HashMap<(TableId, String), Row>);

impl Embedded for RowsByKey {
    fn row(&self, table: TableId, key: &str) -> Option<&Row> {
        self.0.get(&(table, key.to_owned()))
    }
}

fn rows(definition: &Definition) -> RowsByKey {
    let mut rows = RowsByKey::default();
    let mut add = |table: &str, key: &str, json: &str| {
        let table = definition.table("public", table).unwrap();
        rows.0.insert((table, key.to_owned()), Row::parse(json, None).unwrap());
    };
    add(
        "profiles",
        "u1",
        concat!(
            r#"{"id":"u1","username":"ayşe","full_name":"Ayşe","avatar_url":null,"email":"x@y","phone":"5","#,
            r#""bio":"b","location":"İzmir","rating":4.50,"is_verified":true}"#,
        ),
    );
    add("categories", "c1", r#"{"id":"c1","parent_id":null,"name":"Ev","slug":"ev"}"#);
    add("categories", "c2", r#"{"id":"c2","parent_id":"c1","name":"Mobilya","slug":"mobilya"}"#);
    add("categories", "c3", r#"{"id":"c3","parent_id":"c4","name":"X","slug":"x"}"#);
    add("categories", "c4", r#"{"id":"c4","parent_id":"c3","name":"Y","slug":"y"}"#);
    add("categories", "self", r#"{"id":"self","parent_id":"self","name":"S","slug":"s"}"#);
    add("categories", "orphan", r#"{"id":"orphan","parent_id":"gone","name":"O","slug":"o"}"#);
    rows
}

fn check(index: &str, source: u16, row: &str, expected: Option<&str>) {
    let definition = parse::parse(None).unwrap();
    let rows = rows(&definition);
    let row = Row::parse(row, None).unwrap();
    let id = definition
        .sources()
        .find(|id| definition.indices[usize::from(id.index.0)].name == index && id.number == source)
        .unwrap();
    let built = included(definition.source(id), &row).then(|| {
        let mut out = Vec::new();
        Builder::default().build(&definition, id, &row, &rows, &mut out);
        String::from_utf8(out).unwrap()
    });
    assert_eq!(built.as_deref(), expected);
}

#[test]
fn a_listing_has_its_columns_and_what_it_embeds() {
    check(
        "listings",
        0,
        concat!(
            r#"{"id":"l1","user_id":"u1","category_id":"c2","price":1.50,"status":"active","#,
            r#""latitude":41.0,"longitude":29}"#,
        ),
        Some(concat!(
            r#"{"id":"l1","user_id":"u1","category_id":"c2","price":1.50,"status":"active","#,
            r#""latitude":41.0,"longitude":29,"location":{"lat":41.0,"lon":29},"#,
            r#""seller":{"id":"u1","username":"ayşe","full_name":"Ayşe","avatar_url":null,"#,
            r#""location":"İzmir","rating":4.50,"is_verified":true},"#,
            r#""category":{"id":"c2","name":"Mobilya","slug":"mobilya","path":["Ev","Mobilya"]}}"#,
        )),
    );
}

#[test]
fn only_active_listings_have_a_document() {
    for status in ["draft", "inactive", "sold", "expired", "rejected"] {
        check("listings", 0, &format!(r#"{{"id":"l1","status":"{status}"}}"#), None);
    }
}

#[test]
fn a_location_needs_both_and_missing_rows_are_null() {
    let with = |pair: &str, location: &str| {
        check(
            "listings",
            0,
            &format!(r#"{{"id":"l","status":"active",{pair}}}"#),
            Some(&format!(
                r#"{{"id":"l","status":"active",{pair}{location},"seller":null,"category":null}}"#
            )),
        );
    };
    for pair in [
        r#""latitude":null,"longitude":1"#,
        r#""latitude":1,"longitude":null"#,
        r#""latitude":null,"longitude":null"#,
        r#""latitude":1"#,
    ] {
        with(pair, "");
    }
    let point = |lat: &str, lon: &str| {
        let pair = format!(r#""latitude":{lat},"longitude":{lon}"#);
        with(&pair, &format!(r#","location":{{"lat":{lat},"lon":{lon}}}"#));
    };
    point("0", "-0.10");
    point("91", "181");
    point(r#""NaN""#, r#""-Infinity""#);
}

#[test]
fn values_stand_as_the_row_has_them() {
    for value in [
        "9007199254740993",
        "1.50",
        r#""NaN""#,
        r#""infinity""#,
        r#""20000-01-01T00:00:00+00:00""#,
        r#""İstanbul'da ısıtıcı, \"ĞÜŞ\"""#,
        r#"{"a": [1, {"b": "}\\"}], "c": 1e400}"#,
    ] {
        let row = format!(r#"{{"id":"u1", "bio": {value}, "email":"a@b"}}"#);
        check("profiles", 0, &row, Some(&format!(r#"{{"id":"u1","bio":{value}}}"#)));
        let row = format!(r#"{{"id":"l","status":"active","price":{value}}}"#);
        let whole = format!(
            r#"{{"id":"l","status":"active","price":{value},"seller":null,"category":null}}"#
        );
        check("listings", 0, &row, Some(&whole));
    }
}

#[test]
fn a_document_is_one_line() {
    check(
        "listings",
        0,
        "{\"status\":\"active\",\n\"attributes\":{\"a\":\n[\n\"\\n\"\n]}}",
        Some(r#"{"status":"active", "attributes":{"a": [ "\n" ]},"seller":null,"category":null}"#),
    );
}

#[test]
fn private_columns_stay_out() {
    check(
        "profiles",
        0,
        r#"{"id":"u1","email":"a@b","phone":null,"bio":"x"}"#,
        Some(r#"{"id":"u1","bio":"x"}"#),
    );
}

#[test]
fn no_index_shows_a_private_column() {
    let definition = parse::parse(None).unwrap();
    let rows = rows(&definition);
    let private = concat!(
        r#"{"id":"u1","user_id":"u1","category_id":"c2","status":"active","is_active":true,"#,
        r#""email":"SECRET","phone":"SECRET"}"#,
    );
    for id in definition.sources() {
        // All columns of a listing or a category are public, even those of these names.
        if definition.tables[usize::from(definition.source(id).table.0)].name == "profiles" {
            let row = Row::parse(private, None).unwrap();
            let mut out = Vec::new();
            Builder::default().build(&definition, id, &row, &rows, &mut out);
            assert!(!String::from_utf8(out).unwrap().contains("SECRET"), "{id:?}");
        }
    }
}

#[test]
fn a_path_ends_at_the_first_repeated_id() {
    check("categories", 0, r#"{"id":"c2"}"#, Some(r#"{"id":"c2","path":["Ev","Mobilya"]}"#));
    check("categories", 0, r#"{"id":"c3"}"#, Some(r#"{"id":"c3","path":["Y","X"]}"#));
    check("categories", 0, r#"{"id":"self"}"#, Some(r#"{"id":"self","path":["S"]}"#));
    check("categories", 0, r#"{"id":"orphan"}"#, Some(r#"{"id":"orphan","path":["O"]}"#));
    check("categories", 0, r#"{"id":"none"}"#, Some(r#"{"id":"none","path":[]}"#));
}

#[test]
fn a_path_has_any_depth() {
    let definition = parse::parse(None).unwrap();
    let table = definition.table("public", "categories").unwrap();
    let mut rows = RowsByKey::default();
    for depth in 0..1000 {
        let parent = if depth == 0 { "null".to_owned() } else { (depth - 1).to_string() };
        let json = format!(r#"{{"id":{depth},"parent_id":{parent},"name":"{depth}"}}"#);
        rows.0.insert((table, depth.to_string()), Row::parse(&json, None).unwrap());
    }
    let id = definition.sources_of(table)[0];
    let mut out = Vec::new();
    let row = rows.0[&(table, "999".to_owned())].clone();
    Builder::default().build(&definition, id, &row, &rows, &mut out);
    let document: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let labels = document["path"].as_array().unwrap();
    assert_eq!((labels.len(), &labels[0], &labels[999]), (1000, &"0".into(), &"999".into()));
}

#[test]
fn rows_of_another_shape_are_laid_out_anew() {
    let definition = parse::parse(None).unwrap();
    let rows = rows(&definition);
    let profiles = definition.table("public", "profiles").unwrap();
    let id = definition.sources_of(profiles)[0];
    let mut builder = Builder::default();
    let mut check = |row: &Row, expected: &str| {
        let mut out = b"before".to_vec();
        builder.build(&definition, id, row, &rows, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), format!("before{expected}"));
    };
    let narrow = Row::parse(r#"{"email":"e","id":"p"}"#, None).unwrap();
    let wide = Row::parse(r#"{"id":"p","new":1,"email":"e"}"#, None).unwrap();
    for _ in 0..2 {
        check(&narrow, r#"{"id":"p"}"#);
        check(&wide, r#"{"id":"p","new":1}"#);
    }
}

#[test]
fn a_computed_field_takes_the_place_of_a_column() {
    check(
        "listings",
        0,
        r#"{"location":"İzmir","status":"active","seller":1,"latitude":null,"longitude":2}"#,
        Some(r#"{"status":"active","latitude":null,"longitude":2,"seller":null,"category":null}"#),
    );
}

#[test]
fn suggestions_are_of_active_categories_and_listings() {
    check(
        "ai_suggestions",
        0,
        r#"{"id":"c2","name":"Mobilya","is_active":true,"keywords":["koltuk",null,"",  "çekyat"]}"#,
        Some(concat!(
            r#"{"kind":"category","text":"Mobilya","category_id":"c2","path":["Ev","Mobilya"],"#,
            r#""suggest":{"input":["Mobilya","koltuk","çekyat"],"weight":10}}"#,
        )),
    );
    check("ai_suggestions", 0, r#"{"id":"c2","name":"M","is_active":false}"#, None);
    check(
        "ai_suggestions",
        1,
        r#"{"id":"l1","title":"Koltuk","status":"active","category_id":"c1","tags":[]}"#,
        Some(concat!(
            r#"{"kind":"listing","text":"Koltuk","category_id":"c1","path":["Ev"],"#,
            r#""suggest":{"input":["Koltuk"],"weight":1}}"#,
        )),
    );
}
