// What an operator does, with what is asked before and what is said after.
import { post } from "./api.js";
import { html, useEffect, useState } from "./base.js";
import { described } from "./filters.js";
import { Code, Dialog, ErrorBox, Facts, Loading, jobLink } from "./parts.js";
import { ask, may, notify, onJobs, set, state } from "./store.js";
import { bytes, number, t } from "./words.js";

export const openDialog = (dialog) => set({ dialog });
const close = () => set({ dialog: null });

const after = new Set();
// Views that show jobs reload after an action.
export function onAction(subscriber) {
  after.add(subscriber);
  return () => after.delete(subscriber);
}
const acted = () => { for (const subscriber of after) subscriber(); };

async function simple(path, content, good, bad) {
  try {
    const answer = await ask(() => post(path, content));
    notify({ kind: "good", ...good(answer) });
    return answer;
  } catch (error) {
    notify({ kind: "bad", text: bad, error });
    return null;
  } finally {
    acted();
  }
}

export const start = () => simple("queue/start", {}, () => ({ text: t("start.done") }), t("start.bad"));
export const retryJob = (id) => simple(
  `queue/jobs/${id}/retry`, {},
  () => ({ text: t("retry.one_done", { id: String(id) }) }),
  t("retry.one_bad", { id: String(id) }));

export const steer = (id, verb) => simple(
  `operations/${id}/${verb}`, {},
  () => ({ text: t(`operation.${verb}_done`, { id: String(id) }) }),
  t("operation.bad", { id: String(id) }));

export const resync = (table, id) => simple(
  `records/${encodeURIComponent(table)}/${encodeURIComponent(id)}/resync`, {},
  (answer) => ({
    text: t("resync.done"),
    link: { href: jobLink(answer.job_id), text: t("resync.link", { id: String(answer.job_id) }) },
  }),
  t("resync.bad"));

function Reason({ value, onInput, optional }) {
  return html`<label class="field">${t(optional ? "reason.optional" : "reason")}
    <input name="reason" required=${!optional} minlength="3" maxlength="500" value=${value} autocomplete="off"
      onInput=${(e) => onInput(e.target.value)} />
    <small>${t("reason.hint")}</small></label>`;
}

const Buttons = ({ busy, label, danger, off }) => html`<div class="buttons">
  <button type="button" class="act" onClick=${close}>${t("cancel")}</button>
  <button type="submit" class="act ${danger ? "bad" : "main"}" disabled=${busy || off} data-confirm>
    ${busy ? t("working") : label}</button></div>`;

// Runs `call` on submit; the dialog stays with the error when it fails.
function useSubmit(call) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  const submit = async (event) => {
    event.preventDefault();
    if (busy) return;
    setBusy(true);
    setError(null);
    try { await ask(call); } catch (failure) { setError(failure); }
    setBusy(false);
    acted();
  };
  return { busy, error, submit, setError };
}

const Filter = ({ filter }) => {
  const parts = described(filter);
  return parts.length === 0 ? html`<p>${t("bulk.all_failed")}</p>`
    : html`<p>${t("bulk.filter")}</p>
      <${Facts} facts=${parts.map(([, label, value]) => [label, html`<span class="value">${value}</span>`])} />`;
};

