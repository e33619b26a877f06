// A call: why it is bad, its facts, its ladder, its plots, its streams.

/** The call that is shown. */
const shownCall = {
  row: -1,
  /** @type {CallRecord | null} */
  record: null,
  /** The message whose text is shown. @type {number | null} */
  message: null,
};

/** @type {Head} */
let head;

/** The most rows of a ladder on paper, where a call has one page. */
const ROWS_ON_PAPER = 26;
/** The width of paper, in pixels. */
const PAPER = 700;
/** The most rows of a ladder on a screen. */
const MAX_LADDER_ROWS = 400;

/**
 * The faults of a call, in sentences, the worst first.
 * @param {number} row
 * @param {CallRecord | null} call
 * @returns {{text: string, isGrave: boolean}[]}
 */
function findings(row, call) {
  const has = (/** @type {string} */ problem) => hasProblem(row, problem);
  /** @type {{text: string, isGrave: boolean}[]} */
  const found = [];
  const say = (/** @type {boolean} */ isSo, /** @type {string} */ text, isGrave = true) => {
    if (isSo) found.push({ text, isGrave });
  };
  say(has("no-media"), "No media: the call was answered, and the capture has no RTP of it.");
  say(has("one-way"), `One-way audio: the call was answered, and RTP went in one direction only${oneWay(call)}.`);
  const state = rows.state[row];
  const [status, reason] = [rows.status[row], rows.reason[row]];
  const end = `${lastAnswer(call) || (status ?? "no final response")}${reason ? `; ${plain(reason)}` : ""}`;
  say(state === "failed", `Failed: ${end}.`, has("server-error"));
  say(state === "timeout", "Timeout: nothing more came, and no message ended the call.");
  say(state === "incomplete", "Incomplete: the capture ends, or begins, within the call.", false);
  const worst = worstIntervals(call);
  say(has("mos"), `Low MOS: ${orDash(rows.mos[row], (mos) => mos.toFixed(2))} on the worst stream${worst.mos}.`);
  say(has("loss"), `Loss: ${orDash(rows.loss[row], percent)} on the worst stream${worst.loss}.`);
  say(has("jitter"), `Jitter: up to ${orDash(rows.jitter[row], milliseconds)}${worst.jitter}.`);
  say(has("slow-setup"), `Slow set-up: ${orDash(rows.setup_ms[row], milliseconds)} until it rang or was answered.`, false);
  say(has("early-media-only"), "Early media only: all RTP is from before the answer.", false);
  say(has("retransmitted-invite"), `The INVITE was repeated${repeats(call)}: its receiver did not answer in time, or answers were lost.`, false);
  const drops = rows.drops[row] ?? 0;
  say(drops > 0, `${counted(drops, "packet")} dropped at capture during the call: figures may be worse than the call was.`, false);
  return found.sort((a, b) => Number(b.isGrave) - Number(a.isGrave));
}

/**
 * @param {CallRecord | null} call
 * @returns {string}
 */
function oneWay(call) {
  const [stream] = call?.streams ?? [];
  return stream ? `, ${plain(stream.src_rtp_endpoint)} → ${plain(stream.dst_rtp_endpoint)}` : "";
}

/**
 * @param {CallRecord | null} call
 * @returns {string}
 */
function lastAnswer(call) {
  const answers = (call?.messages ?? []).filter((one) => /^SIP\/2\.0 [3-6]/.test(one.start_line) && /INVITE/.test(one.cseq ?? ""));
  const last = answers[answers.length - 1];
  return last ? `${plain(last.start_line.slice(8))} from ${plain(last.from)}` : "";
}

/**
 * @param {CallRecord | null} call
 * @returns {string}
 */
function repeats(call) {
  const count = repeated(call?.messages ?? [])
    .filter((again, index) => again !== null && call?.messages[index]?.start_line.startsWith("INVITE")).length;
  return count > 0 ? ` ${count === 1 ? "once" : `${count} times`}` : "";
}

/**
 * The places of the worst figures.
 * @param {CallRecord | null} call
 * @returns {{mos: string, loss: string, jitter: string}}
 */
