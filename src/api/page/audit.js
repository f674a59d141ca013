// Who did what to the queue.
import { query as written } from "./api.js";
import { html } from "./base.js";
import { useResource } from "./job.js";
import { Code, Empty, ErrorBox, Loading, Pager, Time } from "./parts.js";
import { may, role } from "./store.js";
import { has, t } from "./words.js";

const COLUMNS = ["at", "actor", "action", "target", "affected", "result", "reason", "address", "request"];
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

export function Audit({ query }) {
  const page = Math.max(1, Number(query.page) || 1);
  const head = html`<h1 tabindex="-1">${t("audit")}</h1><p class="dim">${t("audit.what")}</p>`;
  if (!may("operator")) {
    return html`${head}<${Empty} title=${t("error.forbidden_title")}>
      <p>${t("role.needed", { needed: t("role.operator"), yours: t(`role.${role()}`) })}</p><//>`;
  }
  return html`${head}<${Page} page=${page} />`;
}

function Page({ page }) {
  const { answer, error, reload } = useResource(`audit${written({ page, limit: 50 })}`);
  if (error) return html`<${ErrorBox} error=${error} onRetry=${reload} />`;
  if (!answer) return html`<${Loading} />`;
  if (answer.entries.length === 0) return html`<${Empty} title=${t("audit.none")} />`;
  return html`<${Entries} entries=${answer.entries} />
    <${Pager} page=${Number(answer.page)} limit=${Number(answer.limit)} total=${Number(answer.total)}
      estimate=${answer.total_is_estimate} shown=${answer.entries.length}
      link=${(to) => `#/audit${to > 1 ? `?page=${to}` : ""}`} />`;
}
