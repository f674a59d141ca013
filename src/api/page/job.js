// One job: its facts, its timing, what it changed.
import { get } from "./api.js";
import { html, useEffect, useState } from "./base.js";
import { openDialog, retryJob, useChanges } from "./actions.js";
import { Act, Code, Duration, ErrorBox, Facts, Loading, Operation, Status, Time, Value, recordLink } from "./parts.js";
import { ask } from "./store.js";
import { t } from "./words.js";

// Loads `path`, and loads it again on `reload`. The answer of another path is never shown.
export function useResource(path) {
  const [loaded, setLoaded] = useState({});
  const reload = async () => {
    try {
      const answer = await ask(() => get(path));
      setLoaded({ path, answer });
    } catch (error) {
      setLoaded((before) => (before.path === path && before.answer && error.status !== 404
        ? { ...before, error } : { path, error }));
    }
  };
  useEffect(() => { reload(); }, [path]);
  return { ...(loaded.path === path ? loaded : {}), reload };
}

function Side({ value, state }) {
  if (state === "value") return html`<${Value} value=${value} />`;
  if (state === "truncated") {
    return html`<span class="state">${t("state.truncated")}</span>
      ${value === null || value === undefined ? null : html` <${Value} value=${value} />`}`;
  }
  return html`<span class="state" data-state=${state}>${t(`state.${state}`)}</span>`;
}

function Changes({ changes }) {
  const [all, setAll] = useState(false);
  const same = changes.filter((one) => !one.changed).length;
  const shown = all ? changes : changes.filter((one) => one.changed);
  const cell = (name, content) => html`<td role="cell" data-label=${t(`diff.${name}`)}>${content}</td>`;
  return html`<section><div class="section-head"><h2>${t("diff")}</h2><span class="grow"></span>
    ${same > 0 ? html`<button type="button" class="act small" aria-pressed=${String(all)} onClick=${() => setAll(!all)}>
      ${t("diff.all", { count: same })}</button>` : null}</div>
    ${shown.length === 0 ? html`<p class="dim">${t("diff.none")}</p>`
    : html`<div class="table-wrap" role="region" tabindex="0" aria-label=${t("diff")}><table role="table" class="diff">
      <thead role="rowgroup"><tr role="row">
        ${["column", "old", "new"].map((name) => html`<th role="columnheader" scope="col">${t(`diff.${name}`)}</th>`)}
      </tr></thead>
      <tbody role="rowgroup">${shown.map((one) => html`
        <tr role="row" key=${one.column} class=${one.changed ? "changed" : ""}>
        <th role="rowheader" scope="row"><${Code}>${one.column}<//>
          ${one.changed ? html`<span class="unseen"> (${t("diff.changed")})</span>` : null}</th>
        ${cell("old", html`<${Side} value=${one.old} state=${one.old_state} />`)}
        ${cell("new", html`<${Side} value=${one.new} state=${one.new_state} />`)}</tr>`)}</tbody></table></div>`}
  </section>`;
}

// The way of a job through time, as a bar with its two parts.
function Timing({ timing }) {
  const waited = Number(timing.waited_ms ?? 0);
  const worked = Number(timing.worked_ms ?? 0);
  const all = waited + worked;
  return html`<section class="panel timing"><h2>${t("timing")}</h2>
    ${all > 0 && timing.worked_ms !== null ? html`<div class="split" aria-hidden="true">
      <div class="waited" style=${{ flexGrow: waited }}></div>
      <div class="worked" style=${{ flexGrow: worked }}></div></div>` : null}
    <${Facts} facts=${[
      [html`<span class="key waited" aria-hidden="true"></span>${t("timing.waited")}`,
        html`<${Duration} ms=${timing.waited_ms} />`],
      [html`<span class="key worked" aria-hidden="true"></span>${t("timing.worked")}`,
        html`<${Duration} ms=${timing.worked_ms} />`],
      [t("timing.total"), html`<${Duration} ms=${timing.total_ms} />`],
    ]} /></section>`;
}

export function Job({ id }) {
  const { answer, error, reload } = useResource(`queue/jobs/${encodeURIComponent(id)}`);
  useChanges(({ changed, missed }) => { if (missed || changed.includes(id)) reload(); }, id);
  const head = html`<nav class="crumbs" aria-label=${t("crumbs")}>
      <a href="#/">${t("jobs")}</a> <span aria-hidden="true">›</span></nav>
    <h1 tabindex="-1">${t("job.title")} <span class="num">${id}</span></h1>`;
  if (!answer) {
    return html`${head}${error ? html`<${ErrorBox} error=${error} onRetry=${reload} />` : html`<${Loading} />`}`;
  }
  const { job, timing, changes, notes = [], actions, stuck } = answer;
  const because = (verb) => (actions[verb] ? null : t("job.not_failed"));
  const line = (name, content) => [t(`column.${name}`), content];
  return html`${head}
    ${error ? html`<${ErrorBox} error=${error} onRetry=${reload} />` : null}
    <div class="row"><${Status} status=${stuck ? "stuck" : job.status} /><span class="grow"></span>
      <${Act} needs="operator" kind="main" because=${because("retry")} data-act="retry-job"
        onAct=${() => retryJob(id)}>${t("retry")}<//>
      <${Act} needs="admin" kind="quiet-danger" because=${because("discard")} data-act="discard-job"
        onAct=${() => openDialog({ kind: "discard-job", id, back: "#/" })}>${t("discard")}…<//>
      <a class="act" href=${recordLink(job.table_name, job.record_id)}>${t("record.open")}</a></div>
    ${job.error_message ? html`<div class="box bad"><p><strong>${t("column.error")}</strong></p>
      <p lang="en" class="quoted">${job.error_message}</p></div>` : null}
    ${notes.length ? html`<ul class="box info" lang="en">${notes.map((note) => html`<li>${note}</li>`)}</ul>` : null}
    <div class="columns"><section class="panel"><h2>${t("job.facts")}</h2><${Facts} facts=${[
      line("table", html`<${Code}>${job.table_name}<//>`),
      line("operation", html`<${Operation} operation=${job.operation} />`),
      line("record_id", html`<${Code}>${job.record_id}<//>`),
      line("attempts", String(job.retry_count)),
      line("created", html`<${Time} iso=${job.created_at} exact />`),
      [t("job.started"), html`<${Time} iso=${job.started_at} exact />`],
      line("processed", html`<${Time} iso=${job.processed_at} exact />`),
      job.next_attempt_at && [t("job.next"), html`<${Time} iso=${job.next_attempt_at} exact />`],
      [t("job.lsn"), html`<${Code}>${job.commit_lsn ?? "–"}<//>`],
      [t("job.ordinal"), html`<${Code}>${String(job.ordinal ?? "–")}<//>`],
      [t("job.xid"), html`<${Code}>${String(job.xid ?? "–")}<//>`],
      [t("job.epoch"), html`<${Code}>${String(job.epoch ?? "–")}<//>`],
    ]} /></section><${Timing} timing=${timing} /></div>
    <${Changes} changes=${changes} />`;
}