function worstIntervals(call) {
  const start = call ? call.start : 0;
  const all = (call?.streams ?? []).flatMap((stream) => stream.series.map((one) => ({ one, stream })));
  const at = (/** @type {{one: Interval, stream: Stream}} */ { one, stream }) =>
    `${since(Math.max(one.at, stream.first) - start)} s, ${plain(stream.src_rtp_endpoint)} → ${plain(stream.dst_rtp_endpoint)}`;
  const most = (/** @type {(one: Interval) => number} */ value) =>
    all.reduce((worst, next) => (worst === null || value(next.one) > value(worst.one) ? next : worst),
      /** @type {{one: Interval, stream: Stream} | null} */ (null));
  const lossOf = (/** @type {Interval} */ one) => one.lost / Math.max(one.packets + one.lost, 1);
  const [loss, jitter, mos] = [most(lossOf), most((one) => one.jitter), most((one) => -(one.mos ?? 5))];
  return {
    loss: loss ? `; worst ${percent(lossOf(loss.one) * 100)} at ${at(loss)}` : "",
    jitter: jitter ? `; worst at ${at(jitter)}` : "",
    mos: mos?.one.mos ? `; lowest ${mos.one.mos.toFixed(2)} at ${at(mos)}` : "",
  };
}

/**
 * Shows a call.
 * @param {number} row
 * @returns {Promise<void>}
 */
async function showCall(row) {
  const record = await details(rows.detail[row] ?? -1);
  shownCall.row = row;
  shownCall.record = record;
  shownCall.message = null;
  drawCall(null);
}

/**
 * Draws the call that is shown; on paper, so that it has one page.
 * @param {number | null} paper
 * @returns {void}
 */
function drawCall(paper) {
  const { row, record } = shownCall;
  if (row < 0) return;
  const to = byId("call");
  to.replaceChildren(callHead(row, record), findingList(row, record), facts(row, record));
  if (!record) {
    to.append(element("p", "notice", null, "This call has no details in this file: only the worst calls have them. " +
      "sip-call-extractor report --details N keeps more."));
    return;
  }
  const room = paper ?? to.clientWidth;
  const isWide = paper === null && room >= 1080;
  // The text of a message stands beside the ladder: page.css has the same widths.
  const aside = window.matchMedia("(min-width: 2400px)").matches ? 716 : 452;
  to.append(ladderSection(record, isWide ? room - aside : room, paper === null ? MAX_LADDER_ROWS : ROWS_ON_PAPER));
  if (record.streams.length > 0) {
    if (record.streams.some((stream) => stream.series.length > 0 || stream.reported.length > 0)) {
      to.append(element("section", "", { "aria-label": "Media over time" },
        element("h3", "", null, "Media over time"), drawPlots(record, room)));
    }
    to.append(streamTable(record));
  }
}

/**
 * @param {number} row
 * @param {CallRecord | null} record
 * @returns {HTMLElement}
 */
function callHead(row, record) {
  const place = list.shown.indexOf(row);
  const go = (/** @type {number} */ step) => () => {
    const next = list.shown[place + step];
    if (next !== undefined) list.open(next);
  };
  const [back, previous, next] = [
    button("quiet", "← All calls", () => closeCall()), button("quiet", "Previous", go(-1)), button("quiet", "Next", go(1)),
  ];
  filled(back, { "aria-keyshortcuts": "Escape" }, []);
  filled(previous, { "aria-keyshortcuts": "p" }, []);
  filled(next, { "aria-keyshortcuts": "n" }, []);
  if (place <= 0) previous.setAttribute("disabled", "");
  if (place < 0 || place >= list.shown.length - 1) next.setAttribute("disabled", "");
  const position = place < 0 ? "" : `${grouped(place + 1)} of ${grouped(list.shown.length)}`;
  const [from, to] = [party(rows.from[row] ?? ""), party(rows.to[row] ?? "")];
  const start = rows.start_us[row] ?? 0;
  const state = rows.state[row] ?? "";
  const side = (/** @type {Party} */ one) => element("span", "side", null, element("bdi", "", null, cut(one.user, 80)),
    one.name && one.name !== one.user ? element("bdi", "muted name", null, cut(one.name, 80)) : null);
  return element("header", "call-head", null,
    element("nav", "", { "aria-label": "Calls" }, back, element("span", "muted", null, position), previous, next),
    element("h2", "", null, side(from), element("span", "muted", { "aria-label": "to" }, " → "), side(to)),
    element("p", "sub", null, element("span", "badge", null, stateMark(state), plain(state),
      rows.status[row] === null ? "" : ` ${rows.status[row]}`),
    element("span", "", null, `${day(start)} ${clock(start, true)} UTC`),
    element("span", "", null, duration(rows.duration_s[row] ?? 0)),
    element("span", "mono", null, wire(record ? cut(record.call_id, 300) : rows.call_id[row]))));
}

