//! Definitions that are valid, and what is said of those that are not.

use super::*;
use crate::change::TableId;
use crate::engine::document::id::IndexId;

#[test]
fn the_built_in_definition_has_the_four_indices() {
    let definition = parse(None).unwrap();
    let names: Vec<&str> = definition.indices.iter().map(|i| i.name.as_str()).collect();
    assert_eq!(names, ["listings", "profiles", "categories", "ai_suggestions"]);
    let categories = definition.table("public", "categories").unwrap();
    let dependents = definition.dependents_of(categories);
    let below: Vec<(&str, bool)> = dependents.iter().map(|d| (d.by.as_str(), d.path)).collect();
    assert!(below.contains(&("category_id", true)), "{below:?}");
    assert!(below.contains(&("id", true)), "{below:?}");
    assert_eq!(definition.sources().count(), 5);
    assert_eq!(IndexId(3), definition.sources().last().unwrap().index);
}

fn check(text: &str, expected: &str) {
    let table: toml::Table = text.parse().unwrap();
    let error = parse(Some(&table)).unwrap_err();
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    let error = format!("{error}: {cause}");
    assert!(error.contains(expected), "{text}\n{error}");
}

#[test]
fn a_definition_that_cannot_be_used_says_why() {
    check("", "declares no [[table]]");
    check("[[table]]\nname='a'", "declares no [[index]]");
    check("[[table]]\nname='a'\n[[table]]\nname='a'", "table \"a\" is declared twice");
    check("[[table]]\nname='a'\nkey='x'", "unknown field `key`");
    check("[[table]]\nname='a'\nparent='p'", "only one of `parent` and `label`");
    let index =
        |rest: &str| format!("[[table]]\nname='a'\n[[table]]\nname='b'\nschema='s'\n{rest}");
    let named = |name: &str| index(&format!("[[index]]\nname='{name}'\nsource=[{{table='a'}}]"));
    for name in ["", "A", "_a", "-a", "a b", "a*", "ş", "a/b", &"a".repeat(201)] {
        check(&named(name), &format!("index name {name:?} is refused"));
    }
    check(&[named("i"), "x=1".to_owned()].join("\n"), "unknown field `x`");
    check(&index("[[index]]\nname='i'\nsource=[]"), "declares no [[index.source]]");
    check(&index("[[index]]\nname='i'\nsource=[{table='c'}]"), "(declared: a, b)");
    check(&index("[[index]]\nname='i'\nsettings=1\nsource=[{table='a'}]"), "expected a map");
    let twice = "[[index]]\nname='i'\nsource=[{table='a'}]\n";
    check(&index(&twice.repeat(2)), "index \"i\" is declared twice");
}

#[test]
fn a_source_that_cannot_be_used_says_why() {
    let source = |rest: &str| {
        format!("[[table]]\nname='a'\n[[index]]\nname='i'\n[[index.source]]\ntable='a'\n{rest}")
    };
    let field = |f: &str| source(&format!("[[index.source.field]]\nname='f'\n{f}\n"));
    check(&field(""), "exactly one of");
    check(&field("column='x'\nconstant=1"), "exactly one of");
    check(&field("path={table='a',start='id'}"), "needs `parent` and `label`");
    check(&field("embed={table='a',by='x',columns=['y'],path='p'}"), "needs `parent`");
    check(&field("embed={table='a',by='x',columns=['y','y']}"), "field \"y\" is declared twice");
    check(&field("suggest={input=['x'],weight=2147483648}"), "the most is 2147483647");
    check(&field("column='x'\n[[index.source.field]]\nname='f'\ncolumn='y'"), "declared twice");
    for values in ["[]", "[[1]]", "[nan]"] {
        check(&source(&format!("include={{x={values}}}")), "include.x of index \"i\"");
    }
    check(&source("filter={field='kind',term='t'}"), "add one");
    check(&source("fliter={field='kind',term='t'}"), "unknown field `fliter`");
    let apart = |one: &str, two: &str| {
        let one_of = |prefix: &str| {
            format!(
                "table='a'\nid_prefix='{prefix}'\nfilter={{field='k',term='t'}}\n\
                 field=[{{name='k',constant='t'}}]\n"
            )
        };
        format!(
            "[[table]]\nname='a'\n[[index]]\nname='i'\n[[index.source]]\n{}[[index.source]]\n{}",
            one_of(one),
            one_of(two)
        )
    };
    for (one, two) in [("", ""), ("x", "x"), ("", "x:"), ("x:", "x:y:")] {
        check(&apart(one, two), "several sources");
    }
    assert!(parse(Some(&apart("x:", "y:").parse().unwrap())).is_ok());
    check(&apart("x:", "y:").replace("filter={field='k',term='t'}\n", ""), "several sources");
}

#[test]
fn a_table_of_another_schema_is_named_with_it() {
    // The queue identifies tables by their names without schema.
    check("[[table]]\nname='b'\n[[table]]\nname='b'\nschema='s'", "declared twice");
    let text = "[[table]]\nname='a'\n[[table]]\nname='b'\nschema='s'\n[[index]]\nname='i'\nsource=[{table='s.b'}]";
    let definition = parse(Some(&text.parse().unwrap())).unwrap();
    assert_eq!(definition.indices[0].sources[0].table, TableId(1));
    assert_eq!(definition.table("s", "b"), Some(TableId(1)));
}
