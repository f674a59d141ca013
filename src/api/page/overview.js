// The figures above the jobs: cards that filter, freshness, slot, health, components, rate.
import { html } from "./base.js";
import { Act, Code, Time } from "./parts.js";
import { ask, notify, SAMPLES_MAX, state } from "./store.js";
import { openDialog, start } from "./actions.js";
import { bytes, clock, duration, has, number, percent, t } from "./words.js";
import { jobsLink } from "./filters.js";
import { get } from "./api.js";

const CARDS = ["total", "pending", "processing", "completed", "failed", "stuck"];

export function Cards({ overview, query }) {
  const chosen = query.status || "total";
  return html`<ul class="cards" aria-label=${t("cards.label")}>${CARDS.map((card) => {
    const status = card === "total" ? undefined : card;
    const count = overview?.stats?.[card];
    return html`<li key=${card}><a class="card c-${card}" data-card=${card}
        aria-current=${chosen === card ? "true" : undefined}
        href=${jobsLink({ ...query, status, page: undefined })}>
      <span class="card-name">${t(`status.${card}`)}</span>
      <span class="card-count">${count === undefined ? "…" : number(count)}</span></a></li>`;
  })}</ul>`;
}

export const isStopped = (overview) => overview?.mode === "stopped";

// What stands above everything: the page's link, and whatever keeps indexing from going on.
export function Banners({ overview }) {
  const { link, linkError, seenAt, live, figures } = state;
  const banners = [];
  if (state.session?.authentication === "none") {
    banners.push(html`<div class="banner bad" role="status" data-banner="open">
      <div><strong>${t("banner.open")}</strong> ${t("banner.open_more")}</div></div>`);
  }
  if (link === "down") {
    const reached = linkError.status !== 0;
    banners.push(html`<div class="banner bad" role="alert" data-banner="down"><div>
      <strong>${reached ? t("banner.trouble") : t("banner.unreachable")}</strong>
      ${reached && has(`error.${linkError.code}`) ? html` ${t(`error.${linkError.code}`)}` : null}
      ${reached && linkError.detail ? html` <span lang="en">${linkError.detail}</span>` : null}
      ${linkError.requestId
        ? html` <span class="nobreak">${t("error.request")} <${Code}>${linkError.requestId}<//></span>` : null}
      ${" "}${seenAt ? t("banner.seen", { at: clock(seenAt) }) : ""} ${t("banner.trying")}</div></div>`);
  }
  if (link !== "down" && !figures) {
    banners.push(html`<div class="banner bad" role="alert" data-banner="source">
      <div><strong>${t("banner.source")}</strong>
      ${seenAt ? t("banner.seen", { at: clock(seenAt) }) : ""} ${t("banner.trying")}</div></div>`);
  }
  if (!live) {
    banners.push(html`<div class="banner info" data-banner="paused"><div>${t("banner.paused_live")}</div></div>`);
  }
  if (isStopped(overview)) {
    banners.push(html`<div class="banner warn" role="status" data-banner="stopped">
      <div><strong>${t("banner.stopped")}</strong> ${t("banner.stopped_more")}</div>
      <${Act} needs="operator" onAct=${start}>${t("start")}<//></div>`);
  }
  if (overview?.mode === "starting") {
    banners.push(html`<div class="banner warn" role="status" data-banner="starting">
      <div>${t("banner.starting")}</div></div>`);
  }
  if (overview?.mode === "standby" || overview?.mode === "load") {
    banners.push(html`<div class="banner info"><div>${t(`banner.${overview.mode}`)}</div></div>`);
  }
  const wal = overview?.slot?.wal_status;
  if (wal === "lost" || wal === "unreserved") {
    banners.push(html`<div class="banner bad" role="alert"><div><strong>${t(`wal.${wal}`)}</strong></div></div>`);
  }
  return banners;
}

function Freshness({ overview }) {
  const oldest = overview.oldest_unfinished_at;
  if (!state.figures) {
    return html`<section class="panel" data-panel="freshness"><h2>${t("freshness")}</h2>
      <p class="big">–</p><p class="dim">${t("freshness.unknown")}</p></section>`;
  }
  return html`<section class="panel" data-panel="freshness"><h2>${t("freshness")}</h2>
    ${oldest ? html`<p class="big">${duration(state.now - Date.parse(oldest))}</p>
      <p class="dim">${t("freshness.oldest")} <${Time} iso=${oldest} /></p>`
    : html`<p class="big good">${t("freshness.none")}</p>
      <p class="dim">${t("freshness.none_more")}</p>`}</section>`;
}

// How long the safe WAL lasts if it goes on shrinking as it did in this session.
function lasts() {
  const [first] = state.headroom;
  const last = state.headroom[state.headroom.length - 1];
  if (!first || last.at - first.at < 60_000) return null;
  const perMs = (first.safe - last.safe) / (last.at - first.at);
  return perMs > 0.01 ? last.safe / perMs : null;
}

const WAL_STATUSES = { reserved: "s-completed", extended: "s-pending" };

function Slot({ slot }) {
  if (!slot) return html`<section class="panel"><h2>${t("slot")}</h2><p class="dim">${t("slot.none")}</p></section>`;
  const limited = slot.safe_bytes !== null && slot.safe_bytes !== undefined;
  const retained = Number(slot.retained_bytes ?? 0);
  const all = limited ? retained + Math.max(0, Number(slot.safe_bytes)) : 0;
  const share = all > 0 ? retained / all : 0;
  const left = limited ? lasts() : null;
  return html`<section class="panel" data-panel="slot"><h2>${t("slot")} <${Code} class="code dim">${slot.name}<//></h2>
    <p class="big">${limited ? bytes(slot.safe_bytes) : t("slot.unlimited")}</p>
    ${limited ? html`<div class="bar ${share > 0.5 ? "bad" : ""}" aria-hidden="true">
      <div style=${{ width: `${Math.max(1, share * 100)}%` }}></div></div>` : null}
    <p class="dim">${t(limited ? "slot.of" : "slot.retained", { retained: bytes(retained), all: bytes(all) })}
      ${left ? html`<br />${t("slot.lasts", { time: duration(left) })}` : null}</p>
    <p><span class="badge ${WAL_STATUSES[slot.wal_status] ?? "s-failed"}"><${Code}>${slot.wal_status ?? "–"}<//></span>
      ${" "}<span class="badge ${slot.active ? "s-completed" : "s-failed"}">
        ${slot.active ? t("slot.active") : t("slot.inactive")}</span></p></section>`;
}

const COMPONENTS = ["database", "slot", "elasticsearch", "indices", "load", "mode"];

async function testConnection() {
  try {
    const answer = await ask(() => get("elasticsearch/test-connection"));
    const values = {
      version: answer.version ?? "?", cluster: answer.cluster_name ?? "?", status: answer.status ?? "?",
      time: duration(answer.latencyMs ?? 0),
    };
    notify({ kind: "good", text: t("test.good", values) });
  } catch (error) {
    notify({ kind: "bad", text: t("test.bad"), error });
  }
}

function Components({ components = {} }) {
  const others = Object.keys(components).filter((name) => !COMPONENTS.includes(name));
  const names = [...COMPONENTS.filter((name) => components[name]), ...others];
  return html`<section class="panel" data-panel="components"><h2>${t("components")}</h2>
    <ul class="components">${names.map((name) => {
      const { ok, since, message } = components[name];
      return html`<li key=${name}><span class="dot ${ok ? "ok" : "not"}" aria-hidden="true">${ok ? "✓" : "✕"}</span>
        <span><span class="unseen">${ok ? t("component.ok") : t("component.not_ok")}: </span>
        ${has(`component.${name}`) ? t(`component.${name}`) : name}
        ${" "}<span class="dim" lang="en" title=${since ?? ""}>${message}</span></span></li>`;
    })}</ul><button type="button" class="act small" onClick=${testConnection}>${t("test")}</button></section>`;
}

// In the page's language where it knows the code; what only the server can say stays as it is.
function Issue({ issue, advice, code, values = {} }) {
  const known = has(`issue.${code}`);
  return html`<li data-issue=${code} lang=${known ? null : "en"}>${known ? t(`issue.${code}`, values) : issue}
    ${known && values.message ? html`${" "}<span lang="en">${values.message}</span>` : null}
    ${advice ? html`<br /><span class="dim">→ ${known ? t(`advice.${code}`, values) : advice}</span>` : null}</li>`;
}

function Health({ health, stats }) {
  return html`<section class="panel" data-panel="health"><h2>${t("health")}</h2>
    <p><span class="badge big-badge h-${health.status}" data-health=${health.status}>
      ${has(`health.${health.status}`) ? t(`health.${health.status}`) : health.status}</span></p>
    ${health.issues.length ? html`<ul class="issues">${health.issues.map((issue, at) =>
      html`<${Issue} issue=${issue} advice=${health.recommendations[at]} ...${health.details?.[at]} />`)}</ul>` : null}
    <p class="dim">${t("health.errors", { rate: percent(health.errorRate) })}
      ${stats ? html`<br />${t("health.time", { time: duration(stats.avgProcessingTime) })}` : null}
      ${stats?.lastProcessedAt ? html`<br />${t("health.last")} <${Time} iso=${stats.lastProcessedAt} />` : null}
    </p></section>`;
}

const [WIDTH, HEIGHT] = [300, 56];

function Rate({ samples, rate }) {
  const most = Math.max(1, ...samples);
  const x = (at) => (WIDTH * (at + SAMPLES_MAX - samples.length)) / (SAMPLES_MAX - 1);
  const y = (value) => HEIGHT - 2 - ((HEIGHT - 6) * value) / most;
  const line = samples.map((value, at) => `${at ? "L" : "M"}${x(at).toFixed(1)} ${y(value).toFixed(1)}`).join("");
  const now = number(rate);
  return html`<section class="panel" data-panel="rate"><h2>${t("rate")}</h2>
    <p class="big">${now} <span class="unit">${t("rate.unit")}</span></p>
    <svg class="chart" viewBox="0 0 ${WIDTH} ${HEIGHT}" preserveAspectRatio="none" role="img"
      aria-label=${t("rate.chart", { now, most: number(Math.max(0, ...samples)) })}>
      <path class="grid" d="M0 4H${WIDTH}M0 ${HEIGHT / 2 + 1}H${WIDTH}M0 ${HEIGHT - 2}H${WIDTH}" />
      ${samples.length > 1 ? html`<path class="area" d="${line}L${WIDTH} ${HEIGHT}L${x(0).toFixed(1)} ${HEIGHT}Z" />
        <path class="line" d=${line} />` : null}
    </svg><p class="dim axis"><span>${t("rate.ago")}</span>
      <span>${t("rate.most", { most: number(Math.max(0, ...samples)) })}</span></p></section>`;
}

export function Overview({ overview }) {
  if (!overview) return null;
  return html`<div class="panels" role="region" aria-label=${t("overview")}>
    <${Health} health=${overview.health} stats=${overview.stats} /><${Freshness} overview=${overview} />
    <${Slot} slot=${overview.slot} /><${Rate} samples=${state.samples} rate=${overview.rate_per_second ?? 0} />
    <${Components} components=${overview.components} /></div>`;
}

// Operating the whole queue.
export function Operate({ overview }) {
  const stopped = isStopped(overview);
  return html`${stopped
    ? html`<${Act} needs="operator" onAct=${start} data-act="start">${t("start")}<//>`
    : html`<${Act} needs="operator" onAct=${() => openDialog({ kind: "stop" })} data-act="stop">${t("stop")}…<//>`}
    <${Act} needs="admin" kind="quiet-danger" onAct=${() => openDialog({ kind: "clear" })} data-act="clear">
      ${t("clear")}…<//>`;
}