/**
 * @param {number} row
 * @param {CallRecord | null} record
 * @returns {HTMLElement}
 */
function findingList(row, record) {
  const found = findings(row, record);
  const items = found.map(({ text, isGrave }) => element("li", isGrave ? "grave" : "", null,
    element("span", `mark ${isGrave ? "bad" : "warn"}`, { "aria-hidden": "true" }, isGrave ? "✕" : "!"), element("bdi", "", null, cut(text, 600))));
  if (items.length === 0) items.push(element("li", "", null, element("span", "mark fine", { "aria-hidden": "true" }, "●"), "No findings."));
  return element("ul", "finding-list", { "aria-label": "Findings" }, ...items);
}

/**
 * @param {number} row
 * @param {CallRecord | null} call
 * @returns {HTMLElement}
 */
function facts(row, call) {
  /** @type {[string, Node | string | null][]} */
  const all = [
    ["Set-up", orDash(rows.setup_ms[row], milliseconds)],
    ["Answered after", call?.answer_ms === undefined ? null : milliseconds(call.answer_ms)],
    ["Talked", call?.talk_s === undefined ? null : duration(call.talk_s)],
    ["Hung up by", call?.hangup_by ? plain(call.hangup_by) : null],
    ["Reason", rows.reason[row] ? wire(cut(rows.reason[row] ?? "", 200)) : null],
    ["Codecs", rows.codecs[row] ? wire(rows.codecs[row]) : null],
    ["Caller", agent(rows.caller_ua[row], rows.source[row])],
    ["Callee", agent(rows.callee_ua[row], rows.destination[row])],
    ["DTMF", dtmf(call)],
    ["Capture file", pcapLink(row, call)],
  ];
  const known = all.filter(([, value]) => value !== null && value !== "–");
  return element("dl", "facts", null, ...known.map(([name, value]) =>
    element("div", "", null, element("dt", "", null, name), element("dd", "", null, value))));
}

/**
 * @param {string | null | undefined} name
 * @param {string | undefined} endpoint
 * @returns {Node}
 */
function agent(name, endpoint) {
  return element("span", "", null, name ? wire(cut(name, 80)) : null, name ? " " : null, wire(endpoint, name ? "muted" : ""));
}

/**
 * @param {CallRecord | null} call
 * @returns {Node | string | null}
 */
function dtmf(call) {
  if (!call || call.dtmf_count === 0) return null;
  return call.dtmf ? wire(cut(call.dtmf, 100)) : counted(call.dtmf_count, "digit");
}

/**
 * A way to the call's pcap: beside the records, or the place of the object.
 * @param {number} row
 * @param {CallRecord | null} call
 * @returns {Node | null}
 */
function pcapLink(row, call) {
  if (call?.s3_location) return wire(call.s3_location, "mono");
  if (!call?.output_pcap_filename) return null;
  const base = head.bases[rows.source_file[row] ?? 0];
  if (typeof base !== "string") return wire(call.output_pcap_filename, "mono");
  const way = (base + call.output_pcap_filename).split("/").map(encodeURIComponent).join("/");
  return element("a", "mono", { href: `./${way}`, rel: "noreferrer" }, plain(call.output_pcap_filename));
}

