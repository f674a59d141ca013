// JSON without loss: a number that JavaScript cannot hold keeps its digits.
// Row values come from PostgreSQL's bigint and numeric, so 9223372036854775807 and 1299.90 must be shown as they are.

export class Exact {
  constructor(source) { this.source = source; }
  toString() { return this.source; }
  toJSON() { return this.source; }
  valueOf() { return Number(this.source); }
}

const MARK = "\u0000exact"; // no key of PostgreSQL's json can hold this character
const TOKEN = /"[^"\\]*(?:\\.[^"\\]*)*"|-?\d[\d.eE+-]*/g;

const loses = (source) => String(Number(source)) !== source;

const knowsSource = (() => {
  let source = null;
  JSON.parse("1", (_key, value, context) => { source = context && context.source; return value; });
  return source === "1";
})();

function byContext(text) {
  return JSON.parse(text, (_key, value, context) =>
    typeof value === "number" && loses(context.source) ? new Exact(context.source) : value);
}

// For browsers that do not tell a number's source: such numbers are marked in the text first.
export function byMarks(text) {
  const marked = text.replace(TOKEN, (token) =>
    token[0] !== '"' && loses(token) ? JSON.stringify({ [MARK]: token }) : token);
  return JSON.parse(marked, (_key, value) =>
    value && typeof value === "object" && MARK in value ? new Exact(value[MARK]) : value);
}

export const parse = knowsSource ? byContext : byMarks;

// A JSON value as people read it; exact numbers without quotes.
export function text(value, indent = "") {
  if (value instanceof Exact) return value.source;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const inner = indent + "  ";
  const [open, close, parts] = Array.isArray(value)
    ? ["[", "]", value.map((one) => text(one, inner))]
    : ["{", "}", Object.entries(value).map(([key, one]) => `${JSON.stringify(key)}: ${text(one, inner)}`)];
  if (parts.length === 0) return open + close;
  const short = open + parts.join(", ") + close;
  if (short.length <= 60 && !short.includes("\n")) return short;
  return `${open}\n${inner}${parts.join(`,\n${inner}`)}\n${indent}${close}`;
}
