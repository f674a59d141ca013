// What the page knows, in one place. Parts read it, `set` changes it, and the page is drawn anew.
import { ApiError, get, setToken, stream, token } from "./api.js";
import { useEffect, useState } from "./base.js";

const keep = (key, value) => { try { localStorage.setItem(`walferry.${key}`, value); } catch { /* not kept */ } };
const kept = (key) => { try { return localStorage.getItem(`walferry.${key}`); } catch { return null; } };

export const SAMPLES_MAX = 300;

export const state = {
  session: null, sessionError: null, loginError: null,
  overview: null, figures: true, link: "connecting", linkError: null, seenAt: null,
  live: true, now: Date.now(), samples: [], headroom: [],
  theme: kept("theme") || "auto", keys: kept("keys") !== "off",
  dialog: null, notices: [], list: null,
};

const watchers = new Set();
let drawn = false;

export function set(patch) {
  Object.assign(state, patch);
  if (drawn) return;
  drawn = true;
  queueMicrotask(() => { drawn = false; for (const watcher of watchers) watcher(); });
}

export function useStore() {
  const [, draw] = useState(0);
  useEffect(() => {
    const watcher = () => draw((n) => n + 1);
    watchers.add(watcher);
    return () => watchers.delete(watcher);
  }, []);
  return state;
}

// --- changes of jobs ---

const subscribers = new Set();
export function onJobs(subscriber) {
  subscribers.add(subscriber);
  return () => subscribers.delete(subscriber);
}
const notifyJobs = (change) => { for (const subscriber of subscribers) subscriber(change); };

const followers = new Set();
export function onOperations(follower) {
  followers.add(follower);
  return () => followers.delete(follower);
}
const notifyOperations = () => { for (const follower of followers) follower(); };

// --- roles ---

const RANK = ["public", "viewer", "operator", "admin"];
export const role = () => state.session?.identity?.role ?? "public";
export const may = (needed) => RANK.indexOf(role()) >= RANK.indexOf(needed);

// --- session ---

export async function begin() {
  try {
    const session = await get("session");
    set({ session, sessionError: null });
    if (session.identity) connect(); else if (token()) setToken(null);
  } catch (error) {
    if (error.status === 401) return refused("token_wrong");
    set({ sessionError: error });
    setTimeout(() => { if (state.sessionError && !document.hidden) begin(); }, 5000);
  }
}

export async function login(value) {
  setToken(value);
  set({ loginError: null });
  await begin();
}

export function logout() {
  disconnect();
  setToken(null);
  set({ session: null, overview: null, list: null, loginError: null, samples: [] });
  begin();
}

async function refused(loginError) {
  disconnect();
  setToken(null);
  set({ loginError, session: null, overview: null, list: null });
  await begin();
}

// Every request of the page goes through here: a 401 brings the token field back.
export async function ask(call) {
  try {
    return await call();
  } catch (error) {
    if (error.status === 401 && state.session?.identity) refused("token_expired");
    throw error;
  }
}

// --- live updates ---

let running = null;

export function connect() {
  if (running || document.hidden || !state.live || !state.session?.identity) return;
  running = new AbortController();
  run(running.signal);
}

function disconnect() {
  running?.abort();
  running = null;
}

export function setLive(live) {
  set({ live });
  if (live) { set({ link: "connecting" }); connect(); } else { disconnect(); set({ link: "paused" }); }
}

// Without PostgreSQL there are no figures: the last ones stay, and the page shows their time.
function applyOverview(received) {
  const at = Date.now();
  const known = Boolean(received.stats);
  const overview = known ? received
    : { ...received, stats: state.overview?.stats ?? null, slot: state.overview?.slot ?? null };
  if (!known) return set({ overview, figures: false, linkError: null });
  const headroom = state.headroom.filter((one) => at - one.at < 300_000);
  if (overview.slot && overview.slot.safe_bytes !== null) headroom.push({ at, safe: Number(overview.slot.safe_bytes) });
  set({ overview, headroom, figures: true, seenAt: at, linkError: null });
}

async function run(signal) {
  let fails = 0;
  let next = 0;
  while (!signal.aborted) {
    if (Date.now() >= next) {
      const began = Date.now();
      try {
        await ask(() => stream("queue/events", { signal, onOpen: opened, onEvent }));
        if (Date.now() - began > 10_000) { fails = 0; continue; } // the server lets every stream end at times
      } catch (error) {
        if (signal.aborted || error.status === 401) return;
        if (Date.now() - began > 10_000) fails = 0;
      }
      fails += 1;
      next = Date.now() + Math.min(30_000, 1000 * 2 ** fails);
    }
    await poll(signal);
    await pause(fails < 3 ? 1000 : 5000, signal);
  }
}

function opened() {
  set({ link: "live", linkError: null });
  notifyJobs({ missed: true });
  notifyOperations();
}

function onEvent(kind, data) {
  set({ link: "live" });
  if (kind === "state") applyOverview(data);
  if (kind === "jobs") notifyJobs(data);
  if (kind === "operations") notifyOperations();
}

// Without a stream: the same figures, less often.
async function poll(signal) {
  try {
    applyOverview(await ask(() => get("overview", { signal })));
    set({ link: "polling" });
    notifyJobs({ missed: true });
    notifyOperations();
  } catch (error) {
    if (signal.aborted) return;
    const linkError = error instanceof ApiError ? error : new ApiError({ code: "unexpected", detail: String(error) });
    set({ link: "down", linkError });
  }
}

const pause = (ms, signal) => new Promise((resolve) => {
  const timer = setTimeout(resolve, ms);
  signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
});

// No requests while the page is hidden.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) disconnect();
  else if (state.sessionError) begin();
  else connect();
});

setInterval(() => {
  if (document.hidden) return;
  const samples = state.samples;
  if (state.overview && (state.link === "live" || state.link === "polling")) {
    samples.push(Number(state.overview.rate_per_second) || 0);
    if (samples.length > SAMPLES_MAX) samples.shift();
  }
  set({ now: Date.now() });
}, 1000);

// --- settings and notices ---

export function setTheme(theme) {
  keep("theme", theme);
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  set({ theme });
}

export function setKeys(keys) {
  keep("keys", keys ? "on" : "off");
  set({ keys });
}

let noticed = 0;
// Good news goes by itself; bad news stays until it is dismissed.
export function notify(notice) {
  const id = ++noticed;
  set({ notices: [...state.notices.slice(-3), { id, ...notice }] });
  if (notice.kind === "good") setTimeout(() => dismiss(id), 12_000);
}
export const dismiss = (id) => set({ notices: state.notices.filter((one) => one.id !== id) });

// --- the URL ---

export function place() {
  const [path, search = ""] = location.hash.replace(/^#/, "").split("?");
  const parts = path.split("/").filter(Boolean).map((part) => {
    try { return decodeURIComponent(part); } catch { return part; }
  });
  return { parts, query: Object.fromEntries(new URLSearchParams(search)) };
}
addEventListener("hashchange", () => set({ dialog: null }));
