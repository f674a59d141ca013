//! Gathers the facts about PostgreSQL, by queries in one session.
//!
//! Columns that some versions lack are read through `to_jsonb(row) ->> 'column'`.
//!
//! Not here: the evaluation of the facts (`evaluate`).

use tokio_postgres::config::Host;
use tokio_postgres::types::PgLsn;
use tokio_postgres::{Client, Row};

use super::facts::{
    ColumnFacts, Facts, Privilege, PublicationFacts, RoleFacts, ServerFacts, SlotFacts,
    StoredFacts, TableFacts, TakeOverFacts,
};
use crate::change::Lsn;
use crate::config::Config;
use crate::engine::document::definition::Definition;
use crate::postgres::catalog::slot;
use crate::postgres::catalog::slot::ReplicationSlot;
use crate::postgres::catalog::standby;
use crate::storage::sql::{bigint, lsn};

/// A query of the facts failed.
#[derive(Debug, thiserror::Error)]
#[error("could not look at {what}")]
pub struct GatherError {
    what: &'static str,
    #[source]
    pub(super) source: tokio_postgres::Error,
}

const SERVER: &str = include_str!("gather_server.sql");

const ROLE: &str = "
    select rolname::text as name, rolsuper, rolreplication, rolbypassrls
    from pg_roles where rolname = current_user";

const TABLES: &str = include_str!("gather_tables.sql");

const PUBLICATION: &str = "
    select puballtables, pubinsert and pubupdate and pubdelete and pubtruncate as has_all,
        coalesce(to_jsonb(p) ->> 'pubgencols' = 's', false) as publishes_stored
    from pg_publication p where pubname = $1";

const COLUMNS: &str = include_str!("gather_columns.sql");

const PUBLISHED: &str = include_str!("gather_published.sql");

const OBJECTS: &[Privilege] = &[
    Privilege { verb: "select, insert, update, delete", object: "public.elasticsearch_sync_queue" },
    Privilege { verb: "select, insert, update, delete", object: "walferry.lease" },
    Privilege { verb: "select, insert, update, delete", object: "walferry.position" },
    Privilege { verb: "select, insert, update, delete", object: "walferry.settlement" },
    Privilege { verb: "select, insert, update, delete", object: "walferry.load" },
    Privilege { verb: "select, insert, update, delete", object: "walferry.fanout" },
    Privilege { verb: "select, insert, update, delete", object: "walferry.fanout_job" },
    Privilege { verb: "select, insert, update, delete", object: "walferry.source" },
    Privilege { verb: "select, insert, update, delete", object: "walferry.control" },
    Privilege { verb: "select, insert, update, delete", object: "walferry.job_count" },
    Privilege { verb: "select, update", object: "walferry.take_over" },
    Privilege { verb: "select", object: "walferry.due_job" },
    Privilege { verb: "select, update", object: "walferry.lease_state" },
    Privilege { verb: "select", object: "walferry.queue_partition" },
];

const STORED: &str = "select p.recorded_end_lsn, t.settled_lsn
    from walferry.position p left join walferry.settlement t on t.slot = p.slot
    where p.slot = $1";

const TAKE_OVER: &str = "
    select coalesce(bool_or(finished_at is null), false) as is_unfinished,
           coalesce(bool_or(slot = $1 and replaced_at is null), false) as replaces_indices
    from walferry.take_over";

const OBJECT: &str = include_str!("gather_object.sql");