// Retry or discard all failed jobs that match: a dry run counts, the count is sent along, and is checked there.
function Bulk({ verb, filter }) {
  const [matched, setMatched] = useState(null);
  const [changed, setChanged] = useState(null);
  const [reason, setReason] = useState("");
  const discard = verb === "discard";
  const path = `queue/operations/${verb}`;
  const why = discard ? { reason: reason.trim() } : {};
  const { busy, error, submit, setError } = useSubmit(async () => {
    try {
      const answer = await post(path, { filter, expected_count: matched, dry_run: false, ...why });
      const done = discard ? answer.discarded : answer.retried;
      const left = Number(answer.matched) - Number(done);
      const partly = answer.more && left > 0;
      notify({
        kind: partly ? "info" : "good", text: t(partly ? `${verb}.partly` : `${verb}.done`, { count: done, left }),
        more: answer.more ? { text: t("bulk.go_on"), act: () => openDialog({ kind: verb, filter }) }
          : discard ? { text: t("restore"), act: () => openDialog({ kind: "restore" }) } : null,
      });
      close();
    } catch (failure) {
      if (failure.code !== "count_changed") throw failure;
      setChanged([matched, failure.more.matched]);
      setMatched(failure.more.matched);
    }
  });
  useEffect(() => {
    ask(() => post(path, { filter, dry_run: true })).then((answer) => setMatched(answer.matched), setError);
  }, []);
  return html`<${Dialog} title=${t(`${verb}.title`)} onClose=${close} danger=${discard}><form onSubmit=${submit}>
    <${Filter} filter=${filter} />
    ${matched === null && !error ? html`<${Loading} />` : null}
    ${matched !== null ? html`<p class="count" role="status" data-matched=${String(matched)}>
      ${t(`${verb}.count`, { count: matched })}</p>` : null}
    ${changed ? html`<p class="box warn" role="alert">
      ${t("bulk.changed", { before: changed[0], now: changed[1] })}</p>` : null}
    <p>${t(`${verb}.means`)}</p>
    ${discard ? html`<${Reason} value=${reason} onInput=${setReason} />` : null}
    ${error ? html`<${ErrorBox} error=${error} />` : null}
    <${Buttons} busy=${busy} danger=${discard} off=${!matched || (discard && reason.trim().length < 3)}
      label=${t(`${verb}.button`, { count: matched ?? 0 })} />
  </form><//>`;
}

function DiscardJob({ id, back }) {
  const [reason, setReason] = useState("");
  const { busy, error, submit } = useSubmit(async () => {
    await post(`queue/jobs/${id}/discard`, { reason: reason.trim() });
    notify({
      kind: "good", text: t("discard.one_done", { id: String(id) }),
      more: { text: t("restore"), act: () => openDialog({ kind: "restore", ids: [Number(id)] }) },
    });
    close();
    if (back) location.hash = back;
  });
  return html`<${Dialog} title=${t("discard.one_title", { id: String(id) })} onClose=${close} danger>
  <form onSubmit=${submit}>
    <p>${t("discard.means")}</p><${Reason} value=${reason} onInput=${setReason} />
    ${error ? html`<${ErrorBox} error=${error} />` : null}
    <${Buttons} busy=${busy} danger off=${reason.trim().length < 3} label=${t("discard.button", { count: 1 })} />
  </form><//>`;
}

// Discarded jobs are failed again: those with these ids, or all of the last day.
function Restore({ ids }) {
  const [matched, setMatched] = useState(null);
  const [reason, setReason] = useState("");
  const path = "queue/operations/restore";
  const content = ids ? { ids } : {};
  const { busy, error, submit, setError } = useSubmit(async () => {
    const answer = await post(path, { ...content, ...given(reason) });
    notify({ kind: "good", text: t("restore.done", { count: answer.restored }) });
    close();
  });
  useEffect(() => {
    ask(() => post(path, { ...content, dry_run: true })).then((answer) => setMatched(answer.matched), setError);
  }, []);
  return html`<${Dialog} title=${t("restore.title")} onClose=${close}><form onSubmit=${submit}>
    ${matched === null && !error ? html`<${Loading} />` : null}
    ${matched !== null ? html`<p class="count" role="status" data-matched=${String(matched)}>
      ${t("restore.count", { count: matched })}</p>` : null}
    <p>${t("restore.means")}</p><${Reason} value=${reason} onInput=${setReason} optional />
    ${error ? html`<${ErrorBox} error=${error} />` : null}
    <${Buttons} busy=${busy} off=${!Number(matched)} label=${t("restore.button", { count: matched ?? 0 })} />
  </form><//>`;
}

const given = (reason) => (reason.trim() ? { reason: reason.trim() } : {});

function Stop() {
  const [reason, setReason] = useState("");
  const { busy, error, submit } = useSubmit(async () => {
    await post("queue/stop", { reason: reason.trim() });
    notify({ kind: "good", text: t("stop.done") });
    close();
  });
  const slot = state.overview?.slot;
  const unfinished = state.overview?.stats
    ? Number(state.overview.stats.pending) + Number(state.overview.stats.processing) : null;
  return html`<${Dialog} title=${t("stop.title")} onClose=${close}><form onSubmit=${submit}>
    <p>${t("stop.means")}</p>
    <ul><li>${t("stop.kept")}</li><li>${t("stop.stale")}</li><li>${t("stop.grows")}</li></ul>
    <${Facts} facts=${[
      unfinished !== null && [t("stop.unfinished"), number(unfinished)],
      slot && [t("stop.retained"), bytes(slot.retained_bytes ?? 0)],
      slot && [t("stop.headroom"), slot.safe_bytes === null ? t("slot.unlimited") : bytes(slot.safe_bytes)],
    ]} />
    <${Reason} value=${reason} onInput=${setReason} />
    ${error ? html`<${ErrorBox} error=${error} />` : null}
    <${Buttons} busy=${busy} danger off=${reason.trim().length < 3} label=${t("stop")} /></form><//>`;
}

