// The ladder of a call: a column for each endpoint, its messages in order, and bars of RTP between
// them.

const LADDER = { row: 40, bar: 30, head: 56, left: 74, column: 132, narrow: 96 };

/**
 * How well media sounded: a word, which is drawn as a shape and a colour.
 * @typedef {"good" | "fair" | "bad"} Quality
 */

/**
 * A stretch of a stream between two messages.
 * @typedef {{kind: "media", at: number, to: number, stream: Stream, packets: number, lost: number,
 *   mos: number | null, quality: Quality}} MediaRow
 */

/**
 * A message in its place.
 * @typedef {{kind: "message", at: number, index: number, message: Message, again: number | null,
 *   note: string}} MessageRow
 */

/**
 * Keys that were pressed one behind the other, in one stream.
 * @typedef {{kind: "press", at: number, stream: Stream, digits: string, count: number}} PressRow
 */

/**
 * Columns of the ladder, and what leads to them.
 * @typedef {{names: string[], addresses: string[], of: (endpoint: string) => number}} Lanes
 */

/**
 * How bad a loss or a MOS is.
 * @param {number} lossPercent
 * @param {number | null | undefined} mos
 * @returns {Quality}
 */
function quality(lossPercent, mos) {
  if (lossPercent > 5 || (mos !== null && mos !== undefined && mos < 3.1)) return "bad";
  if (lossPercent > 1 || (mos !== null && mos !== undefined && mos < 3.6)) return "fair";
  return "good";
}

/**
 * @param {string} endpoint
 * @returns {string}
 */
function hostOf(endpoint) {
  return endpoint.slice(0, endpoint.lastIndexOf(":"));
}

/**
 * The columns of a call: a host each; of a host that talks to itself, an endpoint each.
 * @param {CallRecord} call
 * @returns {Lanes}
 */
function lanesOf(call) {
  const split = new Set(call.messages.filter((one) => hostOf(one.from) === hostOf(one.to)).map((one) => hostOf(one.from)));
  const key = (/** @type {string} */ endpoint) => (split.has(hostOf(endpoint)) ? endpoint : hostOf(endpoint));
  /** @type {Map<string, number>} */
  const known = new Map();
  const meet = (/** @type {string} */ endpoint) => {
    if (!known.has(key(endpoint))) known.set(key(endpoint), known.size);
  };
  call.messages.forEach((one) => { meet(one.from); meet(one.to); });
  call.streams.forEach((one) => { meet(one.src_rtp_endpoint); meet(one.dst_rtp_endpoint); });
  const addresses = [...known.keys()];
  const names = addresses.map(() => "");
  const name = (/** @type {string | undefined} */ endpoint, /** @type {string | undefined} */ agent) => {
    const lane = endpoint === undefined ? undefined : known.get(key(endpoint));
    if (lane !== undefined && agent && !names[lane]) names[lane] = plain(agent);
  };
  name(call.source, call.caller_ua);
  // The callee is the one who writes as such from farthest away: its message was seen there first.
  const callee = call.messages.find((one) => one.side === "callee" && key(one.from) !== key(call.destination));
  name(callee?.from ?? call.destination, call.callee_ua);
  return { names, addresses, of: (endpoint) => known.get(key(endpoint)) ?? 0 };
}

/**
 * The description of a message in a few words.
 * @param {CallRecord} call
 * @param {number} index
 * @returns {string}
 */
function described(call, index) {
  const own = call.media.filter((media) => media.message === index);
  const line = call.messages[index]?.start_line ?? "";
  const press = call.presses.find((one) => one.stream === undefined && one.at === call.messages[index]?.at);
  if (press && line.startsWith("INFO")) return pressWords(press.digit ?? "", 1);
  if (own.length === 0) return "";
  const isAnswer = line.startsWith("SIP/") || line.startsWith("ACK") || line.startsWith("PRACK");
  const words = own.map((media) => {
    if (media.refused) return `${media.media ?? "media"} refused`;
    const format = media.formats?.find((one) => one.codec && !/^(telephone-event|CN)$/i.test(one.codec));
    const hold = { sendonly: "hold", inactive: "hold, silent", recvonly: "held" }[media.direction ?? ""];
    const port = media.port ? `:${media.port}` : "";
    const kind = media.media === "audio" || !media.media ? "" : `${media.media} `;
    return [kind + plain(format?.codec ?? format?.format ?? "") + port, media.secured ? "encrypted" : "", hold ?? ""]
      .filter((word) => word.trim() !== "").join(", ");
  });
  return cut(`${isAnswer ? "answer" : "offer"} ${words.join("; ")}`, 60);
}

