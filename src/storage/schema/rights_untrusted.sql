-- A function, operator or type that some tables use in a default, a constraint, an index, a policy,
-- a trigger or a rule, and that neither a superuser nor the role that migrates owns: what uses it,
-- what it is, and its owner. One of them, or no row. PostgreSQL's own are not in pg_depend.
-- $1 the tables.
with own as (
    select to_regclass(name)::oid as oid from unnest($1::text[]) name
),
part (classid, objid) as (
    select 'pg_class'::regclass::oid, oid from own
    union
    select 'pg_class'::regclass, i.indexrelid from pg_index i join own on own.oid = i.indrelid
    union
    select d.classid, d.objid from pg_depend d join own on own.oid = d.refobjid
    where d.refclassid = 'pg_class'::regclass and d.deptype in ('a', 'i')
      and d.classid in ('pg_attrdef'::regclass, 'pg_constraint'::regclass, 'pg_trigger'::regclass,
          'pg_policy'::regclass, 'pg_rewrite'::regclass, 'pg_statistic_ext'::regclass)
),
used as (
    select part.classid, part.objid, d.refclassid, d.refobjid
    from part join pg_depend d on d.classid = part.classid and d.objid = part.objid
),
owned (classid, objid, refclassid, refobjid, owner) as (
    select u.*, p.proowner from used u join pg_proc p on p.oid = u.refobjid
    where u.refclassid = 'pg_proc'::regclass
    union all
    select u.*, o.oprowner from used u join pg_operator o on o.oid = u.refobjid
    where u.refclassid = 'pg_operator'::regclass
    union all
    select u.*, p.proowner
    from used u join pg_operator o on o.oid = u.refobjid join pg_proc p on p.oid = o.oprcode
    where u.refclassid = 'pg_operator'::regclass
    union all
    select u.*, o.opcowner from used u join pg_opclass o on o.oid = u.refobjid
    where u.refclassid = 'pg_opclass'::regclass
    union all
    select u.*, t.typowner from used u join pg_type t on t.oid = u.refobjid
    where u.refclassid = 'pg_type'::regclass
)
select pg_describe_object(o.classid, o.objid, 0) as user_of_it,
    pg_describe_object(o.refclassid, o.refobjid, 0) as used, r.rolname::text as owner
from owned o join pg_roles r on r.oid = o.owner
where not r.rolsuper and r.rolname <> current_user
order by 1, 2 limit 1
