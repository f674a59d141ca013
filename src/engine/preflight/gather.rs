//! Facts about PostgreSQL, by reads over one session.
//!
//! Columns that only some versions have are read through `to_jsonb(row) ->> 'column'`.
//!
//! Not here: what the facts mean (`evaluate`).

use tokio_postgres::config::Host;
use tokio_postgres::{Client, Row};

use super::TableName;
use super::facts::{
    Facts, Privilege, PublicationFacts, RoleFacts, ServerFacts, SlotFacts, StoredFacts, TableFacts,
    TakeOverFacts,
};
use crate::config::Config;

/// The session failed while looking.
#[derive(Debug, thiserror::Error)]
#[error("could not look at {what}")]
pub struct GatherError {
    what: &'static str,
    #[source]
    pub(super) source: tokio_postgres::Error,
}

const SERVER: &str = "
    select current_setting('server_version_num')::int, pg_is_in_recovery(),
           current_database()::text, current_setting('row_security') = 'off',
           current_setting('wal_level'),
           current_setting('max_replication_slots')::bigint,
           (select count(*) from pg_replication_slots),
           current_setting('max_wal_senders')::bigint,
           (select count(*) from pg_stat_replication),
           (select setting::bigint from pg_settings where name = 'max_slot_wal_keep_size'),
           (select setting::bigint from pg_settings where name = 'idle_replication_slot_timeout')";

const ROLE: &str = "
    select rolname::text, rolsuper, rolreplication, rolbypassrls
    from pg_roles where rolname = current_user";

const TABLES: &str = "
    select wanted.schema, wanted.name, c.oid is not null,
           coalesce(c.relkind in ('r', 'p'), false), coalesce(c.relpersistence <> 'p', false),
           coalesce(has_schema_privilege(n.oid, 'usage')
                    and has_table_privilege(c.oid, 'select'), false),
           coalesce(row_security_active(c.oid), false),
           exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary),
           coalesce(c.relreplident, 'd')::text
    from unnest($1::text[], $2::text[]) with ordinality as wanted (schema, name, place)
    left join pg_namespace n on n.nspname = wanted.schema
    left join pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
    order by wanted.place";

const PUBLICATION: &str = "
    select puballtables, pubinsert and pubupdate and pubdelete and pubtruncate
    from pg_publication where pubname = $1";

/// A column list counts as a filter if a column of the table is not in it.
const PUBLISHED: &str = "
    select t.schemaname::text, t.tablename::text,
           to_jsonb(t) ->> 'rowfilter' is not null
           or coalesce(jsonb_array_length(nullif(to_jsonb(t) -> 'attnames', 'null')) <
                (select count(*) from pg_attribute a
                 where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
                   and a.attgenerated = ''), false)
    from pg_publication_tables t
    join pg_namespace n on n.nspname = t.schemaname
    join pg_class c on c.relnamespace = n.oid and c.relname = t.tablename
    where t.pubname = $1
    order by 1, 2";

const SLOT: &str = "
    select coalesce(plugin::text, ''), coalesce(database::text, ''), coalesce(wal_status, ''),
           to_jsonb(s) ->> 'invalidation_reason',
           coalesce(pg_wal_lsn_diff(case when pg_is_in_recovery()
                then pg_last_wal_receive_lsn() else pg_current_wal_lsn() end,
                restart_lsn), 0)::bigint
    from pg_replication_slots s where slot_name = $1";

const OBJECTS: &[Privilege] = &[
    Privilege { verb: "select, insert, update, delete", object: "public.elasticsearch_sync_queue" },
    Privilege { verb: "select, insert, update, delete", object: "walferry.lease" },
    Privilege { verb: "select, insert, update, delete", object: "walferry.position" },
    Privilege { verb: "select, insert, update, delete", object: "walferry.settlement" },
    Privilege { verb: "select, insert, update, delete", object: "walferry.load" },
    Privilege { verb: "select, insert, update, delete", object: "walferry.source" },
    Privilege { verb: "select, insert, update, delete", object: "walferry.control" },
    Privilege { verb: "select, insert, update, delete", object: "walferry.job_count" },
    Privilege { verb: "select, update", object: "walferry.take_over" },
];

const STORED: &str = "
    select p.recorded_end_lsn > '0/0',
           coalesce(s.confirmed_flush_lsn > greatest(p.recorded_end_lsn, t.settled_lsn), false)
    from walferry.position p
    left join walferry.settlement t on t.slot = p.slot
    left join pg_replication_slots s on s.slot_name = p.slot
    where p.slot = $1";

const TAKE_OVER: &str = "
    select coalesce(bool_or(finished_at is null), false),
           coalesce(bool_or(slot = $1 and replaced_at is null), false)
    from walferry.take_over";

/// Whether an object exists, and whether the role has all of the rights on it.
const OBJECT: &str = "
    select to_regclass($1) is not null,
           coalesce((select bool_and(has_table_privilege(to_regclass($1)::oid, verb))
                     from regexp_split_to_table($2, ', ') as verb), false)";

