// The page: its frame, its places, its login.
import { html, render, useEffect, useRef, useState } from "./base.js";
import { Dialogs, openDialog } from "./actions.js";
import { Audit } from "./audit.js";
import { Job } from "./job.js";
import { Jobs } from "./jobs.js";
import { OneOperation, Operations } from "./operations.js";
import { Banners, Cards, Operate, Overview } from "./overview.js";
import { Empty, ErrorBox, Loading, Notices, isProduction } from "./parts.js";
import { Row } from "./record.js";
import { begin, login, logout, place, setKeys, setLive, setTheme, state, useStore } from "./store.js";
import { LANGUAGES, language, setLanguage, t } from "./words.js";
import "./keys.js";

function Head({ at }) {
  const { session, link, live } = state;
  const environment = session?.environment;
  const known = session?.identity;
  const tab = (href, name, here) => html`<a href=${href} aria-current=${here ? "page" : undefined}>${t(name)}</a>`;
  return html`<header class="head"><div class="head-row">
    <a class="brand" href="#/" translate="no">walferry</a>
    ${environment ? html`<span class="environment ${isProduction(environment) ? "production" : ""}" data-environment>
      ${environment}</span>` : null}
    ${known ? html`<nav aria-label=${t("nav")}>
      ${tab("#/", "jobs", at !== "audit" && at !== "operations")}
      ${tab("#/operations", "operations", at === "operations")}${tab("#/audit", "audit", at === "audit")}</nav>` : null}
    <span class="grow"></span>
    ${known ? html`<button type="button" class="live ${link}" data-link=${link} aria-pressed=${String(live)}
        title=${t("live.hint")} onClick=${() => setLive(!live)}>
      <span class="dot" aria-hidden="true"></span>${t(`link.${link}`)}</button>` : null}
    <${Settings} /></div></header>`;
}

function Settings() {
  const { session, theme, keys } = state;
  const ref = useRef();
  const [open, setOpen] = useState(false);
  useEffect(() => {
    if (!open) return undefined;
    const away = (event) => {
      const outside = event.type === "pointerdown" && !ref.current.contains(event.target);
      if (event.key === "Escape" || outside) setOpen(false);
    };
    addEventListener("pointerdown", away);
    addEventListener("keydown", away);
    return () => { removeEventListener("pointerdown", away); removeEventListener("keydown", away); };
  }, [open]);
  const known = session?.identity;
  return html`<div class="settings" ref=${ref}>
    <button type="button" class="act" aria-expanded=${String(open)} aria-controls="settings"
      onClick=${() => setOpen(!open)}>${t("settings")}</button>
    <div id="settings" class="menu" hidden=${!open}>
      <label class="field"><span>${t("language")}</span>
        <select name="language" value=${language()}
          onChange=${(e) => { setLanguage(e.target.value); setTheme(theme); }}>
        ${LANGUAGES.map(([code, name]) => html`<option key=${code} value=${code} lang=${code}>${name}</option>`)}
        </select></label>
      <label class="field"><span>${t("theme")}</span>
        <select name="theme" value=${theme} onChange=${(e) => setTheme(e.target.value)}>
        ${["auto", "light", "dark"].map((one) => html`<option key=${one} value=${one}>${t(`theme.${one}`)}</option>`)}
        </select></label>
      <label class="check">
        <input type="checkbox" name="keys" checked=${keys} onChange=${(e) => setKeys(e.target.checked)} />
        ${" "}${t("keys.on")}</label>
      <button type="button" class="act" onClick=${() => { setOpen(false); openDialog({ kind: "help" }); }}>
        ${t("keys.title")}</button>
      ${known ? html`<p class="who">${t("who", { name: known.name, role: t(`role.${known.role}`) })}</p>` : null}
      ${known && session.authentication === "required"
        ? html`<button type="button" class="act" onClick=${logout}>${t("logout")}</button>` : null}
      ${session?.version ? html`<p class="dim">${t("version", { version: session.version })}</p>` : null}
    </div></div>`;
}