/**
 * The number of the message that each repeats.
 * @param {Message[]} messages
 * @returns {(number | null)[]}
 */
function repeated(messages) {
  /** @type {Map<string, number>} */
  const first = new Map();
  return messages.map((one, index) => {
    const same = [one.from, one.to, one.start_line, one.cseq, one.size_bytes, one.text].join("\n");
    const before = first.get(same);
    if (before === undefined) first.set(same, index);
    return before ?? null;
  });
}

/**
 * The rows of the ladder, in the order of time.
 * @param {CallRecord} call
 * @returns {(MessageRow | MediaRow | PressRow)[]}
 */
function ladderRows(call) {
  const again = repeated(call.messages);
  /** @type {MessageRow[]} */
  const messages = call.messages.map((message, index) => ({
    kind: /** @type {const} */ ("message"), at: message.at, index, message,
    again: again[index] ?? null, note: described(call, index),
  }));
  messages.sort((a, b) => a.at - b.at || a.index - b.index);
  const edges = [-Infinity, ...messages.map((one) => one.at), Infinity];
  /** @type {(MessageRow | MediaRow | PressRow)[]} */
  const all = [];
  const between = (/** @type {number} */ from, /** @type {number} */ to) =>
    [...mediaBetween(call.streams, from, to), ...pressesBetween(call, from, to)].sort((a, b) => a.at - b.at);
  messages.forEach((message, place) => {
    all.push(...between(edges[place] ?? 0, message.at), message);
  });
  all.push(...between(messages[messages.length - 1]?.at ?? -Infinity, Infinity));
  return all;
}

/**
 * The keys that were pressed between two messages, without those that came by INFO: their message
 * says so.
 * @param {CallRecord} call
 * @param {number} from
 * @param {number} to
 * @returns {PressRow[]}
 */
function pressesBetween(call, from, to) {
  /** @type {PressRow[]} */
  const found = [];
  for (const { at, digit, stream: number } of call.presses) {
    const stream = number === undefined ? undefined : call.streams[number];
    if (!stream || at < from || at >= to) continue;
    const last = found[found.length - 1];
    if (last?.stream === stream) {
      last.digits += digit ?? "";
      last.count += 1;
    } else {
      found.push({ kind: "press", at, stream, digits: digit ?? "", count: 1 });
    }
  }
  return found;
}

/**
 * `DTMF 12#`, or the number of digits where the report has none.
 * @param {string} digits
 * @param {number} count
 * @returns {string}
 */
function pressWords(digits, count) {
  return digits ? `DTMF ${cut(plain(digits), 40)}` : `DTMF, ${counted(count, "digit")}`;
}

/** Shorter stretches of media between messages are left out, unless a stream has no other: µs. */
const SHORT_US = 300_000;
/** The most bars between two messages. */
const MAX_BARS = 6;

/**
 * @param {Stream[]} streams
 * @param {number} from
 * @param {number} to
 * @returns {MediaRow[]}
 */
