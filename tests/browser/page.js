// Opens a report in Chromium, as a person does: node page.js SCENARIO REPORT [RECORDS]
//
// Prints what it measured, and ends with an error if something is not as it should be.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";

const [scenario, file, records] = process.argv.slice(2);
const calls = records ? readFileSync(records, "utf8").split("\n").filter(Boolean).map((line) => JSON.parse(line)) : [];

/** Opens the report; anything that the page says on its console, or asks for, is an error. */
async function opened(browser, hash = "", options = {}) {
  const page = await browser.newPage({ viewport: { width: 1280, height: 800 }, ...options });
  const wrong = [];
  page.on("pageerror", (error) => wrong.push(error.message));
  page.on("console", (message) => wrong.push(message.text()));
  page.on("dialog", (dialog) => { wrong.push(`dialog ${dialog.message()}`); void dialog.dismiss(); });
  page.on("request", (request) => { if (!request.url().startsWith("file:")) wrong.push(request.url()); });
  const begun = Date.now();
  await page.goto(pathToFileURL(file).href + hash);
  await page.waitForSelector("#list:not([hidden]), #call:not([hidden])");
  return { page, wrong, ms: Date.now() - begun };
}

const shownRows = (page) => page.locator("#spread .row");
const countOf = async (page) => (await page.locator("#count").textContent()) ?? "";
const openFirst = async (page) => {
  await page.locator("#rows").focus();
  await page.keyboard.press("Home");
  await page.keyboard.press("Enter");
  await page.waitForSelector("#call:not([hidden])");
};
const idOf = async (page) => (await page.locator("#call .sub .mono").textContent()) ?? "";
const recordOf = async (page) => {
  const id = await idOf(page);
  return calls.find((call) => call.call_id === id) ?? assert.fail(`no call ${id}`);
};

/** Opens the call with this Call-ID by a search. */
const openCall = async (page, id) => {
  await page.fill("#search", id);
  await openFirst(page);
  assert.equal(await idOf(page), id);
  return recordOf(page);
};
/** The plots of a call, which are scrolled to, and the place of a moment in them. */
const plotsOf = async (page, call) => {
  await page.locator(".plots svg").evaluate((plots) => plots.scrollIntoView({ block: "center" }));
  const box = await page.locator(".plots svg").boundingBox();
  const [left, right] = [46, 12];
  const times = (names) => [call, ...call.streams, ...call.messages]
    .flatMap((one) => names.flatMap((name) => (one[name] ? [Date.parse(one[name])] : [])));
  const [first, last] = [
    Math.min(...times(["start_timestamp", "first_timestamp"])),
    Math.max(...times(["end_timestamp", "last_timestamp", "timestamp"])),
  ];
  return { box, x: (ms) => box.x + left + ((ms - first) / (last - first)) * (box.width - left - right) };
};

