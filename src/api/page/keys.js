// The keyboard. Off with one switch, silent while somebody types or a dialog is open.
import { openDialog, retryJob } from "./actions.js";
import { may, notify, place, setLive, state } from "./store.js";
import { t } from "./words.js";

const links = () => [...document.querySelectorAll("table.jobs .row-link")];

function move(step) {
  const all = links();
  if (all.length === 0) return;
  const at = all.indexOf(rowLink());
  const next = at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + step));
  all[next].focus();
  all[next].scrollIntoView({ block: "nearest" });
}

const rowLink = () => document.activeElement?.closest("tr[data-job]")?.querySelector(".row-link") ?? null;

function retryHere() {
  const { parts } = place();
  const id = parts[0] === "jobs" ? parts[1] : rowLink()?.closest("tr").dataset.job;
  if (!id) return;
  const badge = (parts[0] === "jobs"
    ? document.querySelector("main .badge") : rowLink().closest("tr").querySelector(".badge"));
  if (!may("operator")) {
    const yours = t(`role.${state.session?.identity?.role ?? "public"}`);
    return notify({ kind: "info", text: t("role.needed", { needed: t("role.operator"), yours }) });
  }
  if (badge?.dataset.status !== "failed") return notify({ kind: "info", text: t("job.not_failed") });
  retryJob(id);
}

const KEYS = {
  "/": () => {
    const field = document.getElementById("search");
    if (field) field.focus();
    else { location.hash = "#/"; setTimeout(() => document.getElementById("search")?.focus(), 150); }
  },
  j: () => move(1),
  k: () => move(-1),
  d: () => rowLink()?.click(),
  r: retryHere,
  p: () => setLive(!state.live),
  "?": () => openDialog({ kind: "help" }),
};

addEventListener("keydown", (event) => {
  if (!state.keys || state.dialog || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (!state.session?.identity || event.target.closest?.("input, select, textarea, [contenteditable]")) return;
  const act = Object.hasOwn(KEYS, event.key) ? KEYS[event.key] : null;
  if (!act) return;
  event.preventDefault();
  act();
});