function mediaBetween(streams, from, to) {
  /** @type {MediaRow[]} */
  const bars = [];
  for (const stream of streams) {
    const [first, last] = [stream.first, stream.last];
    const [start, end] = [Math.max(first, from), Math.min(last, to)];
    const isWhole = first >= from && last <= to;
    if (end < start || (end - start < SHORT_US && !isWhole)) continue;
    const part = isWhole ? stream.series : stream.series.filter((one) => {
      const begin = one.at;
      return begin < end && begin + one.us > start;
    });
    const sum = (/** @type {(one: Interval) => number} */ value) => part.reduce((total, one) => total + value(one), 0);
    // Records without the course of streams have their totals.
    const isKnown = stream.series.length > 0;
    const [packets, lost] = isKnown ? [sum((one) => one.packets), sum((one) => one.lost)]
      : [stream.rtp_packet_count, stream.lost_packets];
    const scores = isKnown ? part.flatMap((one) => (one.mos === null ? [] : [one.mos])) : [stream.mos ?? []].flat();
    const mos = scores.length > 0 ? Math.min(...scores) : null;
    const loss = packets + lost > 0 ? (lost / (packets + lost)) * 100 : 0;
    bars.push({ kind: "media", at: start, to: end, stream, packets, lost, mos, quality: quality(loss, mos) });
  }
  return bars.sort((a, b) => a.at - b.at).slice(0, MAX_BARS);
}

/**
 * Draws the ladder, and calls `choose` with the number of a message that is asked for.
 * @param {CallRecord} call
 * @param {number} room
 * @param {number} most
 * @param {(index: number) => void} choose
 * @returns {SVGElement}
 */
function drawLadder(call, room, most, choose) {
  const lanes = lanesOf(call);
  const all = ladderRows(call);
  const shown = all.slice(0, most);
  const least = room < 700 ? LADDER.narrow : LADDER.column;
  const lane = Math.max((room - LADDER.left) / Math.max(lanes.addresses.length, 1), least);
  const width = LADDER.left + lane * lanes.addresses.length;
  const x = (/** @type {number} */ number) => LADDER.left + lane * (number + 0.5);
  const height = LADDER.head + 12 + shown.reduce((sum, row) => sum + (row.kind === "message" ? LADDER.row : LADDER.bar), 0)
    + (shown.length < all.length ? 28 : 0);
  const svg = picture(width, height, `Ladder with ${counted(call.messages.length, "message")} between ${counted(lanes.addresses.length, "endpoint")}`);
  svg.setAttribute("role", "group");
  svg.append(hatching());
  drawLanes(svg, lanes, x, lane, height);
  const start = call.start;
  let y = LADDER.head;
  let before = start;
  for (const row of shown) {
    y += row.kind === "message" ? LADDER.row : LADDER.bar;
    if (row.kind === "message") {
      svg.append(drawMessage(row, lanes, x, y, start, before, lane, choose));
      before = row.at;
    } else if (row.kind === "media") {
      svg.append(drawMedia(row, lanes, x, y, lane));
    } else {
      svg.append(drawPressed(row, lanes, x, y, start));
    }
  }
  if (shown.length < all.length) {
    svg.append(drawn("text", "axis", { x: LADDER.left, y: height - 10 }, `… and ${grouped(all.length - shown.length)} more rows`));
  }
  return svg;
}

/**
 * Patterns for media that sounds fair or bad, beside their colours.
 * @returns {SVGElement}
 */
function hatching() {
  const pattern = (/** @type {string} */ id, /** @type {number} */ size) => drawn("pattern", "", {
    id, width: size, height: size, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)",
  }, drawn("line", "hatch", { x1: 0, y1: 0, x2: 0, y2: size }));
  return drawn("defs", "", null, pattern("hatch-fair", 8), pattern("hatch-bad", 4));
}

/**
 * @param {SVGElement} svg
 * @param {Lanes} lanes
 * @param {(lane: number) => number} x
 * @param {number} lane
 * @param {number} height
 * @returns {void}
 */
function drawLanes(svg, lanes, x, lane, height) {
  const most = Math.max(Math.floor(lane / 8), 8);
  lanes.addresses.forEach((address, number) => {
    const name = lanes.names[number] || "";
    svg.append(
      drawn("text", "lane-name", { x: x(number), y: 18, "text-anchor": "middle" },
        drawn("title", "", null, `${name} ${plain(address)}`), cut(name || plain(address), most)),
      drawn("text", "lane-address", { x: x(number), y: 36, "text-anchor": "middle" }, name ? cut(plain(address), Math.floor(most * 1.2)) : ""),
      drawn("line", "lane", { x1: x(number), x2: x(number), y1: 46, y2: height - 4 }));
  });
}

