//! Gathers the facts about Elasticsearch, by three requests and one for each alias.
//!
//! Not here: connecting to a node (`engine::sink::client`).

use serde_json::Value;

use super::facts::ElasticsearchFacts;
use crate::config::Elasticsearch;
use crate::engine::sink::client::{Client, Verb};
use crate::engine::sink::privileges;

const SETTINGS_PATH: &str = "/_cluster/settings?include_defaults=true&filter_path=*.action.auto_create_index,\
     *.rest.action.multi.allow_explicit_index";

/// The version, `action.auto_create_index`, which of `names` are indices instead of aliases, and the
/// privileges that the user lacks on them.
///
/// # Errors
///
/// One sentence: no response, a refusal, or a server that is not Elasticsearch.
pub async fn gather(
    settings: &Elasticsearch,
    names: &[String],
) -> Result<ElasticsearchFacts, String> {
    let client = Client::new(settings).map_err(|error| error.to_string())?;
    let first = client.send(Verb::Get, "/", None).await.map_err(|error| error.to_string())?;
    let mut facts = root(first.status, &first.body)?;
    // A user without the privilege to read the settings gets no finding about them.
    if let Ok(answer) = client.send(Verb::Get, SETTINGS_PATH, None).await
        && answer.is_success()
    {
        facts.auto_create_index = setting(&answer.body, "action/auto_create_index");
        let explicit = setting(&answer.body, "rest/action/multi/allow_explicit_index");
        facts.refuses_explicit_index = explicit.as_deref() == Some("false");
    }
    facts.lacking_privileges =
        privileges::lacking(&client, names).await.map_err(|error| error.to_string())?;
    for name in names {
        if let Ok(answer) = client.send(Verb::Get, &format!("/{name}/_alias"), None).await
            && answer.is_success()
            && is_index(&answer.body, name)
        {
            facts.names_taken.push(name.clone());
        }
    }
    Ok(facts)
}

/// Whether the response to `GET /name/_alias` lists an index of that name.
fn is_index(body: &[u8], name: &str) -> bool {
    serde_json::from_slice(body).is_ok_and(|value: Value| value.get(name).is_some())
}

fn root(status: u16, body: &[u8]) -> Result<ElasticsearchFacts, String> {
    match status {
        200 => {}
        401 => return Err("it refuses the user, password or API key (401)".to_owned()),
        403 => return Err("the user lacks the privilege `monitor` on the cluster (403)".to_owned()),
        status => return Err(format!("it answers {status} to GET /")),
    }
    let value: Value = serde_json::from_slice(body)
        .map_err(|_| "what answers there is not Elasticsearch".to_owned())?;
    let version = value.pointer("/version/number").and_then(Value::as_str);
    let version = version.ok_or_else(|| "what answers there is not Elasticsearch".to_owned())?;
    let distribution = value.pointer("/version/distribution").and_then(Value::as_str);
    Ok(ElasticsearchFacts {
        distribution: distribution.unwrap_or("elasticsearch").to_owned(),
        version: version.to_owned(),
        auto_create_index: None,
        refuses_explicit_index: false,
        names_taken: Vec::new(),
        lacking_privileges: Vec::new(),
    })
}

/// The setting of the highest precedence.
fn setting(body: &[u8], name: &str) -> Option<String> {
    let value: Value = serde_json::from_slice(body).ok()?;
    ["transient", "persistent", "defaults"].iter().find_map(|level| {
        let setting = value.pointer(&format!("/{level}/{name}"))?;
        setting.as_str().map(str::to_owned)
    })
}

#[cfg(test)]
mod tests {
    use super::{is_index, root, setting};

    #[test]
    fn answers_to_the_first_request() {
        let check = |status, body: &str, expected: &str| {
            let text = match root(status, body.as_bytes()) {
                Ok(facts) => format!("{} {}", facts.distribution, facts.version),
                Err(reason) => reason,
            };
            assert!(text.contains(expected), "{text}");
        };
        check(200, r#"{"version":{"number":"9.5.3"}}"#, "elasticsearch 9.5.3");
        check(
            200,
            r#"{"version":{"number":"2.19.0","distribution":"opensearch"}}"#,
            "opensearch 2.19.0",
        );
        check(200, "<html>", "not Elasticsearch");
        check(200, "{}", "not Elasticsearch");
        check(401, "", "refuses the user");
        check(403, "", "privilege");
        check(502, "", "answers 502");
    }

    #[test]
    fn an_index_is_distinguished_from_an_alias() {
        assert!(is_index(br#"{"listings":{"aliases":{}}}"#, "listings"));
        assert!(!is_index(br#"{"listings-000001":{"aliases":{"listings":{}}}}"#, "listings"));
    }

    #[test]
    fn the_setting_of_the_highest_precedence_counts() {
        let check = |body: &str, expected: Option<&str>| {
            let found = setting(body.as_bytes(), "action/auto_create_index");
            assert_eq!(found.as_deref(), expected);
        };
        check(r#"{"defaults":{"action":{"auto_create_index":"true"}}}"#, Some("true"));
        check(
            concat!(
                r#"{"persistent":{"action":{"auto_create_index":"false"}},"#,
                r#""defaults":{"action":{"auto_create_index":"true"}}}"#,
            ),
            Some("false"),
        );
        check("{}", None);
    }
}
