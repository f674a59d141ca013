// The jobs' filters: in the URL, as people read them, and as the API's operations take them.
import { query as written } from "./api.js";
import { moment, t } from "./words.js";

export const FILTERS = ["status", "table", "operation", "record_id", "id", "error", "attempts_min", "since", "until"];
export const LIMIT = 20;
export const LIMITS = [20, 50, 100, 200];

export function jobsLink(query) {
  const kept = Object.fromEntries([...FILTERS, "page", "limit"].map((name) => [name, query[name]]));
  if (Number(kept.page) === 1) delete kept.page;
  if (Number(kept.limit) === LIMIT) delete kept.limit;
  return `#/${written(kept)}`;
}

export const active = (query) => FILTERS.filter((name) => query[name]);

export function parameters(query) {
  const page = Math.max(1, Number(query.page) || 1);
  const limit = LIMITS.includes(Number(query.limit)) ? Number(query.limit) : LIMIT;
  return { ...Object.fromEntries(active(query).map((name) => [name, query[name]])), page, limit };
}

// A moment of the URL as the field for it takes one.
export const local = (iso) => {
  if (!iso) return "";
  const at = new Date(iso);
  return Number.isNaN(at.getTime()) ? "" : new Date(at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
};

// An operation touches failed jobs only, so the status is no part of its filter.
export function operationFilter(query) {
  const filter = {};
  for (const name of ["table", "operation", "record_id", "error", "since", "until"]) {
    if (query[name]) filter[name] = query[name];
  }
  if (query.attempts_min) filter.attempts_min = Number(query.attempts_min);
  if (query.id) filter.ids = [Number(query.id)];
  return filter;
}

const shownValue = (name, value) => {
  if (name === "since" || name === "until") return moment(value, true);
  if (name === "status") return t(`status.${value}`);
  if (name === "ids") return value.join(", ");
  return String(value);
};

// [name, its label, its value for people], for a query or an operation's filter.
export const described = (filter) => Object.entries(filter)
  .filter(([name, value]) => value && (name === "ids" || FILTERS.includes(name)))
  .map(([name, value]) => [name, t(`filter.${name}`), shownValue(name, value)]);
