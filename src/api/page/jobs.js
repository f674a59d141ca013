// The jobs: filters, table, pages. Rows never move by themselves; what is new waits behind a pill.
import { get } from "./api.js";
import { html, useEffect, useState } from "./base.js";
import { active, described, FILTERS, jobsLink, LIMITS, local, operationFilter, parameters } from "./filters.js";
import { openDialog, useChanges } from "./actions.js";
import { Act, Code, Empty, ErrorBox, Loading, Operation, Pager, Status, Time, jobLink, recordLink } from "./parts.js";
import { ask, set, state } from "./store.js";
import { t } from "./words.js";

const OPERATIONS = ["INSERT", "UPDATE", "DELETE"];
const STATUSES = ["pending", "processing", "completed", "failed", "stuck"];

const keyOf = (query) => JSON.stringify(parameters(query));
const show = (key, patch) => { if (state.list?.key === key) set({ list: { ...state.list, ...patch } }); };

async function load(query) {
  const key = keyOf(query);
  if (state.list?.key !== key) set({ list: { key, answer: null, error: null, fresh: 0, gone: new Set() } });
  try {
    const answer = await ask(() => get("queue/jobs", { parameters: parameters(query) }));
    show(key, { answer, error: null, fresh: 0, gone: new Set() });
  } catch (error) {
    show(key, { error });
  }
}

// Looks again without moving a row: rows on show are replaced where they stand.
async function refresh(query, { changed, fresh, missed }) {
  const key = keyOf(query);
  const list = state.list;
  if (list?.key !== key || !list.answer) return;
  let answer;
  try {
    answer = await ask(() => get("queue/jobs", { parameters: parameters(query) }));
  } catch {
    return; // the banner tells of it
  }
  if (state.list?.key !== key || !state.list.answer) return;
  const now = state.list;
  const found = new Map(answer.jobs.map((job) => [String(job.id), job]));
  const shown = new Set(now.answer.jobs.map((job) => String(job.id)));
  const jobs = now.answer.jobs.map((job) => found.get(String(job.id)) ?? job);
  const gone = new Set(now.gone);
  for (const id of shown) {
    if (found.has(id)) gone.delete(id);
    else if (changed.includes(id) && query.status) gone.add(id);
  }
  if (jobs.length === 0 && answer.jobs.length > 0) return show(key, { answer, error: null });
  const newest = Math.max(0, ...[...shown].map(Number));
  const unseen = answer.page > 1 ? 0
    : answer.jobs.filter((job) => !shown.has(String(job.id)) && Number(job.id) > newest).length;
  // A page full of news: how many there are beyond it, only the stream tells, and only of all jobs.
  const full = unseen === answer.jobs.length && active(query).length === 0 && !missed;
  show(key, {
    answer: { ...now.answer, jobs, total: answer.total, total_is_estimate: answer.total_is_estimate },
    fresh: full ? Math.max(unseen, now.fresh + fresh) : unseen, gone, error: null,
  });
}

const go = (query) => { location.hash = jobsLink(query); };

