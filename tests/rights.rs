//! What `walferry migrate` executes belongs to nobody but the role that migrates.

use tokio_postgres::Client;
use walferry::storage::lease;
use walferry::storage::queue::maintain::Maintainer;
use walferry::storage::schema;
use walferry::storage::schema::MigrateOptions;

use crate::migrations::{TestDatabase, one, options, role};

/// A database prepared for a runtime role of its own.
struct Prepared {
    database: TestDatabase,
    client: Client,
    options: MigrateOptions,
    role: String,
}

impl Prepared {
    async fn new(name: &str) -> Self {
        let database = TestDatabase::with_tables().await;
        let client = database.connect().await;
        let name = format!("rights_{name}");
        role(&client, &name, "login replication password 'secret'").await;
        let options = MigrateOptions { runtime_role: Some(name.clone()), ..options() };
        schema::run(&client, &options).await.unwrap();
        Self { database, client, options, role: name }
    }

    /// Makes the runtime role the owner of all, as earlier versions did.
    async fn give_away(&self) {
        let give = format!(
            "do $$
            declare statement text;
            begin
                grant create on schema public to {role};
                for statement in
                    select format('alter table %s owner to {role}', c.oid::regclass)
                    from pg_class c join pg_namespace n on n.oid = c.relnamespace
                    where c.relkind in ('r', 'p', 'v')
                      and (n.nspname = 'walferry' or c.relname = 'elasticsearch_sync_queue')
                    union all
                    select format('alter function %s owner to {role}', p.oid::regprocedure)
                    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
                    where n.nspname = 'walferry' or p.proname = 'get_elasticsearch_queue_stats'
                    union all select 'alter schema walferry owner to {role}'
                loop
                    execute statement;
                end loop;
                revoke create on schema public from {role};
            end $$",
            role = self.role
        );
        self.client.batch_execute(&give).await.unwrap();
    }

    /// What an attacker wants to have executed: it makes the runtime role a superuser.
    fn rise(&self) -> String {
        format!("alter role {} superuser", self.role)
    }

    async fn is_superuser(&self) -> bool {
        let query = format!("select rolsuper from pg_roles where rolname = '{}'", self.role);
        one(&self.client, &query).await
    }

    /// After this attack on what the runtime role owned, `migrate` refuses with these words.
    async fn refuses(name: &str, attack: impl Fn(&Self) -> String, words: &str) {
        let prepared = Self::new(name).await;
        prepared.give_away().await;
        let runtime = prepared.database.connect_as(&prepared.role).await;
        runtime.batch_execute(&attack(&prepared)).await.unwrap();
        let outcome = schema::run(&prepared.client, &prepared.options).await;
        let error = outcome.expect_err("the attack is seen").to_string();
        assert!(error.contains(words), "{name}: {words} is not in {error}");
        assert!(!prepared.is_superuser().await, "{name}: the role has risen");
    }
}

#[tokio::test]
async fn the_runtime_role_can_replace_nothing_that_migrate_executes() {
    let prepared = Prepared::new("replaces").await;
    let runtime = prepared.database.connect_as(&prepared.role).await;
    for attack in [
        "create or replace function walferry.make_partitions(days_ahead integer) returns integer
            language sql as 'select 1'",
        "create function walferry.job_day(text) returns date language sql as 'select null::date'",
        "alter table walferry.migration rename to gone",
        "create view walferry.stand_in as select 1",
        "create table walferry.stand_in (a int)",
        "create trigger own after insert on walferry.audit execute function walferry.close_count()",
        "alter table walferry.audit alter column actor set default current_user",
        "alter table elasticsearch_sync_queue add check (true)",
        "create rule own as on insert to walferry.audit do nothing",
        "insert into walferry.migration values (998, 'own')",
        "delete from walferry.migration",
        "alter schema walferry rename to gone",
    ] {
        let error = runtime.batch_execute(attack).await.expect_err(attack);
        let code = error.code().map_or_else(String::new, |code| code.code().to_owned());
        assert_eq!(code, "42501", "{attack}: {error:?}");
    }
}

