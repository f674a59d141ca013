-- Jobs of fan-outs some of whose documents wait for an index. A fan-out goes on for the other indices
-- meanwhile; with its end such a job is `pending` and waits for the index, as parked jobs do.

-- The alias of the first index that took no document of the job; `error` says why.
alter table walferry.fanout_job add column waits_for text;