function Filters({ query }) {
  const [open, setOpen] = useState(() => FILTERS.slice(4).some((name) => query[name]));
  const change = (name, value) => go({ ...query, [name]: value || undefined, page: undefined });
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const next = { ...query, page: undefined };
    for (const name of FILTERS) if (form.has(name)) next[name] = String(form.get(name)).trim() || undefined;
    for (const name of ["since", "until"]) if (next[name]) next[name] = new Date(next[name]).toISOString();
    go(next);
  };
  const input = (name, more = {}) => html`<label class="field"><span>${t(`filter.${name}`)}</span>
    <input name=${name} key=${`${name}=${query[name] ?? ""}`} defaultValue=${query[name] ?? ""}
      autocomplete="off" spellcheck=${false} ...${more} /></label>`;
  const select = (name, choices, label) => html`<label class="field"><span>${t(`filter.${name}`)}</span>
    <select name=${name} value=${query[name] ?? ""} onChange=${(e) => change(name, e.target.value)}>
      <option value="">${t("filter.any")}</option>
      ${choices.map((one) => html`<option key=${one} value=${one}>${label(one)}</option>`)}</select></label>`;
  return html`<form class="filters" role="search" aria-label=${t("filters")} onSubmit=${submit}>
    <div class="filter-row">
      ${input("record_id", { type: "search", id: "search", class: "search" })}
      ${select("status", STATUSES, (one) => t(`status.${one}`))}
      ${input("table", { class: "short" })}
      ${select("operation", OPERATIONS, (one) => one)}
      <div class="field-buttons"><button class="act main" type="submit">${t("filter.apply")}</button>
      <button class="act" type="button" aria-expanded=${String(open)} aria-controls="more-filters"
        onClick=${() => setOpen(!open)}>${t(open ? "filter.less" : "filter.more")}</button></div>
    </div>
    <div class="filter-row" id="more-filters" hidden=${!open}>
      ${input("error")}${input("id", { inputmode: "numeric", class: "short" })}
      ${input("attempts_min", { type: "number", min: 0, max: 1000, class: "short" })}
      ${input("since", { type: "datetime-local", step: 1, defaultValue: local(query.since) })}
      ${input("until", { type: "datetime-local", step: 1, defaultValue: local(query.until) })}
    </div>
    ${active(query).length ? html`<ul class="chips" aria-label=${t("filters.active")}>
      ${described(Object.fromEntries(active(query).map((name) => [name, query[name]]))).map(([name, label, value]) =>
      html`<li key=${name}><a class="chip" href=${jobsLink({ ...query, [name]: undefined, page: undefined })}>
        ${label}: <b>${value}</b> <span aria-hidden="true">×</span>
        <span class="unseen"> (${t("filter.remove")})</span></a></li>`)}
      <li><a class="chip plain" href="#/">${t("filter.clear")}</a></li></ul>` : null}
  </form>`;
}

const COLUMNS = ["id", "table", "operation", "record_id", "status", "created", "processed", "attempts", "error"];

export function JobsTable({ jobs, gone = new Set(), label }) {
  const cell = (name, content, more = "") => html`<td role="cell" class=${`cell-${name} ${more}`}
    data-label=${t(`column.${name}`)}>${content}</td>`;
  return html`<div class="table-wrap" role="region" aria-label=${label} tabindex="0"><table role="table" class="jobs">
    <thead role="rowgroup"><tr role="row">${COLUMNS.map((name) => html`
      <th role="columnheader" scope="col" key=${name} class=${name === "attempts" ? "right" : ""}>
        ${t(`column.${name}`)}</th>`)}</tr></thead>
    <tbody role="rowgroup">${jobs.map((job) => html`<tr role="row" key=${String(job.id)} data-job=${String(job.id)}
        class=${gone.has(String(job.id)) ? "gone" : ""}>
      ${cell("id", html`<a class="row-link num" href=${jobLink(job.id)}>${String(job.id)}</a>`)}
      ${cell("table", html`<${Code}>${job.table_name}<//>`)}
      ${cell("operation", html`<${Operation} operation=${job.operation} />`)}
      ${cell("record_id", html`<a class="code record" translate="no" href=${recordLink(job.table_name, job.record_id)}>
        ${job.record_id}</a>`)}
      ${cell("status", gone.has(String(job.id))
        ? html`<span class="badge s-gone">${t("status.gone")}</span>` : html`<${Status} status=${job.status} />`)}
      ${cell("created", html`<${Time} iso=${job.created_at} />`, "nobreak")}
      ${cell("processed", html`<${Time} iso=${job.processed_at} />`, job.processed_at ? "nobreak" : "none")}
      ${cell("attempts", String(job.retry_count), "right num")}
      ${cell("error", job.error_message
        ? html`<span class="error-text" lang="en" title=${job.error_message}>${job.error_message}</span>`
        : html`<span class="dim">–</span>`, job.error_message ? "" : "none")}
    </tr>`)}</tbody></table></div>`;
}

