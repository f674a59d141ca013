//! The page's files without a browser. Not here: what the page does in one (`tests/page.rs`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;

use super::*;
use crate::admin::audited::ACTIONS;
use crate::admin::health::Code;
use crate::storage::audit::READ;

const SIZE_MAX: usize = 150_000;

fn content(route: &str) -> &'static str {
    let file = FILES.iter().find(|file| file.route == route).unwrap();
    std::str::from_utf8(file.content).unwrap()
}

fn request(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn catalogue(route: &str) -> BTreeMap<String, Value> {
    let (_, json) = content(route).split_once("export default ").unwrap();
    serde_json::from_str(json.trim_end().trim_end_matches(';')).unwrap()
}

/// The plural forms of an entry and the values that it names.
fn shape(entry: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let named = |text: &str| -> BTreeSet<String> {
        let parts = text.split('{').skip(1);
        parts.filter_map(|part| part.split_once('}')).map(|(name, _)| name.to_owned()).collect()
    };
    match entry {
        Value::String(text) => BTreeMap::from([(String::new(), named(text))]),
        Value::Array(lines) => {
            let lines = lines.iter().map(|line| line.as_str().expect("a line is text"));
            BTreeMap::from([(String::new(), named(&lines.collect::<Vec<_>>().join(" ")))])
        }
        Value::Object(forms) => {
            let form = |(name, text): (&String, &Value)| {
                (name.clone(), named(text.as_str().expect("a form is text")))
            };
            forms.iter().map(form).collect()
        }
        other => panic!("{other} is neither text, nor lines of text, nor plural forms"),
    }
}

#[test]
fn both_languages_have_the_same_words() {
    let (english, turkish) = (catalogue("/assets/words.en.js"), catalogue("/assets/words.tr.js"));
    let keys = |words: &BTreeMap<String, Value>| words.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&english), keys(&turkish));
    for (key, entry) in &english {
        assert_eq!(shape(entry), shape(&turkish[key]), "{key}");
    }
}

#[test]
fn every_issue_has_a_text_in_both_languages() {
    let schema = schemars::schema_for!(Code).to_value();
    let codes = schema["enum"].as_array().expect("codes are plain words");
    assert!(codes.len() > 10, "{schema}");
    for route in ["/assets/words.en.js", "/assets/words.tr.js"] {
        let words = catalogue(route);
        for word in codes {
            let code: Code = serde_json::from_value(word.clone()).unwrap();
            for kind in ["issue", "advice"] {
                let key = format!("{kind}.{}", word.as_str().unwrap());
                let entry = words.get(&key).unwrap_or_else(|| panic!("{route} has no {key}"));
                for name in shape(entry).into_values().flatten() {
                    assert!(code.values().contains(&&*name), "{route}: {key} names {name}");
                }
            }
        }
        let named = words.keys().filter(|key| key.starts_with("issue.")).count();
        assert_eq!(named, codes.len(), "{route}");
    }
}

#[test]
fn every_action_of_the_audit_log_can_be_chosen() {
    let list = content("/assets/audit.js").split_once("const ACTIONS = [").unwrap().1;
    let list = list.split_once(']').unwrap().0;
    for action in ACTIONS.into_iter().chain([READ]) {
        assert!(list.contains(&format!("\"{action}\"")), "{action} is not in {list}");
    }
}

#[test]
fn every_word_that_is_asked_for_exists() {
    let english = catalogue("/assets/words.en.js");
    let scripts = FILES.iter().filter(|file| file.kind == SCRIPT && !file.route.contains("words."));
    for PageSource { route, content: bytes, .. } in scripts {
        let text = std::str::from_utf8(bytes).unwrap();
        let pieces: Vec<&str> = text.split("t(\"").collect();
        for pair in pieces.windows(2) {
            let [before, after] = pair else { continue };
            if before.ends_with(|letter: char| letter.is_alphanumeric() || "._$".contains(letter)) {
                continue; // another function, whose name ends in t
            }
            let asked = after.split_once('"').map(|(asked, _)| asked);
            let known = asked.is_some_and(|asked| english.contains_key(asked));
            assert!(known, "{route} asks for {asked:?}");
        }
    }
}

#[test]
fn every_file_of_the_page_is_served_and_nothing_is_inline() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api/page");
    let mut served = BTreeSet::from(["mod.rs", "tests.rs", "vendor/README.md"].map(str::to_owned));
    served.extend(FILES.iter().map(|file| match file.route {
        "/" => "index.html".to_owned(),
        route => route.trim_start_matches("/assets/").to_owned(),
    }));
    for below in ["", "vendor/"] {
        for file in std::fs::read_dir(folder.join(below)).unwrap() {
            let file = file.unwrap();
            let name = format!("{below}{}", file.file_name().to_string_lossy());
            assert!(file.path().is_dir() || served.contains(&name), "{name} is not served");
        }
    }
    let texts = FILES.iter().filter(|file| [HTML, CSS, SCRIPT].contains(&file.kind));
    for PageSource { route, kind, content: bytes } in texts {
        let text = std::str::from_utf8(bytes).unwrap();
        for outside in ["https://", "url(//", "innerHTML", "document.write", "eval("] {
            let vendored = route.contains("/vendor/") && outside == "innerHTML";
            assert!(vendored || !text.contains(outside), "{route} has {outside}");
        }
        if *kind == HTML {
            assert!(!text.contains("<style") && !text.contains(" style="), "{route}");
            assert!(
                text.matches("<script").count()
                    == text.matches("<script src=").count()
                        + text.matches("<script type=\"module\" src=").count()
            );
        }
    }
}

#[test]
fn the_page_is_small() {
    let sent: usize = PAGE.iter().map(|file| file.gzip.body.len()).sum();
    assert!(sent <= SIZE_MAX, "{sent} bytes compressed; {SIZE_MAX} are the limit");
}

#[test]
fn what_a_browser_has_is_not_sent_again() {
    let file = &PAGE[1];
    let plain = file.answer(&request(&[]));
    assert_eq!(plain.status(), StatusCode::OK);
    assert_eq!(plain.headers()[header::CACHE_CONTROL], "no-cache");
    assert_eq!(plain.headers()[header::CONTENT_TYPE], CSS);
    assert!(!plain.headers().contains_key(header::CONTENT_ENCODING));
    let small = file.answer(&request(&[("accept-encoding", "br, gzip;q=0.5")]));
    assert_eq!(small.headers()[header::CONTENT_ENCODING], "gzip");
    assert_ne!(small.headers()[header::ETAG], plain.headers()[header::ETAG]);
    let refused = file.answer(&request(&[("accept-encoding", "gzip;q=0")]));
    assert!(!refused.headers().contains_key(header::CONTENT_ENCODING));

    let tag = plain.headers()[header::ETAG].to_str().unwrap();
    for known in [tag, "*", &format!("\"other\", W/{tag}")] {
        let again = file.answer(&request(&[("if-none-match", known)]));
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{known}");
    }
    let other = file.answer(&request(&[("if-none-match", "\"other\"")]));
    assert_eq!(other.status(), StatusCode::OK);
}
