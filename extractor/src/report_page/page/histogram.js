// Calls over time. Dragging, or the arrow keys, choose a span.

/** The width of a letter of an axis on the widest screens, in pixels. */
const LETTER = 8;
const HISTOGRAM = { height: 64, top: 4, bottom: 18, bar: 8 };

/**
 * Spans between which calls are counted.
 * @typedef {{from: number, width: number, all: number[], bad: number[]}} Bins
 */

/**
 * Counts the calls in about so many bins.
 * @param {number[]} found
 * @param {number} most
 * @returns {Bins}
 */
function binsOf(found, most) {
  let [first, last] = [Infinity, -Infinity];
  for (const row of rows.start_us.keys()) {
    first = Math.min(first, rows.start_us[row] ?? 0);
    last = Math.max(last, rows.start_us[row] ?? 0);
  }
  const seconds = Math.max((last - first) / 1e6, 1);
  const width = Math.max(timeStep(seconds, most), 1) * 1e6;
  const from = Math.floor(first / width) * width;
  const count = Math.floor((last - from) / width) + 1;
  const [all, bad] = [Array(count).fill(0), Array(count).fill(0)];
  for (const row of found) {
    const bin = Math.floor(((rows.start_us[row] ?? 0) - from) / width);
    all[bin] += 1;
    if (isBad(row)) bad[bin] += 1;
  }
  return { from, width, all, bad };
}

/**
 * Draws the histogram of the calls that are found, whatever their time.
 * @param {HTMLElement} to
 * @param {number[]} found
 * @param {View} view
 * @param {(from: number | null, to: number | null) => void} choose
 * @returns {void}
 */
function drawHistogram(to, found, view, choose) {
  const width = Math.max(to.clientWidth, 200);
  const bins = binsOf(found, Math.max(Math.floor(width / HISTOGRAM.bar), 12));
  const { height, top, bottom } = HISTOGRAM;
  const room = height - top - bottom;
  const most = Math.max(...bins.all, 1);
  const step = width / bins.all.length;
  const label = `Calls over time, ${counted(bins.all.length, "bar")} of ${duration(bins.width / 1e6)}. ` +
    "The arrow keys choose a bar, with Shift more of them, Escape all.";
  const svg = picture(width, height, label);
  svg.setAttribute("tabindex", "0");
  const inner = Math.max(step - (step > 4 ? 1 : 0), 0.5);
  bins.all.forEach((count, bin) => {
    const bad = bins.bad[bin] ?? 0;
    const tall = (/** @type {number} */ calls) => (calls > 0 ? Math.max((calls / most) * room, 1.5) : 0);
    const [whole, lower] = [tall(count), tall(bad)];
    const start = bins.from + bin * bins.width;
    const isOut = (view.from !== null && start + bins.width <= view.from) || (view.to !== null && start >= view.to);
    svg.append(drawn("g", isOut ? "bin out" : "bin", null,
      drawn("title", "", null, `${day(start)} ${clock(start)}: ${counted(count, "call")}, ${grouped(bad)} with findings`),
      drawn("rect", "hit", { x: bin * step, y: 0, width: step, height: top + room }),
      drawn("rect", "fine", { x: bin * step, y: top + room - whole, width: inner, height: Math.max(whole - lower, 0) }),
      drawn("rect", "bad", { x: bin * step, y: top + room - lower, width: inner, height: lower })));
  });
  drawHours(svg, bins, width, height);
  const selection = drawn("rect", "selection", { x: 0, y: 0, width: 0, height: top + room });
  svg.append(selection);
  listenToHistogram(svg, selection, bins, width, view, choose);
  to.replaceChildren(svg);
}

/**
 * @param {SVGElement} svg
 * @param {Bins} bins
 * @param {number} width
 * @param {number} height
 * @returns {void}
 */
function drawHours(svg, bins, width, height) {
  const span = bins.all.length * bins.width;
  const step = timeStep(span / 1e6, Math.max(Math.floor(width / 90), 2)) * 1e6;
  for (let at = Math.ceil(bins.from / step) * step; at < bins.from + span; at += step) {
    const x = ((at - bins.from) / span) * width;
    // Midnight is told by the day that begins.
    const isDay = !list.isOneDay && at % 86400e6 === 0;
    const text = step >= 86400e6 ? day(at) : isDay ? day(at).slice(5) : clock(at).slice(0, step >= 60e6 ? 5 : 8);
    if (x + 6 + text.length * LETTER > width) break;
    svg.append(drawn("line", "tick", { x1: x, x2: x, y1: isDay ? 0 : height - 18, y2: height - 13 }),
      drawn("text", isDay ? "axis date" : "axis", { x: x + 3, y: height - 4 }, text));
  }
}

/**
 * @param {SVGElement} svg
 * @param {SVGElement} selection
 * @param {Bins} bins
 * @param {number} width
 * @param {View} view
 * @param {(from: number | null, to: number | null) => void} choose
 * @returns {void}
 */
function listenToHistogram(svg, selection, bins, width, view, choose) {
  const count = bins.all.length;
  const binAt = (/** @type {PointerEvent} */ event) => {
    const box = svg.getBoundingClientRect();
    const bin = Math.floor(((event.clientX - box.left) / box.width) * count);
    return Math.min(Math.max(bin, 0), count - 1);
  };
  const take = (/** @type {number} */ first, /** @type {number} */ last) =>
    choose(bins.from + Math.min(first, last) * bins.width, bins.from + (Math.max(first, last) + 1) * bins.width);
  const show = (/** @type {number} */ first, /** @type {number} */ last) => {
    selection.setAttribute("x", String((Math.min(first, last) / count) * width));
    selection.setAttribute("width", String(((Math.abs(last - first) + 1) / count) * width));
  };
  /** @type {number | null} */
  let begun = null;
  svg.addEventListener("pointerdown", (event) => {
    begun = binAt(event);
    show(begun, begun);
    svg.setPointerCapture(event.pointerId);
  });
  svg.addEventListener("pointermove", (event) => {
    if (begun !== null) show(begun, binAt(event));
  });
  svg.addEventListener("pointerup", (event) => {
    if (begun === null) return;
    const first = begun;
    begun = null;
    take(first, binAt(event));
  });
  svg.addEventListener("keydown", (event) => {
    const turn = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!turn) return;
    event.preventDefault();
    const [from, to] = [view.from ?? bins.from - bins.width, view.to ?? bins.from];
    const [first, last] = [Math.round((from - bins.from) / bins.width), Math.round((to - bins.from) / bins.width) - 1];
    const next = Math.min(Math.max(last + turn, 0), count - 1);
    take(event.shiftKey ? Math.min(first, next) : next, next);
  });
}
