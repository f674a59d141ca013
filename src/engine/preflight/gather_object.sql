-- Whether an object exists, and whether the role has all of some privileges on it.
-- $1 the object's name, $2 the privileges, separated by a comma and a space.
select to_regclass($1) is not null as is_there,
    coalesce((select bool_and(has_table_privilege(to_regclass($1)::oid, verb))
              from regexp_split_to_table($2, ', ') as verb), false) as is_permitted
