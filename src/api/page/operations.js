// Operations beside the stream: backfills and verifications, with their progress and what they found.
import { onAction, steer } from "./actions.js";
import { html, useEffect } from "./base.js";
import { useResource } from "./job.js";
import { Act, Code, Empty, ErrorBox, Facts, Loading, Time } from "./parts.js";
import { onOperations } from "./store.js";
import { has, number, t } from "./words.js";

const TONES = {
  queued: "s-pending", running: "s-processing", paused: "s-pending", completed: "s-completed", failed: "s-failed",
  cancelled: "s-failed",
};
const COLUMNS = ["id", "kind", "table", "state", "progress", "differ", "who", "created", "remark"];
const VERBS = { queued: ["pause", "cancel"], running: ["pause", "cancel"], paused: ["resume", "cancel"] };

const link = (id) => `#/operations/${encodeURIComponent(String(id))}`;
const word = (name) => (has(name) ? t(name) : name.split(".").pop());
const found = ({ missing, stale, orphaned }) => Number(missing) + Number(stale) + Number(orphaned);

const State = ({ state }) => html`<span class="badge ${TONES[state] ?? ""}" data-state=${state}>
  ${word(`operation.${state}`)}</span>`;

function Progress({ operation }) {
  const rows = Number(operation.rows);
  const about = Math.max(rows, Number(operation.rows_estimated));
  const done = operation.state === "completed" ? 1 : Math.min(1, rows / Math.max(1, about));
  const said = t("operation.rows", { rows, about });
  return html`<div><progress max="1" value=${done} aria-label=${said}></progress>
    <span class="num dim"> ${said}</span></div>`;
}

const Differ = ({ operation }) => operation.kind !== "verify" ? html`<span class="dim">–</span>`
  : html`<span class="num">${number(found(operation.differences))}</span>`;

const Remark = ({ operation }) => {
  if (operation.error) return html`<span lang="en">${operation.error}</span>`;
  if (operation.waits_for) return html`${t("operation.waits")} <span lang="en">${operation.waits_for}</span>`;
  return "–";
};

const Verbs = ({ operation }) => (VERBS[operation.state] ?? []).map((verb) => html`
  <${Act} key=${verb} needs="operator" data-act=${`${verb}-operation`}
    onAct=${() => steer(operation.id, verb)}>${t(`operation.${verb}`)}<//>`);

function useOperations(path) {
  const resource = useResource(path);
  useEffect(() => {
    const off = [onOperations(resource.reload), onAction(resource.reload)];
    return () => off.forEach((one) => one());
  }, [path]);
  return resource;
}

function List({ operations }) {
  const cell = (name, content, more = "") => html`<td role="cell" class=${`cell-${name} ${more}`}
    data-label=${t(`operation.${name}`)}>${content}</td>`;
  return html`<div class="table-wrap" role="region" tabindex="0" aria-label=${t("operations")}><table role="table">
    <thead role="rowgroup"><tr role="row">${COLUMNS.map((name) => html`
      <th role="columnheader" scope="col">${t(`operation.${name}`)}</th>`)}</tr></thead>
    <tbody role="rowgroup">${operations.map((one) => html`
      <tr role="row" key=${String(one.id)} data-operation=${String(one.id)}>
      ${cell("id", html`<a class="num" href=${link(one.id)}>${String(one.id)}</a>`)}
      ${cell("kind", word(`operation.${one.kind}`))}
      ${cell("table", html`<${Code}>${one.index ?? one.table}<//>`, "breaks")}
      ${cell("state", html`<${State} state=${one.state} />`)}
      ${cell("progress", html`<${Progress} operation=${one} />`)}
      ${cell("differ", html`<${Differ} operation=${one} />`)}
      ${cell("who", one.requested_by, "breaks")}
      ${cell("created", html`<${Time} iso=${one.created_at} />`, "nobreak")}
      ${cell("remark", html`<${Remark} operation=${one} />`, one.error || one.waits_for ? "breaks" : "none")}
      </tr>`)}</tbody></table></div>`;
}

