// One row of an application's table: what it is now, what the indices hold, and the jobs that made it so.
import { html } from "./base.js";
import { resync, useChanges } from "./actions.js";
import { jobsLink } from "./filters.js";
import { JobsTable } from "./jobs.js";
import { useResource } from "./job.js";
import { Act, Code, Empty, ErrorBox, Loading, Value } from "./parts.js";
import { t } from "./words.js";

function Fields({ fields, masked = [], marked = [] }) {
  return html`<dl class="fields">${Object.entries(fields).map(([name, value]) => html`
    <div key=${name} class=${marked.includes(name) ? "marked" : ""}>
    <dt><${Code}>${name}<//></dt>
    <dd>${masked.includes(name) ? html`<span class="state">${t("state.masked")}</span>`
      : html`<${Value} value=${value} />`}</dd></div>`)}</dl>`;
}

const sameRoot = (differences) => differences.map((one) => String(one.field).split(".")[0]);

function Differences({ differences }) {
  const cell = (name, value) => html`<td role="cell" data-label=${t(`document.${name}`)}>
    <${Value} value=${value} /></td>`;
  return html`<div class="table-wrap" role="region" tabindex="0" aria-label=${t("document.differences")}>
    <table role="table" class="diff">
    <thead role="rowgroup"><tr role="row">${["field", "expected", "found"].map((name) => html`
      <th role="columnheader" scope="col">${t(`document.${name}`)}</th>`)}</tr></thead>
    <tbody role="rowgroup">${differences.map((one) => html`<tr role="row" class="changed">
      <th role="rowheader" scope="row"><${Code}>${one.field}<//></th>
      ${cell("expected", one.expected)}${cell("found", one.found)}</tr>`)}</tbody></table></div>`;
}

function Document({ document }) {
  const { index, id, expected, found, version, differs, differences = [] } = document;
  return html`<section class="panel document" data-differs=${String(differs)}>
    <h2><${Code}>${index}<//> <span class="dim code">${id}</span></h2>
    <p><span class="badge ${differs ? "s-failed" : "s-completed"}">
        ${differs ? t("document.differs") : t("document.same")}</span>
      ${version !== null && version !== undefined
        ? html` <span class="dim">${t("document.version")} <${Code}>${String(version)}<//></span>` : null}</p>
    ${differences.length ? html`<${Differences} differences=${differences} />` : null}
    <details><summary>${t("document.found_all")}</summary>
      ${found ? html`<${Fields} fields=${found} marked=${sameRoot(differences)} />`
      : html`<p class="dim">${t("document.absent")}</p>`}</details>
    <details><summary>${t("document.expected_all")}</summary>
      ${expected ? html`<${Fields} fields=${expected} marked=${sameRoot(differences)} />`
      : html`<p class="dim">${t("document.unexpected")}</p>`}</details></section>`;
}

function Verdict({ answer }) {
  if (answer.unfinished > 0) {
    return html`<p class="box info" role="status" data-verdict="unfinished">
      ${t("record.unfinished", { count: answer.unfinished })}</p>`;
  }
  if (answer.differs === true) {
    return html`<p class="box bad" role="status" data-verdict="differs">${t("record.differs")}</p>`;
  }
  if (answer.differs === false) {
    return html`<p class="box good" role="status" data-verdict="same">${t("record.same")}</p>`;
  }
  return html`<p class="box info" role="status" data-verdict="unknown">
    ${t("record.unknown")} ${answer.reason ? html`<span lang="en">${answer.reason}</span>` : null}</p>`;
}

export function Row({ table, id }) {
  const { answer, error, reload } = useResource(`records/${encodeURIComponent(table)}/${encodeURIComponent(id)}`);
  useChanges(({ missed, changed, fresh }) => {
    const ours = answer?.jobs.some((job) => changed.includes(String(job.id)));
    if (missed || ours || (fresh > 0 && answer?.unfinished > 0)) reload();
  }, `${table}/${id}/${answer?.unfinished}/${answer?.jobs_total}`);
  const head = html`<nav class="crumbs" aria-label=${t("crumbs")}>
      <a href="#/">${t("jobs")}</a> <span aria-hidden="true">›</span>
      ${" "}<${Code}>${table}<//> <span aria-hidden="true">›</span></nav>
    <h1 tabindex="-1">${t("record.title")} <span class="code" translate="no">${id}</span></h1>`;
  if (!answer) {
    return html`${head}${error ? html`<${ErrorBox} error=${error} onRetry=${reload} />` : html`<${Loading} />`}`;
  }
  const all = jobsLink({ table, record_id: id });
  return html`${head}
    ${error ? html`<${ErrorBox} error=${error} onRetry=${reload} />` : null}
    <${Verdict} answer=${answer} />
    <div class="row">
      <${Act} needs="operator" kind="main" data-act="resync" onAct=${() => resync(table, id)}>${t("resync")}<//>
      <button type="button" class="act" onClick=${reload}>${t("look_again")}</button>
      <span class="dim">${t("resync.means")}</span></div>
    <div class="columns"><section class="panel" data-panel="row"><h2>${t("record.row")}</h2>
      ${answer.row ? html`<${Fields} fields=${answer.row} masked=${answer.masked ?? []} />`
      : html`<p class="dim">${t("record.no_row")}</p>`}</section>
      <div class="stack">${answer.documents.length
        ? answer.documents.map((one) => html`<${Document} key=${`${one.index}/${one.id}`} document=${one} />`)
        : html`<section class="panel"><h2>${t("record.documents")}</h2>
          <p class="dim">${t("record.no_documents")}</p></section>`}</div></div>
    <section><div class="section-head"><h2>${t("record.history")}</h2><span class="grow"></span>
      ${answer.jobs_total > 0
        ? html`<a href=${all}>${t("record.all_jobs", { count: answer.jobs_total })}</a>` : null}</div>
      ${answer.jobs.length ? html`<${JobsTable} jobs=${answer.jobs} label=${t("record.history")} />`
      : html`<${Empty} title=${t("record.no_jobs")} />`}</section>`;
}