/**
 * @param {MessageRow} row
 * @param {Lanes} lanes
 * @param {(lane: number) => number} x
 * @param {number} y
 * @param {number} start
 * @param {number} before
 * @param {number} lane
 * @param {(index: number) => void} choose
 * @returns {SVGElement}
 */
function drawMessage(row, lanes, x, y, start, before, lane, choose) {
  const { message, index } = row;
  const [from, to] = [lanes.of(message.from), lanes.of(message.to)];
  const label = messageLabel(message);
  const again = row.again === null ? "" : " ↻ again";
  const kind = statusKind(message.start_line);
  const about = `${since(row.at - start)} s, ${label}${again}, from ${plain(message.from)} to ${plain(message.to)}${row.note ? `, ${row.note}` : ""}`;
  const group = drawn("g", `arrow ${kind}${row.again === null ? "" : " again"}`, {
    "data-message": index, tabindex: 0, role: "button", "aria-label": about, "aria-pressed": "false",
  });
  const [left, right] = [Math.min(x(from), x(to)), Math.max(x(from), x(to))];
  const middle = (left + right) / 2;
  const most = Math.max(Math.floor((right - left || lane) / 6.4), 10);
  group.append(
    drawn("rect", "hit", { x: 0, y: y - 25, width: Math.max(right + lane / 2, LADDER.left), height: LADDER.row - 2, rx: 4 }),
    drawn("text", "time", { x: 4, y: y + 1 }, since(row.at - start)),
    drawn("text", "gap", { x: 4, y: y - 12 }, row.at - before > 999 ? `+${milliseconds((row.at - before) / 1000)}` : ""),
    drawn("text", "what", { x: middle, y: y - 7, "text-anchor": "middle" }, cut(`${label}${again}`, most)),
    drawn("path", "line", { d: arrowPath(x(from), x(to), y) }),
    drawn("text", "note", { x: middle, y: y + 12, "text-anchor": "middle" }, row.note ? cut(row.note, most) : ""));
  group.addEventListener("click", () => choose(index));
  group.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    event.stopPropagation();
    choose(index);
  });
  return group;
}

/**
 * A line with a head; a loop where a message stays in its column.
 * @param {number} from
 * @param {number} to
 * @param {number} y
 * @returns {string}
 */
function arrowPath(from, to, y) {
  if (from === to) return `M${from} ${y - 3}h26v6h-22 m6 -4 l-6 4 l6 4`;
  const back = to > from ? -7 : 7;
  return `M${from} ${y}H${to} m${back} -4 L${to} ${y} l${back} 4`;
}

/**
 * `INVITE`, `200 OK`, and which request a response belongs to, where that is no INVITE.
 * @param {Message} message
 * @returns {string}
 */
function messageLabel(message) {
  const words = plain(message.start_line).split(" ");
  if (words[0] !== "SIP/2.0") return words[0] ?? "";
  const method = plain(message.cseq ?? "").split(" ")[1] ?? "";
  const status = words.slice(1).join(" ");
  return method && method !== "INVITE" ? `${status} (${method})` : status;
}

/**
 * @param {string} line
 * @returns {string}
 */
function statusKind(line) {
  const status = /^SIP\/2\.0 ([1-6])/.exec(line)?.[1] ?? "";
  // A challenge and a redirection are no failures.
  if (/^SIP\/2\.0 (401|407|487)/.test(line)) return "plain";
  return "456".includes(status) && status !== "" ? "refusal" : "plain";
}

/**
 * @param {MediaRow} row
 * @param {Lanes} lanes
 * @param {(lane: number) => number} x
 * @param {number} y
 * @param {number} lane
 * @returns {SVGElement}
 */
