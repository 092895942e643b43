"use strict";
(() => {
const $ = (id) => document.getElementById(id);
const data = JSON.parse($("data").textContent);
const NO_GROUP = -1, ROW_PX = 22, BEFORE = 1.0, AFTER = 1.0, SHOWN_BEFORE = 0.4, SHOWN_AFTER = 0.8, MARGIN = 3;
const VERDICTS = { a: "accept", r: "reject", u: "unsure" };
const COLOURS = { accept: "#14804a", reject: "#c0392b", unsure: "#b7791f", none: "#5b6b80" };
const STAGES = ["W", "R", "N1", "N2", "N3"];
const GAINS = [5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 700, 1000, 2000];
const SPANS = [2, 5, 10, 15, 20, 30];
const FILTERS = [[0.5, 70], [1, 70], [1, 35], [5, 70], [0, 0]];
const NOTCHES = [0, 50, 60];
const MONTAGES = ["longitudinal bipolar", "average reference", "as recorded", "Cz reference"];
const CHAINS = ["Fp1-F7-T3-T5-O1", "Fp2-F8-T4-T6-O2", "Fp1-F3-C3-P3-O1", "Fp2-F4-C4-P4-O2", "Fz-Cz-Pz"];
const ORDER = ["Fp1", "F7", "T3", "T5", "Fp2", "F8", "T4", "T6", "F3", "C3", "P3", "O1", "F4", "C4", "P4", "O2", "Fz", "Cz", "Pz"];

// --- small things --------------------------------------------------------------------------------------------

function make(tag, text, className) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}
function table(rows, header) {
  const element = make("table");
  for (const [i, cells] of (header ? [header, ...rows] : rows).entries()) {
    const row = element.insertRow();
    for (const cell of cells) row.append(make(header && i === 0 ? "th" : "td", cell));
  }
  return element;
}
const two = (n) => String(Math.floor(n)).padStart(2, "0");
const hms = (s) => `${Math.floor(s / 3600)}:${two((s / 60) % 60)}:${two(s % 60)}`;
const clockOr = (s) => data.clock === null ? hms(s) : `${two(((data.clock + s) / 3600) % 24)}:${two(((data.clock + s) / 60) % 60)}:${two((data.clock + s) % 60)}`;
const minutes = (s) => s < 60 ? `${s.toFixed(0)} s` : s < 3600 ? `${(s / 60).toFixed(1)} min` : `${(s / 3600).toFixed(2)} h`;
const whole = (x) => (Math.abs(x) < 0.5 ? "0" : x.toFixed(0)).replace("-", "\u2212");
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

/* 95 % interval of a Poisson count: exact below 50, from there on by Byar's approximation, which is within 0.1 %. */
function interval(n) {
  const edge = (k, z) => k * (1 - 1 / (9 * k) + z / (3 * Math.sqrt(k))) ** 3;
  if (n >= 50) return [edge(n, -1.96), edge(n + 1, 1.96)];
  const atMost = (k, mean) => { let term = Math.exp(-mean), sum = 0; for (let i = 0; i <= k; i++) { sum += term; term *= mean / (i + 1); } return sum; };
  const solve = (k, chance) => { let low = 0, high = 100; for (let i = 0; i < 50; i++) { const mid = (low + high) / 2; if (atMost(k, mid) > chance) low = mid; else high = mid; } return low; };
  return [n ? solve(n - 1, 0.975) : 0, solve(n, 0.025)];
}
function rate(n, mins) {
  if (!mins) return ["-", "-"];
  const per = (x) => { const r = 60 * x / mins; return r < 10 ? r.toFixed(1) : r.toFixed(0); };
  return [per(n), interval(n).map(per).join("\u2013")];
}

// --- events, verdicts ----------------------------------------------------------------------------------------

const column = Object.fromEntries(data.columns.map((name, i) => [name, i]));
const events = data.events.map((row, i) => ({
  i, row, group: data.group[i], verdict: "", at: "",
  onset: +row[column.onset_seconds], duration: +row[column.duration_seconds], peak: +row[column.peak_seconds],
  p: row[column.probability], channel: row[column.channel], uv: row[column.amplitude_uv], stage: row[column.stage],
}));
const state = { threshold: data.threshold, group: null, event: null, start: 0, montage: 0, gain: GAINS.indexOf(100), span: SPANS.indexOf(10),
  filter: 0, notch: 0, undo: [], saved: true };
const key = `siamese-jax review ${data.events_sha256}`;
const named = (e) => `${e.row[column.peak_seconds]} ${e.channel}`;
const minutesOf = Object.fromEntries(STAGES.map((s) => [s, 0]));
for (const [, stage, , analysed] of data.hypnogram) minutesOf[stage] += analysed / 60;
minutesOf.all = data.analysed_seconds / 60;

function reader() { return $("reader").value.replace(/[\t\r\n]/g, " ").trim(); }
function keep() {
  const held = Object.fromEntries(events.filter((e) => e.verdict).map((e) => [named(e), [e.verdict, e.at, e.reader]]));
  try { localStorage.setItem(key, JSON.stringify({ reader: reader(), held })); } catch { /* not allowed here: memory holds them */ }
}
function restore() {
  try {
    const { reader: who, held } = JSON.parse(localStorage.getItem(key)) || { held: {} };
    $("reader").value = who || "";
    for (const e of events) if (held[named(e)]) [e.verdict, e.at, e.reader] = held[named(e)];
    state.saved = !events.some((e) => e.verdict);
  } catch { /* nothing kept */ }
}
function give(some, verdict) {
  const changed = some.filter((e) => e.verdict !== verdict);
  if (!changed.length) return;
  state.undo.push(changed.map((e) => [e, e.verdict, e.at, e.reader]));
  const at = new Date().toISOString();
  for (const e of changed) Object.assign(e, { verdict, at, reader: reader() });
  state.saved = false;
  keep();
}
function undo() {
  const last = state.undo.pop();
  if (!last) return;
  for (const [e, verdict, at, who] of last) Object.assign(e, { verdict, at, reader: who });
  state.saved = false;
  keep();
  select(last[0][0]);
}
const TSV = ["recording", "events_sha256", "onset", "duration", "peak", "probability", "channel", "amplitude_uv", "stage", "verdict", "reader", "at"];
function tsv() {
  const lines = events.filter((e) => e.verdict).map((e) => [data.name, data.events_sha256, ...e.row, e.verdict, e.reader || "", e.at]);
  return [TSV, ...lines].map((cells) => cells.map((c) => String(c).replace(/[\t\r\n]/g, " ")).join("\t")).join("\n") + "\n";
}
function save() {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([tsv()], { type: "text/tab-separated-values" }));
  link.download = `${data.name}_verdicts.tsv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  state.saved = true;
  showHead();
}
async function load(file) {
  const [head, ...lines] = (await file.text()).split(/\r?\n/).filter(Boolean).map((line) => line.split("\t"));
  const at = Object.fromEntries((head || []).map((name, i) => [name, i]));
  if (TSV.some((name) => !(name in at))) return say(`${file.name} holds no verdicts that this page saved`);
  const byName = new Map(events.map((e) => [named(e), e]));
  const found = lines.filter((l) => l[at.events_sha256] === data.events_sha256).map((l) => [byName.get(`${l[at.peak]} ${l[at.channel]}`), l])
    .filter(([e, l]) => e && l[at.at] > e.at && Object.values(VERDICTS).includes(l[at.verdict]));
  state.undo.push(found.map(([e]) => [e, e.verdict, e.at, e.reader]));
  for (const [e, l] of found) [e.verdict, e.reader, e.at] = [l[at.verdict], l[at.reader], l[at.at]];
  keep();
  refresh();
  say(`${found.length} verdicts of ${file.name} taken, of ${lines.length}; older ones than those here are left out`);
}

// --- groups --------------------------------------------------------------------------------------------------

let lists = new Map();
const isShown = (e) => e.p >= state.threshold || e.verdict === "accept";
const counts = (some) => some.filter((e) => e.verdict !== "reject");
function regroup() {
  lists = new Map();
  for (const e of events) if (isShown(e)) lists.get(e.group)?.push(e) ?? lists.set(e.group, [e]);
  const order = [...lists.keys()].sort((a, b) => (a === NO_GROUP) - (b === NO_GROUP) || lists.get(b).length - lists.get(a).length || a - b);
  lists = new Map(order.map((g) => [g, lists.get(g)]));
  if (!lists.has(state.group)) state.group = order[0] ?? null;
}
const shown = () => lists.get(state.group) || [];
const title = (g) => {
  if (g === NO_GROUP) return "like no others";
  const { name, side: where, polarity } = data.clusters[g];
  return `${g + 1}  ${name} ${where}${polarity === "positive" ? ", positive" : ""}`;
};

function stageRows(some) {
  const stages = STAGES.filter((s) => minutesOf[s]);
  const line = (name, n, mins) => [name, String(n), mins.toFixed(1), ...rate(n, mins)];
  return [...stages.map((s) => line(s, some.filter((e) => e.stage === s).length, minutesOf[s])), line("all", some.length, minutesOf.all)];
}
const STAGE_HEAD = ["stage", "n", "min", "per h", "95 %"];
function tally(some) {
  const of = (v) => some.filter((e) => e.verdict === v).length;
  return [["accept", "\u2713"], ["reject", "\u2717"], ["unsure", "?"]].map(([v, sign]) => [v, sign, of(v)]).filter(([, , n]) => n);
}
function showClusters() {
  const holder = $("clusters");
  holder.replaceChildren();
  for (const [g, some] of lists) {
    const box = make("div", undefined, `cluster${g === state.group ? " chosen" : ""}`);
    const head = make("h2", title(g));
    head.append(make("span", String(counts(some).length)));
    const line = make("p", `mean score ${(some.reduce((sum, e) => sum + e.p, 0) / some.length).toFixed(2)}, ${rate(counts(some).length, minutesOf.all)[0]}/h `);
    for (const [verdict, sign, n] of tally(some)) line.append(make("span", ` ${sign}${n}`, verdict));
    box.append(head, line);
    if (g === state.group) box.append(table(stageRows(counts(some)), STAGE_HEAD));
    box.setAttribute("role", "option");
    box.addEventListener("click", () => choose(g));
    holder.append(box);
  }
  if (!lists.size) holder.append(make("p", "no event reaches the threshold: [ lowers it", "cluster"));
  holder.querySelector(".chosen")?.scrollIntoView({ block: "nearest" });
}
function showRows() {
  const some = shown(), holder = $("rows"), box = $("events");
  holder.style.height = `${some.length * ROW_PX}px`;
  const first = Math.max(Math.floor(box.scrollTop / ROW_PX) - 5, 0), last = Math.min(first + Math.ceil(box.clientHeight / ROW_PX) + 10, some.length);
  holder.replaceChildren();
  for (let n = first; n < last; n++) {
    const e = some[n], row = make("div", undefined, `row${e === state.event ? " chosen" : ""}`);
    row.style.top = `${n * ROW_PX}px`;
    row.append(make("span", clockOr(e.peak)), make("span", e.stage), make("span", e.channel), make("span", e.p.toFixed(2)), make("span", e.verdict, e.verdict));
    row.setAttribute("role", "option");
    row.addEventListener("click", () => select(e));
    holder.append(row);
  }
}
function scrollToEvent() {
  const n = shown().indexOf(state.event), box = $("events");
  if (n < 0) return;
  if (n * ROW_PX < box.scrollTop) box.scrollTop = n * ROW_PX;
  if ((n + 1) * ROW_PX > box.scrollTop + box.clientHeight) box.scrollTop = (n + 1) * ROW_PX - box.clientHeight;
}
function showHead() {
  const some = [...lists.values()].flat(), done = events.filter((e) => e.verdict).length;
  const n = counts(some).length, [per, range] = rate(n, minutesOf.all);
  $("progress").replaceChildren(make("b", `${n} IED${n === 1 ? "" : "s"}, ${per}/h (${range})`), make("span", `  ${some.filter((e) => e.verdict).length} of ${some.length} judged`));
  for (const [verdict, sign, k] of tally(some)) $("progress").append(make("span", ` ${sign}${k}`, verdict));
  $("threshold").value = toSlider(state.threshold);
  $("threshold-text").textContent = state.threshold < 0.1 ? state.threshold.toFixed(3) : state.threshold.toFixed(2);
  $("save").className = state.saved || !done ? "" : "due";
}

// --- the signal ----------------------------------------------------------------------------------------------

const nChans = data.electrodes.length, fs = data.sfreq, blocks = new Map();
async function unpack(text, chans) {
  const raw = atob(text), bytes = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) bytes[i] = raw.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const flat = new Uint8Array(await new Response(stream).arrayBuffer()), n = flat.length / 2, times = n / chans;
  const out = Array.from({ length: chans }, () => new Int16Array(times));
  for (let c = 0, at = 0; c < chans; c++) {
    let sum = 0;
    for (let t = 0; t < times; t++, at++) out[c][t] = sum = (sum + (flat[at] | (flat[n + at] << 8))) << 16 >> 16;
  }
  return out;
}
function block(segment, index) {
  const name = `${segment}-${index}`;
  if (blocks.has(name)) {
    const held = blocks.get(name);
    blocks.delete(name);
    blocks.set(name, held);  // the last used is the last to go
    return held;
  }
  const element = $(`block-${name}`), made = element ? unpack(element.textContent, nChans) : Promise.resolve(null);
  blocks.set(name, made);
  if (blocks.size > 200) blocks.delete(blocks.keys().next().value);
  return made;
}
/* Microvolts of samples [from, to) of a segment, by channel; NaN where this page holds none. */
async function samples(segment, from, to) {
  const out = Array.from({ length: nChans }, () => new Float32Array(to - from).fill(NaN));
  const size = data.block_samples, last = Math.min(to, data.segments[segment][1]), first = Math.max(from, 0);
  const indices = [];
  for (let b = Math.floor(first / size); b * size < last; b++) indices.push(b);
  const found = await Promise.all(indices.map((b) => block(segment, b)));
  for (const [k, values] of found.entries()) {
    if (!values) continue;
    const begin = indices[k] * size, a = Math.max(first, begin), z = Math.min(last, begin + values[0].length);
    for (let c = 0; c < nChans; c++) for (let t = a; t < z; t++) out[c][t - from] = values[c][t - begin] * 0.5;
  }
  return out;
}
function biquad(kind, hz) {  // Bristow-Johnson's formulas, Butterworth
  const w = 2 * Math.PI * hz / fs, cos = Math.cos(w), alpha = Math.sin(w) / (2 * (kind === "notch" ? 15 : Math.SQRT1_2)), a0 = 1 + alpha;
  const b = { high: [(1 + cos) / 2, -(1 + cos), (1 + cos) / 2], low: [(1 - cos) / 2, 1 - cos, (1 - cos) / 2], notch: [1, -2 * cos, 1] }[kind];
  return { b: b.map((x) => x / a0), a: [-2 * cos / a0, (1 - alpha) / a0], dc: kind === "high" ? 0 : 1 };
}
function pass(x, from, to, step, { b, a, dc }) {  // the state starts at rest with the first sample
  const rest = x[from];
  let x1 = 0, x2 = 0, y1 = 0, y2 = 0;
  for (let i = from; i !== to; i += step) {
    const now = x[i] - rest, y = b[0] * now + b[1] * x1 + b[2] * x2 - a[0] * y1 - a[1] * y2;
    x2 = x1; x1 = now; y2 = y1; y1 = y;
    x[i] = y + dc * rest;
  }
}
function sections() {
  const [high, low] = FILTERS[state.filter], notch = NOTCHES[state.notch], some = [];
  if (high) some.push(biquad("high", high));
  if (low && low < 0.45 * fs) some.push(biquad("low", low));
  if (notch && notch < 0.45 * fs) some.push(biquad("notch", notch));
  return some;
}
function filterText() {
  const [high, low] = FILTERS[state.filter], top = low && low < 0.45 * fs ? low : (fs / 2).toFixed(0);
  return `${high || low ? `${high}\u2013${top} Hz, zero phase` : "no filter"}, ${NOTCHES[state.notch] ? `notch ${NOTCHES[state.notch]} Hz` : "no notch"}`;
}
/* In place, forward and backward, each stretch without NaN by itself. */
function filter(channels) {
  const some = sections(), first = channels[0], n = first.length;
  for (let a = 0; a < n; a++) {
    if (Number.isNaN(first[a])) continue;
    let z = a;
    while (z < n && !Number.isNaN(first[z])) z++;
    for (const x of channels) for (const section of some) { pass(x, a, z, 1, section); pass(x, z - 1, a - 1, -1, section); }
    a = z;
  }
  return channels;
}

// --- montages ------------------------------------------------------------------------------------------------

const index = new Map(data.electrodes.map((name, i) => [name, i]));
const scalp = data.scalp.map((name) => index.get(name)), isScalp = new Set(scalp);
const side = (name) => /z$/i.test(name) ? 0 : /\d*[13579]$/.test(name.split("-")[0]) ? -1 : /[02468]$/.test(name.split("-")[0]) ? 1 : 0;
function montage(which) {
  const rows = [], lacking = [];
  const rest = data.electrodes.filter((name) => !isScalp.has(index.get(name)));
  if (which === 0) {
    for (const chain of CHAINS) {
      const names = chain.split("-");
      for (let i = 1; i < names.length; i++) {
        const [a, b] = [names[i - 1], names[i]], name = `${a}-${b}`;
        if (data.scalp.includes(a) && data.scalp.includes(b)) rows.push({ name, plus: index.get(a), minus: index.get(b), side: side(name), chain });
        else lacking.push(name);
      }
    }
  } else {
    const names = [...ORDER.filter((n) => data.scalp.includes(n)), ...data.scalp.filter((n) => !ORDER.includes(n))];
    const reference = which === 1 ? "av" : which === 3 ? "Cz" : "";
    if (reference === "Cz" && !data.scalp.includes("Cz")) lacking.push("Cz");
    else for (const name of names) if (name !== reference) rows.push({ name: reference ? `${name}-${reference}` : name, plus: index.get(name),
      minus: which === 1 ? "mean" : which === 3 ? index.get("Cz") : null, side: side(name), chain: CHAINS.find((c) => c.split("-").includes(name)) });
  }
  for (const name of rest) rows.push({ name, plus: index.get(name), minus: null, side: 0, chain: "rest" });
  return { rows, lacking };
}
function derive(channels, rows) {
  const n = channels[0].length;
  let mean = null;
  if (rows.some((row) => row.minus === "mean")) {
    mean = new Float32Array(n);
    for (const c of scalp) for (let t = 0; t < n; t++) mean[t] += channels[c][t] / scalp.length;
  }
  return rows.map((row) => {
    const a = channels[row.plus], b = row.minus === "mean" ? mean : row.minus === null ? null : channels[row.minus];
    return b ? a.map((v, t) => v - b[t]) : a;
  });
}

// --- canvases ------------------------------------------------------------------------------------------------

function canvas(element) {
  const ratio = window.devicePixelRatio || 1, width = element.clientWidth, height = element.clientHeight;
  if (element.width !== Math.round(width * ratio)) element.width = Math.round(width * ratio);
  if (element.height !== Math.round(height * ratio)) element.height = Math.round(height * ratio);
  const c = element.getContext("2d");
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, width, height);
  c.lineWidth = 1 / ratio;  // one pixel of the device: any wider line takes twenty times as long to draw
  c.font = "11px system-ui, Arial, sans-serif";
  c.textBaseline = "middle";
  return { c, width, height, ratio };
}
/* A trace, negative up: its lowest and highest value in each pixel of the device where there are more samples. */
function trace(c, values, x0, dx, y0, scale, ratio) {
  const per = 1 / (dx * ratio);
  let down = false;
  if (per < 2) {
    for (let t = 0; t < values.length; t++) {
      if (Number.isNaN(values[t])) { down = false; continue; }
      const x = x0 + t * dx, y = y0 + values[t] * scale;
      if (down) c.lineTo(x, y); else c.moveTo(x, y);
      down = true;
    }
    return;
  }
  for (let p = 0; p * per < values.length; p++) {
    const a = Math.floor(p * per), z = Math.min(Math.floor((p + 1) * per), values.length);
    let low = Infinity, high = -Infinity;
    for (let t = a; t < z; t++) { if (values[t] < low) low = values[t]; if (values[t] > high) high = values[t]; }
    if (low === Infinity) { down = false; continue; }
    const x = x0 + p / ratio;
    if (down) c.lineTo(x, y0 + low * scale); else c.moveTo(x, y0 + low * scale);
    c.lineTo(x, y0 + high * scale);
    down = true;
  }
}
const INK = { "-1": "#1f4e9c", 0: "#22262b", 1: "#a02c2c" };
function rowPlaces(rows, top, height) {
  const breaks = rows.map((row, i) => i && row.chain !== rows[i - 1].chain ? 0.5 : 0);
  let at = 0;
  const places = rows.map((_, i) => (at += breaks[i] + (i ? 1 : 0.5)));
  const step = height / (at + 0.5);
  return { y: places.map((p) => top + p * step), step };
}
function bar(c, x, y, uv, scale) {
  const h = uv * scale;
  c.strokeStyle = c.fillStyle = "#111";
  c.beginPath();
  c.moveTo(x - 3, y); c.lineTo(x + 3, y); c.moveTo(x, y); c.lineTo(x, y - h); c.moveTo(x - 3, y - h); c.lineTo(x + 3, y - h);
  c.stroke();
  c.textAlign = "right";
  c.fillText(`${uv} \u00b5V`, x - 5, y - Math.max(h / 2, 6));
}
function hatch(c, x, y, w, h) {
  c.save();
  c.beginPath();
  c.rect(x, y, w, h);
  c.clip();
  c.fillStyle = "#eef0f3";
  c.fillRect(x, y, w, h);
  c.strokeStyle = "#c3cad4";
  c.beginPath();
  for (let k = x - h; k < x + w; k += 9) { c.moveTo(k, y + h); c.lineTo(k + h, y); }
  c.stroke();
  c.restore();
}

// --- the page ------------------------------------------------------------------------------------------------

const LEFT = 64, BOTTOM = 17;
let latestPage = 0;
async function pageSignal(t0, t1) {
  const n = Math.round((t1 - t0) * fs), out = Array.from({ length: nChans }, () => new Float32Array(n).fill(NaN));
  for (const [s, [onset, times]] of data.segments.entries()) {
    const a = Math.round((t0 - onset) * fs), from = Math.max(a - MARGIN * fs, 0), to = Math.min(a + n + MARGIN * fs, times);
    if (from >= to || a >= times || a + n <= 0) continue;
    const part = filter(await samples(s, Math.floor(from), Math.ceil(to)));
    const shift = Math.floor(from) - a, begin = Math.max(shift, 0);
    for (let c = 0; c < nChans; c++) out[c].set(part[c].subarray(begin - shift, Math.min(n, part[c].length + shift) - shift), begin);
  }
  return out;
}
async function drawPage() {
  if (!$("page").clientHeight) return;
  const mine = ++latestPage, span = SPANS[state.span], t0 = state.start, t1 = t0 + span;
  const channels = await pageSignal(t0, t1);
  if (mine !== latestPage) return;
  const { rows, lacking } = montage(state.montage), { c, width, height, ratio } = canvas($("page"));
  const x = (t) => LEFT + (t - t0) / span * (width - LEFT), { y, step } = rowPlaces(rows, 12, height - BOTTOM - 12);
  const scale = step / GAINS[state.gain], dx = (width - LEFT) / (span * fs);
  const there = channels[0] ?? new Float32Array(0), inside = (e) => e.onset < t1 && e.onset + e.duration > t0;
  for (let a = 0; a < there.length; a++) {
    if (!Number.isNaN(there[a])) continue;
    let z = a;
    while (z < there.length && Number.isNaN(there[z])) z++;
    hatch(c, LEFT + a * dx, 0, (z - a) * dx, height - BOTTOM);
    a = z;
  }
  for (const e of [...lists.values()].flat().filter(inside)) {
    c.fillStyle = e === state.event ? "rgba(255, 208, 60, 0.35)" : "rgba(120, 140, 170, 0.14)";
    c.fillRect(x(e.onset), 0, Math.max(x(e.onset + e.duration) - x(e.onset), 2), height - BOTTOM);
    c.fillStyle = COLOURS[e.verdict || "none"];
    c.fillRect(x(e.peak) - 2, 0, 4, 6);
  }
  c.strokeStyle = "#e3e7ec";
  c.fillStyle = "#667080";
  c.textAlign = "center";
  c.beginPath();
  for (let t = Math.ceil(t0); t < t1; t++) { c.moveTo(x(t), 0); c.lineTo(x(t), height - BOTTOM); }
  c.stroke();
  for (let t = Math.ceil(t0); t < t1; t += span > 15 ? 5 : 1) if (x(t) > LEFT + 20 && x(t) < width - 24) c.fillText(clockOr(t), x(t), height - 8);
  c.fillStyle = "#7a3ea8";
  c.textAlign = "left";
  for (const [onset, duration, text, channel] of data.marks.filter(([o, d]) => o < t1 && o + d >= t0)) {
    c.fillRect(x(Math.max(onset, t0)), height - BOTTOM - 4, Math.max(x(Math.min(onset + duration, t1)) - x(Math.max(onset, t0)), 2), 4);
    c.fillText(channel ? `${text} (${channel})` : text, x(Math.max(onset, t0)) + 3, height - BOTTOM - 11, 220);
  }
  const values = derive(channels, rows);
  c.save();
  c.beginPath();
  c.rect(LEFT, 0, width - LEFT, height - BOTTOM);
  c.clip();
  for (const which of [-1, 0, 1]) {
    c.strokeStyle = INK[which];
    c.beginPath();
    for (const [i, row] of rows.entries()) if (row.side === which) trace(c, values[i], LEFT, dx, y[i], scale, ratio);
    c.stroke();
  }
  c.restore();
  for (const [i, row] of rows.entries()) {
    const isPlace = state.event && row.name.split("-").includes(state.event.channel);
    c.fillStyle = INK[row.side];
    c.textAlign = "left";
    c.font = `${isPlace ? "bold " : ""}11px system-ui, Arial, sans-serif`;
    c.fillText(row.name, 6, y[i], LEFT - 8);
  }
  c.font = "11px system-ui, Arial, sans-serif";
  const uv = GAINS[state.gain];
  c.fillStyle = "rgba(255, 255, 255, 0.85)";
  c.fillRect(width - 66, height - BOTTOM - Math.max(step, 12) - 14, 64, Math.max(step, 12) + 10);
  bar(c, width - 8, height - BOTTOM - 8, uv, scale);
  describe(channels, t0, t1, lacking, rows);
  $("page").dataset.start = t0.toFixed(3);
}
function describe(channels, t0, t1, lacking, rows) {
  const e = state.event, holder = $("bar"), setting = (text, hint, act) => {
    const element = make("span", text, "setting");
    element.title = hint;
    element.addEventListener("click", act);
    holder.append(element);
  };
  holder.replaceChildren();
  if (e) {
    holder.append(make("b", data.clock === null ? hms(e.peak) : `${clockOr(e.peak)} (${hms(e.peak)})`), make("span", `${e.channel} ${whole(e.uv)} \u00b5V`),
      make("span", `score ${e.p.toFixed(2)}`), make("span", e.stage ? `stage ${e.stage}` : "no stage"), make("b", e.verdict || "not judged", `verdict ${e.verdict}`));
  }
  setting(MONTAGES[state.montage], "1 2 3 4", () => act(String((state.montage + 1) % 4 + 1)));
  setting(filterText(), "f, n", () => act("f"));
  setting(`${SPANS[state.span]} s`, "< >", () => act(">"));
  setting(`${GAINS[state.gain]} \u00b5V a row, negative up`, "+ \u2212", () => act("+"));
  const off = [...data.missing, ...data.electrodes.filter((n) => n in data.positions && !data.scalp.includes(n))];
  if (off.length) holder.append(make("span", `absent or bad: ${off.join(" ")}`, "unsure"));
  if (!rows.length) say(`this montage needs ${lacking.join(", ")}: absent here`);
  else if (channels[0] && channels[0].some(Number.isNaN)) {
    const inGap = !data.segments.some(([o, n]) => t0 < o + n / fs && t1 > o) || data.segments.length > 1 && !isHeld(t0, t1, true);
    say(isHeld(t0, t1) ? (inGap || t0 < 0 || t1 > data.end_seconds ? "" : "hatched: a gap in the recording")
      : `hatched: not in this file, which holds no more than its limit; open ${data.name} at ${clockOr(Math.max(t0, 0))} in your EEG viewer`);
  } else say("");
}
/* Whether the page holds all blocks between two times. */
function isHeld(t0, t1) {
  return data.segments.every(([onset, n], s) => {
    const a = Math.max(Math.floor((t0 - onset) * fs), 0), z = Math.min(Math.ceil((t1 - onset) * fs), n);
    for (let b = Math.floor(a / data.block_samples); b * data.block_samples < z; b++) if (z > a && !$(`block-${s}-${b}`)) return false;
    return true;
  });
}
function say(text) { $("message").textContent = text; }

// --- averages ------------------------------------------------------------------------------------------------

const epochSamples = Math.round((BEFORE + AFTER) * fs), zero = Math.round(BEFORE * fs), baseline = Math.round(0.8 * zero);
/* Two seconds around an event's peak, filtered, by channel; null if the page holds not all of them. */
async function epoch(e) {
  const s = Math.max(data.segments.findLastIndex(([onset]) => onset <= e.peak + 0.5 / fs), 0), [onset, n] = data.segments[s];
  const peak = Math.round((e.peak - onset) * fs), margin = Math.round(0.5 * MARGIN * fs);
  const a = Math.max(peak - zero - margin, 0), z = Math.min(peak - zero + epochSamples + margin, n), cut = peak - zero - a;
  if (cut < 0 || cut + epochSamples > z - a) return null;
  const part = filter(await samples(s, a, z)).map((x) => x.subarray(cut, cut + epochSamples));
  return part.some((x) => x.some(Number.isNaN)) ? null : part;
}
/* Sums over events, to which one is added or from which one is taken: a verdict costs one event, however many there are. */
function nothingYet(rows) {
  const zeros = (n) => Array.from({ length: n }, () => new Float64Array(epochSamples));
  return { rows, n: 0, events: new Map(), sum: zeros(rows.length), squares: zeros(rows.length), total: zeros(scalp.length),
    before: new Float64Array(scalp.length), after: new Float64Array(scalp.length), slope: new Float64Array(scalp.length) };
}
function include(held, one, sign) {
  held.n += sign;
  for (const [i, row] of derive(one, held.rows).entries()) {
    const sum = held.sum[i], squares = held.squares[i];
    let base = 0;
    for (let t = 0; t < baseline; t++) base += row[t] / baseline;
    for (let t = 0; t < epochSamples; t++) { const v = row[t] - base; sum[t] += sign * v; squares[t] += sign * v * v; }
  }
  const mean = new Float64Array(epochSamples);
  if (scalp.length > 1) for (const c of scalp) for (let t = 0; t < epochSamples; t++) mean[t] += one[c][t] / scalp.length;
  for (const [k, c] of scalp.entries()) {
    const x = one[c].map((v, t) => v - mean[t]), total = held.total[k];
    for (let t = 0; t < epochSamples; t++) total[t] += sign * x[t];
    const power = (a, z) => { let m = 0, v = 0; for (let t = a; t < z; t++) m += x[t] / (z - a); for (let t = a; t < z; t++) v += (x[t] - m) ** 2 / (z - a); return v; };
    let slope = 0;
    const quiet = Math.round(0.6 * zero);
    for (let t = 1; t < quiet; t++) slope += ((x[t] - x[t - 1]) * fs / 1000) ** 2 / (quiet - 1);
    held.before[k] += sign * power(0, quiet);
    held.after[k] += sign * power(zero + Math.round(0.4 * fs), epochSamples);
    held.slope[k] += sign * slope;
  }
}
/* Bring sums to these events; false where something newer came in between. `onPause` is called now and then. */
async function bring(held, some, isStale, onPause) {
  const wanted = new Set(some);
  let pause = performance.now();
  for (const e of [...[...held.events.keys()].filter((one) => !wanted.has(one)), ...some.filter((one) => !held.events.has(one))]) {
    const one = await epoch(e), sign = wanted.has(e) ? 1 : -1;
    if (isStale()) return false;
    if (one) include(held, one, sign);
    if (sign > 0) held.events.set(e, one !== null); else held.events.delete(e);
    if (performance.now() - pause > 25) {
      onPause();
      await new Promise((go) => setTimeout(go));
      if (isStale()) return false;
      pause = performance.now();
    }
  }
  return true;
}
const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];
/* Mean and SD by row of the montage, mean potentials against the average, and what is measured of them. */
function averaged({ rows, n, sum, squares, total, before, after, slope }) {
  if (!n) return { n };
  const mean = sum.map((of) => of.map((v) => v / n));
  const sd = squares.map((of, i) => of.map((v, t) => n > 1 ? Math.sqrt(Math.max(v / n - mean[i][t] ** 2, 0) * n / (n - 1)) : 0));
  const potentials = total.map((of) => { const x = of.map((v) => v / n), base = median(x.subarray(0, baseline)); return x.map((v) => v - base); });
  const root = (of) => of.map((v) => Math.sqrt(Math.max(v / n, 0)));
  return { n, rows, mean, sd, potentials, ...measure(potentials, root(before), root(after), root(slope)) };
}
/* The IFCN's operational criteria (Kane et al. 2017; Kural et al. 2020), measured at the electrode with the largest mean. */
function measure(potentials, before, after, slope) {
  const near = Math.round(0.05 * fs), size = epochSamples, ms = 1000 / fs;
  let at = zero, chan = 0;
  for (const [i, of] of potentials.entries()) for (let t = zero - near; t <= zero + near; t++)
    if (Math.abs(of[t]) > Math.abs(potentials[chan][at])) { at = t; chan = i; }
  const wave = potentials[chan], peak = wave[at], sign = Math.sign(peak) || 1;
  const edge = (step) => {  // where a fifth of the peak is left, between two samples
    for (let t = at + step; t > 0 && t < size - 1; t += step) {
      const level = wave[t] * sign - 0.2 * Math.abs(peak), earlier = wave[t - step] * sign - 0.2 * Math.abs(peak);
      if (level <= 0) return t - step + step * earlier / (earlier - level || 1);
    }
    return step < 0 ? 0 : size - 1;
  };
  const left = edge(-1), right = edge(1), steepest = (a, z) => {
    let most = 0;
    for (let t = Math.max(Math.ceil(a), 1); t <= Math.min(z, size - 1); t++) most = Math.max(most, Math.abs(wave[t] - wave[t - 1]) / ms);
    return most;
  };
  const begin = Math.ceil(right), last = Math.min(at + Math.round(0.6 * fs), size - 1);
  let slow = begin;
  for (let t = begin; t <= last; t++) if (wave[t] * sign > wave[slow] * sign) slow = t;
  const gfp = new Float64Array(size);
  for (const of of potentials) for (let t = 0; t < size; t++) gfp[t] += of[t] ** 2 / potentials.length;
  return { at, chan, peak, wave, gfp: gfp.map(Math.sqrt), map: potentials.map((of) => of[at]), duration: (right - left) * ms, rise: (at - left) * ms,
    fall: (right - at) * ms, sharpUp: steepest(left, at), sharpDown: steepest(at + 1, right), slope: slope[chan], before: before[chan], after: after[chan],
    slow: wave[slow] * sign > 0 ? wave[slow] : 0, slowAt: (slow - at) * ms };
}
function criteria(a) {
  const name = data.scalp[a.chan], share = a.map.map((v) => v / a.peak);
  const field = data.scalp.filter((_, i) => share[i] >= 0.5), other = share.indexOf(Math.min(...share));
  const kind = a.duration < 20 ? "shorter than a spike" : a.duration < 70 ? "spike: 20\u201370 ms" : a.duration <= 200 ? "sharp wave: 70\u2013200 ms" : "longer than a sharp wave";
  const ratio = Math.max(a.sharpUp, a.sharpDown) / a.slope;
  return [
    ["peak", `${name} ${whole(a.peak)} \u00b5V against the average; ${a.peak < 0 ? "surface-negative" : "surface-positive"}`],
    ["duration", `${whole(a.duration)} ms (${kind})`],
    ["sharpness", `up ${a.sharpUp.toFixed(1)}, down ${a.sharpDown.toFixed(1)} \u00b5V/ms; ${ratio.toFixed(1)} times the background's slope`],
    ["asymmetry", `rise ${whole(a.rise)} ms, fall ${whole(a.fall)} ms (${(a.fall / Math.max(a.rise, 1)).toFixed(1)})`],
    ["after-wave", Math.abs(a.slow) >= 0.1 * Math.abs(a.peak) ? `${whole(a.slow)} \u00b5V, ${whole(100 * a.slow / a.peak)} % of the peak, after ${whole(a.slowAt)} ms` : "below 10 % of the peak"],
    ["field", `${field.length} of ${data.scalp.length} electrodes reach half: ${field.join(" ")}${share[other] < -0.25 ? `; opposite at ${data.scalp[other]} ${whole(a.map[other])} \u00b5V` : ""}`],
    ["background", `${whole(a.before)} \u00b5V before, ${whole(a.after)} \u00b5V from 0.4 s after (${(a.after / a.before).toFixed(2)})`],
  ];
}
function drawAverage(element, a) {
  const { c, width, height, ratio } = canvas(element), left = 52, bottom = 14;
  if (!a.n || height < 60) return;
  const { y, step } = rowPlaces(a.rows, 8, height - bottom - 8), from = zero - Math.round(SHOWN_BEFORE * fs), to = zero + Math.round(SHOWN_AFTER * fs);
  const dx = (width - left) / (to - from - 1), x = (t) => left + (t - from) * dx;
  let largest = 1;
  for (const [i, of] of a.mean.entries()) if (a.rows[i].chain !== "rest") for (let t = from; t < to; t++) largest = Math.max(largest, Math.abs(of[t]), 1.5 * a.sd[i][t]);
  const uv = GAINS.find((g) => g >= largest / 1.7) || GAINS[GAINS.length - 1], scale = step / uv;
  c.strokeStyle = "#b9c2ce";
  c.beginPath(); c.moveTo(x(zero), 0); c.lineTo(x(zero), height - bottom); c.stroke();
  c.save();
  c.beginPath();
  c.rect(left, 0, width - left, height - bottom);
  c.clip();
  c.fillStyle = "rgba(70, 90, 120, 0.16)";
  for (const [i, of] of a.mean.entries()) {
    c.beginPath();
    for (let t = from; t < to; t++) c.lineTo(x(t), y[i] + (of[t] - a.sd[i][t]) * scale);
    for (let t = to - 1; t >= from; t--) c.lineTo(x(t), y[i] + (of[t] + a.sd[i][t]) * scale);
    c.fill();
  }
  for (const which of [-1, 0, 1]) {
    c.strokeStyle = INK[which];
    c.beginPath();
    for (const [i, row] of a.rows.entries()) if (row.side === which) trace(c, a.mean[i].subarray(from, to), left, dx, y[i], scale, ratio);
    c.stroke();
  }
  c.restore();
  c.textAlign = "left";
  c.font = `${Math.min(11, Math.max(step, 7.5))}px system-ui, Arial, sans-serif`;
  for (const [i, row] of a.rows.entries()) { c.fillStyle = INK[row.side]; c.fillText(row.name, 2, y[i], left - 4); }
  c.font = "11px system-ui, Arial, sans-serif";
  c.fillStyle = "#667080";
  c.textAlign = "center";
  for (const ms of width < 240 ? [0, 400] : [-200, 0, 200, 400, 600]) c.fillText(`${whole(ms)}${ms ? "" : " ms"}`, x(zero + ms * fs / 1000), height - 6);
  bar(c, width - 6, height - bottom - 3, uv, scale);
}
let mapWeights = null;
async function drawField(element, a) {
  const weights = mapWeights ??= data.map.weights ? await unpack(data.map.weights, scalp.length) : [];
  const { c, width, height } = canvas(element);
  if (!a.n || !weights.length || height < 60) return;
  const size = data.map.size, radius = Math.min(width / 2 - 12, height / 2 - 17), cx = width / 2, cy = height / 2 + 2, most = Math.max(...a.map.map(Math.abs), 1);
  const image = new ImageData(size, size);
  for (let p = 0; p < size * size; p++) {
    const row = Math.floor(p / size), x = 2 * (p % size) / (size - 1) - 1, y = 2 * row / (size - 1) - 1, far = Math.hypot(x, y);
    let q = p;  // a point outside takes the value of the rim, so that the rim is drawn whole
    if (far > 0.999) q = Math.round((y / far * 0.97 + 1) / 2 * (size - 1)) * size + Math.round((x / far * 0.97 + 1) / 2 * (size - 1));
    let v = 0;
    for (let k = 0; k < weights.length; k++) v += weights[k][q] * data.map.step * a.map[k];
    const s = clamp(v / most, -1, 1), pale = 255 * (1 - Math.abs(s) ** 0.8), deep = 255 - 75 * Math.abs(s);
    image.data.set([s > 0 ? deep : pale, pale + 25 * Math.abs(s), s < 0 ? deep : pale, 255], 4 * p);
  }
  const small = new OffscreenCanvas(size, size);
  small.getContext("2d").putImageData(image, 0, 0);
  c.save();
  c.beginPath();
  c.arc(cx, cy, radius, 0, 2 * Math.PI);
  c.clip();
  c.drawImage(small, cx - radius, cy - radius, 2 * radius, 2 * radius);
  c.restore();
  c.strokeStyle = "#333";
  c.beginPath();
  c.arc(cx, cy, radius, 0, 2 * Math.PI);
  c.moveTo(cx - 7, cy - radius + 1); c.lineTo(cx, cy - radius - 9); c.lineTo(cx + 7, cy - radius + 1);
  c.stroke();
  c.textAlign = "center";
  for (const [i, name] of data.scalp.entries()) {
    const [x, y] = data.positions[name], px = cx + x * radius * 0.92, py = cy - y * radius * 0.92;
    c.fillStyle = "#222";
    c.fillRect(px - 1, py - 1, 2, 2);
    if (i === a.chan) c.font = "bold 11px system-ui, Arial, sans-serif";
    if (i === a.chan || radius > 60) c.fillText(name, px, py + 8);
    c.font = "11px system-ui, Arial, sans-serif";
  }
  c.textAlign = "left";
  c.fillStyle = "#1f3fb4";
  c.fillText(`\u2212${most.toFixed(0)} \u00b5V`, 2, height - 7);
  c.fillStyle = "#b42a1f";
  c.textAlign = "right";
  c.fillText(`+${most.toFixed(0)} \u00b5V`, width - 2, height - 7);
}
function drawPower(element, a) {
  const { c, width, height, ratio } = canvas(element), bottom = 14;
  if (!a.n) return;
  const from = zero - Math.round(SHOWN_BEFORE * fs), to = zero + Math.round(SHOWN_AFTER * fs), part = a.gfp.subarray(from, to), most = Math.max(...part, 1);
  const dx = width / (part.length - 1), x = (t) => (t - from) * dx;
  c.strokeStyle = "#b9c2ce";
  c.beginPath(); c.moveTo(x(zero), 0); c.lineTo(x(zero), height - bottom); c.stroke();
  c.strokeStyle = "#22262b";
  c.beginPath();
  trace(c, part.map((v) => -v), 0, dx, height - bottom, (height - bottom - 16) / most, ratio);
  c.stroke();
  c.fillStyle = "#667080";
  c.textAlign = "left";
  c.fillText(`${most.toFixed(0)} \u00b5V`, 2, 7);
  c.textAlign = "center";
  for (const ms of width < 200 ? [0, 400] : [-200, 0, 200, 400, 600]) c.fillText(whole(ms), x(zero + ms * fs / 1000), height - 6);
}
let latestAverage = 0, held = null, measured = null;
async function showAverage() {
  const mine = ++latestAverage, some = counts(shown()), { rows } = montage(state.montage), isStale = () => mine !== latestAverage;
  const key = `${state.group} ${state.montage} ${state.filter} ${state.notch}`;
  if (held?.key !== key) held = { key, ...nothingYet(rows) };
  const sums = held, name = state.group === null ? "" : title(state.group);
  let drawn = performance.now();
  const show = async (tail) => {
    measured = rows.length && scalp.length ? averaged(sums) : { n: 0 };
    const out = [...sums.events.values()].filter((is) => !is).length;
    $("average-title").textContent = name && `${name}: mean of ${measured.n} \u00b1 SD, ${MONTAGES[state.montage]}${tail}${out ? `; ${out} too near an end, a gap or the file's limit` : ""}`;
    $("criteria").replaceChildren(measured.n ? table(criteria(measured)) : make("p", some.length ? "no event with a second of signal on either side" : "no event that counts"));
    await drawMeasured();
  };
  const isDone = await bring(sums, some, isStale, () => {
    if (performance.now() - drawn > 400) { show(` \u2026 of ${some.length}`); drawn = performance.now(); }
  });
  if (!isDone) return;
  await show("");
  $("average").dataset.n = measured.n;
}
async function drawMeasured() {
  if (!measured) return;
  drawAverage($("average"), measured);
  drawPower($("power"), measured);
  await drawField($("field"), measured);
}

