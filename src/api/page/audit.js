// Who did what to the queue.
import { query as written } from "./api.js";
import { html } from "./base.js";
import { local } from "./filters.js";
import { useResource } from "./job.js";
import { Code, Empty, ErrorBox, Loading, Pager, Time } from "./parts.js";
import { may, role } from "./store.js";
import { has, t } from "./words.js";

const COLUMNS = ["at", "actor", "action", "target", "affected", "result", "reason", "address", "request"];
const FILTERS = ["actor", "action", "result", "since", "until"];
const ACTIONS = ["retry-failed", "clear", "start", "stop", "retry", "discard", "restore", "resync", "backfill",
  "verify", "cancel", "pause", "resume", "read", "other"];
const RESULTS = { done: "s-completed", denied: "s-pending", failed: "s-failed", started: "s-processing" };

function Entries({ entries }) {
  const cell = (name, content, more = "") => html`<td role="cell" class=${`cell-${name} ${more}`}
    data-label=${t(`audit.${name}`)}>${content}</td>`;
  return html`<div class="table-wrap" role="region" tabindex="0" aria-label=${t("audit")}><table role="table">
    <thead role="rowgroup"><tr role="row">${COLUMNS.map((name) => html`
      <th role="columnheader" scope="col" class=${name === "affected" ? "right" : ""}>${t(`audit.${name}`)}</th>`)}
    </tr></thead>
    <tbody role="rowgroup">${entries.map((one) => html`
      <tr role="row" key=${String(one.id)} data-entry=${String(one.id)}>
      ${cell("at", html`<${Time} iso=${one.at} />`, "nobreak")}
      ${cell("actor", html`${one.actor ?? "–"}
        ${" "}<span class="dim">(${has(`role.${one.role}`) ? t(`role.${one.role}`) : one.role ?? "–"})</span>`)}
      ${cell("action", html`<${Code}>${one.action}<//>`)}
      ${cell("target", html`<span lang="en">${one.target ?? "–"}</span>`, "breaks")}
      ${cell("affected", one.affected === null || one.affected === undefined ? "–" : String(one.affected), "right num")}
      ${cell("result", html`<span class="badge ${RESULTS[one.result] ?? ""}">
        ${has(`result.${one.result}`) ? t(`result.${one.result}`) : one.result}</span>`)}
      ${cell("reason", one.reason ?? "–", one.reason ? "breaks" : "none")}
      ${cell("address", html`<${Code}>${one.address ?? "–"}<//>`)}
      ${cell("request", html`<${Code} class="code dim">${one.request_id ?? "–"}<//>`)}</tr>`)}</tbody></table></div>`;
}

const chosen = (query) => Object.fromEntries(FILTERS.map((name) => [name, query[name]]));
const link = (query) => `#/audit${written(query)}`;

function Filters({ query }) {
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const next = {};
    for (const name of FILTERS) next[name] = String(form.get(name)).trim() || undefined;
    for (const name of ["since", "until"]) if (next[name]) next[name] = new Date(next[name]).toISOString();
    location.hash = link(next);
  };
  const input = (name, more = {}) => html`<label class="field"><span>${t(`audit.${name}`)}</span>
    <input name=${name} key=${`${name}=${query[name] ?? ""}`} defaultValue=${query[name] ?? ""}
      autocomplete="off" spellcheck=${false} class="short" ...${more} /></label>`;
  const select = (name, choices, label) => html`<label class="field"><span>${t(`audit.${name}`)}</span>
    <select name=${name} key=${`${name}=${query[name] ?? ""}`}>
      <option value="">${t("filter.any")}</option>
      ${choices.map((one) => html`<option key=${one} value=${one} selected=${query[name] === one}>
        ${label(one)}</option>`)}</select></label>`;
  return html`<form class="filters" role="search" aria-label=${t("filters")} onSubmit=${submit}>
    <div class="filter-row">
      ${input("actor")}${select("action", ACTIONS, (one) => one)}
      ${select("result", Object.keys(RESULTS), (one) => t(`result.${one}`))}
      ${input("since", { type: "datetime-local", step: 1, defaultValue: local(query.since) })}
      ${input("until", { type: "datetime-local", step: 1, defaultValue: local(query.until) })}
      <div class="field-buttons"><button class="act main" type="submit">${t("filter.apply")}</button>
      ${FILTERS.some((name) => query[name]) ? html`<a class="act" href="#/audit">${t("filter.clear")}</a>` : null}
      </div></div></form>`;
}

export function Audit({ query }) {
  const page = Math.max(1, Number(query.page) || 1);
  const head = html`<h1 tabindex="-1">${t("audit")}</h1><p class="dim">${t("audit.what")}</p>`;
  if (!may("operator")) {
    return html`${head}<${Empty} title=${t("error.forbidden_title")}>
      <p>${t("role.needed", { needed: t("role.operator"), yours: t(`role.${role()}`) })}</p><//>`;
  }
  return html`${head}<${Filters} query=${query} /><${Page} query=${chosen(query)} page=${page} />`;
}

function Page({ query, page }) {
  const { answer, error, reload } = useResource(`audit${written({ ...query, page, limit: 50 })}`);
  if (error) return html`<${ErrorBox} error=${error} onRetry=${reload} />`;
  if (!answer) return html`<${Loading} />`;
  if (answer.entries.length === 0) {
    return html`<${Empty} title=${t(Object.values(query).some(Boolean) ? "audit.no_match" : "audit.none")} />`;
  }
  return html`<${Entries} entries=${answer.entries} />
    <${Pager} page=${Number(answer.page)} limit=${Number(answer.limit)} total=${Number(answer.total)}
      estimate=${answer.total_is_estimate} shown=${answer.entries.length}
      link=${(to) => link({ ...query, page: to > 1 ? to : undefined })} />`;
}
