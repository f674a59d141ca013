//! Indices, mappings and aliases, at start-up and after a load.
//!
//! Searches use the read alias `listings`; index actions use `listings-w-<epoch>`, which the next
//! epoch takes away, so that a dead process's late requests are refused; deletes use the concrete
//! index `listings-000001`. `_meta` says whose changes an index holds, for versions of another
//! cluster or timeline mean nothing there. Not here: asking Elasticsearch how it is (`ping`).

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Target;
use super::client::{Answer, Client, NoAnswer, Verb};
use super::refusal::service_failure;
use super::verdict::ServiceFailure;
use crate::change::Lsn;
use crate::postgres::{Disposition, Recovery};

/// One index of the definition.
#[derive(Clone, Debug)]
pub struct IndexSpec {
    /// The alias that searches use, without the prefix.
    pub name: String,
    /// Elasticsearch's `settings`, nested or flat.
    pub settings: Value,
    /// Elasticsearch's `mappings`.
    pub mappings: Value,
}

/// Whose indices are made ready.
#[derive(Clone, Copy, Debug)]
pub struct Preparation<'a> {
    pub prefix: &'a str,
    /// The lease's epoch: names the write aliases.
    pub epoch: i64,
    pub generation: u32,
    /// The base of versions in an index made now.
    pub base: Lsn,
    pub system_identifier: &'a str,
    pub timeline: u32,
    /// An index that has an alias's name is the original system's: it serves searches until the
    /// aliases are swapped, and goes then.
    pub replaces_original: bool,
}

/// Why the indices are not ready.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
    #[error("Elasticsearch would not {what}: {reason}")]
    Refused {
        what: String,
        /// Decides the disposition.
        failure: ServiceFailure,
        reason: String,
    },
    #[error(
        "{name} is an index, but walferry needs this name for an alias; \
         delete or reindex it under another name, or set WALFERRY_INDEX_PREFIX (an index of the \
         original system is replaced only after walferry migrate has taken its queue over)"
    )]
    NameTaken { name: String },
    #[error(
        "index {index} was not made by walferry (its mapping has no _meta.walferry); \
         delete it or set WALFERRY_INDEX_PREFIX"
    )]
    NotOurs { index: String },
    #[error(
        "index {index} holds the changes of another history (system identifier {found_system}, \
         timeline {found_timeline}; this database has {system}, {timeline}), so its versions mean \
         nothing here; rebuild it with `walferry rebuild`"
    )]
    OtherHistory {
        index: String,
        found_system: String,
        found_timeline: u32,
        system: String,
        timeline: u32,
    },
}

impl Recovery for IndexError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::NoAnswer(_) => Disposition::Retry,
            Self::Refused { failure, .. } => match failure {
                ServiceFailure::Unavailable
                | ServiceFailure::Overloaded
                | ServiceFailure::Timeout => Disposition::Retry,
                ServiceFailure::Connection
                | ServiceFailure::NotAuthorised
                | ServiceFailure::NotUnderstood
                | ServiceFailure::Blocked
                | ServiceFailure::Missing => Disposition::Operator,
            },
            Self::NameTaken { .. } | Self::NotOurs { .. } | Self::OtherHistory { .. } => {
                Disposition::Operator
            }
        }
    }
}

/// Creates the indices that are absent, recognises those that are there, and points this epoch's
/// write aliases at them, in one call and away from every other epoch's. Safe to repeat.
///
/// # Errors
///
/// When Elasticsearch does not answer or refuses, or an index is not this database's.
pub async fn prepare(
    client: &Client,
    specs: &[IndexSpec],
    preparation: Preparation<'_>,
) -> Result<Vec<Target>, IndexError> {
    let mut targets = Vec::with_capacity(specs.len());
    for spec in specs {
        targets.push(prepare_one(client, spec, preparation).await?);
    }
    let mut actions = Vec::new();
    for target in &targets {
        let Target { name, write_alias, concrete, .. } = target;
        for (index, alias) in write_aliases(client, name).await? {
            if index != *concrete || alias != *write_alias {
                let gone = json!({ "index": index, "alias": alias, "must_exist": false });
                actions.push(json!({ "remove": gone }));
            }
        }
        let alias = json!({ "index": concrete, "alias": write_alias, "is_write_index": true });
        actions.push(json!({ "add": alias }));
        if holders(client, name).await?.is_empty() {
            actions.push(json!({ "add": { "index": concrete, "alias": name } }));
        }
    }
    change_aliases(client, actions).await?;
    Ok(targets)
}

