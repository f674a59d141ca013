//! The privileges on walferry's indices that the user in Elasticsearch lacks.
//!
//! Not here: what happens once Elasticsearch refuses a request (`dispatch`).

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::json;

use super::client::{Client, HttpResponse, NoResponse, Verb};

/// To make indices and refresh them, to write documents, and to list them for a TRUNCATE.
pub const INDEX_PRIVILEGES: [&str; 3] = ["manage", "write", "read"];

const PATH: &str = "/_security/user/_has_privileges";

/// A privilege that the user lacks on at least one index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LackingPrivilege {
    pub privilege: String,
    /// Aliases, and patterns of the indices behind them.
    pub names: Vec<String>,
}

/// The privileges that the user lacks on these aliases and on the indices behind them. None are
/// lacking in a cluster without security, which does not know the question.
///
/// # Errors
///
/// No response arrived.
pub async fn lacking(
    client: &Client,
    aliases: &[String],
) -> Result<Vec<LackingPrivilege>, NoResponse> {
    let body = json!({
        "index": [{ "names": index_names(aliases), "privileges": INDEX_PRIVILEGES }]
    });
    Ok(read(&client.send(Verb::Post, PATH, Some(&body)).await?))
}

/// The aliases, and the patterns of their generations and write aliases.
#[must_use]
pub fn index_names(aliases: &[String]) -> Vec<String> {
    aliases.iter().flat_map(|alias| [alias.clone(), format!("{alias}-*")]).collect()
}

fn read(response: &HttpResponse) -> Vec<LackingPrivilege> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(default)]
        index: BTreeMap<String, BTreeMap<String, bool>>,
    }
    if !response.is_success() {
        return Vec::new();
    }
    let Ok(Answer { index }) = serde_json::from_slice(&response.body) else { return Vec::new() };
    let lacks =
        |name: &BTreeMap<String, bool>, privilege: &str| name.get(privilege) == Some(&false);
    INDEX_PRIVILEGES
        .iter()
        .map(|privilege| LackingPrivilege {
            privilege: (*privilege).to_owned(),
            names: index
                .iter()
                .filter(|(_, held)| lacks(held, privilege))
                .map(|(name, _)| name.clone())
                .collect(),
        })
        .filter(|lacking| !lacking.names.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, body: &str, expected: &[(&str, &[&str])]) {
        let response = HttpResponse { status, body: body.to_owned().into() };
        let found = read(&response);
        let found: Vec<(&str, Vec<&str>)> = found
            .iter()
            .map(|l| (l.privilege.as_str(), l.names.iter().map(String::as_str).collect()))
            .collect();
        let expected: Vec<(&str, Vec<&str>)> =
            expected.iter().map(|(privilege, names)| (*privilege, names.to_vec())).collect();
        assert_eq!(found, expected, "{status} {body}");
    }

    #[test]
    fn answers_of_a_cluster_with_security_and_of_one_without() {
        let all = r#"{"manage":true,"write":true,"read":true}"#;
        let unread = r#"{"manage":true,"write":true,"read":false}"#;
        check(200, &format!(r#"{{"index":{{"a":{all},"a-*":{all}}}}}"#), &[]);
        check(
            200,
            &format!(r#"{{"has_all_requested":false,"index":{{"a":{unread},"a-*":{unread}}}}}"#),
            &[("read", &["a", "a-*"])],
        );
        for status in [400, 404, 405, 500] {
            check(status, r#"{"error":"no handler found for uri"}"#, &[]);
        }
        check(200, "{}", &[]);
    }
}
