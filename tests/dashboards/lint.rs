//! The rules of Grafana's own dashboard linter, since it cannot be run everywhere, and ours: a
//! stable uid, no fixed data source, a place for each panel.

use serde_json::{Value, json};

use super::{NAMES, dashboard, panels, selectors};

/// What is wrong with a dashboard, a sentence each.
fn findings(dashboard: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let mut expect = |holds: bool, sentence: String| {
        if !holds {
            found.push(sentence);
        }
    };
    expect(dashboard["editable"] == false, "it is editable".to_owned());
    let uid = dashboard["uid"].as_str().unwrap_or_default();
    expect(uid.starts_with("walferry-") && uid.len() <= 40, format!("uid {uid:?}"));
    expect(!dashboard.to_string().contains("${DS_"), "it has an input to fill in".to_owned());
    templates(dashboard, &mut expect);
    let mut ids = std::collections::BTreeSet::new();
    for panel in dashboard["panels"].as_array().into_iter().flatten() {
        expect(ids.insert(panel["id"].as_u64()), format!("two panels have id {}", panel["id"]));
    }
    for panel in panels(dashboard) {
        about_panel(panel, &mut expect);
        for target in panel["targets"].as_array().into_iter().flatten() {
            about_target(panel, target, &mut expect);
        }
    }
    overlaps(&panels(dashboard), &mut expect);
    found
}

/// template-datasource-rule, template-job-rule, template-instance-rule, template-label-promql-rule,
/// template-on-time-change-reload-rule.
fn templates(dashboard: &Value, expect: &mut impl FnMut(bool, String)) {
    let list = dashboard["templating"]["list"].as_array().cloned().unwrap_or_default();
    let of = |name: &str| list.iter().find(|variable| variable["name"] == name).cloned();
    let datasource = of("datasource").unwrap_or_default();
    expect(datasource["type"] == "datasource", "no datasource variable".to_owned());
    expect(datasource["query"] == "prometheus", "the data source is not Prometheus".to_owned());
    expect(datasource["label"] == "Data source", "the data source's label".to_owned());
    for (name, label) in [("job", "Job"), ("instance", "Instance")] {
        let variable = of(name).unwrap_or_default();
        let mut is = |key: &str, value: Value| {
            expect(variable[key] == value, format!("variable {name}: {key} is {}", variable[key]));
        };
        is("type", json!("query"));
        is("label", json!(label));
        is("datasource", json!({ "type": "prometheus", "uid": "${datasource}" }));
        is("multi", json!(true));
        is("includeAll", json!(true));
        is("allValue", json!(".+"));
        is("refresh", json!(2));
        let query = variable["definition"].as_str().unwrap_or_default();
        expect(
            query.starts_with("label_values(") && balanced(query),
            format!("variable {name}: {query}"),
        );
    }
}

/// panel-datasource-rule, panel-title-description-rule, panel-units-rule, panel-no-targets-rule.
fn about_panel(panel: &Value, expect: &mut impl FnMut(bool, String)) {
    let title = panel["title"].as_str().unwrap_or_default();
    let source = json!({ "type": "prometheus", "uid": "${datasource}" });
    expect(panel["datasource"] == source, format!("{title:?}: datasource"));
    expect(!title.is_empty(), format!("panel {} has no title", panel["id"]));
    let description = panel["description"].as_str().unwrap_or_default();
    expect(description.len() > 10, format!("{title:?} has no description"));
    let unit = panel["fieldConfig"]["defaults"]["unit"].as_str().unwrap_or_default();
    expect(!unit.is_empty(), format!("{title:?} has no unit"));
    let targets = panel["targets"].as_array().map_or(0, Vec::len);
    expect(targets > 0, format!("{title:?} shows nothing"));
}