/**
 * @param {CallRecord} record
 * @param {number} room
 * @param {number} most
 * @returns {HTMLElement}
 */
function ladderSection(record, room, most) {
  const text = element("aside", "message-text", { "aria-live": "polite", "aria-label": "Message" },
    element("p", "muted", null, record.messages.length > 0 ? "Choose a message of the ladder to read it." : ""));
  const svg = drawLadder(record, room, most, (index) => chooseMessage(svg, text, record, index));
  // A message that was chosen stays when the window changes.
  if (shownCall.message !== null) chooseMessage(svg, text, record, shownCall.message);
  const omitted = record.messages_omitted > 0 ? ` and ${grouped(record.messages_omitted)} more` : "";
  return element("section", "ladder", { "aria-label": "Ladder" },
    element("h3", "", null, "Ladder", element("span", "muted", null, ` ${counted(record.messages.length, "message")}${omitted}; seconds since the INVITE`)),
    element("div", "sides", null, element("div", "scroll", null, svg), text));
}

/**
 * Shows the text of a message beside the ladder.
 * @param {SVGElement} svg
 * @param {HTMLElement} to
 * @param {CallRecord} record
 * @param {number} index
 * @returns {void}
 */
function chooseMessage(svg, to, record, index) {
  const message = record.messages[index];
  if (!message) return;
  shownCall.message = index;
  svg.querySelectorAll(".arrow").forEach((arrow) => {
    const isIt = arrow.getAttribute("data-message") === String(index);
    arrow.classList.toggle("chosen", isIt);
    arrow.setAttribute("aria-pressed", String(isIt));
  });
  const why = head.without_messages || head.without_numbers ? "This report was made without the texts of messages."
    : "The records have no texts of messages: runs with --report or --json-messages write them.";
  const body = message.text === undefined
    ? element("p", "muted", null, why) : element("pre", "", { tabindex: "0" }, element("bdi", "", null, plainLines(message.text)));
  to.replaceChildren(
    element("h4", "", null, wire(cut(message.start_line, 200))),
    element("p", "muted", null, `${clock(message.at, true)}, ${grouped(message.size_bytes)} bytes, `,
      wire(message.from), " → ", wire(message.to)),
    body, message.text_cut ? element("p", "muted", null, "The text is cut here.") : "");
}

/**
 * @param {CallRecord} call
 * @returns {HTMLElement}
 */
function streamTable(call) {
  const columns = ["Stream", "Codec", "Packets", "Lost", "Loss", "Burst", "Longest gap", "Jitter mean", "max", "MOS", "Far end (RTCP)"];
  const body = call.streams.map((stream) => {
    const level = quality(stream.loss_percent, stream.mos);
    const mark = { good: "●", fair: "!", bad: "✕" }[level];
    const cells = [
      element("th", "", { scope: "row" }, element("span", `mark ${{ good: "fine", fair: "warn", bad: "bad" }[level]}`, { title: level }, mark),
        wire(`${stream.src_rtp_endpoint} → ${stream.dst_rtp_endpoint}`)),
      wire(stream.codec ?? "–"), grouped(stream.rtp_packet_count), grouped(stream.lost_packets), percent(stream.loss_percent),
      grouped(stream.max_burst_loss), milliseconds(stream.max_delta_ms), milliseconds(stream.mean_jitter_ms),
      milliseconds(stream.max_jitter_ms), orDash(stream.mos, (mos) => mos.toFixed(2)), farEnd(stream) || "–",
    ];
    return element("tr", "", null, ...cells.map((cell, at) => (at === 0 ? cell : element("td", at > 1 && at < 10 ? "number" : "", null, cell))));
  });
  return element("section", "streams", { "aria-label": "Streams" }, element("h3", "", null, "Streams"),
    element("div", "scroll", null, element("table", "", null,
      element("thead", "", null, element("tr", "", null, ...columns.map((name, at) =>
        element("th", at > 1 && at < 10 ? "number" : "", { scope: "col" }, name)))),
      element("tbody", "", null, ...body))));
}
