// The HTTP API as the page uses it: requests, errors, the stream. Paths are relative, so any proxy path works.
import { parse } from "./exact.js";

const TOKEN = "walferry.token";
let memory = null;

export function token() {
  try { return sessionStorage.getItem(TOKEN); } catch { return memory; }
}

export function setToken(value) {
  memory = value;
  try {
    if (value) sessionStorage.setItem(TOKEN, value); else sessionStorage.removeItem(TOKEN);
  } catch { /* it lasts as long as the page */ }
}

// `status` 0: no answer at all.
export class ApiError extends Error {
  constructor({ status = 0, code = "unreachable", detail = "", request_id = null, ...more }) {
    super(detail);
    Object.assign(this, { status, code, detail, requestId: request_id, more });
  }
}

function head(extra) {
  const bearer = token();
  return bearer ? { ...extra, authorization: `Bearer ${bearer}` } : extra;
}

async function send(path, options) {
  let response;
  try {
    response = await fetch(`api/v1/${path}`, { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError({});
  }
  if (!response.ok) throw await failure(response);
  return response;
}

async function failure(response) {
  const request_id = response.headers.get("x-request-id");
  const plain = { status: response.status, code: "unexpected", detail: response.statusText, request_id };
  try {
    return new ApiError({ ...plain, ...parse(await response.text()), status: response.status });
  } catch {
    return new ApiError(plain);
  }
}

async function body(response) {
  try {
    return parse(await response.text());
  } catch {
    throw new ApiError({ status: response.status, code: "unexpected", detail: "the answer is not JSON" });
  }
}

export function query(parameters) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== "") search.set(name, String(value));
  }
  const written = search.toString();
  return written ? `?${written}` : "";
}

export async function get(path, { parameters = {}, signal } = {}) {
  return body(await send(path + query(parameters), { headers: head({ accept: "application/json" }), signal }));
}

export async function post(path, content = {}) {
  const headers = head({ accept: "application/json", "content-type": "application/json" });
  return body(await send(path, { method: "POST", headers, body: JSON.stringify(content) }));
}

const SILENCE_MAX = 40_000; // the server says something every 15 s

// Server-sent events through fetch, which can send Authorization. Ends when the server ends it, else by an error.
export async function stream(path, { signal, onOpen, onEvent }) {
  const silence = new AbortController();
  const both = AbortSignal.any([signal, silence.signal]);
  let timer = setTimeout(() => silence.abort(), SILENCE_MAX);
  try {
    const response = await send(path, { headers: head({ accept: "text/event-stream" }), signal: both });
    onOpen();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENCE_MAX);
      const blocks = (rest + value).split(/\r?\n\r?\n/);
      rest = blocks.pop();
      for (const block of blocks) tell(block, onEvent);
    }
  } finally {
    clearTimeout(timer);
    silence.abort();
  }
}

function tell(block, onEvent) {
  let kind = "message";
  const lines = [];
  for (const line of block.split(/\r?\n/)) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") kind = value;
    if (name === "data") lines.push(value);
  }
  if (lines.length) onEvent(kind, parse(lines.join("\n")));
}
