// The course of a call's streams: loss, jitter, MOS and packets over time, with the events of its
// SIP as vertical lines.

const PLOTS = { left: 46, right: 12, events: 34, panel: 74, gap: 30, axis: 26 };
/** The most streams that are drawn; the table has all. */
const MAX_LINES = 6;

/**
 * A plot.
 * @typedef {{id: string, label: string, least: number, told: (value: number) => string,
 *   value: (one: Interval, stream: Stream, us: number) => number | null,
 *   far: (one: Reported) => number | null, farMean: (stream: Stream) => number | undefined}} Panel
 */

/** @type {Panel[]} */
const PANELS = [
  { id: "loss", label: "Loss, %", least: 2, told: percent,
    value: (one) => (one.packets + one.lost > 0 ? (one.lost / (one.packets + one.lost)) * 100 : 0),
    far: (one) => one.loss, farMean: (stream) => stream.rtcp_loss_percent },
  { id: "jitter", label: "Jitter, ms", least: 10, told: milliseconds, value: (one) => one.jitter,
    far: (one) => one.jitter, farMean: (stream) => stream.rtcp_jitter_ms },
  { id: "mos", label: "MOS", least: 5, told: (value) => value.toFixed(2), value: (one) => one.mos,
    far: (one) => one.mos, farMean: (stream) => stream.rtcp_mos },
  { id: "rate", label: "Packets/s", least: 10, told: (value) => `${value.toFixed(0)}/s`,
    value: (one, stream, us) => one.packets / ((us + Math.max(stream.ptime_ms, 1) * 1000) / 1e6),
    far: () => null, farMean: () => undefined },
];

/**
 * A value of a stream, and when it holds.
 * @typedef {{from: number, to: number, value: number}} Step
 */

/**
 * The values of a stream for a plot.
 * @param {Panel} panel
 * @param {Stream} stream
 * @returns {Step[]}
 */
function steps(panel, stream) {
  const [first, last] = [stream.first, stream.last];
  return stream.series.flatMap((one) => {
    const begin = one.at;
    const [from, to] = [Math.max(begin, first), Math.min(begin + one.us, Math.max(last, first))];
    const value = panel.value(one, stream, Math.max(to - from, 0));
    return value === null ? [] : [{ from, to: Math.max(to, from), value }];
  });
}

/**
 * What the receiver of a stream reported, for a plot: over time, or over the whole call where the
 * records have no more.
 * @param {Panel} panel
 * @param {Stream} stream
 * @param {[number, number]} span
 * @returns {Step[]}
 */
function farSteps(panel, stream, span) {
  const [first, last] = span;
  if (stream.reported.length === 0) {
    const value = panel.farMean(stream);
    return value === undefined ? [] : [{ from: first, to: last, value }];
  }
  return stream.reported.flatMap((one) => {
    const value = panel.far(one);
    const [from, to] = [Math.max(one.at, first), Math.min(one.at + one.us, last)];
    return value === null ? [] : [{ from, to: Math.max(to, from), value }];
  });
}

/**
 * The first and the last moment of a call.
 * @param {CallRecord} call
 * @returns {[number, number]}
 */
function spanOf(call) {
  const start = call.start;
  const all = [call.end, ...call.streams.map((one) => one.last),
    ...call.messages.map((one) => one.at)];
  const firsts = [start, ...call.streams.map((one) => one.first)];
  const first = Math.min(...firsts);
  return [first, Math.max(...all, first + 100_000)];
}

/**
 * How a direction is named: the hosts, or the endpoints of streams between the same hosts.
 * @param {Stream} stream
 * @param {Stream[]} others
 * @returns {string}
 */
function directionOf(stream, others) {
  const hosts = (/** @type {Stream} */ one) => `${hostOf(one.src_rtp_endpoint)} → ${hostOf(one.dst_rtp_endpoint)}`;
  const isOnly = others.filter((one) => hosts(one) === hosts(stream)).length === 1;
  const name = isOnly && hostOf(stream.src_rtp_endpoint) !== hostOf(stream.dst_rtp_endpoint)
    ? hosts(stream) : `${stream.src_rtp_endpoint} → ${stream.dst_rtp_endpoint}`;
  return plain(name);
}

/**
 * Draws the plots, with a line of text that says the values at a moment.
 * @param {CallRecord} call
 * @param {number} room
 * @returns {HTMLElement}
 */
