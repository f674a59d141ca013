-- Where the queue and the witness differ. Writers of one record wait for each other, so the
-- witness' numbers order the changes of a record, and (commit_lsn, ordinal) must order them alike.
-- Jobs without a position are older ones, of the original system's triggers.
with queue as (
    select table_name, record_id, operation, change_data,
           row_number() over (partition by table_name, record_id order by commit_lsn nulls first, ordinal, id) as n
    from elasticsearch_sync_queue
),
witness as (
    select table_name, record_id, operation, change_data,
           row_number() over (partition by table_name, record_id order by number) as n
    from oracle.change
)
select coalesce(w.table_name, q.table_name), coalesce(w.record_id, q.record_id)::text, n,
       w.operation, q.operation, w.change_data::text, q.change_data::text
from witness w
full join queue q using (table_name, record_id, n)
where w.operation is distinct from q.operation
   or w.change_data::text is distinct from q.change_data::text
order by n
limit 10
