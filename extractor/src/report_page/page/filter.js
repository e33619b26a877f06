// Which calls are shown, in which order; and the address that says so.

/**
 * The view of the list.
 * @typedef {{query: string, chips: Set<string>, from: number | null, to: number | null,
 *   sort: string, isDown: boolean}} View
 */

/**
 * A chip: calls of a kind.
 * @typedef {{id: string, label: string, group: "state" | "finding",
 *   has: (row: number) => boolean}} Chip
 */

/** How a problem is called where there is room for two words. */
const PROBLEM_WORDS = /** @type {Record<string, string>} */ ({
  "loss": "Loss", "jitter": "Jitter", "mos": "Low MOS", "one-way": "One-way", "no-media": "No media",
  "slow-setup": "Slow set-up", "early-media-only": "Early media only",
  "retransmitted-invite": "INVITE repeated", "server-error": "Server error",
});

/** A call with one of these is worse than the sum of the others. */
const GRAVE = new Set(["one-way", "no-media", "server-error", "mos"]);

/** @type {Rows} */
let rows;

/** What a search looks through, by row; made at the first search. @type {string[] | null} */
let texts = null;
/** The numbers of both sides, by row. @type {string[]} */
let numbers = [];

/**
 * @returns {View}
 */
function wholeView() {
  return { query: "", chips: new Set(), from: null, to: null, sort: "points", isDown: true };
}

/** The states of calls, in the order of their chips. */
const STATES = ["completed", "failed", "cancelled", "timeout", "incomplete", "flood"];

/**
 * @returns {Chip[]}
 */
function allChips() {
  /** @type {Chip[]} */
  const states = STATES.map((state) => ({
    id: state, label: state[0]?.toUpperCase() + state.slice(1), group: "state",
    has: (row) => rows.state[row] === state,
  }));
  /** @type {Chip[]} */
  const problems = ["one-way", "no-media", "loss", "jitter", "mos", "slow-setup", "server-error"].map((problem) => ({
    id: problem, label: PROBLEM_WORDS[problem] ?? problem, group: "finding",
    has: (row) => hasProblem(row, problem),
  }));
  /** @type {Chip} */
  const drops = { id: "drops", label: "Capture drops", group: "finding", has: (row) => (rows.drops[row] ?? 0) > 0 };
  return [...states, ...problems, drops];
}

/**
 * @param {number} row
 * @param {string} problem
 * @returns {boolean}
 */
function hasProblem(row, problem) {
  const all = rows.problems[row] ?? "";
  return all !== "" && ` ${all} `.includes(` ${problem} `);
}

/**
 * True if something about a call is not as it should be.
 * @param {number} row
 * @returns {boolean}
 */
function isBad(row) {
  const state = rows.state[row];
  return rows.problems[row] !== "" || state === "failed" || state === "timeout";
}

/** The values that a column is sorted by; text is compared as text. */
const SORTS = /** @type {Record<string, (row: number) => number | string | null>} */ ({
  start: (row) => rows.start_us[row] ?? 0,
  from: (row) => party(rows.from[row] ?? "").user.toLowerCase(),
  to: (row) => party(rows.to[row] ?? "").user.toLowerCase(),
  state: (row) => `${rows.state[row]} ${rows.status[row] ?? ""}`,
  setup: (row) => rows.setup_ms[row] ?? null,
  duration: (row) => rows.duration_s[row] ?? 0,
  loss: (row) => rows.loss[row] ?? null,
  jitter: (row) => rows.jitter[row] ?? null,
  mos: (row) => rows.mos[row] ?? null,
  points: (row) => rows.points[row] ?? 0,
});

/**
 * The rows that a view shows, in its order. `time` is false to leave out the span of time, as the
 * histogram does.
 * @param {View} view
 * @param {boolean} time
 * @returns {number[]}
 */