/// Looks at all that matters to walferry. Elasticsearch is not looked at.
///
/// # Errors
///
/// The session failed.
pub async fn gather(
    client: &Client,
    config: &Config,
    tables: &[TableName],
) -> Result<Facts, GatherError> {
    let mut facts = Facts {
        publication_name: config.publication.clone(),
        slot_name: config.slot.clone(),
        pooler_address: is_pooler_address(&config.database.connect),
        server: server(client).await.map_err(failed("the server's settings"))?,
        role: role(client).await.map_err(failed("the role"))?,
        tables: looked_at(client, tables).await.map_err(failed("the tables"))?,
        publication: publication(client, &config.publication)
            .await
            .map_err(failed("the publication"))?,
        slot: slot(client, &config.slot).await.map_err(failed("the replication slot"))?,
        ..Facts::default()
    };
    for wanted in OBJECTS {
        let row = client
            .query_one(OBJECT, &[&wanted.object, &wanted.verb])
            .await
            .map_err(failed("walferry's own tables"))?;
        match (row.get(0), row.get(1)) {
            (false, _) => facts.objects_missing.push(wanted.object.to_owned()),
            (true, false) => facts.privileges_missing.push(wanted.clone()),
            (true, true) if wanted.object == "walferry.take_over" => {
                facts.take_over = take_over(client, &config.slot)
                    .await
                    .map_err(failed("the take-over of the original system"))?;
            }
            (true, true) if wanted.object == "walferry.settlement" => {
                let stored = stored(client, &config.slot).await;
                facts.stored = stored.map_err(failed("the stored position"))?;
            }
            (true, true) => {}
        }
    }
    Ok(facts)
}

async fn stored(client: &Client, slot: &str) -> Result<StoredFacts, tokio_postgres::Error> {
    let Some(row) = client.query_opt(STORED, &[&slot]).await? else {
        return Ok(StoredFacts::default());
    };
    Ok(StoredFacts { has_position: row.try_get(0)?, slot_is_ahead: row.try_get(1)? })
}

async fn take_over(client: &Client, slot: &str) -> Result<TakeOverFacts, tokio_postgres::Error> {
    let row = client.query_one(TAKE_OVER, &[&slot]).await?;
    Ok(TakeOverFacts { unfinished: row.try_get(0)?, replaces_indices: row.try_get(1)? })
}

async fn server(client: &Client) -> Result<ServerFacts, tokio_postgres::Error> {
    let row = client.query_one(SERVER, &[]).await?;
    Ok(ServerFacts {
        version: row.try_get(0)?,
        is_standby: row.try_get(1)?,
        database: row.try_get(2)?,
        settings_kept: row.try_get(3)?,
        wal_level: row.try_get(4)?,
        slots_max: row.try_get(5)?,
        slots_used: row.try_get(6)?,
        senders_max: row.try_get(7)?,
        senders_used: row.try_get(8)?,
        slot_wal_keep_mib: row.try_get::<_, Option<i64>>(9)?.unwrap_or(-1),
        idle_slot_timeout: row.try_get(10)?,
    })
}

async fn role(client: &Client) -> Result<RoleFacts, tokio_postgres::Error> {
    let row = client.query_one(ROLE, &[]).await?;
    Ok(RoleFacts {
        name: row.try_get(0)?,
        superuser: row.try_get(1)?,
        replication: row.try_get(2)?,
        bypass_rls: row.try_get(3)?,
    })
}

async fn looked_at(
    client: &Client,
    tables: &[TableName],
) -> Result<Vec<TableFacts>, tokio_postgres::Error> {
    let (schemas, names): (Vec<&str>, Vec<&str>) =
        tables.iter().map(|(schema, name)| (schema.as_str(), name.as_str())).unzip();
    let rows = client.query(TABLES, &[&schemas, &names]).await?;
    rows.iter()
        .map(|row| {
            Ok(TableFacts {
                name: (row.try_get(0)?, row.try_get(1)?),
                exists: row.try_get(2)?,
                is_table: row.try_get(3)?,
                unlogged: row.try_get(4)?,
                can_select: row.try_get(5)?,
                row_security_active: row.try_get(6)?,
                has_primary_key: row.try_get(7)?,
                replica_identity: row.try_get::<_, &str>(8)?.chars().next().unwrap_or('d'),
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
    let table = |row: &Row| Ok((row.try_get(0)?, row.try_get(1)?));
    let filtered = published.iter().filter(|row| row.get(2));
    Ok(Some(PublicationFacts {
        all_tables: row.try_get(0)?,
        all_operations: row.try_get(1)?,
        filtered: filtered.map(table).collect::<Result<_, tokio_postgres::Error>>()?,
        tables: published.iter().map(table).collect::<Result<_, tokio_postgres::Error>>()?,
    }))
}

async fn slot(client: &Client, name: &str) -> Result<Option<SlotFacts>, tokio_postgres::Error> {
    let Some(row) = client.query_opt(SLOT, &[&name]).await? else { return Ok(None) };
    Ok(Some(SlotFacts {
        plugin: row.try_get(0)?,
        database: row.try_get(1)?,
        wal_status: row.try_get(2)?,
        invalidation_reason: row.try_get(3)?,
        retained_bytes: row.try_get(4)?,
    }))
}

/// Ports and names that poolers have by custom: Supavisor and PgBouncer.
fn is_pooler_address(connect: &tokio_postgres::Config) -> bool {
    let named = connect.get_hosts().iter().any(|host| match host {
        Host::Tcp(name) => name.contains("pooler.") || name.contains("pgbouncer"),
        _ => false,
    });
    named || connect.get_ports().iter().any(|port| *port == 6543 || *port == 6432)
}

fn failed(what: &'static str) -> impl Fn(tokio_postgres::Error) -> GatherError {
    move |source| GatherError { what, source }
}