/// Points the read aliases at these targets, away from older generations, in one call. An index
/// that has an alias's name itself goes in the same call: [`prepare`] has seen that it may.
///
/// What the targets hold is made searchable first, so that no search finds less than before.
///
/// # Errors
///
/// When Elasticsearch does not answer or refuses.
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
            let answer = client.send(Verb::Post, &format!("/{concrete}/_refresh"), None).await?;
            accept(answer, || format!("refresh index {concrete}"))?;
        }
        actions.push(json!({ "add": { "index": concrete, "alias": name } }));
    }
    change_aliases(client, actions).await
}

/// Whether an index is there as it was prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    There,
    /// Not there, replaced, or without this epoch's write alias; the sentence says which.
    Missing(String),
}

/// Looks for a target.
///
/// # Errors
///
/// The trouble and its account, when Elasticsearch does not say.
pub async fn presence(
    client: &Client,
    target: &Target,
) -> Result<Presence, (ServiceFailure, String)> {
    let Target { concrete, write_alias, uuid, .. } = target;
    let found = read_index(client, concrete).await.map_err(|error| match error {
        IndexError::NoAnswer(error) => (error.failure, error.to_string()),
        IndexError::Refused { failure, ref reason, .. } => (failure, reason.clone()),
        error => (ServiceFailure::NotUnderstood, error.to_string()),
    })?;
    let sentence = match found {
        None => format!("index {concrete} is gone; rebuild it with `walferry rebuild`"),
        Some(index) if index.uuid() != uuid => {
            format!(
                "index {concrete} has been replaced by another; rebuild it with `walferry rebuild`"
            )
        }
        Some(index) if !index.aliases.contains_key(write_alias) => format!(
            "alias {write_alias} of index {concrete} is gone; another walferry has taken over, \
             or it was removed: restart walferry"
        ),
        Some(_) => return Ok(Presence::There),
    };
    Ok(Presence::Missing(sentence))
}

async fn prepare_one(
    client: &Client,
    spec: &IndexSpec,
    preparation: Preparation<'_>,
) -> Result<Target, IndexError> {
    let Preparation { prefix, epoch, generation, .. } = preparation;
    let name = format!("{prefix}{}", spec.name);
    let concrete = format!("{name}-{generation:06}");
    let readers = holders(client, &name).await?;
    if readers.contains(&name) && !preparation.replaces_original {
        return Err(IndexError::NameTaken { name });
    }
    let mut created = false;
    let index = match read_index(client, &concrete).await? {
        Some(index) => index,
        None => {
            let alias = readers.is_empty().then_some(name.as_str());
            created = create(client, spec, preparation, &concrete, alias).await?;
            let made = read_index(client, &concrete).await?;
            made.ok_or_else(|| IndexError::NotOurs { index: concrete.clone() })?
        }
    };
    let base = index.base(&concrete, preparation)?;
    let uuid = index.uuid().to_owned();
    Ok(Target { write_alias: format!("{name}-w-{epoch}"), name, concrete, base, uuid, created })
}

/// True if it was made now; false if somebody else has made it meanwhile.
async fn create(
    client: &Client,
    spec: &IndexSpec,
    preparation: Preparation<'_>,
    concrete: &str,
    alias: Option<&str>,
) -> Result<bool, IndexError> {
    let Preparation { generation, base, system_identifier, timeline, .. } = preparation;
    let mut settings = spec.settings.as_object().cloned().unwrap_or_default();
    let nested = settings.get("index").and_then(|index| index.get("gc_deletes")).is_some();
    if !nested && !settings.contains_key("gc_deletes") {
        // The second line; the first is that nothing older than a delete is ever sent.
        settings.entry("index.gc_deletes").or_insert_with(|| "1h".into());
    }
    let mut mappings = spec.mappings.as_object().cloned().unwrap_or_default();
    let meta = mappings.entry("_meta").or_insert_with(|| json!({}));
    meta["walferry"] = json!({
        "system_identifier": system_identifier, "timeline": timeline,
        "base_lsn": base.to_string(), "generation": generation,
    });
    let aliases: Map<_, _> = alias.map(|alias| (alias.to_owned(), json!({}))).into_iter().collect();
    let body = json!({ "settings": settings, "mappings": mappings, "aliases": aliases });
    let answer = client.send(Verb::Put, &format!("/{concrete}"), Some(&body)).await?;
    if answer.status == 400
        && memchr::memmem::find(&answer.body, b"resource_already_exists").is_some()
    {
        return Ok(false);
    }
    accept(answer, || format!("create index {concrete}"))?;
    Ok(true)
}