function matching(view, time) {
  const isWanted = search(view.query);
  const chosen = allChips().filter((chip) => view.chips.has(chip.id));
  const [states, findings] = [
    chosen.filter((chip) => chip.group === "state"), chosen.filter((chip) => chip.group === "finding"),
  ];
  const any = (/** @type {Chip[]} */ chips, /** @type {number} */ row) =>
    chips.length === 0 || chips.some((chip) => chip.has(row));
  const isInTime = (/** @type {number} */ row) => {
    const start = rows.start_us[row] ?? 0;
    return !time || ((view.from === null || start >= view.from) && (view.to === null || start < view.to));
  };
  const found = [];
  for (let row = 0; row < rows.start_us.length; row += 1) {
    if (isInTime(row) && any(states, row) && any(findings, row) && isWanted(row)) found.push(row);
  }
  return found;
}

/**
 * Sorts rows. Calls without a value come last; equal ones by time.
 * @param {number[]} found
 * @param {string} sort
 * @param {boolean} isDown
 * @returns {number[]}
 */
function sorted(found, sort, isDown) {
  const value = SORTS[sort] ?? SORTS.points;
  if (!value) return found;
  const keys = new Map(found.map((row) => [row, value(row)]));
  return found.sort((a, b) => {
    const [first, second] = [keys.get(a) ?? null, keys.get(b) ?? null];
    if (first === second) return (rows.start_us[a] ?? 0) - (rows.start_us[b] ?? 0) || a - b;
    if (first === null) return 1;
    if (second === null) return -1;
    return first < second === isDown ? 1 : -1;
  });
}

/**
 * The condition of a search on a row: all its words, or its number.
 * @param {string} query
 * @returns {(row: number) => boolean}
 */
function search(query) {
  const words = query.toLowerCase().split(/\s+/).filter((word) => word !== "");
  if (words.length === 0) return () => true;
  const all = searched();
  const hasWords = (/** @type {number} */ row) => words.every((word) => (all[row] ?? "").includes(word));
  const number = bareNumber(query);
  if (!/^\d{3,}$/.test(number)) return hasWords;
  return (row) => (numbers[row] ?? "").includes(number) || hasWords(row);
}

/**
 * @returns {string[]}
 */
function searched() {
  if (texts) return texts;
  const fields = [
    rows.from, rows.to, rows.call_id, rows.source, rows.destination, rows.state, rows.status,
    rows.reason, rows.caller_ua, rows.callee_ua, rows.codecs, rows.problems,
  ];
  texts = rows.start_us.map((_, row) => fields.map((field) => field[row] ?? "").join("\n").toLowerCase());
  numbers = rows.start_us.map((_, row) =>
    `${bareNumber(party(rows.from[row] ?? "").user)}\n${bareNumber(party(rows.to[row] ?? "").user)}`);
  return texts;
}

/**
 * The end of the address for a view.
 * @param {View} view
 * @returns {URLSearchParams}
 */
function addressOf(view) {
  const words = new URLSearchParams();
  if (view.query) words.set("q", view.query);
  if (view.chips.size > 0) words.set("show", [...view.chips].sort().join(","));
  if (view.from !== null || view.to !== null) words.set("time", `${view.from ?? ""}-${view.to ?? ""}`);
  if (view.sort !== "points" || !view.isDown) words.set("sort", view.sort + (view.isDown ? "-" : ""));
  return words;
}

/**
 * The view of an address.
 * @param {URLSearchParams} words
 * @returns {View}
 */
function viewOf(words) {
  const view = wholeView();
  view.query = words.get("q") ?? "";
  const known = new Set(allChips().map((chip) => chip.id));
  view.chips = new Set((words.get("show") ?? "").split(",").filter((id) => known.has(id)));
  const [from, to] = (words.get("time") ?? "").split("-").map((text) => (/^\d+$/.test(text) ? Number(text) : null));
  view.from = from ?? null;
  view.to = to ?? null;
  const sort = words.get("sort");
  if (sort && Object.hasOwn(SORTS, sort.replace(/-$/, ""))) {
    view.sort = sort.replace(/-$/, "");
    view.isDown = sort.endsWith("-");
  }
  return view;
}
