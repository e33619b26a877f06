// The blocks of data in the page. They are unpacked here, and shown as text elsewhere.

/**
 * What is known before the rows.
 * @typedef {{version: number, program: string, title: string, calls: number, details: number,
 *   without_messages: boolean, without_numbers: boolean, bases: string[]}} Head
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
 * A message of a call; docs/calls.schema.json describes the members of these.
 * @typedef {{timestamp: string, from: string, to: string, side?: string, start_line: string,
 *   cseq?: string, from_tag?: string, to_tag?: string, size_bytes: number, text?: string,
 *   text_cut?: boolean}} Message
 */

/**
 * A media description.
 * @typedef {{timestamp: string, from: string, message?: number, media?: string, port?: number,
 *   direction?: string, formats?: {format: string, codec?: string}[], refused: boolean,
 *   secured?: boolean}} Media
 */

/**
 * @typedef {{start_timestamp: string, length_s: number, packets: number, lost: number,
 *   jitter_ms: number, mos?: number}} Interval
 */

/**
 * @typedef {{ssrc_hex: string, src_rtp_endpoint: string, dst_rtp_endpoint: string,
 *   first_timestamp: string, last_timestamp: string, codec?: string, ptime_ms: number,
 *   rtp_packet_count: number, expected_rtp_packets: number, lost_packets: number,
 *   loss_percent: number, max_burst_loss: number, max_delta_ms: number, max_jitter_ms: number,
 *   mean_jitter_ms: number, mos?: number, rtcp_loss_percent?: number, rtcp_jitter_ms?: number,
 *   rtcp_rtt_ms?: number, rtcp_mos?: number, series: Interval[]}} Stream
 */

/**
 * @typedef {{call_id: string, start_timestamp: string, end_timestamp: string, duration_s: number,
 *   sip_from: string, sip_to: string, source: string, destination: string, state: string,
 *   final_status?: number, reason?: string, hangup_by?: string, pdd_ms?: number,
 *   answer_ms?: number, talk_s?: number, caller_ua?: string, callee_ua?: string,
 *   output_pcap_filename?: string, s3_location?: string, codecs: string[], dtmf_count: number,
 *   dtmf?: string, digits?: {timestamp: string, digit?: string}[], one_way?: boolean,
 *   no_media?: boolean, capture_drops?: number,
 *   problems: string[], messages: Message[], messages_omitted: number, media: Media[],
 *   streams: Stream[]}} CallRecord
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
  if (latest.number !== number) latest = { number, calls: await unpacked(block) };
  return latest.calls[place % CALLS_A_BLOCK] ?? null;
}