const scenarios = {
  /** The walk of docs/report.md, and all that a person can do in the list and in a call. */
  async walk(browser) {
    const { page, wrong } = await opened(browser);
    assert.match(await countOf(page), new RegExp(`^${calls.length} calls`));
    assert.equal(await shownRows(page).count(), calls.length);
    // The worst is first.
    assert.match((await shownRows(page).first().textContent()) ?? "", /One-way/);

    await page.click('[data-chip="failed"]');
    const failed = calls.filter((call) => call.state === "failed").length;
    assert.equal(await shownRows(page).count(), failed);
    await page.click('[data-chip="failed"]');

    await page.click('[data-sort="duration"]');
    const longest = [...calls].sort((a, b) => b.duration_s - a.duration_s)[0];
    await openFirst(page);
    assert.equal(await idOf(page), longest.call_id);
    await page.keyboard.press("Escape");
    await page.waitForSelector("#list:not([hidden])");

    // A number is found however it is written.
    await page.keyboard.press("/");
    await page.keyboard.type("00 49 (30) 1234-5");
    const found = calls.filter((call) => /4930 ?12345/.test(`${call.sip_from} ${call.sip_to}`)).length;
    assert.ok(found > 0);
    await assert.doesNotReject(page.waitForFunction((count) => document.querySelectorAll("#spread .row").length === count, found));
    await page.keyboard.press("Escape");
    await page.keyboard.press("/");
    await page.keyboard.type("no such call");
    await page.waitForSelector(".empty");
    await page.keyboard.press("Escape");

    await page.click('[data-sort="points"]');
    await openFirst(page);
    const call = await recordOf(page);
    assert.equal(call.one_way, true);
    assert.match((await page.locator(".finding-list li").first().textContent()) ?? "", /One-way audio/);

    // A link to the call works in another window.
    const other = await opened(browser, new URL(page.url()).hash);
    assert.equal(await idOf(other.page), call.call_id);
    await other.page.close();

    assert.equal(await page.locator(".arrow").count(), call.messages.length);
    const again = await page.locator(".arrow.again").count();
    assert.equal(again, 1, "the repeated INVITE is marked");
    assert.equal(await page.locator(".media").count() > 0, true);
    const place = call.messages.findIndex((message) => message.start_line.startsWith("SIP/2.0 200"));
    await page.locator(`.arrow[data-message="${place}"]`).focus();
    await page.keyboard.press("Enter");
    const text = (await page.locator(".message-text pre").textContent()) ?? "";
    assert.equal(text, call.messages[place].text.replaceAll("\r\n", "\n"));
    assert.match((await page.locator(".note").allTextContents()).join(" "), /offer PCMA:\d+.*answer PCMA:\d+/);
    assert.match((await page.locator(".facts a").getAttribute("href")) ?? "", /^\.\/call_[0-9a-f]{8}_/);
    await page.keyboard.press("Escape");
    await page.waitForSelector("#list:not([hidden])");
    assert.deepEqual(wrong, []);
  },

  /** The figures under the pointer are those of the records. */
  async plots(browser) {
    const { page, wrong } = await opened(browser);
    await page.click('[data-chip="loss"]');
    await openFirst(page);
    const call = await recordOf(page);
    const start = Date.parse(call.start_timestamp);
    const [stream] = call.streams;
    await page.locator(".plots svg").evaluate((plots) => plots.scrollIntoView({ block: "center" }));
    const box = await page.locator(".plots svg").boundingBox();
    const [left, right] = [46, 12];
    const [first, last] = [start, Math.max(Date.parse(call.end_timestamp), Date.parse(stream.last_timestamp))];
    let seen = 0;
    for (const one of stream.series) {
      const from = Math.max(Date.parse(one.start_timestamp), Date.parse(stream.first_timestamp));
      const to = Math.min(Date.parse(one.start_timestamp) + one.length_s * 1000, Date.parse(stream.last_timestamp));
      if (to - from < 500) continue;
      const at = left + (((from + to) / 2 - first) / (last - first)) * (box.width - left - right);
      await page.mouse.move(box.x + at, box.y + 120);
      const told = (await page.locator(".readout .value.s0").textContent()) ?? "";
      const loss = (one.lost / (one.packets + one.lost)) * 100;
      const words = loss === 0 ? "loss 0 %" : `loss ${loss.toFixed(loss < 10 ? 2 : 1)} %`;
      assert.ok(told.includes(words), `${told}: ${words}`);
      assert.ok(told.includes(`MOS ${one.mos.toFixed(2)}`), `${told}: ${one.mos}`);
      seen += 1;
    }
    assert.ok(seen >= 2, `${seen} intervals`);
    for (const panel of ["loss", "jitter", "mos", "rate"]) {
      assert.ok(await page.locator(`.panel.${panel} .series`).count() >= 1, panel);
    }
    await page.locator(".plots").focus();
    await page.keyboard.press("ArrowRight");
    assert.deepEqual(wrong, []);
  },

  /** Presses of keys, and what the receiver reported over time, are drawn where they belong. */
  async keys(browser) {
    const { page, wrong } = await opened(browser);
    const call = await openCall(page, "lossy");
    const presses = call.dtmf_presses;
    assert.equal(presses.length, 4);
    assert.equal(await page.locator(".plots .press").count(), presses.length);
    assert.deepEqual(await page.locator(".press-digit").allTextContents(), ["1", "2", "#", "7"]);
    assert.match((await page.locator(".pressed").textContent()) ?? "", /DTMF 12#/);
    assert.match((await page.locator(".arrow .note").allTextContents()).join(" "), /DTMF 7/);
    const { box, x } = await plotsOf(page, call);
    // A mark stands at the time of its press.
    const mark = await page.locator(".plots .press").first().boundingBox();
    assert.ok(Math.abs(mark.x + mark.width / 2 - x(Date.parse(presses[0].timestamp))) < 2);
    const number = call.streams.findIndex((stream) => stream.rtcp_series.length > 0);
    const reported = call.streams[number].rtcp_series;
    assert.equal(reported.length, 3);
    for (const one of reported) {
      await page.mouse.move(x(Date.parse(one.start_timestamp) + 2500), box.y + 120);
      const told = (await page.locator(`.readout .value.s${number}`).textContent()) ?? "";
      assert.ok(told.includes(`RTCP: loss ${one.loss_percent.toFixed(one.loss_percent < 10 ? 2 : 1)} %, jitter 10 ms`), told);
    }
    assert.equal(await page.locator(`.panel.loss .far.s${number}`).count(), 1);
    assert.equal(await page.locator(`.panel.mos .far.s${number}`).count(), 0, "it reported no MOS");
    assert.deepEqual(wrong, []);
  },

  /** The times of presses are there, and no digit. */
  async keys_without_digits(browser) {
    const { page, wrong } = await opened(browser);
    await page.click('[data-chip="loss"]');
    await openFirst(page);
    assert.equal(await page.locator(".plots .press").count(), 4);
    assert.equal(await page.locator(".press-digit").count(), 0);
    assert.match((await page.locator(".pressed").textContent()) ?? "", /DTMF, 3 digits/);
    assert.doesNotMatch((await page.locator("#call").textContent()) ?? "", /DTMF \d|12#/);
    assert.deepEqual(wrong, []);
  },

  /** Calls of Parquet files have their streams, and neither messages nor plots. */
  async lake(browser) {
    const { page, wrong } = await opened(browser);
    assert.equal(await shownRows(page).count(), calls.length);
    const call = await openCall(page, "lossy");
    assert.equal(await page.locator(".arrow").count(), 0);
    assert.equal(await page.locator(".plots").count(), 0);
    assert.equal(await page.locator(".streams tbody tr").count(), call.streams.length);
    const lossy = call.streams.find((stream) => stream.loss_percent > 5);
    const bars = (await page.locator(".media.bad .what").allTextContents()).join("; ");
    assert.ok(bars.includes(`loss ${lossy.loss_percent.toFixed(1)} %`), bars);
    assert.equal(await page.locator(".facts a").count(), 0, "where the pcap is, is not known");
    assert.deepEqual(wrong, []);
  },

  /** A report of several days says on which day a call was, at all widths. */
  async days(browser) {
    const dates = calls.map((call) => call.start_timestamp.slice(5, 10));
    for (const width of [360, 1000, 1280, 3840]) {
      const { page, wrong } = await opened(browser, "", { viewport: { width, height: 900 } });
      await page.locator("#rows").focus();
      const starts = await page.locator("#spread .cell.start").evaluateAll((cells) =>
        cells.map((cell) => ({ text: cell.textContent, isCut: cell.scrollWidth > cell.clientWidth })));
      assert.ok(starts.length > 5);
      for (const { text, isCut } of starts) {
        assert.match(text, /^1[12]-\d\d \d\d:\d\d:\d\d$/);
        assert.ok(dates.includes(text.slice(0, 5)) && !isCut, `${width}: ${text}`);
      }
      const marks = await page.locator("#histogram .axis.date").allTextContents();
      const isRight = marks.every((mark, place) => ["2026-11-29", "2026-11-30", "2026-12-01"][place]?.endsWith(mark));
      assert.ok(marks.length >= 2 && isRight, `${width}: ${marks}`);
      assert.match((await page.locator("#span").textContent()) ?? "", /2026-11-29 00:00:00 to 2026-12-01/);
      assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth), false);
      if (width === 1280) {
        const box = await page.locator("#histogram svg").boundingBox();
        await page.mouse.move(box.x + 1, box.y + 20);
        await page.mouse.down();
        await page.mouse.move(box.x + box.width * 0.7, box.y + 20, { steps: 4 });
        await page.mouse.up();
        assert.match((await page.locator("#range").textContent()) ?? "", /^2026-11-29 .* to 2026-11-30 /);
      }
      assert.deepEqual(wrong, []);
      await page.close();
    }
  },

  /** The walk of docs/report.md: each step is written down, with the time since the file was asked for. */
  async minute(browser) {
    const begun = Date.now();
    const step = (what) => console.log(`${((Date.now() - begun) / 1000).toFixed(1)} s: ${what}`);
    const { page, wrong } = await opened(browser);
    const first = (await shownRows(page).first().textContent()) ?? "";
    step(`open the file; the first row: ${first.replaceAll(/\s+/g, " ")}`);
    await shownRows(page).first().click();
    await page.waitForSelector("#call:not([hidden])");
    const [why] = await page.locator(".finding-list li").allTextContents();
    step(`click 1, the row: ${why}`);
    const call = await recordOf(page);
    // What docs/report.md gives for these calls.
    const points = (one) => (one.state === "failed" ? 20 : 0) + (one.problems.includes("loss") ? 15 : 0)
      + 10 * (4.5 - Math.min(...one.streams.map((stream) => stream.mos)));
    assert.equal(points(call), Math.max(...calls.map(points)), "no call is worse");
    const [, percent, at, source] = /worst ([\d.]+) % at \+([\d.]+) s, (\S+) →/.exec(why) ?? [];
    const number = call.streams.findIndex((stream) => stream.src_rtp_endpoint === source);
    const bar = await page.locator(".media.bad, .media.fair").first().textContent();
    step(`the ladder says between which messages: ${bar}`);
    const reinvite = call.messages.findIndex((message) => message.cseq === "2 INVITE");
    await page.locator(`.arrow[data-message="${reinvite}"]`).click();
    const text = (await page.locator(".message-text pre").textContent()) ?? "";
    assert.ok(text.startsWith("INVITE "));
    step(`click 2, a message: ${text.split("\n")[0]}`);
    const { box, x } = await plotsOf(page, call);
    await page.mouse.move(x(Date.parse(call.start_timestamp) + Number(at) * 1000 + 1000), box.y + 120);
    const told = (await page.locator(`.readout .value.s${number}`).textContent()) ?? "";
    assert.ok(told.includes(`loss ${percent} %`), `${told}: ${percent}`);
    step(`point at the plots: ${told}`);
    const other = await opened(browser, new URL(page.url()).hash);
    assert.equal(await idOf(other.page), call.call_id);
    step("copy the address: it opens this call in another window");
    assert.ok(Date.now() - begun < 30_000, "half a minute is for reading");
    assert.deepEqual(wrong, []);
  },

  /** Dragging over the histogram chooses a time; the address keeps it. */
  async histogram(browser) {
    const { page, wrong } = await opened(browser);
    const box = await page.locator("#histogram svg").boundingBox();
    await page.mouse.move(box.x + 1, box.y + 20);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width / 3, box.y + 20, { steps: 4 });
    await page.mouse.up();
    const text = await countOf(page);
    const shown = Number(/^(\d+) of/.exec(text)?.[1]);
    const [, from, to] = /time=(\d+)-(\d+)/.exec(new URL(page.url()).hash) ?? [];
    const inside = calls.filter((call) => {
      const us = call.start_ns / 1000;
      return us >= Number(from) && us < Number(to);
    }).length;
    assert.ok(inside > 0 && inside < calls.length && shown === inside, `${text}: ${inside}`);
    await page.locator("#histogram svg").focus();
    await page.keyboard.press("ArrowRight");
    await page.click("text=All times");
    assert.match(await countOf(page), new RegExp(`^${calls.length} calls`));
    assert.deepEqual(wrong, []);
  },

  /** A call on paper has one page; at all widths nothing hangs out; both colours are readable. */
  async looks(browser) {
    for (const format of ["A4", "Letter"]) {
      const { page, wrong } = await opened(browser);
      for (let place = 0; place < 3; place += 1) {
        await openFirst(page);
        for (let next = 0; next < place; next += 1) await page.keyboard.press("n");
        const pdf = (await page.pdf({ format })).toString("latin1");
        const pages = [...pdf.matchAll(/\/Type\s*\/Page[^s]/g)].length;
        assert.equal(pages, 1, `${format}: ${pages} pages`);
        await page.keyboard.press("Escape");
        await page.waitForSelector("#list:not([hidden])");
      }
      assert.deepEqual(wrong, []);
      await page.close();
    }
    for (const width of [360, 768, 1280, 1920, 3840]) {
      const { page, wrong } = await opened(browser, "", { viewport: { width, height: 900 } });
      const hangsOut = () => page.evaluate(() => document.documentElement.scrollWidth > window.innerWidth);
      assert.equal(await hangsOut(), false, `the list at ${width}`);
      await openFirst(page);
      assert.equal(await hangsOut(), false, `a call at ${width}`);
      assert.deepEqual(wrong, []);
      await page.close();
    }
    for (const colorScheme of ["light", "dark"]) {
      const { page } = await opened(browser, "", { colorScheme });
      const check = async (selector) => {
        const ratio = await page.locator(selector).first().evaluate(contrast);
        assert.ok(ratio >= 4.5, `${colorScheme} ${selector}: ${ratio}`);
      };
      for (const selector of ["#span", ".chip .count", ".cell.state .muted", ".bad", "#theme", "#count"]) await check(selector);
      await openFirst(page);
      for (const selector of [".sub", "dt", ".legend .item", ".readout"]) await check(selector);
      await page.close();
    }
    const { page } = await opened(browser, "", { colorScheme: "light" });
    const dark = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const before = await dark();
    await page.click("#theme");
    await page.click("#theme");
    assert.notEqual(await dark(), before, "the switch");
  },

  /** Everything can be reached and has a name for a screen reader. */
  async names(browser) {
    const { page } = await opened(browser);
    const nameless = () => page.evaluate(() => [...document.querySelectorAll("button, input, [role=button], a, [tabindex='0']")]
      .filter((one) => one.checkVisibility())
      .filter((one) => !(one.textContent?.trim() || one.getAttribute("aria-label") || one.getAttribute("aria-activedescendant")))
      .map((one) => one.outerHTML.slice(0, 100)));
    assert.deepEqual(await nameless(), []);
    await openFirst(page);
    assert.deepEqual(await nameless(), []);
  },

  /** What is hostile is shown, and does nothing. */
  async hostile(browser) {
    const { page, wrong } = await opened(browser);
    assert.equal(await shownRows(page).count(), calls.length);
    for (let place = 0; place < calls.length; place += 1) {
      await page.locator("#rows").focus();
      await page.keyboard.press("Home");
      for (let down = 0; down < place; down += 1) await page.keyboard.press("ArrowDown");
      await page.keyboard.press("Enter");
      await page.waitForSelector("#call:not([hidden])");
      const arrows = page.locator(".arrow");
      if (await arrows.count() > 0) await arrows.first().click();
      await page.keyboard.press("Escape");
      await page.waitForSelector("#list:not([hidden])");
    }
    const made = await page.evaluate(() => ({
      ran: "ran" in window, images: document.querySelectorAll("img, iframe, object, embed, link, base").length,
      scripts: [...document.querySelectorAll("script")].filter((one) => one.type === "").length,
      turning: /[\u202a-\u202e\u2066-\u2069]/.test(document.body.innerText),
    }));
    assert.deepEqual(made, { ran: false, images: 0, scripts: 1, turning: false });
    assert.ok((await page.locator("#spread").textContent())?.includes("<img src=x onerror="), "it is shown as text");
    // The policy would stop what is not the page's own, too.
    const blocked = await page.evaluate(() => new Promise((resolve) => {
      document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
      const script = document.createElement("script");
      script.textContent = "window.ran = true";
      document.body.append(script);
    }));
    assert.match(blocked, /^script-src/);
    assert.equal(await page.evaluate(() => "ran" in window), false);
    assert.equal(wrong.filter((line) => !line.includes("Content Security Policy")).length, 0, wrong.join("\n"));
  },

  /** Large reports. Times are printed; what they have is checked. */
  async large(browser) {
    const { page, wrong, ms } = await opened(browser);
    const timed = async (act) => {
      const begun = Date.now();
      await act();
      return Date.now() - begun;
    };
    const search = await timed(async () => {
      await page.fill("#search", "no such call");
      await page.waitForSelector(".empty");
      await page.fill("#search", "");
      await page.waitForSelector("#spread .row");
    });
    const open = await timed(() => openFirst(page));
    const arrows = await page.locator(".arrow").count();
    await page.keyboard.press("Escape");
    await page.waitForSelector("#list:not([hidden])");
    const sort = await timed(() => page.click('[data-sort="from"]'));
    const heap = await page.evaluate(() => performance.memory?.usedJSHeapSize ?? 0);
    console.log(`usable after ${ms} ms, search twice ${search} ms, open ${open} ms, sort ${sort} ms, heap ${(heap / 1e6).toFixed(0)} MB, ${await countOf(page)}`);
    assert.ok(arrows > 0, "the worst call has details");
    assert.ok(await shownRows(page).count() < 100, "only the rows that are seen are elements");
    assert.deepEqual(wrong, []);
  },
};

/** The contrast of an element's text to what is behind it (WCAG 2.2, 1.4.3). */
function contrast(one) {
  const channels = (text) => (text.match(/[\d.]+/g) ?? []).map(Number);
  const luminance = (text) => {
    const [r, g, b] = channels(text).slice(0, 3).map((value) => {
      const part = value / 255;
      return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      const alpha = channels(colour)[3];
      if (alpha === undefined || alpha > 0) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const [a, b] = [luminance(getComputedStyle(one).color), luminance(behind(one))];
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-dev-shm-usage", "--enable-precise-memory-info"],
});
try {
  await scenarios[scenario](browser);
} finally {
  await browser.close();
}