/// target-promql-rule (as far as brackets go; Prometheus itself runs each in the contract test),
/// target-rate-interval-rule, target-job-rule, target-instance-rule, target-counter-agg-rule.
fn about_target(panel: &Value, target: &Value, expect: &mut impl FnMut(bool, String)) {
    let title = panel["title"].as_str().unwrap_or_default();
    let expression = target["expr"].as_str().unwrap_or_default();
    expect(!expression.is_empty() && balanced(expression), format!("{title:?}: {expression:?}"));
    let range = expression.split('[').skip(1).all(|rest| rest.starts_with("$__rate_interval]"));
    expect(range, format!("{title:?}: a range other than $__rate_interval in {expression}"));
    for selector in selectors(expression) {
        let wanted = ["job=~\"$job\"", "instance=~\"$instance\""];
        let has = wanted.iter().all(|matcher| selector.contains(matcher));
        expect(has, format!("{title:?}: {selector} lacks job or instance"));
        let name = super::name_of(&selector);
        let counts = ["_total", "_bucket", "_sum", "_count"].iter().any(|end| name.ends_with(end));
        let summed = ["rate(", "increase(", "irate("]
            .iter()
            .any(|function| expression.contains(&format!("{function}{name}{{")));
        expect(!counts || summed, format!("{title:?}: {name} is a counter without a rate"));
    }
    expect(!expression.contains("sum(sum"), format!("{title:?}: a sum of a sum"));
    expect(target["refId"].is_string(), format!("{title:?}: a target has no refId"));
}

fn overlaps(panels: &[&Value], expect: &mut impl FnMut(bool, String)) {
    let place = |panel: &Value| ["x", "y", "w", "h"].map(|k| panel["gridPos"][k].as_u64());
    let boxes: Vec<[u64; 4]> =
        panels.iter().map(|panel| place(panel).map(|side| side.unwrap_or_default())).collect();
    for (number, [x, y, w, h]) in boxes.iter().enumerate() {
        expect(
            *w > 0 && *h > 0 && x + w <= 24,
            format!("{} has no place", panels[number]["title"]),
        );
        for (other, [ox, oy, ow, oh]) in boxes.iter().enumerate().skip(number + 1) {
            let apart = x + w <= *ox || ox + ow <= *x || y + h <= *oy || oy + oh <= *y;
            let titles = (&panels[number]["title"], &panels[other]["title"]);
            expect(apart, format!("{titles:?} overlap"));
        }
    }
}

fn balanced(expression: &str) -> bool {
    let mut open = Vec::new();
    for c in expression.chars() {
        match c {
            '(' | '{' | '[' => open.push(c),
            ')' | '}' | ']' => {
                let pair = matches!(
                    (open.pop(), c),
                    (Some('('), ')') | (Some('{'), '}') | (Some('['), ']')
                );
                if !pair {
                    return false;
                }
            }
            _ => {}
        }
    }
    open.is_empty()
}

#[test]
fn the_dashboards_have_no_finding() {
    for name in NAMES {
        let found = findings(&dashboard(name));
        assert_eq!(found, Vec::<String>::new(), "dashboards/{name}.json");
    }
}

#[test]
fn every_rule_finds_its_fault() {
    let check = |pointer: &str, value: Value, expected: &str| {
        let mut broken = dashboard("overview");
        *broken.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
        let found = findings(&broken);
        assert!(found.iter().any(|f| f.contains(expected)), "{pointer}: {found:?}");
    };
    check("/editable", json!(true), "editable");
    check("/uid", json!(""), "uid");
    check("/templating/list/0/type", json!("query"), "no datasource variable");
    check("/templating/list/1/refresh", json!(1), "refresh");
    check("/templating/list/2/allValue", json!(".*"), "allValue");
    check("/templating/list/1/definition", json!("label_values(up, job"), "variable job");
    check("/panels/1/datasource/uid", json!("P1809F7CD0C75ACF3"), "datasource");
    check("/panels/1/title", json!(""), "no title");
    check("/panels/1/description", json!(""), "no description");
    check("/panels/1/fieldConfig/defaults/unit", json!(""), "no unit");
    check("/panels/1/targets", json!([]), "shows nothing");
    check("/panels/1/id", json!(3), "two panels");
    check("/panels/1/gridPos/x", json!(3), "overlap");
    let expression = "/panels/2/targets/0/expr";
    let selector = "{job=~\"$job\", instance=~\"$instance\"}";
    check(expression, json!(format!("max(walferry_x{selector}")), "max(");
    check(expression, json!(format!("rate(walferry_x_total{selector}[5m])")), "a range other");
    check(expression, json!("max(walferry_x{instance=~\"$instance\"})"), "lacks job");
    check(expression, json!("max(walferry_x)"), "lacks job or instance");
    check(expression, json!(format!("sum(walferry_x_total{selector})")), "without a rate");
}