function Clear() {
  const [typed, setTyped] = useState("");
  const [reason, setReason] = useState("");
  const word = t("clear.word");
  const { busy, error, submit } = useSubmit(async () => {
    const answer = await post("queue/clear", { reason: reason.trim() });
    const left = state.overview?.stats
      ? Number(state.overview.stats.pending) + Number(state.overview.stats.processing) : 0;
    const partly = /not all/i.test(answer.message ?? "");
    notify({
      kind: partly ? "info" : "good",
      text: t(partly ? "clear.partly" : "clear.done", { count: answer.cleared, left }),
    });
    close();
  });
  const stats = state.overview?.stats;
  const count = (name) => (stats ? number(stats[name]) : "…");
  return html`<${Dialog} title=${t("clear.title")} onClose=${close} danger><form onSubmit=${submit}>
    <p><strong>${t("clear.goes", { completed: count("completed"), failed: count("failed") })}</strong>
      ${" "}${t("clear.goes_more")}</p>
    <p><strong>${t("clear.stays", { pending: count("pending"), processing: count("processing") })}</strong>
      ${" "}${t("clear.stays_more")}</p>
    <label class="field">${t("clear.type")} <${Code}>${word}<//>
      <input name="typed" autocomplete="off" autocapitalize="off" spellcheck=${false} value=${typed}
        onInput=${(e) => setTyped(e.target.value)} /></label>
    <${Reason} value=${reason} onInput=${setReason} />
    ${error ? html`<${ErrorBox} error=${error} />` : null}
    <${Buttons} busy=${busy} danger
      off=${typed.trim() !== word || reason.trim().length < 3} label=${t("clear.button")} /></form><//>`;
}

const KEYS = [
  ["/", "search"], ["j", "down"], ["k", "up"], ["Enter", "open"], ["d", "open"],
  ["r", "retry"], ["p", "live"], ["?", "help"],
];

function Help() {
  return html`<${Dialog} title=${t("keys.title")} onClose=${close}>
    <dl class="keys">${KEYS.map(([key, what]) => html`<div>
      <dt><kbd lang="en" translate="no">${key}</kbd></dt><dd>${t(`keys.${what}`)}</dd></div>`)}</dl>
    <p>${t("keys.off_hint")}</p>
    <div class="buttons">
      <button type="button" class="act main" autofocus onClick=${close}>${t("close")}</button></div><//>`;
}

export function Dialogs({ dialog }) {
  if (!dialog) return null;
  if (dialog.kind === "retry" || dialog.kind === "discard") {
    return html`<${Bulk} key=${dialog.kind} verb=${dialog.kind} filter=${dialog.filter} />`;
  }
  if (dialog.kind === "discard-job") return html`<${DiscardJob} id=${dialog.id} back=${dialog.back} />`;
  if (dialog.kind === "restore") return html`<${Restore} ids=${dialog.ids} />`;
  const kinds = { stop: Stop, clear: Clear, help: Help };
  return html`<${kinds[dialog.kind]} />`;
}

// Calls `reload` when jobs may have changed: after events of the stream, at most once in 1.5 s, or after an action.
export function useChanges(reload, key) {
  useEffect(() => {
    let timer = null;
    let changed = [];
    let fresh = 0;
    let missed = false;
    const fire = () => {
      const changes = { changed, fresh, missed };
      timer = null;
      changed = [];
      fresh = 0;
      missed = false;
      reload(changes);
    };
    const later = (ms) => { timer ??= setTimeout(fire, ms); };
    const offJobs = onJobs((event) => {
      changed.push(...(event.changed_ids ?? []).map(String));
      fresh += Number(event.new_count ?? 0);
      missed ||= Boolean(event.missed || event.more);
      later(1500);
    });
    const offAction = onAction(() => { missed = true; clearTimeout(timer); timer = null; later(50); });
    return () => { clearTimeout(timer); offJobs(); offAction(); };
  }, [key]);
}

export const canOperate = () => may("operator");
