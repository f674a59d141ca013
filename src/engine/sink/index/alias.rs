//! Read aliases and write aliases.

use serde_json::{Map, Value, json};

use super::error::IndexError;
use super::response::{accept, read};
use crate::engine::sink::Target;
use crate::engine::sink::client::{Client, Verb};

/// Moves the read aliases from older generations to these targets, in one request. An index with an
/// alias's name is deleted by the same request; [`prepare`](super::prepare) has checked that it may
/// be.
///
/// The targets are refreshed first, so that no search finds less than before.
///
/// # Errors
///
/// Elasticsearch does not respond, or refuses.
pub async fn swap_read_aliases(client: &Client, targets: &[Target]) -> Result<(), IndexError> {
    let mut actions = Vec::new();
    for Target { name, concrete, .. } in targets {
        let others = holders(client, name).await?.into_iter().filter(|index| index != concrete);
        let before = actions.len();
        actions.extend(others.map(|index| {
            if index == *name {
                json!({ "remove_index": { "index": index } })
            } else {
                json!({ "remove": { "index": index, "alias": name } })
            }
        }));
        if actions.len() > before {
            let response = client.send(Verb::Post, &format!("/{concrete}/_refresh"), None).await?;
            accept(response, || format!("refresh index {concrete}"))?;
        }
        actions.push(json!({ "add": { "index": concrete, "alias": name } }));
    }
    change_aliases(client, actions).await
}

/// The indices to which a name refers as an alias; the name itself if it is an index.
pub(super) async fn holders(client: &Client, name: &str) -> Result<Vec<String>, IndexError> {
    let response = client.send(Verb::Get, &format!("/{name}/_alias"), None).await?;
    if response.status == 404 {
        return Ok(Vec::new());
    }
    let what = || format!("show who holds {name}");
    let found: Map<String, Value> = read(&accept(response, what)?, what)?;
    Ok(found.into_iter().map(|(index, _)| index).collect())
}

/// An index among the holders of a read alias that is no generation of it. The name itself may be an
/// index of the original system.
pub(super) fn foreign(name: &str, holders: &[String]) -> Option<String> {
    let is_generation = |index: &str| {
        let number = index.strip_prefix(name).and_then(|rest| rest.strip_prefix('-'));
        number.is_some_and(|digits| {
            digits.len() >= 6 && digits.bytes().all(|byte| byte.is_ascii_digit())
        })
    };
    holders.iter().find(|index| *index != name && !is_generation(index)).cloned()
}

/// A write alias of some epoch.
pub(super) struct WriteAlias {
    pub(super) index: String,
    pub(super) alias: String,
}

/// The write aliases of all epochs.
pub(super) async fn write_aliases(
    client: &Client,
    name: &str,
) -> Result<Vec<WriteAlias>, IndexError> {
    let response = client.send(Verb::Get, &format!("/_alias/{name}-w-*"), None).await?;
    if response.status == 404 {
        return Ok(Vec::new());
    }
    let what = || format!("show the aliases of {name}");
    let found: Map<String, Value> = read(&accept(response, what)?, what)?;
    let pairs = found.iter().flat_map(|(index, found)| {
        let aliases = found["aliases"].as_object().into_iter().flatten();
        aliases.map(|(alias, _)| WriteAlias { index: index.clone(), alias: alias.clone() })
    });
    // The aliases of an index `listings-w` match the pattern too; theirs does not end in an epoch.
    let ours = |alias: &str| {
        let epoch = alias.strip_prefix(name).and_then(|rest| rest.strip_prefix("-w-"));
        epoch.is_some_and(|epoch| epoch.parse::<i64>().is_ok())
    };
    Ok(pairs.filter(|pair| ours(&pair.alias)).collect())
}

/// Applies all alias actions in one request.
pub(super) async fn change_aliases(client: &Client, actions: Vec<Value>) -> Result<(), IndexError> {
    let body = json!({ "actions": actions });
    let response = client.send(Verb::Post, "/_aliases", Some(&body)).await?;
    accept(response, || "change aliases".to_owned()).map(drop)
}