export function Operations() {
  const { answer, error, reload } = useOperations("operations?limit=50");
  const head = html`<h1 tabindex="-1">${t("operations")}</h1><p class="dim">${t("operations.what")}</p>`;
  if (!answer) {
    return html`${head}${error ? html`<${ErrorBox} error=${error} onRetry=${reload} />` : html`<${Loading} />`}`;
  }
  return html`${head}${error ? html`<${ErrorBox} error=${error} onRetry=${reload} />` : null}
    ${answer.operations.length === 0 ? html`<${Empty} title=${t("operations.none")} />`
      : html`<${List} operations=${answer.operations} />`}`;
}

function Findings({ findings }) {
  const cell = (name, content, more = "") => html`<td role="cell" class=${`cell-${name} ${more}`}
    data-label=${t(`finding.${name}`)}>${content}</td>`;
  const names = ["index", "id", "kind", "fields", "repaired"];
  return html`<div class="table-wrap" role="region" tabindex="0" aria-label=${t("operation.findings")}>
    <table role="table"><thead role="rowgroup"><tr role="row">${names.map((name) => html`
      <th role="columnheader" scope="col">${t(`finding.${name}`)}</th>`)}</tr></thead>
    <tbody role="rowgroup">${findings.map((one) => html`
      <tr role="row" key=${`${one.index} ${one.id}`} data-finding=${one.id}>
      ${cell("index", html`<${Code}>${one.index}<//>`, "breaks")}
      ${cell("id", html`<${Code}>${one.id}<//>`, "breaks")}
      ${cell("kind", word(`difference.${one.kind}`))}
      ${cell("fields", html`<${Code}>${one.fields.join(", ") || "–"}<//>`, "breaks")}
      ${cell("repaired", t(one.repaired ? "finding.yes" : "finding.no"))}</tr>`)}</tbody></table></div>`;
}

export function OneOperation({ id }) {
  const { answer, error, reload } = useOperations(`operations/${encodeURIComponent(id)}`);
  const head = html`<nav class="crumbs" aria-label=${t("crumbs")}>
      <a href="#/operations">${t("operations")}</a> <span aria-hidden="true">›</span></nav>
    <h1 tabindex="-1">${t("operation.title")} <span class="num">${id}</span></h1>`;
  if (!answer) {
    return html`${head}${error ? html`<${ErrorBox} error=${error} onRetry=${reload} />` : html`<${Loading} />`}`;
  }
  const { differences, findings = [] } = answer;
  const counts = ["missing", "stale", "orphaned", "repaired", "undecided"];
  return html`${head}${error ? html`<${ErrorBox} error=${error} onRetry=${reload} />` : null}
    <div class="row"><${State} state=${answer.state} /><span class="grow"></span><${Verbs} operation=${answer} /></div>
    ${answer.error ? html`<div class="box bad"><p lang="en" class="quoted">${answer.error}</p></div>` : null}
    ${answer.waits_for ? html`<div class="box info"><p>${t("operation.waits")}
      ${" "}<span lang="en">${answer.waits_for}</span></p></div>` : null}
    <section class="panel"><h2>${t("operation.facts")}</h2><${Progress} operation=${answer} /><${Facts} facts=${[
      [t("operation.kind"), word(`operation.${answer.kind}`)],
      [t("operation.table"), html`<${Code}>${answer.table}<//>`],
      answer.index && [t("operation.index"), html`<${Code}>${answer.index}<//>`],
      answer.condition && [t("operation.where"), html`<${Code}>${answer.condition}<//>`],
      [t("operation.who"), answer.requested_by],
      [t("operation.created"), html`<${Time} iso=${answer.created_at} />`],
      [t("operation.ended"), html`<${Time} iso=${answer.ended_at} />`],
      answer.kind === "verify" && [t("operation.documents"), number(answer.documents)],
      ...(answer.kind === "verify" ? counts.map((one) => [t(`difference.${one}`), number(differences[one])]) : []),
      answer.kind === "backfill" && [t("operation.refused"), number(answer.refused)],
    ]} /></section>
    ${findings.length ? html`<section><h2>${t("operation.findings")}</h2>
      <${Findings} findings=${findings} /></section>` : null}`;
}
