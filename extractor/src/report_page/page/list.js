// The list of calls. Only the rows that are seen are elements.

/**
 * A column of the list.
 * @typedef {{id: string, label: string, title: string, className: string, isDownFirst: boolean,
 *   cell: (row: number) => (Node | string)[]}} Column
 */

/** The figures from which on a cell stands out: as the thresholds of problems are by default. */
const STANDS_OUT = { loss: 1, jitter: 30, mos: 3.6, setup: 3000 };

/** @type {Column[]} */
const COLUMNS = [
  { id: "points", label: "Findings", title: "Worst first", className: "findings", isDownFirst: true, cell: findingCells },
  { id: "start", label: "Start", title: "The time of the INVITE, UTC", className: "start", isDownFirst: false, cell: startCells },
  { id: "from", label: "From", title: "The caller", className: "from", isDownFirst: false, cell: (row) => partyCells(rows.from[row]) },
  { id: "to", label: "To", title: "The callee", className: "to", isDownFirst: false, cell: (row) => partyCells(rows.to[row]) },
  { id: "state", label: "State", title: "How the call ended, with its last status", className: "state", isDownFirst: false, cell: stateCells },
  { id: "setup", label: "Set-up", title: "From the INVITE until it rang, or was answered", className: "number setup", isDownFirst: true,
    cell: (row) => figure(rows.setup_ms[row], milliseconds, (ms) => ms > STANDS_OUT.setup) },
  { id: "duration", label: "Duration", title: "From the INVITE to the last packet", className: "number duration", isDownFirst: true,
    cell: (row) => [duration(rows.duration_s[row] ?? 0)] },
  { id: "loss", label: "Loss", title: "The highest loss of its streams", className: "number loss", isDownFirst: true,
    cell: (row) => figure(rows.loss[row], percent, (loss) => loss > STANDS_OUT.loss) },
  { id: "jitter", label: "Jitter", title: "The highest jitter of its streams", className: "number jitter", isDownFirst: true,
    cell: (row) => figure(rows.jitter[row], milliseconds, (ms) => ms > STANDS_OUT.jitter) },
  { id: "mos", label: "MOS", title: "The lowest mean opinion score of its streams, by loss and codec", className: "number mos", isDownFirst: false,
    cell: (row) => figure(rows.mos[row], (mos) => mos.toFixed(2), (mos) => mos < STANDS_OUT.mos) },
];

/**
 * @param {number | null | undefined} value
 * @param {(value: number) => string} write
 * @param {(value: number) => boolean} isBadValue
 * @returns {(Node | string)[]}
 */
function figure(value, write, isBadValue) {
  if (value === null || value === undefined) return [element("span", "none", null, "–")];
  return isBadValue(value) ? [element("strong", "bad", null, write(value))] : [write(value)];
}

/**
 * @param {number} row
 * @returns {(Node | string)[]}
 */
function startCells(row) {
  const start = rows.start_us[row] ?? 0;
  const isOneDay = list.isOneDay;
  return isOneDay ? [clock(start)] : [element("span", "muted date", null, `${day(start).slice(5)} `), clock(start)];
}

/**
 * @param {string | undefined} value
 * @returns {Node[]}
 */
function partyCells(value) {
  const { name, user } = party(value ?? "");
  const cells = [element("bdi", "", null, cut(user, 64))];
  if (name && name !== user) cells.push(element("bdi", "muted name", null, cut(name, 64)));
  return cells;
}

/**
 * @param {number} row
 * @returns {(Node | string)[]}
 */
function stateCells(row) {
  const [state, status] = [rows.state[row] ?? "", rows.status[row] ?? null];
  return [stateMark(state), element("span", "", null, plain(state)),
    status === null ? "" : element("span", "muted", null, ` ${status}`)];
}

/**
 * A mark whose shape says what its colour says.
 * @param {string} state
 * @returns {HTMLElement}
 */
function stateMark(state) {
  const [shape, className] = {
    completed: ["●", "fine"], failed: ["✕", "bad"], timeout: ["✕", "bad"], cancelled: ["○", "muted"],
    incomplete: ["◐", "warn"], flood: ["▲", "warn"],
  }[state] ?? ["?", "muted"];
  return element("span", `mark ${className}`, { "aria-hidden": "true" }, shape ?? "");
}

