// The page's language: words, plurals, numbers, dates.
import { Exact } from "./exact.js";
import en from "./words.en.js";
import tr from "./words.tr.js";

const CATALOGUES = { en, tr };
export const LANGUAGES = [["en", "English"], ["tr", "Türkçe"]];

export const language = () => document.documentElement.lang;

export function setLanguage(name) {
  document.documentElement.lang = name;
  try { localStorage.setItem("walferry.language", name); } catch { /* it lasts as long as the page */ }
}

export function has(key) { return key in CATALOGUES[language()]; }

// `count` among the values chooses the plural. Numbers are written as the language writes them. A long text stands in
// the catalogue as a list of its lines.
export function t(key, values = {}) {
  let found = CATALOGUES[language()][key] ?? en[key] ?? key;
  if (Array.isArray(found)) found = found.join(" ");
  if (typeof found === "object") found = found[plural(values.count)] ?? found.other;
  return found.replace(/\{(\w+)\}/g, (whole, name) => {
    const value = values[name];
    if (value === undefined || value === null) return whole;
    return typeof value === "number" || value instanceof Exact ? number(value) : String(value);
  });
}

const memory = new Map();
function made(kind, options) {
  const key = language() + kind + JSON.stringify(options);
  if (!memory.has(key)) memory.set(key, new Intl[kind](language(), options));
  return memory.get(key);
}

const plural = (count) => made("PluralRules").select(Number(count));

export function number(value, digits = 1) {
  const integral = value instanceof Exact && /^-?\d+$/.test(value.source);
  const exact = integral ? BigInt(value.source) : Number(value);
  return made("NumberFormat", { maximumFractionDigits: digits }).format(exact);
}

export const percent = (ratio) =>
  made("NumberFormat", { style: "percent", maximumFractionDigits: 2 }).format(Number(ratio));

export function moment(iso, exact = false) {
  const at = new Date(iso);
  if (Number.isNaN(at.getTime())) return String(iso);
  const options = {
    year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
  };
  const today = at.toDateString() === new Date().toDateString();
  if (!exact && at.getFullYear() === new Date().getFullYear()) delete options.year;
  if (!exact && today) { delete options.month; delete options.day; }
  if (exact) { options.fractionalSecondDigits = 3; options.timeZoneName = "short"; }
  return made("DateTimeFormat", options).format(at);
}

export const clock = (ms) => made("DateTimeFormat", { timeStyle: "medium" }).format(ms);

const unit = (value, name, digits = 0) => {
  const options = { style: "unit", unit: name, unitDisplay: "short", maximumFractionDigits: digits };
  return made("NumberFormat", options).format(value);
};

export function duration(ms) {
  ms = Math.max(0, Number(ms));
  if (ms < 1000) return unit(ms, "millisecond", ms < 10 ? 1 : 0);
  const s = ms / 1000;
  if (s < 60) return unit(s, "second", s < 10 ? 1 : 0);
  const two = (big, bigUnit, small, smallUnit) => unit(big, bigUnit) + (small > 0 ? ` ${unit(small, smallUnit)}` : "");
  if (s < 3600) return two(Math.floor(s / 60), "minute", Math.floor(s % 60), "second");
  if (s < 86400) return two(Math.floor(s / 3600), "hour", Math.floor((s % 3600) / 60), "minute");
  return two(Math.floor(s / 86400), "day", Math.floor((s % 86400) / 3600), "hour");
}

export function bytes(count) {
  let value = Math.max(0, Number(count));
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) { value /= 1024; at += 1; }
  return `${number(value, value < 10 && at > 0 ? 1 : 0)} ${units[at]}`;
}