function drawMedia(row, lanes, x, y, lane) {
  const { stream, packets, lost } = row;
  const [from, to] = [x(lanes.of(stream.src_rtp_endpoint)), x(lanes.of(stream.dst_rtp_endpoint))];
  const [left, right] = [Math.min(from, to), Math.max(from, to)];
  const loss = packets + lost > 0 ? (lost / (packets + lost)) * 100 : 0;
  const figures = [`RTP ${plain(stream.codec ?? "")}`.trim(), duration((row.to - row.at) / 1e6), `loss ${percent(loss)}`,
    row.mos === null ? "" : `MOS ${row.mos.toFixed(1)}`].filter((word) => word !== "");
  const words = (row.quality === "good" ? "" : `${row.quality === "bad" ? "✕" : "!"} ${row.quality}: `) + figures.join(", ");
  const far = farEnd(stream);
  const group = drawn("g", `media ${row.quality}`, null,
    drawn("title", "", null, `${plain(stream.src_rtp_endpoint)} → ${plain(stream.dst_rtp_endpoint)}: ${words}${far ? `; RTCP: ${far}` : ""}`));
  if (from === to) {
    group.append(drawn("text", "what", { x: from, y: y - 4, "text-anchor": "middle" }, cut(words, 30)));
    return group;
  }
  const most = Math.max(Math.floor((right - left) / 6), 10);
  const tip = to > from ? 9 : -9;
  const shape = `M${from} ${y - 3}H${to - tip}v-3L${to} ${y + 0.5}L${to - tip} ${y + 7}v-3H${from}z`;
  group.append(
    drawn("path", "bar", { d: shape }),
    drawn("path", `pattern ${row.quality}`, { d: shape }),
    drawn("text", "what", { x: (left + right) / 2, y: y - 8, "text-anchor": "middle" }, cut(words, most)));
  if (far) group.append(drawn("line", "rtcp", { x1: left + 8, x2: right - 8, y1: y + 9, y2: y + 9 }));
  group.append(drawn("rect", "hit", { x: left, y: y - 18, width: Math.max(right - left, lane / 2), height: LADDER.bar - 2 }));
  return group;
}

/**
 * @param {PressRow} row
 * @param {Lanes} lanes
 * @param {(lane: number) => number} x
 * @param {number} y
 * @param {number} start
 * @returns {SVGElement}
 */
function drawPressed(row, lanes, x, y, start) {
  const { stream, digits, count } = row;
  const [from, to] = [x(lanes.of(stream.src_rtp_endpoint)), x(lanes.of(stream.dst_rtp_endpoint))];
  const most = Math.max(Math.floor(Math.abs(to - from) / 6.4), 12);
  return drawn("g", "pressed", null,
    drawn("title", "", null, `${since(row.at - start)} s, ${plain(stream.src_rtp_endpoint)} → ${plain(stream.dst_rtp_endpoint)}: ${pressWords(digits, count)}`),
    drawn("text", "time", { x: 4, y: y + 1 }, since(row.at - start)),
    drawn("circle", "key", { cx: from, cy: y, r: 4 }),
    drawn("line", "way", { x1: from, x2: to, y1: y, y2: y }),
    drawn("text", "what", { x: (from + to) / 2, y: y - 7, "text-anchor": "middle" }, cut(pressWords(digits, count), most)));
}

/**
 * The report of a stream's receiver.
 * @param {Stream} stream
 * @returns {string}
 */
function farEnd(stream) {
  return farWords(stream.rtcp_loss_percent, stream.rtcp_jitter_ms, stream.rtcp_rtt_ms, stream.rtcp_mos);
}

/**
 * @param {number | null | undefined} loss
 * @param {number | null | undefined} jitter
 * @param {number | null | undefined} trip
 * @param {number | null | undefined} mos
 * @returns {string}
 */
function farWords(loss, jitter, trip, mos) {
  const words = (/** @type {string} */ name, /** @type {string} */ value) => (value === "–" ? "" : `${name} ${value}`);
  return [
    words("loss", orDash(loss, percent)), words("jitter", orDash(jitter, milliseconds)),
    words("round trip", orDash(trip, milliseconds)), words("MOS", orDash(mos, (value) => value.toFixed(1))),
  ].filter((word) => word !== "").join(", ");
}