/**
 * @param {number} row
 * @returns {(Node | string)[]}
 */
function findingCells(row) {
  const problems = (rows.problems[row] ?? "").split(" ").filter((word) => word !== "");
  const order = [...problems].sort((a, b) => Number(GRAVE.has(b)) - Number(GRAVE.has(a)));
  const tags = order.map((problem) =>
    element("span", GRAVE.has(problem) ? "tag bad" : "tag", null, PROBLEM_WORDS[problem] ?? plain(problem)));
  if ((rows.drops[row] ?? 0) > 0) tags.push(element("span", "tag", null, "Capture drops"));
  return tags.length > 0 ? tags : [element("span", "none", null, "–")];
}

/** The list as it is now. */
const list = {
  view: /** @type {View} */ ({ query: "", chips: new Set(), from: null, to: null, sort: "points", isDown: true }),
  /** The rows that are shown, in order. @type {number[]} */
  shown: [],
  /** The place of the row that the keys act on. */
  active: 0,
  isOneDay: true,
  /** What opens a call. @type {(row: number) => void} */
  open: () => {},
};

/**
 * The height of a row, in pixels, as page.css has it.
 * @returns {number}
 */
function rowHeight() {
  if (window.matchMedia("(max-width: 760px)").matches) return 76;
  return window.matchMedia("(min-width: 2400px)").matches ? 46 : 36;
}

/**
 * Finds, sorts and shows the calls of the view.
 * @returns {void}
 */
function refreshList() {
  const { view } = list;
  const anyTime = matching(view, false);
  const isInTime = (/** @type {number} */ row) => {
    const start = rows.start_us[row] ?? 0;
    return (view.from === null || start >= view.from) && (view.to === null || start < view.to);
  };
  list.shown = sorted(anyTime.filter(isInTime), view.sort, view.isDown);
  list.active = Math.min(list.active, Math.max(list.shown.length - 1, 0));
  drawHistogram(byId("histogram"), anyTime, view, (from, to) => changeView({ from, to }));
  refreshChips();
  refreshRange();
  refreshHead();
  const all = rows.start_us.length;
  byId("count").textContent = list.shown.length === all
    ? `${counted(all, "call")}. Arrow keys and Enter open one.`
    : `${grouped(list.shown.length)} of ${counted(all, "call")}`;
  byId("grid").setAttribute("aria-rowcount", String(list.shown.length + 1));
  paintRows();
}

/**
 * Changes a part of the view, and the address with it.
 * @param {Partial<View>} change
 * @returns {void}
 */
function changeView(change) {
  Object.assign(list.view, change);
  list.active = 0;
  byId("rows").scrollTop = 0;
  refreshList();
  history.replaceState(null, "", `#${addressOf(list.view)}`);
}

/** The numbers of calls by chip, which do not change. @type {Map<string, number>} */
const chipCounts = new Map();

/** @returns {void} */
function refreshChips() {
  const to = byId("chips");
  const chips = allChips();
  if (chipCounts.size === 0) {
    for (const chip of chips) {
      let count = 0;
      for (let row = 0; row < rows.start_us.length; row += 1) if (chip.has(row)) count += 1;
      chipCounts.set(chip.id, count);
    }
  }
  const focused = document.activeElement?.getAttribute("data-chip");
  const groups = /** @type {const} */ (["state", "finding"]).map((group) => {
    const made = chips.filter((chip) => chip.group === group && (chipCounts.get(chip.id) ?? 0) > 0).map((chip) => {
      const isOn = list.view.chips.has(chip.id);
      const count = element("span", "count", null, grouped(chipCounts.get(chip.id) ?? 0));
      const one = button(isOn ? "chip on" : "chip", "", () => toggleChip(chip.id));
      filled(one, { "aria-pressed": String(isOn), "data-chip": chip.id },
        [chip.group === "state" ? stateMark(chip.id) : null, chip.label, count]);
      return one;
    });
    return element("div", "group", { role: "group", "aria-label": group === "state" ? "State" : "Finding" }, ...made);
  });
  const isWhole = list.view.chips.size === 0 && !list.view.query && list.view.from === null && list.view.to === null;
  const reset = button("quiet reset", "Show all", () => {
    /** @type {HTMLInputElement} */ (byId("search")).value = "";
    changeView({ query: "", chips: new Set(), from: null, to: null });
  });
  reset.hidden = isWhole;
  to.replaceChildren(...groups, reset);
  if (focused) /** @type {HTMLElement | null} */ (to.querySelector(`[data-chip="${focused}"]`))?.focus();
}

