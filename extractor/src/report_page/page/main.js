// The page as a whole: it begins here, follows the address, and listens to keys.

/** The colours: of the system, light, or dark. */
const THEMES = /** @type {const} */ (["auto", "light", "dark"]);

/** @returns {Promise<void>} */
async function begin() {
  beginTheme();
  const loaded = await load();
  head = loaded.head;
  rows = loaded.rows;
  let [first, last] = [Infinity, -Infinity];
  for (const start of rows.start_us) {
    first = Math.min(first, start);
    last = Math.max(last, start);
  }
  list.isOneDay = rows.start_us.length === 0 || day(first) === day(last);
  // Starts of several days have a date, which takes room.
  document.documentElement.classList.toggle("days", !list.isOneDay);
  document.title = `${head.title}: ${counted(rows.start_us.length, "call")}`;
  byId("title").textContent = head.title;
  byId("span").textContent = rows.start_us.length === 0 ? "No calls"
    : `${counted(rows.start_us.length, "call")}, ${day(first)} ${clock(first)} to ${list.isOneDay ? "" : `${day(last)} `}${clock(last)} UTC` +
      (head.details < rows.start_us.length ? `; details of the worst ${grouped(head.details)}` : "");
  byId("notice").hidden = true;
  byId("top").hidden = false;
  list.open = (row) => { location.hash = callAddress(row); };
  listenToList();
  document.addEventListener("keydown", onKey);
  window.addEventListener("hashchange", () => void follow());
  window.addEventListener("resize", onResize);
  window.addEventListener("beforeprint", () => drawCall(PAPER));
  window.addEventListener("afterprint", () => drawCall(null));
  await follow();
}

/** @returns {void} */
function beginTheme() {
  const kept = () => {
    try { return localStorage.getItem("theme"); } catch { return null; }
  };
  let theme = THEMES.find((one) => one === kept()) ?? "auto";
  const switcher = byId("theme");
  const show = () => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    switcher.textContent = { auto: "◐ Auto", light: "○ Light", dark: "● Dark" }[theme];
  };
  switcher.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? "auto";
    try { localStorage.setItem("theme", theme); } catch { /* Not kept. */ }
    show();
  });
  show();
}

/**
 * The address of a call, with that of the list behind it.
 * @param {number} row
 * @returns {string}
 */
function callAddress(row) {
  const words = addressOf(list.view);
  words.set("call", rows.call_id[row] ?? "");
  words.set("at", String(rows.start_us[row] ?? 0));
  return words.toString();
}

/** @returns {void} */
function closeCall() {
  location.hash = addressOf(list.view).toString() || "all";
}

/**
 * Shows what the address says.
 * @returns {Promise<void>}
 */
async function follow() {
  const words = new URLSearchParams(location.hash.slice(1));
  list.view = viewOf(words);
  /** @type {HTMLInputElement} */ (byId("search")).value = list.view.query;
  const [id, at] = [words.get("call"), Number(words.get("at") ?? 0)];
  const row = id === null ? -1 : rows.call_id.findIndex((one, place) => one === id && (at === 0 || rows.start_us[place] === at));
  const isCall = row >= 0;
  byId("list").hidden = isCall;
  byId("call").hidden = !isCall;
  refreshList();
  if (isCall) {
    await showCall(row);
    window.scrollTo(0, 0);
    byId("call").focus({ preventScroll: true });
    const place = list.shown.indexOf(row);
    if (place >= 0) list.active = place;
  } else {
    if (id !== null) byId("count").textContent = "The call of this address is not in this report.";
    const before = list.shown.indexOf(shownCall.row);
    shownCall.row = -1;
    if (before >= 0) activate(before);
    byId("rows").focus({ preventScroll: true });
  }
}

/** @returns {void} */
function listenToList() {
  const search = /** @type {HTMLInputElement} */ (byId("search"));
  let waiting = 0;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = window.setTimeout(() => changeView({ query: search.value }), rows.start_us.length > 20_000 ? 150 : 0);
  });
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === "ArrowDown") {
      event.preventDefault();
      byId("rows").focus();
    } else if (event.key === "Escape") {
      event.stopPropagation();
      if (search.value === "") byId("rows").focus();
      search.value = "";
      changeView({ query: "" });
    }
  });
  let isAsked = false;
  byId("rows").addEventListener("scroll", () => {
    if (isAsked) return;
    isAsked = true;
    requestAnimationFrame(() => {
      isAsked = false;
      paintRows();
    });
  });
}

/**
 * @param {KeyboardEvent} event
 * @returns {void}
 */
function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isTyping = event.target instanceof HTMLInputElement;
  const isInCall = !byId("call").hidden;
  if (event.key === "/" && !isTyping) {
    event.preventDefault();
    if (isInCall) closeCall();
    // The list comes with the next event of the address.
    setTimeout(() => byId("search").focus(), 0);
  } else if (isInCall) {
    onKeyInCall(event);
  } else if (!isTyping) {
    onKeyInList(event);
  }
}

/**
 * @param {KeyboardEvent} event
 * @returns {void}
 */
function onKeyInCall(event) {
  const step = { n: 1, p: -1 }[event.key];
  if (event.key === "Escape") {
    closeCall();
  } else if (step) {
    const next = list.shown[list.shown.indexOf(shownCall.row) + step];
    if (next !== undefined) list.open(next);
  }
}

/**
 * @param {KeyboardEvent} event
 * @returns {void}
 */
function onKeyInList(event) {
  const page = Math.max(Math.floor(byId("rows").clientHeight / rowHeight()) - 1, 1);
  const step = {
    ArrowDown: 1, j: 1, ArrowUp: -1, k: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity,
  }[event.key];
  const isOnControl = event.target instanceof Element && event.target.closest("button, svg");
  if (step !== undefined && !(isOnControl && event.target instanceof SVGElement)) {
    event.preventDefault();
    activate(step === Infinity ? list.shown.length - 1 : step === -Infinity ? 0 : list.active + step);
  } else if (event.key === "Enter" && !isOnControl) {
    const row = list.shown[list.active];
    if (row !== undefined) list.open(row);
  } else if (event.key === "Escape" && (list.view.from !== null || list.view.to !== null)) {
    changeView({ from: null, to: null });
  }
}

let resizing = 0;
/** The width for which the page is drawn: on a phone, the height changes with each turn of scrolling. */
let drawnWidth = window.innerWidth;

/** @returns {void} */
function onResize() {
  cancelAnimationFrame(resizing);
  resizing = requestAnimationFrame(() => {
    const isSame = drawnWidth === window.innerWidth;
    drawnWidth = window.innerWidth;
    if (!byId("list").hidden) refreshList();
    else if (!isSame && !window.matchMedia("print").matches) drawCall(null);
  });
}

begin().catch((/** @type {unknown} */ error) => {
  const notice = byId("notice");
  notice.hidden = false;
  notice.textContent = typeof DecompressionStream === "undefined"
    ? "This browser is too old for the report: it needs one of 2023 or later."
    : `The report cannot be shown: ${error instanceof Error ? error.message : String(error)}`;
});
