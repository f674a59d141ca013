// Small parts that every view uses.
import { html, useLayoutEffect, useRef } from "./base.js";
import { text } from "./exact.js";
import { dismiss, may, role, state } from "./store.js";
import { duration, has, moment, number, t } from "./words.js";

// A word of the database or of the API: never translated, never changed by the language's letters.
export const Code = ({ children, ...more }) =>
  html`<span class="code" translate="no" lang="en" ...${more}>${children}</span>`;

export const Time = ({ iso, exact }) =>
  iso ? html`<time datetime=${iso} title=${iso}>${moment(iso, exact)}</time>` : html`<span class="dim">–</span>`;

const GLYPHS = { pending: "◷", processing: "↻", completed: "✓", failed: "✕", stuck: "!" };

export const Status = ({ status }) => html`<span class="badge s-${status}" data-status=${status}>
  <span aria-hidden="true">${GLYPHS[status] ?? "·"}</span>
  ${" "}${has(`status.${status}`) ? t(`status.${status}`) : status}</span>`;

export const Operation = ({ operation }) =>
  html`<${Code} class="code op op-${String(operation).toLowerCase()}">${operation}<//>`;

export const recordLink = (table, id) => `#/records/${encodeURIComponent(table)}/${encodeURIComponent(id)}`;
export const jobLink = (id) => `#/jobs/${encodeURIComponent(String(id))}`;

// A button that says why it cannot be pressed, instead of vanishing.
export function Act({ needs = "viewer", because = null, onAct, kind = "", children, ...more }) {
  const denied = may(needs) ? because : t("role.needed", { needed: t(`role.${needs}`), yours: t(`role.${role()}`) });
  if (!denied) return html`<button type="button" class="act ${kind}" onClick=${onAct} ...${more}>${children}</button>`;
  return html`<button type="button" class="act ${kind}" aria-disabled="true" title=${denied} ...${more}>
    ${children}<span class="unseen"> (${denied})</span></button>`;
}

export function ErrorBox({ error, onRetry, title }) {
  const code = error.status === 403 && error.code === "not_permitted" ? "forbidden" : error.code;
  const known = has(`error.${code}`);
  return html`<div class="box bad" role="alert">
    <p><strong>${title ?? t("error.title")}</strong> ${known ? t(`error.${code}`) : ""}</p>
    ${error.detail && error.status !== 0 ? html`<p lang="en" class="quoted">${error.detail}</p>` : null}
    ${(error.more?.errors ?? []).map((one) => html`<p lang="en">
      <${Code}>${one.field}<//>: ${one.reason}${one.allowed ? ` (${one.allowed})` : ""}</p>`)}
    ${error.requestId ? html`<p class="dim">${t("error.request")} <${Code}>${error.requestId}<//></p>` : null}
    ${onRetry ? html`<button type="button" class="act" onClick=${onRetry}>${t("error.again")}</button>` : null}
  </div>`;
}

export const Empty = ({ title, children }) =>
  html`<div class="empty"><p class="empty-title">${title}</p>${children}</div>`;
export const Loading = () => html`<p class="loading" role="status">${t("loading")}</p>`;

// Links, so that a page of the list can be opened and shared.
export function Pager({ page, limit, total, estimate, link, shown }) {
  const pages = Math.max(1, Math.ceil(total / limit));
  const first = shown === 0 ? 0 : (page - 1) * limit + 1;
  const more = estimate ? shown === limit || page < pages : page < pages;
  const step = (to, label, possible, name) => possible
    ? html`<a class="act" href=${link(to)} rel=${name}>${label}</a>`
    : html`<span class="act off" aria-disabled="true" role="link">${label}</span>`;
  const key = estimate ? "pager.estimate" : "pager.range";
  return html`<nav class="pager" aria-label=${t("pager.label")}>
    <span>${t(key, { first, last: first === 0 ? 0 : first + shown - 1, total })}</span>
    <span class="grow"></span>
    ${step(page - 1, t("pager.previous"), page > 1, "prev")}
    <span>${estimate ? t("pager.page", { page }) : t("pager.pages", { page, pages })}</span>
    ${step(page + 1, t("pager.next"), more, "next")}
  </nav>`;
}

export function Dialog({ title, onClose, danger, children }) {
  const ref = useRef();
  useLayoutEffect(() => {
    const dialog = ref.current;
    const before = document.activeElement;
    dialog.showModal();
    return () => { dialog.close(); before?.isConnected && before.focus(); };
  }, []);
  const environment = state.session?.environment;
  return html`<dialog ref=${ref} class=${danger ? "danger" : ""} aria-labelledby="dialog-title"
      onCancel=${(e) => { e.preventDefault(); onClose(); }}>
    ${environment ? html`<p class="dialog-environment ${isProduction(environment) ? "production" : ""}">
      ${environment}</p>` : null}
    <h2 id="dialog-title">${title}</h2>${children}</dialog>`;
}

export const isProduction = (name) => /prod|live|canl/i.test(name);

export function Notices({ notices }) {
  return html`<div class="notices" role="region" aria-label=${t("notices")}>
    <div role="status" aria-live="polite">${notices.map((one) => html`<div key=${one.id} class="notice ${one.kind}">
      <div>${one.error ? html`<${ErrorBox} error=${one.error} title=${one.text} />` : html`<p>${one.text}</p>`}
        ${one.link ? html`<a href=${one.link.href}>${one.link.text}</a>` : null}
        ${one.more ? html`<button type="button" class="act" onClick=${() => { dismiss(one.id); one.more.act(); }}>
          ${one.more.text}</button>` : null}</div>
      <button type="button" class="close" aria-label=${t("dismiss")} onClick=${() => dismiss(one.id)}>×</button>
    </div>`)}</div></div>`;
}

// Any JSON value. Text stays text: nothing of the data is ever markup.
export function Value({ value }) {
  if (value === null || value === undefined) return html`<${Code} class="code null">null<//>`;
  if (value === "") return html`<span class="dim">${t("value.empty")}</span>`;
  if (typeof value === "string") return html`<span class="value" dir="auto">${value}</span>`;
  return html`<${Code} class="code value">${text(value)}<//>`;
}

export const Facts = ({ facts }) => html`<dl class="facts">${facts.filter(Boolean).map(([name, value]) =>
  html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>`;

export const Duration = ({ ms }) => ms === null || ms === undefined
  ? html`<span class="dim">–</span>` : html`<span title="${number(ms, 3)} ms">${duration(ms)}</span>`;