/**
 * @param {string} id
 * @returns {void}
 */
function toggleChip(id) {
  const chips = new Set(list.view.chips);
  if (!chips.delete(id)) chips.add(id);
  changeView({ chips });
}

/** @returns {void} */
function refreshRange() {
  const { from, to } = list.view;
  const range = byId("range");
  if (from === null && to === null) {
    range.replaceChildren("Calls by start; the lower part has findings. Drag to choose a time.");
    return;
  }
  const isOneDay = from !== null && to !== null && day(from) === day(to);
  const end = to === null ? "…" : `${isOneDay ? "" : `${day(to)} `}${clock(to)}`;
  const words = `${from === null ? "…" : `${day(from)} ${clock(from)}`} to ${end} `;
  range.replaceChildren(words, button("quiet", "All times", () => changeView({ from: null, to: null })));
}

/** @returns {void} */
function refreshHead() {
  const { sort, isDown } = list.view;
  const focused = document.activeElement?.getAttribute("data-sort");
  const cells = COLUMNS.map((column, index) => {
    const isSorted = column.id === sort;
    const arrow = isSorted ? (isDown ? " ↓" : " ↑") : "";
    const label = button("", column.label + arrow, () =>
      changeView({ sort: column.id, isDown: isSorted ? !isDown : column.isDownFirst }));
    filled(label, { title: column.title, "data-sort": column.id }, []);
    return element("div", `cell ${column.className}`, {
      role: "columnheader", "aria-colindex": String(index + 1),
      "aria-sort": isSorted ? (isDown ? "descending" : "ascending") : "none",
    }, label);
  });
  byId("head").replaceChildren(...cells);
  if (focused) /** @type {HTMLElement | null} */ (byId("head").querySelector(`[data-sort="${focused}"]`))?.focus();
}

/**
 * Makes elements of the rows that are seen.
 * @returns {void}
 */
function paintRows() {
  const [scroller, spread] = [byId("rows"), byId("spread")];
  const height = rowHeight();
  spread.style.height = `${list.shown.length * height}px`;
  const first = Math.max(Math.floor(scroller.scrollTop / height) - 4, 0);
  const last = Math.min(first + Math.ceil(scroller.clientHeight / height) + 8, list.shown.length);
  const made = [];
  for (let place = first; place < last; place += 1) {
    const row = list.shown[place] ?? 0;
    const cells = COLUMNS.map((column, index) => element("div", `cell ${column.className}`, {
      role: "gridcell", "aria-colindex": String(index + 1),
    }, ...column.cell(row)));
    const isActive = place === list.active;
    const one = element("div", isActive ? "row active" : "row", {
      role: "row", "aria-rowindex": String(place + 2), id: `row-${place}`, "aria-selected": String(isActive),
    }, ...cells);
    one.style.top = `${place * height}px`;
    one.addEventListener("click", () => {
      list.active = place;
      list.open(row);
    });
    made.push(one);
  }
  if (list.shown.length === 0) made.push(element("p", "empty muted", null, "No call matches. Escape in the search empties it."));
  spread.replaceChildren(...made);
  if (list.shown.length > 0) scroller.setAttribute("aria-activedescendant", `row-${list.active}`);
  else scroller.removeAttribute("aria-activedescendant");
}

/**
 * Makes another row the active one, and scrolls to it.
 * @param {number} place
 * @returns {void}
 */
function activate(place) {
  list.active = Math.min(Math.max(place, 0), Math.max(list.shown.length - 1, 0));
  const [scroller, height] = [byId("rows"), rowHeight()];
  const top = list.active * height;
  if (top < scroller.scrollTop) scroller.scrollTop = top;
  if (top + height > scroller.scrollTop + scroller.clientHeight) scroller.scrollTop = top + height - scroller.clientHeight;
  paintRows();
}
