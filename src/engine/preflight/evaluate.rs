//! Evaluates the gathered facts. Pure.

use serde_json::json;

use super::database;
use super::facts::{ElasticsearchFacts, Facts};
use super::finding::Finding;
use crate::engine::sink::privileges::{INDEX_PRIVILEGES, LackingPrivilege};
use crate::postgres::catalog::standby::StandbyRole;

/// The findings about PostgreSQL, the most basic first.
#[must_use]
pub fn evaluate(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    database::server(facts, &mut findings);
    database::role(facts, &mut findings);
    database::tables(facts, &mut findings);
    database::definition(facts, &mut findings);
    database::keys(facts, &mut findings);
    database::own_objects(facts, &mut findings);
    database::publication(facts, &mut findings);
    database::slot(facts, &mut findings);
    findings
}

/// The findings about `synchronous_standby_names`. A run waits until such a fault is mended.
#[must_use]
pub fn evaluate_standby(facts: &Facts) -> Option<Finding> {
    let names = &facts.synchronous.names;
    let remedy = "alter system set synchronous_standby_names = 'FIRST 1 (replica1)'; -- the \
        standbys by name\nselect pg_reload_conf();";
    let what = |role| format!("synchronous_standby_names = '{names}' makes walferry {role}");
    match facts.synchronous.role() {
        StandbyRole::Asynchronous => None,
        StandbyRole::Potential => Some(Finding::advice(
            what("a potential synchronous standby"),
            "if another standby is gone, commits would wait for walferry, so it stops streaming",
            remedy,
        )),
        StandbyRole::Synchronous => Some(Finding::fault(
            what("a synchronous standby"),
            "commits would wait for walferry, so it does not stream",
            remedy,
        )),
    }
}

/// The findings about Elasticsearch; `found` is its facts, or why they could not be gathered. With
/// `replaces_indices`, indices of the original system may have the names of aliases.
#[must_use]
pub fn evaluate_elasticsearch(
    found: &Result<ElasticsearchFacts, String>,
    replaces_indices: bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    match found {
        Ok(found) => {
            elasticsearch(found, &mut findings);
            lacking_privileges(&found.lacking_privileges, &mut findings);
            if !replaces_indices {
                names_taken(&found.names_taken, &mut findings);
            }
        }
        Err(reason) => findings.push(Finding::fault(
            "Elasticsearch cannot be used",
            &format!("{reason}; until it can be, changes pile up in the queue"),
            "start it, or set ELASTICSEARCH_URL and the credentials right",
        )),
    }
    findings
}

fn elasticsearch(found: &ElasticsearchFacts, findings: &mut Vec<Finding>) {
    let ElasticsearchFacts { distribution, version, auto_create_index, .. } = found;
    let major: u32 = version.split('.').next().and_then(|major| major.parse().ok()).unwrap_or(0);
    let (known, words) = match distribution.as_str() {
        "opensearch" => ((2..=3).contains(&major), "OpenSearch 2 and 3"),
        _ => ((8..=9).contains(&major), "Elasticsearch 8 and 9"),
    };
    if !known {
        findings.push(Finding::fault(
            format!("{distribution} {version} is not supported"),
            &format!("walferry is made for {words}"),
            "use a supported version",
        ));
    }
    if found.refuses_explicit_index {
        findings.push(Finding::fault(
            "rest.action.multi.allow_explicit_index is false",
            "each bulk request names the indices of its documents, and would be refused",
            "set rest.action.multi.allow_explicit_index: true in elasticsearch.yml and restart the nodes",
        ));
    }
    if auto_create_index.as_deref() == Some("true") {
        findings.push(Finding::advice(
            "action.auto_create_index lets any write create an index",
            "a delete that comes after an index was removed brings it back, empty and without its \
             mappings",
            "put _cluster/settings {\"persistent\": {\"action.auto_create_index\": \"false\"}}, or a \
             pattern that leaves out walferry's indices",
        ));
    }
}