#[tokio::test]
async fn what_an_earlier_version_gave_away_is_taken_back_and_put_back() {
    let prepared = Prepared::new("given").await;
    prepared.give_away().await;
    let runtime = prepared.database.connect_as(&prepared.role).await;
    let rise = prepared.rise();
    let attack = format!(
        "create or replace function walferry.days_without_partition(first_day date, days_ahead integer)
            returns table (day date, is_future boolean) language plpgsql as
            $$ begin execute '{rise}'; end $$;
        create or replace function walferry.count_edit() returns trigger language plpgsql as
            $$ begin execute '{rise}'; return null; end $$;"
    );
    runtime.batch_execute(&attack).await.unwrap();

    // The role that runs walferry is named, or nothing of it is touched.
    let unnamed = MigrateOptions { runtime_role: None, ..prepared.options.clone() };
    let error = schema::run(&prepared.client, &unnamed).await.unwrap_err().to_string();
    assert!(error.contains("--runtime-role"), "{error}");

    let report = schema::run(&prepared.client, &prepared.options).await.unwrap();
    assert_eq!(report.taken_back_from.as_deref(), Some(prepared.role.as_str()));
    assert!(!prepared.is_superuser().await);
    let owned = "select count(*) from (select relowner from pg_class
            union all select proowner from pg_proc union all select nspowner from pg_namespace) o (owner)
        where owner = $1::text::regrole";
    let row = prepared.client.query_one(owned, &[&prepared.role]).await.unwrap();
    assert_eq!(row.get::<_, i64>(0), 0);
    let insert =
        "insert into elasticsearch_sync_queue (table_name, operation, record_id, change_data)
        values ('notes', 'INSERT', gen_random_uuid(), '{}')";
    prepared.client.batch_execute(insert).await.unwrap();
    assert!(!prepared.is_superuser().await);
    let total = "select total_jobs from get_elasticsearch_queue_stats()";
    assert_eq!(one::<i64>(&prepared.client, total).await, 1);
    // A new session of the role works as before.
    let successor = prepared.database.connect_as(&prepared.role).await;
    lease::acquire(&successor, "walferry", "successor").await.unwrap();
    let again = schema::run(&prepared.client, &prepared.options).await.unwrap();
    assert_eq!(again, schema::Report::default());
}

#[tokio::test]
async fn what_the_runtime_role_added_while_it_owned_all_is_refused() {
    let evil = |prepared: &Prepared, returns: &str, result: &str| {
        format!(
            "create function walferry.own() returns {returns} language plpgsql as
            $$ begin execute '{}'; return {result}; end $$;",
            prepared.rise()
        )
    };
    let words = "is none of walferry's";
    Prepared::refuses(
        "view",
        |prepared| {
            format!(
                "{} alter table walferry.migration rename to migration_was;
                create view walferry.migration as select version, name, applied_at
                from walferry.migration_was where walferry.own() is null",
                evil(prepared, "text", "null")
            )
        },
        words,
    )
    .await;
    Prepared::refuses(
        "trigger",
        |prepared| {
            format!(
                "{} create trigger own after insert or update or delete on walferry.audit
                for each row execute function walferry.own()",
                evil(prepared, "trigger", "null")
            )
        },
        words,
    )
    .await;
    // By nothing but functions of PostgreSQL's own.
    Prepared::refuses(
        "default",
        |prepared| {
            format!(
                "alter table walferry.migration alter column applied_at
                set default (query_to_xml('{}', true, true, '')::text)::timestamptz",
                prepared.rise()
            )
        },
        words,
    )
    .await;
    Prepared::refuses(
        "rule",
        |_| "create rule own as on update to walferry.take_over do also notify own".to_owned(),
        words,
    )
    .await;
}