// --- timeline ------------------------------------------------------------------------------------------------

function drawTimeline(element = $("timeline")) {
  const { c, width, height } = canvas(element), end = data.end_seconds, x = (t) => LEFT + t / end * (width - LEFT - 8);
  const hypTop = 8, hypBottom = data.hypnogram.length ? 46 : 8, rateTop = hypBottom + 8, rateBottom = height - 28;
  for (const [onset, duration] of data.bad) { c.fillStyle = "#e9d3d3"; c.fillRect(x(onset), 2, Math.max(x(onset + duration) - x(onset), 1), rateBottom); }
  for (let s = 0; s + 1 < data.segments.length; s++) {
    const a = data.segments[s][0] + data.segments[s][1] / fs, z = data.segments[s + 1][0];
    hatch(c, x(a), 2, Math.max(x(z) - x(a), 1), rateBottom);
  }
  c.fillStyle = "#667080";
  c.textAlign = "left";
  if (data.hypnogram.length) {
    const level = (stage) => hypTop + STAGES.indexOf(stage) / (STAGES.length - 1) * (hypBottom - hypTop);
    c.font = "8.5px system-ui, Arial, sans-serif";
    for (const stage of STAGES) c.fillText(stage, 44, level(stage));
    c.font = "11px system-ui, Arial, sans-serif";
    c.fillText("stages", 4, 26);
    c.strokeStyle = "#2b3a4d";
    c.beginPath();
    let before = null;
    for (const [onset, stage] of data.hypnogram) {
      const y = level(stage);
      if (before === onset) c.lineTo(x(onset), y); else c.moveTo(x(onset), y);
      c.lineTo(x(Math.min(onset + 30, end)), y);
      before = onset + 30;
    }
    c.stroke();
    c.fillStyle = "#c0392b";
    for (const [onset, stage] of data.hypnogram) if (stage === "R") c.fillRect(x(onset), level("R") - 1, Math.max(x(Math.min(onset + 30, end)) - x(onset), 1), 2);
  }
  const bins = Math.max(Math.min(Math.floor((width - LEFT) / 4), Math.ceil(end / 10)), 1), held = Array.from({ length: bins }, () => ({ accept: 0, none: 0, unsure: 0, n: 0 }));
  for (const some of lists.values()) for (const e of some) if (e.verdict !== "reject") { const b = held[Math.min(Math.floor(e.peak / end * bins), bins - 1)]; b[e.verdict || "none"]++; b.n++; }
  const most = Math.max(...held.map((b) => b.n), 1), perMinute = most / (end / bins / 60), w = (width - LEFT - 8) / bins;
  for (const [i, b] of held.entries()) {
    let y = rateBottom;
    for (const verdict of ["accept", "none", "unsure"]) {
      const h = b[verdict] / most * (rateBottom - rateTop);
      c.fillStyle = verdict === "none" ? "#8fa3bd" : COLOURS[verdict];
      c.fillRect(LEFT + i * w, y - h, Math.max(w - 0.5, 1), h);
      y -= h;
    }
  }
  c.fillStyle = "#667080";
  c.textAlign = "left";
  c.fillText("IEDs", 4, rateTop + 8);
  c.fillText(`${perMinute < 10 ? perMinute.toFixed(1) : perMinute.toFixed(0)}/min`, 4, rateTop + 21);
  c.fillStyle = "#7a3ea8";
  for (const [onset, duration, meaning] of data.marks) if (meaning.startsWith("IED")) c.fillRect(x(onset), rateBottom + 2, Math.max(x(onset + duration) - x(onset), 1.5), 6);
  if (data.marks.some((m) => m[2].startsWith("IED"))) c.fillText("marks", 4, rateBottom + 5);
  const isMain = element === $("timeline");
  if (isMain && state.event) { c.fillStyle = "#d48806"; c.beginPath(); const ex = x(state.event.peak); c.moveTo(ex, rateTop - 1); c.lineTo(ex - 4, rateTop - 7); c.lineTo(ex + 4, rateTop - 7); c.fill(); }
  c.strokeStyle = "#d48806";
  if (isMain) c.strokeRect(x(Math.max(state.start, 0)), 1, Math.max(x(state.start + SPANS[state.span]) - x(Math.max(state.start, 0)), 3), rateBottom + 8);
  c.fillStyle = "#667080";
  c.textAlign = "center";
  const tick = [10, 30, 60, 300, 600, 1800, 3600, 7200, 14400].find((s) => end / s <= width / 90) || 28800;
  const shift = data.clock === null ? 0 : data.clock % tick;
  for (let t = shift ? tick - shift : 0; t <= end; t += tick) if (x(t) < width - 20) { c.fillText(clockOr(t).slice(0, tick < 60 ? 8 : -3), x(t), height - 8); c.fillRect(x(t), rateBottom + 10, 1, 3); }
}

