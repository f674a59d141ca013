-- What a role has added to walferry's tables while it owned them, of what runs with the rights of
-- whoever writes them: one of them, or no row. Expressions of the migrations call few functions.
with own as (
    select c.oid, c.relkind, c.relforcerowsecurity
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where c.relkind in ('r', 'p', 'v')
      and (n.nspname = 'walferry'
           or n.nspname = 'public' and c.relname = 'elasticsearch_sync_queue')
),
expression (name, text) as (
    select format('the default of column %I of table %s', a.attname, d.adrelid::regclass),
        pg_get_expr(d.adbin, d.adrelid)
    from pg_attrdef d join own on own.oid = d.adrelid
    join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum
    union all
    select format('constraint %I of table %s', k.conname, k.conrelid::regclass),
        pg_get_constraintdef(k.oid)
    from pg_constraint k join own on own.oid = k.conrelid
    union all
    select format('index %s', i.indexrelid::regclass),
        concat_ws(' ', pg_get_expr(i.indexprs, i.indrelid), pg_get_expr(i.indpred, i.indrelid))
    from pg_index i join own on own.oid = i.indrelid
    union all
    select format('trigger %I of table %s', t.tgname, t.tgrelid::regclass), pg_get_triggerdef(t.oid)
    from pg_trigger t join own on own.oid = t.tgrelid where not t.tgisinternal
)
select name from (
    select x.name
    from expression x
    cross join lateral regexp_matches(x.text, '([[:alnum:]_".]+)\(', 'g') called (words)
    where called.words[1] <> all (array['now', 'clock_timestamp', 'ROW', 'nextval', 'varying',
        'current_setting', 'walferry.count_edit', 'walferry.count_truncate',
        'walferry.close_count'])
    union all
    select format('rule %I of %s', w.rulename, w.ev_class::regclass)
    from pg_rewrite w join own on own.oid = w.ev_class
    where not (own.relkind = 'v' and w.rulename = '_RETURN')
    union all
    select format('statistics %s', s.stxname)
    from pg_statistic_ext s join own on own.oid = s.stxrelid
    union all
    select format('forced row security of table %s', own.oid::regclass)
    from own where own.relforcerowsecurity
    union all
    select format('trigger %I of view %s', t.tgname, t.tgrelid::regclass)
    from pg_trigger t join own on own.oid = t.tgrelid where own.relkind = 'v'
    union all
    select format('table %s, which inherits from table %s', i.inhrelid::regclass,
        i.inhparent::regclass)
    from pg_inherits i join own on own.oid = i.inhparent
    join pg_class c on c.oid = i.inhrelid
    where not exists (select from own child where child.oid = i.inhrelid) and c.relkind <> 'i'
      and c.relkind <> 'I'
) added
order by name limit 1