/// Gathers the facts about PostgreSQL.
///
/// # Errors
///
/// A query failed.
pub async fn gather(
    client: &Client,
    config: &Config,
    definition: &Definition,
) -> Result<Facts, GatherError> {
    let slot = slot::inspect(client, &config.slot).await;
    let slot = slot.map_err(failed("the replication slot"))?;
    let server = server(client).await.map_err(failed("the server's settings"))?;
    let mut facts = Facts {
        publication_name: config.publication.clone(),
        slot_name: config.slot.clone(),
        pooler_address: is_pooler_address(&config.database.connect, server.port),
        server,
        role: role(client).await.map_err(failed("the role"))?,
        tables: table_facts(client, definition).await.map_err(failed("the tables"))?,
        definition: Some(definition.clone()),
        publication: publication(client, &config.publication)
            .await
            .map_err(failed("the publication"))?,
        slot: slot.as_ref().map(slot_facts),
        synchronous: standby::inspect(client, "")
            .await
            .map_err(failed("the synchronous standbys"))?,
        ..Facts::default()
    };
    for wanted in OBJECTS {
        let row = client
            .query_one(OBJECT, &[&wanted.object, &wanted.verb])
            .await
            .map_err(failed("walferry's own tables"))?;
        match (row.get("is_there"), row.get("is_permitted")) {
            (false, _) => facts.objects_missing.push(wanted.object.to_owned()),
            (true, false) => facts.privileges_missing.push(wanted.clone()),
            (true, true) if wanted.object == "walferry.take_over" => {
                facts.take_over = take_over(client, &config.slot)
                    .await
                    .map_err(failed("the take-over of the original system"))?;
            }
            (true, true) if wanted.object == "walferry.settlement" => {
                let stored = stored(client, &config.slot, slot.as_ref()).await;
                facts.stored = stored.map_err(failed("the stored position"))?;
            }
            (true, true) => {}
        }
    }
    Ok(facts)
}

async fn stored(
    client: &Client,
    name: &str,
    slot: Option<&ReplicationSlot>,
) -> Result<StoredFacts, tokio_postgres::Error> {
    let Some(row) = client.query_opt(STORED, &[&name]).await? else {
        return Ok(StoredFacts::default());
    };
    let recorded = lsn(row.try_get("recorded_end_lsn")?);
    let settled = row.try_get::<_, Option<PgLsn>>("settled_lsn")?.map(lsn);
    let stored = settled.map_or(recorded, |settled| settled.max(recorded));
    Ok(StoredFacts {
        has_position: recorded > Lsn(0),
        slot_is_ahead: slot.is_some_and(|slot| slot.confirmed_flush > stored),
    })
}

fn slot_facts(slot: &ReplicationSlot) -> SlotFacts {
    SlotFacts {
        plugin: slot.plugin.clone().unwrap_or_default(),
        database: slot.database.clone().unwrap_or_default(),
        wal_status: slot.wal_status.clone().unwrap_or_default(),
        invalidation_reason: slot.invalidation_reason.clone(),
        retained_bytes: bigint(slot.retained_bytes),
    }
}

async fn take_over(client: &Client, slot: &str) -> Result<TakeOverFacts, tokio_postgres::Error> {
    let row = client.query_one(TAKE_OVER, &[&slot]).await?;
    Ok(TakeOverFacts {
        unfinished: row.try_get("is_unfinished")?,
        replaces_indices: row.try_get("replaces_indices")?,
    })
}

async fn server(client: &Client) -> Result<ServerFacts, tokio_postgres::Error> {
    let row = client.query_one(SERVER, &[]).await?;
    Ok(ServerFacts {
        version: row.try_get("version")?,
        is_standby: row.try_get("is_standby")?,
        read_only_by: row.try_get("read_only_by")?,
        port: row.try_get("port")?,
        database: row.try_get("database")?,
        settings_kept: row.try_get("settings_kept")?,
        wal_level: row.try_get("wal_level")?,
        slots_max: row.try_get("slots_max")?,
        slots_used: slot::count(client).await?,
        senders_max: row.try_get("senders_max")?,
        senders_used: row.try_get("senders_used")?,
        slot_wal_keep_mib: row.try_get::<_, Option<i64>>("slot_wal_keep_mib")?.unwrap_or(-1),
        idle_slot_timeout: row.try_get("idle_slot_timeout")?,
    })
}

async fn role(client: &Client) -> Result<RoleFacts, tokio_postgres::Error> {
    let row = client.query_one(ROLE, &[]).await?;
    Ok(RoleFacts {
        name: row.try_get("name")?,
        superuser: row.try_get("rolsuper")?,
        replication: row.try_get("rolreplication")?,
        bypass_rls: row.try_get("rolbypassrls")?,
    })
}