// --- what a reader does --------------------------------------------------------------------------------------

function centre() {
  const span = SPANS[state.span];
  if (state.event) state.start = clamp(state.event.peak - span / 2, 0, Math.max(data.end_seconds - span, 0));
}
function refresh({ averages = true } = {}) {
  regroup();
  if (!shown().includes(state.event)) state.event = shown()[0] || null;
  scrollToEvent();
  showClusters();
  showRows();
  showHead();
  drawTimeline();
  const drawn = drawPage();
  if (averages) drawn.then(showAverage);
  return drawn;
}
function prefetch() {
  const some = shown(), n = some.indexOf(state.event);
  for (const e of [some[n + 1], some[n - 1]]) if (e) pageBlocks(e.peak - 8, e.peak + 8);
}
function pageBlocks(t0, t1) {
  for (const [s, [onset, n]] of data.segments.entries())
    for (let b = Math.floor(Math.max((t0 - onset) * fs, 0) / data.block_samples); b * data.block_samples < Math.min((t1 - onset) * fs, n); b++) block(s, b);
}
function select(e) {
  const another = e && isShown(e) && e.group !== state.group;
  if (another) state.group = e.group;
  state.event = e;
  centre();
  refresh({ averages: another || dirty }).then(prefetch);
  dirty = false;
}
let dirty = false;
function choose(g) { state.group = g; dirty = true; select(shown()[0] || null); }
function step(by) {
  const some = shown(), next = some[some.indexOf(state.event) + by];
  if (next) return select(next);
  const groups = [...lists.keys()], other = groups[groups.indexOf(state.group) + by];
  if (other === undefined) { say(by > 0 ? "this was the last event" : "this is the first event"); if (dirty) { select(state.event); } return; }
  state.group = other;
  dirty = true;
  select(by > 0 ? shown()[0] : shown()[shown().length - 1]);
}
function stepGroup(by) {
  const groups = [...lists.keys()], other = groups[groups.indexOf(state.group) + by];
  if (other !== undefined) choose(other); else if (dirty) select(state.event);
}
/* To the next event that nobody has judged, in whatever cluster. */
function stepToOpen() {
  const all = [...lists.values()].flat(), from = all.indexOf(state.event) + 1;
  const next = [...all.slice(from), ...all.slice(0, from)].find((e) => !e.verdict);
  if (next) { dirty ||= next.group !== state.group; select(next); } else say("every event is judged: s saves");
}
function judge(verdict) {
  if (!state.event) return;
  give([state.event], verdict);
  dirty = true;
  regroup();
  step(1);
}
function judgeGroup(verdict) {
  give(shown().filter((e) => !e.verdict), verdict);
  dirty = true;
  regroup();
  stepGroup(1);
}
/* The slider and [ ] go by log-odds, as scores do. */
const logit = (p) => Math.log(p / (1 - p)), floor = logit(Math.max(Math.min(...events.map((e) => e.p), data.threshold), 1e-4)), ceiling = Math.max(logit(0.999), floor + 1);
const toSlider = (p) => 1000 * (logit(p) - floor) / (ceiling - floor);
function setThreshold(value) {
  const logOdds = clamp(value, floor, ceiling);
  state.threshold = 1 / (1 + Math.exp(-logOdds));
  const before = state.event;
  refresh().then(() => { if (state.event !== before) { centre(); drawPage(); } });
}
const HELP = [
  ["j k", "next, previous event"], ["J K", "next, previous cluster"], ["a r u", "accept, reject, unsure; then the next event"],
  ["A R", "accept or reject all of the cluster that have no verdict; then the next cluster"], ["z", "undo"], ["s", "save the verdicts as a table"],
  ["o", "open a saved table"], ["1 2 3 4", MONTAGES.join(", ")], ["+ \u2212", "gain"], ["< >", "seconds on a page"], ["\u2190 \u2192", "page before, after; Home: back to the event"],
  ["f n", "filters, notch"], ["[ ]", "lower, raise the threshold"], ["p", "summary on one page, to print"], ["?", "this help"],
];
function notes() {
  const n = data.marks_left_out;
  return n ? [...data.notes, `${n} marks of the recording that name no discharge and no stage are not shown: their texts may name a person`] : data.notes;
}
function help() {
  const box = $("help");
  if (box.open) return box.close();
  box.replaceChildren(make("h2", "Keys"), table(HELP), make("h2", "What you see"),
    make("p", "Events with like fields on the head form a cluster. Averages, counts and rates leave rejected events out and follow each verdict. Negative is up. Rates have 95 % Poisson intervals and rest on the minutes that were analysed."),
    make("p", `Verdicts are kept in this browser where it allows that, and are safe once saved. Then: siamese-jax review FOLDER ${data.name}_verdicts.tsv`),
    make("p", `Model: ${data.model}. Threshold ${data.threshold.toPrecision(3)}: ${data.threshold_origin}. siamese-jax ${data.versions["siamese-jax"]}.`),
    ...notes().map((note) => make("p", note)), make("p", "Research use only. Not a medical device."), make("button", "Close"));
  box.querySelector("button").addEventListener("click", () => box.close());
  box.showModal();
}
async function summary() {
  const box = $("summary"), some = [...lists.values()].flat(), kept = counts(some), judged = some.filter((e) => e.verdict).length;
  document.body.classList.add("summary");
  const close = make("button", "Back"), print = make("button", "Print");
  close.addEventListener("click", leaveSummary);
  print.addEventListener("click", () => window.print());
  const strip = make("div", undefined, "strip"), stripCanvas = make("canvas"), foci = make("div", undefined, "foci");
  strip.append(stripCanvas);
  box.replaceChildren(close, " ", print, make("h1", `${data.name}: interictal epileptiform discharges`),
    make("p", `${minutes(data.analysed_seconds)} analysed of ${minutes(data.recording_seconds)}${data.clock === null ? "" : `, from ${clockOr(0)}`}. Threshold ${state.threshold.toPrecision(2)}. ${judged} of ${some.length} events judged${judged ? ": " : ""}${tally(some).map(([v, , n]) => `${v} ${n}`).join(", ")}. Rejected events are left out.`),
    make("h2", "Rate by stage (stages by the model)"), table(stageRows(kept), STAGE_HEAD), strip, make("h2", "Foci"), foci, ...data.notes.map((note) => make("p", note)),
    make("p", `Model: ${data.model}. ${filterText()}. siamese-jax ${data.versions["siamese-jax"]}. Research use only. Not a medical device.`));
  drawTimeline(stripCanvas);
  const { rows } = montage(state.montage);
  for (const [g, all] of [...lists].filter(([g]) => g !== NO_GROUP).slice(0, 4)) {
    const these = counts(all);
    const sums = nothingYet(rows);
    await bring(sums, these, () => false, () => {});
    const a = averaged(sums), holder = make("div", undefined, "focus"), pair = make("div", undefined, "pair"), left = make("canvas"), right = make("canvas");
    pair.append(left, right);
    holder.append(make("b", `${title(g)}: ${these.length}, ${rate(these.length, minutesOf.all).join("/h (")})`), pair);
    foci.append(holder);
    if (!a.n) continue;
    holder.append(make("p", `${criteria(a)[0][1]}; ${criteria(a)[1][1]}`));
    drawAverage(left, a);
    await drawField(right, a);
  }
  box.dataset.ready = "yes";
}
function leaveSummary() { document.body.classList.remove("summary"); refresh(); }