function Login({ wrong }) {
  const [value, setValue] = useState("");
  const submit = (event) => { event.preventDefault(); if (value.trim()) login(value.trim()); };
  return html`<main class="login" id="main"><form class="panel" onSubmit=${submit}>
    <h1 tabindex="-1">${t("login")}</h1><p>${t("login.what")}</p>
    <label class="field"><span>${t("login.token")}</span>
      <input name="token" type="password" autocomplete="off" autofocus required value=${value}
        aria-invalid=${wrong ? "true" : undefined} aria-describedby=${wrong ? "login-error" : undefined}
        onInput=${(e) => setValue(e.target.value)} /></label>
    ${wrong ? html`<p id="login-error" class="box bad" role="alert">${t(`login.${wrong}`)}</p>` : null}
    <div class="buttons"><button type="submit" class="act main">${t("login.enter")}</button></div>
    <p class="dim">${t("login.kept")}</p></form></main>`;
}

function View({ parts, query, overview }) {
  if (parts[0] === "jobs" && parts[1]) return html`<${Job} key=${parts[1]} id=${parts[1]} />`;
  if (parts[0] === "records" && parts[2]) {
    return html`<${Row} key=${parts.join("/")} table=${parts[1]} id=${parts[2]} />`;
  }
  if (parts[0] === "operations" && parts[1]) return html`<${OneOperation} key=${parts[1]} id=${parts[1]} />`;
  if (parts[0] === "operations") return html`<${Operations} />`;
  if (parts[0] === "audit") return html`<${Audit} query=${query} />`;
  if (parts.length > 0) {
    return html`<h1 tabindex="-1">${t("nowhere")}</h1>
      <${Empty} title=${t("nowhere_more")}><p><a href="#/">${t("jobs")}</a></p><//>`;
  }
  return html`<h1 class="unseen" tabindex="-1">${t("title")}</h1>
    <${Cards} overview=${overview} query=${query} />
    <${Overview} overview=${overview} />
    <${Jobs} query=${query} overview=${overview} actions=${html`<${Operate} overview=${overview} />`} />`;
}

function titleOf({ parts }) {
  if (parts[0] === "jobs" && parts[1]) return `${t("job.title")} ${parts[1]}`;
  if (parts[0] === "records" && parts[2]) return `${parts[1]} ${parts[2]}`;
  if (parts[0] === "operations" && parts[1]) return `${t("operation.title")} ${parts[1]}`;
  return t(["audit", "operations"].includes(parts[0]) ? parts[0] : "jobs");
}

function App() {
  const { session, sessionError, loginError, overview, dialog, notices } = useStore();
  const [, turn] = useState(0);
  const at = place();
  const path = at.parts.join("/");
  const first = useRef(true);
  useEffect(() => {
    const turned = () => turn((n) => n + 1);
    addEventListener("hashchange", turned);
    return () => removeEventListener("hashchange", turned);
  }, []);
  useEffect(() => {
    if (first.current) { first.current = false; return; }
    document.querySelector("h1")?.focus({ preventScroll: true }); // a new place: readers begin at its title
    scrollTo(0, 0);
  }, [path]);
  const environment = session?.environment;
  useEffect(() => { document.title = `${environment ? `[${environment}] ` : ""}${titleOf(at)} · walferry`; });
  let content;
  if (sessionError && !session) {
    content = html`<main id="main"><h1 class="unseen">${t("title")}</h1>
      <${ErrorBox} error=${sessionError} title=${t("banner.unreachable")} onRetry=${begin} /></main>`;
  } else if (!session) content = html`<main id="main"><${Loading} /></main>`;
  else if (!session.identity) content = html`<${Login} wrong=${loginError} />`;
  else {
    content = html`<main id="main"><${Banners} overview=${overview} />
      <${View} parts=${at.parts} query=${at.query} overview=${overview} /></main>`;
  }
  const skip = (event) => {
    event.preventDefault();
    const main = document.querySelector("h1");
    main?.setAttribute("tabindex", "-1");
    main?.focus();
  };
  return html`<a class="skip" href="#main" onClick=${skip}>${t("skip")}</a>
    <${Head} at=${at.parts[0]} />${content}
    <${Dialogs} dialog=${dialog} /><${Notices} notices=${notices} />`;
}

document.querySelectorAll("noscript").forEach((one) => one.remove());
render(html`<${App} />`, document.getElementById("app"));
begin();