async fn table_facts(
    client: &Client,
    definition: &Definition,
) -> Result<Vec<TableFacts>, tokio_postgres::Error> {
    let tables = definition.tables.iter();
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        tables.map(|table| (table.schema.as_str(), table.name.as_str())).unzip();
    let rows = client.query(TABLES, &[&schemas, &names]).await?;
    let column_rows = client.query(COLUMNS, &[&schemas, &names]).await?;
    (0_i32..)
        .zip(&rows)
        .map(|(place, row)| {
            let replica_identity: &str = row.try_get("replica_identity")?;
            Ok(TableFacts {
                name: (row.try_get("schema")?, row.try_get("name")?),
                exists: row.try_get("exists")?,
                is_table: row.try_get("is_table")?,
                unlogged: row.try_get("is_unlogged")?,
                can_select: row.try_get("can_select")?,
                row_security_active: row.try_get("has_row_security")?,
                has_primary_key: row.try_get("has_primary_key")?,
                replica_identity: replica_identity.chars().next().unwrap_or('d'),
                has_identity_index: row.try_get("has_identity_index")?,
                children: row.try_get("children")?,
                parts_without_identity: row.try_get("parts_without_identity")?,
                parts_with_full_identity: row.try_get("parts_with_full_identity")?,
                columns: columns(&column_rows, place)?,
            })
        })
        .collect()
}

/// The columns of the table at this place.
fn columns(rows: &[Row], place: i32) -> Result<Vec<ColumnFacts>, tokio_postgres::Error> {
    let of_table = rows.iter().filter(|row| row.get::<_, i32>("place") == place);
    of_table
        .map(|row| {
            Ok(ColumnFacts {
                name: row.try_get("name")?,
                type_name: row.try_get("type_name")?,
                generated: row.try_get("is_generated")?,
                stored: row.try_get("is_stored")?,
                in_key: row.try_get("is_in_key")?,
                in_identity: row.try_get("is_in_identity")?,
                base_type: row.try_get("base_type")?,
                modifier: row.try_get("modifier")?,
                unfit_for_keys: row.try_get("unfit_for_keys")?,
            })
        })
        .collect()
}

async fn publication(
    client: &Client,
    name: &str,
) -> Result<Option<PublicationFacts>, tokio_postgres::Error> {
    let Some(row) = client.query_opt(PUBLICATION, &[&name]).await? else { return Ok(None) };
    let published = client.query(PUBLISHED, &[&name]).await?;
    let table = |row: &Row| Ok((row.try_get("schema")?, row.try_get("name")?));
    let filtered = published.iter().filter(|row| row.get("is_filtered"));
    let lacking_identity = published.iter().filter(|row| row.get("lacks_identity"));
    Ok(Some(PublicationFacts {
        all_tables: row.try_get("puballtables")?,
        all_operations: row.try_get("has_all")?,
        filtered: filtered.map(table).collect::<Result<_, tokio_postgres::Error>>()?,
        lacking_identity: lacking_identity
            .map(table)
            .collect::<Result<_, tokio_postgres::Error>>()?,
        publishes_stored: row.try_get("publishes_stored")?,
        tables: published.iter().map(table).collect::<Result<_, tokio_postgres::Error>>()?,
    }))
}

/// Whether a host's name or a port is one that Supavisor or PgBouncer usually has, and the server
/// that answers has another port.
fn is_pooler_address(connect: &tokio_postgres::Config, own_port: Option<i32>) -> bool {
    let ports = connect.get_ports();
    if own_port.is_some_and(|own| ports.iter().any(|port| i32::from(*port) == own)) {
        return false;
    }
    let named = connect.get_hosts().iter().any(|host| match host {
        Host::Tcp(name) => name.contains("pooler.") || name.contains("pgbouncer"),
        _ => false,
    });
    named || ports.iter().any(|port| *port == 6543 || *port == 6432)
}

fn failed(what: &'static str) -> impl Fn(tokio_postgres::Error) -> GatherError {
    move |source| GatherError { what, source }
}