const KEYS = {
  j: () => step(1), k: () => step(-1), J: () => stepGroup(1), K: () => stepGroup(-1),
  a: () => judge("accept"), r: () => judge("reject"), u: () => judge("unsure"), A: () => judgeGroup("accept"), R: () => judgeGroup("reject"),
  g: stepToOpen, z: () => { dirty = true; undo(); }, s: save, o: () => $("file").click(), "?": help, p: summary,
  "+": () => gain(-1), "=": () => gain(-1), "-": () => gain(1), ">": () => span(1), "<": () => span(-1), ".": () => span(1), ",": () => span(-1),
  "[": () => setThreshold(logit(state.threshold) - 0.25), "]": () => setThreshold(logit(state.threshold) + 0.25),
  f: () => { state.filter = (state.filter + 1) % FILTERS.length; refresh(); }, n: () => { state.notch = (state.notch + 1) % NOTCHES.length; refresh(); },
  ArrowRight: () => turn(1), ArrowLeft: () => turn(-1), ArrowDown: () => step(1), ArrowUp: () => step(-1), Home: () => { centre(); refresh({ averages: false }); },
  Escape: () => { if (document.body.classList.contains("summary")) leaveSummary(); },
  ...Object.fromEntries([0, 1, 2, 3].map((m) => [String(m + 1), () => { state.montage = m; refresh(); }])),
};
function gain(by) { state.gain = clamp(state.gain + by, 0, GAINS.length - 1); drawPage(); }
function span(by) { state.span = clamp(state.span + by, 0, SPANS.length - 1); centre(); refresh({ averages: false }); }
function turn(by) { go(state.start + by * SPANS[state.span]); }
function go(t) { state.start = clamp(t, 0, Math.max(data.end_seconds - SPANS[state.span], 0)); drawTimeline(); drawPage(); }
function act(name) { KEYS[name]?.(); }

