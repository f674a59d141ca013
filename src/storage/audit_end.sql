-- Writes the outcome of an operation.
-- $1 the line's number, $2 the outcome, $3 rows affected, $4 the error (null: none).
update walferry.audit
set result = $2, affected = $3,
    reason = case when $4::text is null then reason else concat_ws('; ', reason, $4) end
where id = $1