// The exact number of failed jobs that the filter matches, for the button.
function useFailedCount(query, list, overview) {
  const [asked, setAsked] = useState({ key: null, count: null });
  const filter = operationFilter(query);
  const key = JSON.stringify(filter);
  const known = query.status === "failed" ? (list?.answer ? list.answer.total : null)
    : key === "{}" ? overview?.stats?.failed ?? null : undefined;
  const needed = known === undefined && !query.status;
  useEffect(() => {
    if (!needed) return undefined;
    const over = new AbortController();
    const filters = Object.fromEntries(active(query).map((name) => [name, query[name]]));
    const failed = { ...filters, status: "failed", limit: 1 };
    ask(() => get("queue/jobs", { parameters: failed, signal: over.signal }))
      .then((answer) => setAsked({ key, count: answer.total }), () => {});
    return () => over.abort();
  }, [needed ? key : null, list?.answer?.total]);
  const count = needed ? (asked.key === key ? asked.count : null) : known;
  const applies = !query.status || query.status === "failed";
  return { filter, count: applies ? count : 0, filtered: key !== "{}", applies };
}

function BulkActions({ query, list, overview }) {
  const { filter, count, filtered, applies } = useFailedCount(query, list, overview);
  if (!applies) return null;
  const because = count === null ? t("bulk.counting") : Number(count) === 0 ? t("bulk.none") : null;
  const label = (verb) => (count === null
    ? t(`${verb}.short`) : t(filtered ? `${verb}.matching` : `${verb}.all`, { count }));
  return html`<${Act} needs="operator" because=${because} data-act="retry"
      onAct=${() => openDialog({ kind: "retry", filter })}>${label("retry")}…<//>
    <${Act} needs="admin" because=${because} kind="quiet-danger" data-act="discard"
      onAct=${() => openDialog({ kind: "discard", filter })}>${label("discard")}…<//>
    <${Act} needs="admin" data-act="restore" onAct=${() => openDialog({ kind: "restore" })}>${t("restore.all")}…<//>`;
}

function Nothing({ query, overview }) {
  if (active(query).length > 0 || Number(query.page) > 1) {
    const table = query.table;
    return html`<${Empty} title=${t("empty.filter")}><p>${t("empty.filter_more")}</p>
      <p class="row"><a class="act" href="#/">${t("filter.clear")}</a>
      ${query.record_id && table
        ? html`<a class="act" href=${recordLink(table, query.record_id)}>${t("record.open")}</a>` : null}</p><//>`;
  }
  return html`<${Empty} title=${t("empty.none")}>
    <p>${t(overview?.mode === "load" ? "empty.load" : "empty.none_more")}</p><//>`;
}

export function Jobs({ query, overview, actions }) {
  const key = keyOf(query);
  const list = state.list?.key === key ? state.list : null;
  useEffect(() => { load(query); }, [key]);
  useChanges((changes) => refresh(query, changes), key);
  const answer = list?.answer;
  const failure = list?.error;
  return html`<section class="jobs-section" aria-labelledby="jobs-title">
    <div class="section-head"><h2 id="jobs-title">${t("jobs")}</h2><span class="grow"></span>
      <${BulkActions} query=${query} list=${list} overview=${overview} />${actions}</div>
    <${Filters} query=${query} />
    <div class="live-line" role="status" aria-live="polite">${list?.fresh > 0
      ? html`<button type="button" class="pill" data-pill
          onClick=${() => (Number(query.page) > 1 ? go({ ...query, page: undefined }) : load(query))}>
        ${t("jobs.new", { count: list.fresh })}</button>` : null}</div>
    ${failure ? html`<${ErrorBox} error=${failure} onRetry=${() => load(query)}
      title=${failure.status === 403 ? t("error.forbidden_title") : t("jobs.bad")} />` : null}
    ${!answer && !failure ? html`<${Loading} />` : null}
    ${answer && answer.jobs.length === 0 && !failure ? html`<${Nothing} query=${query} overview=${overview} />` : null}
    ${answer && answer.jobs.length > 0 ? html`
      <${JobsTable} jobs=${answer.jobs} gone=${list.gone} label=${t("jobs.table")} />
      <div class="table-foot">
      <${Pager} page=${Number(answer.page)} limit=${Number(answer.limit)} total=${Number(answer.total)}
        estimate=${answer.total_is_estimate} shown=${answer.jobs.length}
        link=${(page) => jobsLink({ ...query, page })} />
      <label class="field inline"><span>${t("pager.limit")}</span>
        <select value=${String(answer.limit)}
          onChange=${(e) => go({ ...query, limit: e.target.value, page: undefined })}>
        ${LIMITS.map((one) => html`<option key=${one} value=${String(one)}>${one}</option>`)}
        </select></label></div>` : null}
  </section>`;
}