fn names_taken(names: &[String], findings: &mut Vec<Finding>) {
    for name in names {
        findings.push(Finding::fault(
            format!("{name} is an index"),
            "walferry needs the name for an alias",
            format!(
                "walferry migrate  # takes the original system over, and its indices with it\n\
                 delete /{name}  # if it is not the original system's, or set WALFERRY_INDEX_PREFIX"
            ),
        ));
    }
}

fn lacking_privileges(lacking: &[LackingPrivilege], findings: &mut Vec<Finding>) {
    for LackingPrivilege { privilege, names } in lacking {
        let why = match privilege.as_str() {
            "read" => "a TRUNCATE lists the documents that it deletes, and waits until it can",
            "write" => "no document can be written",
            _ => "indices cannot be made and refreshed, nor aliases changed",
        };
        let role = json!({ "indices": [{ "names": names, "privileges": INDEX_PRIVILEGES }] });
        findings.push(Finding::fault(
            format!("the user in Elasticsearch lacks {privilege} on {}", names.join(", ")),
            why,
            format!("grant it by a role of the user, such as put _security/role/walferry {role}"),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::evaluate_elasticsearch;
    use crate::engine::preflight::{ElasticsearchFacts, Severity};
    use crate::engine::sink::privileges::LackingPrivilege;

    fn check(distribution: &str, version: &str, auto: Option<&str>, expected: &[&str]) {
        let found: Vec<_> = evaluate_elasticsearch(
            &Ok(ElasticsearchFacts {
                distribution: distribution.to_owned(),
                version: version.to_owned(),
                auto_create_index: auto.map(str::to_owned),
                ..ElasticsearchFacts::default()
            }),
            false,
        )
        .into_iter()
        .map(|finding| finding.what)
        .collect();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.contains(expected), "{found}");
        }
    }

    #[test]
    fn versions_of_elasticsearch() {
        check("elasticsearch", "9.5.3", Some("false"), &[]);
        check("elasticsearch", "8.19.21", None, &[]);
        check("opensearch", "2.19.0", None, &[]);
        check("opensearch", "1.3.0", None, &["opensearch 1.3.0 is not supported"]);
        check("elasticsearch", "7.17.0", None, &["elasticsearch 7.17.0 is not supported"]);
        check("elasticsearch", "9.5.3", Some("true"), &["auto_create_index"]);
    }

    #[test]
    fn an_index_with_an_aliass_name_is_a_fault_unless_it_is_replaced() {
        let found = Ok(ElasticsearchFacts {
            distribution: "elasticsearch".to_owned(),
            version: "9.5.3".to_owned(),
            names_taken: vec!["listings".to_owned()],
            ..ElasticsearchFacts::default()
        });
        assert_eq!(evaluate_elasticsearch(&found, true), []);
        let findings = evaluate_elasticsearch(&found, false);
        assert_eq!(findings.len(), 1);
        assert!(findings[0].remedy.contains("walferry migrate"), "{}", findings[0]);
    }

    #[test]
    fn a_privilege_that_is_lacking_is_a_fault_with_a_role_that_has_it() {
        let lacking = LackingPrivilege {
            privilege: "read".to_owned(),
            names: vec!["listings".to_owned(), "listings-*".to_owned()],
        };
        let found = Ok(ElasticsearchFacts {
            distribution: "elasticsearch".to_owned(),
            version: "9.5.3".to_owned(),
            lacking_privileges: vec![lacking],
            ..ElasticsearchFacts::default()
        });
        let findings = evaluate_elasticsearch(&found, false);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].severity, Severity::Fault);
        assert!(findings[0].what.contains("lacks read on listings, listings-*"), "{}", findings[0]);
        assert!(findings[0].remedy.contains(r#"["manage","write","read"]"#), "{}", findings[0]);
    }

    #[test]
    fn elasticsearch_out_of_reach_is_a_fault() {
        let findings = evaluate_elasticsearch(&Err("connection refused".to_owned()), false);
        let faults = findings.iter().filter(|finding| finding.severity == Severity::Fault);
        assert_eq!(faults.count(), 1);
    }
}