/// What is there of an index.
#[derive(Deserialize)]
struct Found {
    #[serde(default)]
    aliases: Map<String, Value>,
    #[serde(default)]
    mappings: Value,
    #[serde(default)]
    settings: Value,
}

impl Found {
    fn uuid(&self) -> &str {
        self.settings["index"]["uuid"].as_str().unwrap_or_default()
    }

    /// The base of its versions, once it is known to be this database's.
    fn base(&self, index: &str, preparation: Preparation<'_>) -> Result<Lsn, IndexError> {
        #[derive(Deserialize)]
        struct Meta {
            system_identifier: String,
            timeline: u32,
            base_lsn: String,
        }
        let not_ours = || IndexError::NotOurs { index: index.to_owned() };
        let meta =
            Meta::deserialize(&self.mappings["_meta"]["walferry"]).map_err(|_| not_ours())?;
        let Preparation { system_identifier, timeline, .. } = preparation;
        if meta.system_identifier != system_identifier || meta.timeline != timeline {
            return Err(IndexError::OtherHistory {
                index: index.to_owned(),
                found_system: meta.system_identifier,
                found_timeline: meta.timeline,
                system: system_identifier.to_owned(),
                timeline,
            });
        }
        meta.base_lsn.parse().map_err(|_| not_ours())
    }
}

async fn read_index(client: &Client, concrete: &str) -> Result<Option<Found>, IndexError> {
    const FILTER: &str = "filter_path=*.aliases,*.mappings._meta,*.settings.index.uuid";
    let answer = client.send(Verb::Get, &format!("/{concrete}?{FILTER}"), None).await?;
    if answer.status == 404 {
        return Ok(None);
    }
    let what = || format!("show index {concrete}");
    let mut found: std::collections::HashMap<String, Found> = read(&accept(answer, what)?, what)?;
    match found.remove(concrete) {
        Some(index) => Ok(Some(index)),
        // An alias by this name shows the index behind it.
        None => Err(IndexError::NotOurs { index: concrete.to_owned() }),
    }
}

/// The indices that answer to a name: its aliased ones, or itself.
async fn holders(client: &Client, name: &str) -> Result<Vec<String>, IndexError> {
    let answer = client.send(Verb::Get, &format!("/{name}/_alias"), None).await?;
    if answer.status == 404 {
        return Ok(Vec::new());
    }
    let what = || format!("show who holds {name}");
    let found: Map<String, Value> = read(&accept(answer, what)?, what)?;
    Ok(found.into_iter().map(|(index, _)| index).collect())
}

/// The write aliases of all epochs, with their indices.
async fn write_aliases(client: &Client, name: &str) -> Result<Vec<(String, String)>, IndexError> {
    let answer = client.send(Verb::Get, &format!("/_alias/{name}-w-*"), None).await?;
    if answer.status == 404 {
        return Ok(Vec::new());
    }
    let what = || format!("show the aliases of {name}");
    let found: Map<String, Value> = read(&accept(answer, what)?, what)?;
    let pairs = found.iter().flat_map(|(index, found)| {
        let aliases = found["aliases"].as_object().into_iter().flatten();
        aliases.map(|(alias, _)| (index.clone(), alias.clone()))
    });
    // An index `listings-w` has aliases that look alike but for the epoch.
    let ours = |alias: &str| {
        let epoch = alias.strip_prefix(name).and_then(|rest| rest.strip_prefix("-w-"));
        epoch.is_some_and(|epoch| epoch.parse::<i64>().is_ok())
    };
    Ok(pairs.filter(|(_, alias)| ours(alias)).collect())
}

async fn change_aliases(client: &Client, actions: Vec<Value>) -> Result<(), IndexError> {
    let body = json!({ "actions": actions });
    let answer = client.send(Verb::Post, "/_aliases", Some(&body)).await?;
    accept(answer, || "change aliases".to_owned()).map(drop)
}

fn accept(answer: Answer, what: impl FnOnce() -> String) -> Result<Answer, IndexError> {
    if answer.is_success() {
        return Ok(answer);
    }
    let (failure, reason) = service_failure(&answer);
    Err(IndexError::Refused { what: what(), failure, reason })
}

fn read<T: for<'de> Deserialize<'de>>(
    answer: &Answer,
    what: impl FnOnce() -> String,
) -> Result<T, IndexError> {
    serde_json::from_slice(&answer.body).map_err(|error| IndexError::Refused {
        what: what(),
        failure: ServiceFailure::NotUnderstood,
        reason: error.to_string(),
    })
}