#[tokio::test]
async fn a_role_of_default_privileges_reads_nothing_once_row_security_is_off() {
    let database = TestDatabase::with_tables().await;
    let client = database.connect().await;
    for name in ["rights_web", "rights_runs"] {
        role(&client, name, "login replication password 'secret'").await;
    }
    let defaults = "alter default privileges in schema public grant all on tables to rights_web;
        alter default privileges grant all on functions to rights_web;
        alter default privileges grant all on sequences to rights_web;
        alter default privileges grant usage on schemas to rights_web";
    client.batch_execute(defaults).await.unwrap();
    let runtime_role = Some("rights_runs".to_owned());
    let options = MigrateOptions { runtime_role, ..options() };
    let report = schema::run(&client, &options).await.unwrap();
    assert!(report.withheld.iter().all(|held| held.starts_with("rights_web on ")), "{report:?}");
    for object in [
        "public.elasticsearch_sync_queue",
        "public.elasticsearch_sync_queue_id_seq",
        "function public.get_elasticsearch_queue_stats()",
        "schema walferry",
    ] {
        assert!(report.withheld.contains(&format!("rights_web on {object}")), "{report:?}");
    }
    let web = database.connect_as("rights_web").await;
    for attack in [
        "select * from elasticsearch_sync_queue",
        "delete from elasticsearch_sync_queue",
        "insert into elasticsearch_sync_queue (id) values (1)",
        "truncate elasticsearch_sync_queue",
        "select nextval('elasticsearch_sync_queue_id_seq')",
        "select get_elasticsearch_queue_stats()",
        "select walferry.make_partitions(1)",
    ] {
        let error = web.batch_execute(attack).await.expect_err(attack);
        assert_eq!(error.code().map(|code| code.code()), Some("42501"), "{attack}");
    }
    assert_eq!(schema::run(&client, &options).await.unwrap(), schema::Report::default());
}

#[tokio::test]
async fn objects_of_a_stranger_are_not_executed() {
    let database = TestDatabase::with_tables().await;
    let client = database.connect().await;
    role(&client, "rights_stranger", "login password 'secret'").await;
    let name: String = one(&client, "select current_database()::text").await;
    let grant = format!("grant create on database {name} to rights_stranger");
    client.batch_execute(&grant).await.unwrap();
    let stranger = database.connect_as("rights_stranger").await;
    let attack = "create schema walferry;
        create function walferry.own() returns integer language plpgsql as
            $$ begin execute 'alter role rights_stranger superuser'; return 1; end $$;
        create view walferry.migration as select walferry.own() as version";
    stranger.batch_execute(attack).await.unwrap();
    let error = schema::run(&client, &options()).await.unwrap_err().to_string();
    assert!(error.contains("belongs to role rights_stranger"), "{error}");
    let risen = "select rolsuper from pg_roles where rolname = 'rights_stranger'";
    assert!(!one::<bool>(&client, risen).await);
}

#[tokio::test]
async fn an_advisory_lock_of_a_stranger_holds_up_nothing() {
    const MIGRATE: i64 = 0x7761_6c66_6572_7279;
    const MAINTAIN: i64 = 0x6d61_696e_7461_696e;
    let database = TestDatabase::with_tables().await;
    let client = database.connect().await;
    role(&client, "rights_locker", "login password 'secret'").await;
    schema::run(&client, &options()).await.unwrap();
    let stranger = database.connect_as("rights_locker").await;
    let lock = format!("select pg_advisory_lock({MIGRATE}), pg_advisory_lock({MAINTAIN})");
    stranger.batch_execute(&lock).await.unwrap();

    schema::run(&client, &options()).await.expect("a stranger's lock is not waited for");
    let pass = Maintainer::begin(&client, None).await.expect("a stranger's lock is not waited for");
    pass.release().await.unwrap();

    stranger.batch_execute("select pg_advisory_unlock_all()").await.unwrap();
    let other = database.connect().await;
    let pass = Maintainer::begin(&other, None).await.unwrap();
    let error = Maintainer::begin(&client, None).await.unwrap_err().to_string();
    assert!(error.contains("makes a pass over the queue's parts"), "{error}");
    pass.release().await.unwrap();
    schema::run(&client, &options()).await.unwrap();
}
