-- Puts the original queue aside; its indexes and its sequence go along.
alter table public.elasticsearch_sync_queue set schema walferry;
alter table walferry.elasticsearch_sync_queue rename to original_queue;
revoke all on walferry.original_queue from public;
drop function if exists public.get_elasticsearch_queue_stats()
