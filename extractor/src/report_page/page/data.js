// The blocks of data in the page. They are unpacked here, and shown as text elsewhere.

/**
 * The facts that are known before the rows.
 * @typedef {{version: number, program: string, title: string, calls: number, details: number,
 *   without_messages: boolean, without_numbers: boolean, bases: (string | null)[]}} Head
 */

/**
 * The columns of all rows.
 * @typedef {{start_us: number[], duration_s: number[], call_id: string[], from: string[],
 *   to: string[], source: string[], destination: string[], state: string[],
 *   status: (number | null)[], reason: (string | null)[], setup_ms: (number | null)[],
 *   caller_ua: (string | null)[], callee_ua: (string | null)[], codecs: string[],
 *   problems: string[], drops: number[], mos: (number | null)[], loss: (number | null)[],
 *   jitter: (number | null)[], points: number[], detail: number[],
 *   source_file: number[]}} Rows
 */

/**
 * A message of a call. Times are microseconds since 1970; docs/calls.schema.json describes the rest.
 * @typedef {{at: number, from: string, to: string, side?: string, start_line: string,
 *   cseq?: string, size_bytes: number, text?: string, text_cut?: boolean}} Message
 */

/**
 * A media description.
 * @typedef {{message?: number, media?: string, port?: number, direction?: string,
 *   formats?: {format: string, codec?: string}[], refused: boolean, secured?: boolean}} Media
 */

/**
 * The figures of an interval, whose length is in microseconds, too.
 * @typedef {{at: number, us: number, packets: number, lost: number, jitter: number,
 *   mos: number | null}} Interval
 */

/**
 * What a receiver reported last in an interval: loss in percent, jitter and the round trip from the
 * capture point in milliseconds.
 * @typedef {{at: number, us: number, loss: number | null, jitter: number | null,
 *   trip: number | null, mos: number | null}} Reported
 */

/**
 * A press of a key: its digit, if the report has digits, and the number of its stream, if it did not
 * come by INFO.
 * @typedef {{at: number, digit?: string, stream?: number}} Press
 */

/**
 * @typedef {{src_rtp_endpoint: string, dst_rtp_endpoint: string, first: number, last: number,
 *   codec?: string, ptime_ms: number, rtp_packet_count: number, lost_packets: number,
 *   loss_percent: number, max_burst_loss: number, max_delta_ms: number, max_jitter_ms: number,
 *   mean_jitter_ms: number, mos?: number, rtcp_loss_percent?: number, rtcp_jitter_ms?: number,
 *   rtcp_rtt_ms?: number, rtcp_mos?: number, series: Interval[], reported: Reported[]}} Stream
 */

/**
 * @typedef {{call_id: string, start: number, end: number, source: string, destination: string,
 *   hangup_by?: string, answer_ms?: number, talk_s?: number, caller_ua?: string,
 *   callee_ua?: string, output_pcap_filename?: string, s3_location?: string, dtmf_count: number,
 *   dtmf?: string, presses: Press[], messages: Message[],
 *   messages_omitted: number, media: Media[], streams: Stream[]}} CallRecord
 */

/**
 * The columns of a series, as the writer has them: milliseconds since the interval before, and
 * lengths, of which one stands for all; tenths of a millisecond, hundredths of a MOS.
 * @typedef {{begin: number[], length: number[], packets: number[], lost: number[],
 *   jitter: number[], mos: (number | null)[]}} Series
 */

/** Calls in a block of details: as the writer has it. */
const CALLS_A_BLOCK = 50;

/**
 * Unpacks a block.
 * @param {Element} block
 * @returns {Promise<any>}
 */
async function unpacked(block) {
  const packed = Uint8Array.from(atob((block.textContent ?? "").trim()), (one) => one.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return JSON.parse(await new Response(stream).text());
}

/**
 * The blocks of a kind.
 * @param {string} kind
 * @returns {Element[]}
 */
function blocks(kind) {
  return [...document.querySelectorAll(`script[type="application/octet-stream"].${kind}`)];
}

/**
 * Unpacks the head and all rows.
 * @returns {Promise<{head: Head, rows: Rows}>}
 */
async function load() {
  const [first] = blocks("head");
  if (!first) throw new Error("the file is not complete");
  /** @type {Head} */
  const head = await unpacked(first);
  const parts = await Promise.all(blocks("rows").map(unpacked));
  /** @type {Record<string, unknown[]>} */
  const rows = {};
  for (const name of ROW_COLUMNS) rows[name] = parts.flatMap((part) => part[name] ?? []);
  blocks("rows").forEach((block) => block.remove());
  return { head, rows: /** @type {Rows} */ (/** @type {unknown} */ (rows)) };
}

const ROW_COLUMNS = [
  "start_us", "duration_s", "call_id", "from", "to", "source", "destination", "state", "status",
  "reason", "setup_ms", "caller_ua", "callee_ua", "codecs", "problems", "drops", "mos", "loss",
  "jitter", "points", "detail", "source_file",
];

/** The block of details that was unpacked last: the next call is often in it. */
let latest = { number: -1, /** @type {CallRecord[]} */ calls: [] };

/**
 * The details at a place; `null` if there are none.
 * @param {number} place
 * @returns {Promise<CallRecord | null>}
 */
async function details(place) {
  const number = Math.floor(place / CALLS_A_BLOCK);
  const block = blocks("details")[number];
  if (place < 0 || !block) return null;
  if (latest.number !== number) latest = { number, calls: (await unpacked(block)).map(expanded) };
  return latest.calls[place % CALLS_A_BLOCK] ?? null;
}

/**
 * A call with its times and series in the form that the page uses.
 * @param {any} packed
 * @returns {CallRecord}
 */
function expanded(packed) {
  const start = microseconds(packed.start_timestamp);
  const moved = (/** @type {{at: number}} */ one) => ({ ...one, at: start + one.at });
  const streams = packed.streams.map((/** @type {any} */ one) => ({
    ...one, first: start + one.first, last: start + one.last, series: intervals(one.series, start),
    reported: one.rtcp_series ? reported(one.rtcp_series, start) : [],
  }));
  return {
    ...packed, start, end: start + packed.end, streams, messages: packed.messages.map(moved),
    presses: (packed.dtmf_presses ?? []).map(moved),
  };
}

/**
 * @param {{begin: number[], length: number[], loss: (number | null)[], jitter: (number | null)[],
 *   trip: (number | null)[], mos: (number | null)[]}} packed
 * @param {number} start
 * @returns {Reported[]}
 */
function reported(packed, start) {
  const part = (/** @type {number | null | undefined} */ value, /** @type {number} */ by) =>
    (value === null || value === undefined ? null : value / by);
  let at = start;
  return packed.begin.map((ms, place) => {
    at += ms * 1000;
    return {
      at, us: (packed.length[place] ?? packed.length[0] ?? 5000) * 1000, loss: part(packed.loss[place], 100),
      jitter: part(packed.jitter[place], 10), trip: part(packed.trip[place], 10), mos: part(packed.mos[place], 10),
    };
  });
}

/**
 * @param {Series} series
 * @param {number} start
 * @returns {Interval[]}
 */
function intervals(series, start) {
  let at = start;
  return series.begin.map((ms, place) => {
    at += ms * 1000;
    const mos = series.mos[place] ?? null;
    return {
      at, us: (series.length[place] ?? series.length[0] ?? 5000) * 1000, packets: series.packets[place] ?? 0,
      lost: series.lost[place] ?? 0, jitter: (series.jitter[place] ?? 0) / 10, mos: mos === null ? null : mos / 100,
    };
  });
}
