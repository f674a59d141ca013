//! Indices, mappings and aliases, at start-up and after a load.
//!
//! Searches use the read alias `listings`. Index actions use `listings-w-<epoch>`, which the next
//! epoch removes, so that late requests of a dead process are refused. Deletes use the concrete
//! index `listings-000001`. `_meta` identifies the cluster, timeline, database and slot of an index's
//! changes: versions of another cluster or timeline do not compare, and two databases never share an
//! index.
//!
//! Not here: the health of the cluster (`ping`).

mod alias;
mod create;
mod error;
mod existing;
mod presence;
mod response;
mod sent;
mod settings;
mod shards;

use serde_json::{Value, json};

pub use alias::swap_read_aliases;
pub use error::IndexError;
pub use presence::{Audit, Presence, audit, presence};
pub use settings::Pipelines;
pub use shards::ShardHistories;

use super::Target;
use super::client::Client;
use crate::change::Lsn;
use alias::{WriteAlias, change_aliases, holders, write_aliases};
use create::create;
use existing::{read_index, store_meta};

/// One index of the definition.
#[derive(Clone, Debug)]
pub struct IndexSpec {
    /// The read alias, without the prefix.
    pub name: String,
    /// Elasticsearch's `settings`, nested or flat.
    pub settings: Value,
    /// Elasticsearch's `mappings`.
    pub mappings: Value,
}

/// The parameters of [`prepare`], equal for all indices.
#[derive(Clone, Copy, Debug)]
pub struct Preparation<'a> {
    pub prefix: &'a str,
    /// The lease's epoch, part of the write aliases' names.
    pub epoch: i64,
    pub generation: u32,
    /// The base of versions in an index that is created now.
    pub base: Lsn,
    pub system_identifier: &'a str,
    pub timeline: u32,
    /// The database's object id, which a new name does not change.
    pub database_oid: u32,
    pub database: &'a str,
    pub slot: &'a str,
    /// The end of the database's WAL.
    pub insert_lsn: Lsn,
    /// An index with an alias's name is the original system's: it serves searches until the aliases
    /// are swapped, and is deleted then.
    pub replaces_original: bool,
}

/// Creates the indices that do not exist, checks those that do, and replaces the write aliases of
/// all other epochs by this epoch's, in one request. Safe to repeat.
///
/// # Errors
///
/// Elasticsearch does not respond or refuses, or an index is not this database's.
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
        for WriteAlias { index, alias } in write_aliases(client, name).await? {
            if index != *concrete || alias != *write_alias {
                let gone = json!({ "index": index, "alias": alias, "must_exist": false });
                actions.push(json!({ "remove": gone }));
            }
        }
        let alias = json!({ "index": concrete, "alias": write_alias, "is_write_index": true });
        actions.push(json!({ "add": alias }));
        let readers = holders(client, name).await?;
        if let Some(other) = alias::foreign(name, &readers) {
            return Err(IndexError::AliasElsewhere { name: name.clone(), index: other });
        }
        if readers.is_empty() {
            actions.push(json!({ "add": { "index": concrete, "alias": name } }));
        }
    }
    change_aliases(client, actions).await?;
    Ok(targets)
}

/// The name of the index itself, behind its aliases.
#[must_use]
pub fn concrete_name(spec: &IndexSpec, preparation: Preparation<'_>) -> String {
    let Preparation { prefix, generation, .. } = preparation;
    format!("{prefix}{}-{generation:06}", spec.name)
}

async fn prepare_one(
    client: &Client,
    spec: &IndexSpec,
    preparation: Preparation<'_>,
) -> Result<Target, IndexError> {
    let Preparation { prefix, epoch, .. } = preparation;
    let name = format!("{prefix}{}", spec.name);
    let concrete = concrete_name(spec, preparation);
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
    settings::verify_routing(&concrete, &index.mappings)?;
    let pipelines = Pipelines::of(&spec.settings);
    pipelines.put_back(client, &concrete, &index).await?;
    let mut histories = shards::stored(&index.mappings);
    let found = shards::histories(client, &concrete).await?;
    if let Some(shards) = shards::lost(&histories, &found) {
        return Err(IndexError::ShardsLost { index: concrete, shards });
    }
    histories.extend(found);
    sent::verify_not_ahead(client, &concrete, base, preparation).await?;
    if let Some(meta) = index.meta_with_source(preparation, &histories) {
        store_meta(client, &concrete, &meta).await?;
    }
    let uuid = index.uuid().to_owned();
    let write_alias = format!("{name}-w-{epoch}");
    Ok(Target { write_alias, name, concrete, base, uuid, created, pipelines, histories })
}
