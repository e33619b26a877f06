// Numbers, times and text off the wire, as a person reads them.

/** Characters that turn or hide text: controls, and the marks of writing direction. */
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/**
 * Text off the wire on one line, with hidden characters made visible.
 * @param {string | null | undefined} text
 * @returns {string}
 */
function plain(text) {
  return (text ?? "").replace(/[\t\n]/g, " ").replace(HIDDEN, seen);
}

/**
 * The same for text of several lines.
 * @param {string} text
 * @returns {string}
 */
function plainLines(text) {
  return text.replace(/\r\n/g, "\n").replace(HIDDEN, seen);
}

/**
 * @param {string} hidden
 * @returns {string}
 */
function seen(hidden) {
  return `⟨${hidden.charCodeAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩`;
}

/**
 * At most so many characters.
 * @param {string} text
 * @param {number} most
 * @returns {string}
 */
function cut(text, most) {
  return text.length <= most ? text : `${text.slice(0, Math.max(most - 1, 1))}…`;
}

const GROUPED = new Intl.NumberFormat("en-US");

/**
 * `1,234`.
 * @param {number} count
 * @returns {string}
 */
function grouped(count) {
  return GROUPED.format(count);
}

/**
 * `1 call`, `1,234 calls`.
 * @param {number} count
 * @param {string} what
 * @returns {string}
 */
function counted(count, what) {
  return `${grouped(count)} ${what}${count === 1 ? "" : "s"}`;
}

/**
 * `2023-12-01`, of microseconds since 1970.
 * @param {number} us
 * @returns {string}
 */
function day(us) {
  return iso(us).slice(0, 10);
}

/**
 * `14:30:22`, or with milliseconds `14:30:22.123`, UTC.
 * @param {number} us
 * @param {boolean} [withMs]
 * @returns {string}
 */
function clock(us, withMs) {
  return iso(us).slice(11, withMs ? 23 : 19);
}

/**
 * @param {number} us
 * @returns {string}
 */
function iso(us) {
  const date = new Date(us / 1000);
  return Number.isNaN(date.getTime()) ? "0000-00-00T00:00:00.000Z" : date.toISOString();
}

/**
 * Microseconds since 1970 of a time as the records have it, with six digits.
 * @param {string} text
 * @returns {number}
 */
function microseconds(text) {
  const ms = Date.parse(`${text.slice(0, 19)}Z`);
  return ms * 1000 + Number(text.slice(20, 26));
}

/**
 * `0.25 s`, `12 s`, `3 min 05 s`, `1 h 02 min`.
 * @param {number} s
 * @returns {string}
 */
function duration(s) {
  if (s < 10) return `${s.toFixed(s < 1 ? 2 : 1)} s`;
  const whole = Math.round(s);
  if (whole < 60) return `${whole} s`;
  const [minutes, seconds] = [Math.floor(whole / 60), whole % 60];
  if (minutes < 60) return `${minutes} min ${String(seconds).padStart(2, "0")} s`;
  return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
}

/**
 * A time since the start of a call: `+12.345`.
 * @param {number} us
 * @returns {string}
 */
function since(us) {
  const sign = us < 0 ? "−" : "+";
  return `${sign}${(Math.abs(us) / 1e6).toFixed(3)}`;
}

/**
 * `320 ms`, `1.4 s`.
 * @param {number} ms
 * @returns {string}
 */
function milliseconds(ms) {
  if (ms >= 1000) return `${(ms / 1000).toFixed(1)} s`;
  return `${ms.toFixed(ms < 10 ? 1 : 0)} ms`;
}

/**
 * `0 %`, `0.25 %`, `12.5 %`.
 * @param {number} value
 * @returns {string}
 */
function percent(value) {
  return value === 0 ? "0 %" : `${value.toFixed(value < 10 ? 2 : 1)} %`;
}

/**
 * A value, or a dash.
 * @template T
 * @param {T | null | undefined} value
 * @param {(value: T) => string} write
 * @returns {string}
 */
function orDash(value, write) {
  return value === null || value === undefined ? "–" : write(value);
}

/**
 * A side of a call, as From or To names it.
 * @typedef {{name: string, user: string, host: string}} Party
 */

/**
 * The name, user and host in the value of From or To.
 * @param {string} value
 * @returns {Party}
 */
function party(value) {
  const open = value.indexOf("<");
  const name = open > 0 ? value.slice(0, open).trim().replace(/^"|"$/g, "") : "";
  let uri = open >= 0 ? value.slice(open + 1) : value;
  const close = uri.search(/[>;]/);
  if (close >= 0) uri = uri.slice(0, close);
  const rest = uri.replace(/^(sips?|tel):/i, "");
  const at = rest.lastIndexOf("@");
  const [user, host] = at < 0 ? [rest, ""] : [rest.slice(0, at), rest.slice(at + 1)];
  return { name: plain(name), user: plain(user || host), host: plain(host) };
}

/**
 * A number without `+`, `00` and separators: what a search compares.
 * @param {string} text
 * @returns {string}
 */
function bareNumber(text) {
  return text.replace(/[\s()/.\-]/g, "").replace(/^(\+|00)/, "");
}