function drawPlots(call, room) {
  const streams = call.streams.slice(0, MAX_LINES);
  const [first, last] = spanOf(call);
  const start = call.start;
  const width = Math.max(room, 280);
  const { left, right, events, panel, gap, axis } = PLOTS;
  const x = (/** @type {number} */ us) => left + ((us - first) / (last - first)) * (width - left - right);
  const height = events + PANELS.length * (panel + gap) + axis;
  const svg = picture(width, height, "Loss, jitter, MOS and packets per second over the time of the call. The table below has the figures.");
  PANELS.forEach((one, number) => {
    svg.append(drawPanel(one, streams, [first, last], x, events + number * (panel + gap) + gap, width));
  });
  drawEvents(svg, call, x, height - axis, width, start);
  drawPresses(svg, call, x, start);
  drawTimes(svg, first, last, start, x, height - axis, width);
  const cross = drawn("line", "cross", { x1: -9, x2: -9, y1: events, y2: height - axis });
  svg.append(cross);
  const readout = element("p", "readout", { role: "status" }, "Point at the plots, or use the arrow keys on them, for figures.");
  const box = element("div", "plots", { tabindex: "0", role: "group", "aria-label": "Plots over time" }, svg);
  listenToPlots(box, svg, cross, readout, streams, [first, last], start, x);
  return element("div", "", null, legend(streams, call.streams, call.presses.length), readout, box);
}

/**
 * @param {Stream[]} streams
 * @param {Stream[]} all
 * @param {number} presses
 * @returns {HTMLElement}
 */
function legend(streams, all, presses) {
  const items = streams.map((stream, number) => {
    const sample = drawn("svg", "", { width: 26, height: 10, viewBox: "0 0 26 10", "aria-hidden": "true" },
      drawn("line", `series s${number}`, { x1: 1, x2: 25, y1: 5, y2: 5 }));
    return element("span", "item", null, sample, wire(`${directionOf(stream, streams)} ${stream.codec ?? ""}`));
  });
  if (all.some((stream) => farEnd(stream) !== "")) {
    const sample = drawn("svg", "", { width: 26, height: 10, viewBox: "0 0 26 10", "aria-hidden": "true" },
      drawn("line", "far", { x1: 1, x2: 25, y1: 5, y2: 5 }));
    items.push(element("span", "item", null, sample, "what the receiver reported (RTCP)"));
  }
  if (presses > 0) {
    const sample = drawn("svg", "", { width: 12, height: 10, viewBox: "0 0 12 10", "aria-hidden": "true" },
      drawn("path", "press", { d: "M2.5 2h7l-3.5 6z" }));
    items.push(element("span", "item", null, sample, `DTMF, ${counted(presses, "digit")}`));
  }
  if (all.length > streams.length) items.push(element("span", "item muted", null, `${all.length - streams.length} more in the table`));
  return element("div", "legend", null, ...items);
}

/**
 * @param {Panel} panel
 * @param {Stream[]} streams
 * @param {[number, number]} span
 * @param {(us: number) => number} x
 * @param {number} top
 * @param {number} width
 * @returns {SVGElement}
 */
function drawPanel(panel, streams, span, x, top, width) {
  const lines = streams.map((stream) => steps(panel, stream));
  const fars = streams.map((stream) => farSteps(panel, stream, span));
  const values = [...lines.flat(), ...fars.flat()].map((step) => step.value);
  // A MOS lies between 1 and 5; all else begins at 0.
  const base = panel.id === "mos" ? 1 : 0;
  const marks = panel.id === "mos" ? [1, 2, 3, 4, 5] : ticks(values.reduce((most, value) => Math.max(most, value), panel.least), 3);
  const most = marks[marks.length - 1] ?? 1;
  const y = (/** @type {number} */ value) => top + PLOTS.panel - ((Math.max(value, base) - base) / (most - base)) * PLOTS.panel;
  const group = drawn("g", `panel ${panel.id}`, { "data-panel": panel.id }, drawn("text", "panel-name", { x: 4, y: top - 12 }, panel.label));
  marks.forEach((mark) => group.append(
    drawn("line", "grid", { x1: PLOTS.left, x2: width - PLOTS.right, y1: y(mark), y2: y(mark) }),
    drawn("text", "axis", { x: PLOTS.left - 6, y: y(mark) + 4, "text-anchor": "end" }, String(Number(mark.toPrecision(3))))));
  const draw = (/** @type {string} */ className, /** @type {Step[]} */ line, /** @type {number} */ pause) => {
    let [path, before] = ["", -Infinity];
    for (const { from, to, value } of line) {
      // A line goes on where intervals touch; a silence is a gap.
      const isNext = from - before < pause;
      path += `${isNext && path ? "L" : "M"}${x(from).toFixed(1)} ${y(value).toFixed(1)}H${Math.max(x(to), x(from) + 1).toFixed(1)}`;
      before = to;
    }
    if (path) group.append(drawn("path", className, { d: path }));
  };
  fars.forEach((line, number) => draw(`far s${number}`, line, FAR_PAUSE_US));
  lines.forEach((line, number) => draw(`series s${number}`, line, 1_000_000));
  return group;
}

/** Reports this far apart, in microseconds, are joined: RFC 3550, 6.2, lets them vary. */
const FAR_PAUSE_US = 11_000_000;

/**
 * Marks the presses of keys above the plots.
 * @param {SVGElement} svg
 * @param {CallRecord} call
 * @param {(us: number) => number} x
 * @param {number} start
 * @returns {void}
 */