document.addEventListener("keydown", (press) => {
  if (press.ctrlKey || press.metaKey || press.altKey || press.target.matches("input:not([type=range])")) return;
  if ($("help").open && press.key !== "?") return;
  if (document.body.classList.contains("summary") && press.key !== "Escape") return;
  if (!(press.key in KEYS)) return;
  press.preventDefault();
  act(press.key);
});
$("events").addEventListener("scroll", showRows);
$("threshold").addEventListener("input", () => setThreshold(floor + $("threshold").value / 1000 * (ceiling - floor)));
$("timeline").addEventListener("click", (click) => {
  const box = $("timeline").getBoundingClientRect();
  go((click.clientX - box.left - LEFT) / (box.width - LEFT - 8) * data.end_seconds - SPANS[state.span] / 2);
});
$("page").addEventListener("click", (click) => {
  const box = $("page").getBoundingClientRect(), t = state.start + (click.clientX - box.left - LEFT) / (box.width - LEFT) * SPANS[state.span];
  const near = [...lists.values()].flat().filter((e) => Math.abs(e.peak - t) < 0.15).sort((a, b) => Math.abs(a.peak - t) - Math.abs(b.peak - t))[0];
  if (near) { dirty = near.group !== state.group; select(near); }
});
for (const [id, name] of [["undo", "z"], ["save", "s"], ["open", "o"], ["help-button", "?"], ["print", "p"]]) $(id).addEventListener("click", () => { $(id).blur(); act(name); });
$("file").addEventListener("change", () => { if ($("file").files[0]) load($("file").files[0]); $("file").value = ""; });
$("reader").addEventListener("change", keep);
window.addEventListener("beforeunload", (leaving) => { if (!state.saved) leaving.preventDefault(); });
new ResizeObserver(() => document.body.classList.contains("summary") || refresh({ averages: false }).then(drawMeasured)).observe(document.querySelector("main"));

document.title = `${data.name}: review`;
$("name").textContent = data.name;
$("facts").textContent = `${minutes(data.analysed_seconds)} analysed of ${minutes(data.recording_seconds)}${data.clock === null ? "" : `, from ${clockOr(0)}`}`;
restore();
regroup();
state.event = shown()[0] || null;
centre();
refresh().then(prefetch);
})();