function drawPresses(svg, call, x, start) {
  const y = PLOTS.events;
  let free = -Infinity;
  for (const press of call.presses) {
    const place = x(press.at);
    const digit = press.digit === undefined ? "" : cut(plain(press.digit), 4);
    svg.append(drawn("path", "press", { d: `M${place - 3.5} ${y + 2}h7l-3.5 6z`, "data-at": press.at },
      drawn("title", "", null, `${since(press.at - start)} s DTMF${digit && ` ${digit}`}`)));
    if (digit === "" || place < free) continue;
    svg.append(drawn("text", "press-digit", { x: place, y: y - 1, "text-anchor": "middle" }, digit));
    free = place + 8;
  }
}

/**
 * The name of a message above the plots; responses of INVITE, and requests.
 * @param {Message} message
 * @returns {string}
 */
function eventName(message) {
  const words = plain(message.start_line).split(" ");
  if (words[0] !== "SIP/2.0") return words[0] ?? "";
  return /INVITE/.test(message.cseq ?? "") ? words[1] ?? "" : "";
}

/**
 * @param {SVGElement} svg
 * @param {CallRecord} call
 * @param {(us: number) => number} x
 * @param {number} bottom
 * @param {number} width
 * @param {number} start
 * @returns {void}
 */
function drawEvents(svg, call, x, bottom, width, start) {
  let free = -Infinity;
  const events = call.messages
    .map((message) => ({ at: message.at, name: eventName(message) }))
    .filter((event) => event.name !== "" && event.name !== "100" && event.name !== "ACK")
    .sort((a, b) => a.at - b.at);
  for (const { at, name } of events) {
    const place = x(at);
    svg.append(drawn("line", "event", { x1: place, x2: place, y1: 20, y2: bottom },
      drawn("title", "", null, `${since(at - start)} s ${name}`)));
    const long = name.length * 7 + 8;
    const left = Math.min(place, width - long);
    if (left < free) continue;
    svg.append(drawn("text", "event-name", { x: left, y: 14 }, name));
    free = left + long;
  }
}

/**
 * @param {SVGElement} svg
 * @param {number} first
 * @param {number} last
 * @param {number} start
 * @param {(us: number) => number} x
 * @param {number} y
 * @param {number} width
 * @returns {void}
 */
function drawTimes(svg, first, last, start, x, y, width) {
  const step = timeStep((last - first) / 1e6, Math.max(Math.floor(width / 80), 3)) * 1e6;
  for (let at = start; at <= last; at += step) {
    const s = (at - start) / 1e6;
    const text = step < 60e6 ? `${Number(s.toFixed(1))} s` : `${Math.round(s / 6) / 10} min`;
    svg.append(drawn("line", "tick", { x1: x(at), x2: x(at), y1: y, y2: y + 5 }));
    if (x(at) < width - 20) svg.append(drawn("text", "axis", { x: x(at), y: y + 18, "text-anchor": "middle" }, text));
  }
}

/**
 * The values of all streams at a moment, as text.
 * @param {Stream[]} streams
 * @param {number} at
 * @returns {(Node | string)[]}
 */
function valuesAt(streams, at) {
  return streams.map((stream, number) => {
    const words = PANELS.flatMap((panel) => {
      const step = steps(panel, stream).find((one) => one.from <= at && at <= one.to);
      return step ? [`${panel.id === "rate" ? "" : `${panel.id === "mos" ? "MOS" : panel.id} `}${panel.told(step.value)}`] : [];
    });
    const far = stream.reported.find((one) => one.at <= at && at <= one.at + one.us);
    return element("span", `value s${number}`, null, wire(directionOf(stream, streams)), `: ${words.join(", ") || "no packets"}`,
      far ? `; RTCP: ${farWords(far.loss, far.jitter, far.trip, far.mos)}` : "");
  });
}

/**
 * @param {HTMLElement} box
 * @param {SVGElement} svg
 * @param {SVGElement} cross
 * @param {HTMLElement} readout
 * @param {Stream[]} streams
 * @param {[number, number]} span
 * @param {number} start
 * @param {(us: number) => number} x
 * @returns {void}
 */
function listenToPlots(box, svg, cross, readout, streams, span, start, x) {
  const [first, last] = span;
  let now = first;
  const show = (/** @type {number} */ at) => {
    now = Math.min(Math.max(at, first), last);
    cross.setAttribute("x1", String(x(now)));
    cross.setAttribute("x2", String(x(now)));
    readout.replaceChildren(element("strong", "", null, `${since(now - start)} s`), ...valuesAt(streams, now));
  };
  svg.addEventListener("pointermove", (event) => {
    const area = svg.getBoundingClientRect();
    const scale = (svg.clientWidth || area.width) / area.width;
    const place = (event.clientX - area.left) * scale;
    show(first + ((place - x(first)) / (x(last) - x(first))) * (last - first));
  });
  box.addEventListener("keydown", (event) => {
    const turn = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!turn) return;
    event.preventDefault();
    event.stopPropagation();
    show(now + turn * Math.min(5e6, (last - first) / 20));
  });
}
