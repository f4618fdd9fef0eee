// The city as a picture. People on one side, agents in the middle, what they reach on the other, and the gate between:
// whatever goes, goes through it, and whatever is stopped flashes there.
//
// Places are links (the keyboard and a reader have them); roads are drawn once on one canvas, and what moves on another,
// which is cleared for each frame and touched by nothing while nothing moves. Nothing here decides or remembers: the
// page can be thrown away at any time, and the log is what happened.
"use strict";

const stage = document.getElementById("stage");
const layer = document.getElementById("places");
const roadsCanvas = document.getElementById("roads");
const movingCanvas = document.getElementById("moving");
const ticker = document.getElementById("ticker");
const live = document.getElementById("live");
const still = matchMedia("(prefers-reduced-motion: reduce)");
const dark = matchMedia("(prefers-color-scheme: dark)");

const GATE = 0.655;          // where the gate stands, along the way from people to what is reached
const SAMPLES = 28;
const TRAVEL_MS = 950, FLASH_MS = 1300;
const MOST_MOVING = 240;
const TICKER = 12;
const WORDS = { allow: "let through", ask: "asked", deny: "stopped", withheld: "withheld", turned_away: "turned away", failed: "failed" };
const WORSE = new Set(["deny", "withheld", "turned_away", "failed"]);

const places = new Map();    // id → {kind, name, note, u, v, x, y, node}
const roads = new Map();     // "from\nto" → {passed, asked, stopped, label, line, gate}
let colours = {}, width = 0, height = 0, ratio = 1, tall = false;
let moving = [], running = false, stale = true, lastFetch = 0, fetching = null;
let pending = [], waiting = new Map();

// -- where everything stands ------------------------------------------------------------------------------------------

function measure() {
  const box = stage.getBoundingClientRect();
  width = box.width; height = box.height; tall = width < 640;
  ratio = Math.min(window.devicePixelRatio || 1, 2);
  for (const canvas of [roadsCanvas, movingCanvas]) {
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
    canvas.getContext("2d").setTransform(ratio, 0, 0, ratio, 0, 0);
  }
}

function read() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["ink", "soft", "line", "edge", "allow", "ask", "deny", "outside", "confined", "card"])
    colours[name] = style.getPropertyValue(`--${name}`).trim();
}

// Both ways of holding a screen are one layout: `u` runs along the way of an act, `v` across it.
const at = (u, v) => tall ? [v * width, u * height] : [u * width, v * height];

function column(list, u, from = 0.1, to = 0.94) {
  const step = (to - from) / Math.max(1, list.length);
  list.forEach((one, i) => { one.u = u; one.v = from + step * (i + 0.5); one.dot = false; });
}

function block(list, from, to) {
  const across = (tall ? width : height) * 0.84, along = (tall ? height : width) * (to - from);
  const rows = Math.max(1, Math.min(Math.floor(across / 21), Math.round(Math.sqrt(list.length * across / along))));
  const columns = Math.ceil(list.length / rows);
  list.forEach((one, i) => {
    const c = Math.floor(i / rows), r = i % rows;
    one.u = from + (to - from) * (columns === 1 ? 0.5 : c / (columns - 1));
    one.v = 0.1 + 0.84 * (r + 0.5 + (c % 2) * 0.4) / (rows + 0.4);
    one.dot = true;
  });
}

function arrange() {
  const kinds = { person: [], agent: [], rest: [] };
  for (const one of [...places.values()].sort((a, b) => a.name.localeCompare(b.name)))
    (kinds[one.kind] || kinds.rest).push(one);
  const room = Math.floor((tall ? width : height) * 0.84 / (tall ? 84 : 34));
  const set = (list, u, from, to) => list.length <= room ? column(list, u) : block(list, from, to);
  set(kinds.person, 0.1, 0.04, 0.12);
  set(kinds.agent, 0.38, 0.24, 0.56);
  set(kinds.rest, 0.86, 0.76, 0.95);
  for (const one of places.values()) {
    [one.x, one.y] = at(one.u, one.v);
    settle(one);
  }
  roads.forEach(trace);
}

function settle(one) {
  if (!one.node) {
    one.node = document.createElement("a");
    one.node.href = `/city/place?id=${encodeURIComponent(one.id)}`;
    one.node.append(document.createElement("span"));
    one.node.dataset.id = one.id;
    one.node.tabIndex = -1;
    layer.append(one.node);
  }
  one.node.className = `place ${one.kind}${one.dot ? " dot" : ""}${one.note && one.kind === "agent" ? " halted" : ""}`;
  one.node.firstChild.textContent = one.name;
  one.node.setAttribute("aria-label", `${one.kind} ${one.name}${one.note ? `, ${one.note}` : ""}`);
  one.node.title = one.note || one.name;
  one.node.style.transform = `translate(${Math.round(one.x)}px, ${Math.round(one.y)}px) translate(-50%, -50%)`;
}

// A road as points, and the one of them at which it meets the gate.
function trace(road) {
  const a = places.get(road.from), b = places.get(road.to);
  if (!a || !b) { road.line = null; return; }
  const beyond = (one) => one.u > GATE;
  const line = new Float32Array(SAMPLES * 2);
  road.gate = -1;
  let before = a.u;
  const loop = a.kind === "agent" && b.kind === "agent";
  const turn = (4 * GATE - a.u - b.u) / 2;
  for (let i = 0; i < SAMPLES; i++) {
    const t = i / (SAMPLES - 1), s = 1 - t;
    let u, v;
    if (loop) {
      u = s * s * a.u + 2 * s * t * turn + t * t * b.u;
      v = s * s * a.v + 2 * s * t * (a.v + b.v) / 2 + t * t * b.v;
    } else {
      const m = (a.u + b.u) / 2;
      u = s ** 3 * a.u + 3 * s * s * t * m + 3 * s * t * t * m + t ** 3 * b.u;
      v = s ** 3 * a.v + 3 * s * s * t * a.v + 3 * s * t * t * b.v + t ** 3 * b.v;
    }
    if (road.gate < 0 && (loop ? i >= (SAMPLES - 1) / 2 : (before <= GATE) !== (u <= GATE))) road.gate = i;
    before = u;
    [line[2 * i], line[2 * i + 1]] = at(u, v);
  }
  if (road.gate < 0 && beyond(a) === beyond(b)) road.gate = Math.floor(SAMPLES * 0.7);
  road.line = line;
}

// -- roads ------------------------------------------------------------------------------------------------------------

function draw() {
  stale = false;
  const paint = roadsCanvas.getContext("2d");
  paint.clearRect(0, 0, width, height);
  if (!places.size) return;
  const [x1, y1] = at(GATE, 0.035), [x2, y2] = at(GATE, 0.985);
  paint.strokeStyle = colours.edge; paint.lineWidth = 1.5; paint.setLineDash([1, 5]); paint.lineCap = "round";
  paint.beginPath(); paint.moveTo(x1, y1); paint.lineTo(x2, y2); paint.stroke();
  const many = roads.size > 120;
  for (const road of roads.values()) {
    if (!road.line) continue;
    const volume = road.passed + road.asked + road.stopped;
    paint.lineWidth = Math.min(7, 0.8 + Math.log2(1 + volume) * (many ? 0.22 : 0.55));
    paint.globalAlpha = many ? 0.22 : 0.42;
    paint.strokeStyle = road.label.includes("u") ? colours.outside : road.label.includes("c") ? colours.confined : colours.edge;
    paint.setLineDash(road.label.includes("u") ? [6, 5] : []);
    paint.beginPath();
    paint.moveTo(road.line[0], road.line[1]);
    for (let i = 1; i < SAMPLES; i++) paint.lineTo(road.line[2 * i], road.line[2 * i + 1]);
    paint.stroke();
  }
  paint.setLineDash([]); paint.globalAlpha = 1;
  for (const road of roads.values()) {
    if (!road.line || !road.stopped) continue;
    const x = road.line[2 * road.gate], y = road.line[2 * road.gate + 1];
    paint.fillStyle = colours.deny;
    paint.beginPath(); paint.arc(x, y, Math.min(5, 2 + Math.log2(1 + road.stopped) * 0.5), 0, 7); paint.fill();
  }
  signs();
}

function signs() {
  for (const [name, u, text] of [["s-people", 0.1, "people"], ["s-agents", 0.38, "agents"], ["s-gate", GATE, "citywatch"], ["s-rest", 0.86, "what they reach"]]) {
    let sign = document.getElementById(name);
    if (!sign) {
      sign = document.createElement("div");
      sign.id = name; sign.className = "sign"; sign.textContent = text; sign.setAttribute("aria-hidden", "true");
      stage.append(sign);
    }
    const [x, y] = at(u, 0);
    sign.style.transform = tall ? `translate(8px, ${Math.round(y) - 38}px)` : `translate(${Math.round(x)}px, 9px) translateX(-50%)`;
    sign.hidden = tall && name === "s-gate" ? false : !places.size;
  }
}

// -- what moves -------------------------------------------------------------------------------------------------------

function start(road, became, now) {
  if (!road.line) return;
  if (moving.length >= MOST_MOVING) moving.splice(0, moving.length - MOST_MOVING + 1);
  const stopped = WORSE.has(became), ask = became === "ask";
  const end = stopped || ask ? road.gate / (SAMPLES - 1) : 1;
  const travel = still.matches ? 0 : TRAVEL_MS * Math.max(0.35, end);
  moving.push({ road, begun: now, travel, end, colour: stopped ? "deny" : ask ? "ask" : road.label.includes("u") ? "outside" : "allow", flash: stopped || ask });
  wake();
}

function wake() {
  if (!running && !document.hidden) { running = true; requestAnimationFrame(frame); }
}

function frame(now) {
  const paint = movingCanvas.getContext("2d");
  paint.clearRect(0, 0, width, height);
  if (stale && now - drawn > 700) { drawn = now; draw(); }
  let kept = 0;
  for (const one of moving) {
    const spent = now - one.begun, line = one.road.line;
    if (!line || spent > one.travel + (one.flash ? FLASH_MS : 0)) continue;
    moving[kept++] = one;
    paint.fillStyle = paint.strokeStyle = colours[one.colour];
    if (spent < one.travel) {
      const eased = spent / one.travel, place = eased * one.end * (SAMPLES - 1);
      const i = Math.min(SAMPLES - 2, Math.floor(place)), f = place - i;
      const x = line[2 * i] + f * (line[2 * i + 2] - line[2 * i]), y = line[2 * i + 1] + f * (line[2 * i + 3] - line[2 * i + 1]);
      paint.globalAlpha = Math.min(1, (1 - eased) * 4 + (one.flash ? 1 : 0.1));
      paint.beginPath(); paint.arc(x, y, 3, 0, 7); paint.fill();
    } else {
      const age = (spent - one.travel) / FLASH_MS, x = line[2 * one.road.gate], y = line[2 * one.road.gate + 1];
      paint.globalAlpha = 1 - age;
      paint.beginPath(); paint.arc(x, y, 4.5, 0, 7); paint.fill();
      paint.lineWidth = 2.2 * (1 - age) + 0.3;
      paint.beginPath(); paint.arc(x, y, still.matches ? 9 : 5 + 22 * Math.sqrt(age), 0, 7); paint.stroke();
    }
  }
  moving.length = kept;
  paint.globalAlpha = 1;
  if (kept || stale) requestAnimationFrame(frame); else running = false;
}
let drawn = 0;

// -- what happens -----------------------------------------------------------------------------------------------------

function happened(told) {
  const now = performance.now();
  let fresh = false;
  for (const [decided, when, source, target, became, name, code, label, quiet, count] of told) {
    let road = roads.get(`${source}\n${target}`) || null;
    const back = became === "released" || became === "withheld" || became === "failed";
    if (!road && back) road = mirrored(source, target);
    if (!road && source !== "gate" && target !== "gate") {
      if (!places.has(source) || !places.has(target)) fresh = true;
      else { road = { from: source, to: target, passed: 0, asked: 0, stopped: 0, label: "" }; roads.set(`${source}\n${target}`, road); trace(road); }
    }
    if (road && !back) {
      if (label !== "" || source.startsWith("a:")) road.label = label;
      if (became === "allow") { road.passed++; add("passed", 1); }
      else if (became === "ask") { road.asked++; add("asked", 1); }
      else if (became === "deny") { road.stopped++; add("stopped", 1); }
      stale = true;
    }
    if (road && became !== "released" && !(quiet && moving.length > MOST_MOVING / 3)) start(road, became, now);
    if (!quiet && became !== "released") pending.push([decided, when, source, target, became, name, code, count]);
  }
  if (fresh) refresh();
  wake();
}

// A reply goes back on the road that its call came on.
function mirrored(source, target) {
  const road = { from: source, to: target, passed: 0, asked: 0, stopped: 0, label: "" };
  if (!places.has(source) || !places.has(target)) return null;
  trace(road);
  return road;
}

const totals = {};
for (const one of document.querySelectorAll("[data-total]")) totals[one.dataset.total] = { node: one, count: Number(one.textContent.replaceAll(",", "")), dirty: false };
function add(name, count) { totals[name].count += count; totals[name].dirty = true; }

const lastPart = (id) => id === "gate" ? "the gate" : id.slice(2);

// Words and counts change four times a second at most: nobody reads faster, and each change costs a layout.
setInterval(() => {
  for (const one of Object.values(totals)) if (one.dirty) { one.node.textContent = one.count.toLocaleString("en"); one.dirty = false; }
  if (!pending.length) return;
  document.getElementById("ticker-empty")?.remove();
  document.getElementById("nothing")?.remove();
  const lines = pending.slice(-TICKER).map(line);
  pending = [];
  ticker.prepend(...lines.reverse());
  while (ticker.children.length > TICKER) ticker.lastElementChild.remove();
}, 250);

function line([decided, when, source, target, became, name, code, count]) {
  const item = document.createElement("li"), time = document.createElement("time"), middle = document.createElement("span");
  const link = document.createElement("a"), what = document.createElement("span"), pill = document.createElement("span");
  const moment = new Date(when).toISOString();
  time.dateTime = moment; time.textContent = moment.slice(11, 19); time.title = `${moment.slice(0, 19).replace("T", " ")} UTC`;
  link.href = `/decisions/${decided}`; link.textContent = `${source === "gate" ? "somebody" : lastPart(source)} → ${lastPart(target)}`;
  what.className = "quiet"; what.textContent = ` ${code || name}${count > 1 ? ` × ${count}` : ""}`;
  pill.className = `pill ${became}`; pill.textContent = WORDS[became] || became;
  middle.append(link, what); item.append(time, middle, pill);
  return item;
}

// -- where it comes from ----------------------------------------------------------------------------------------------

async function refresh() {
  if (fetching) return fetching;
  const wait = Math.max(0, 1500 - (performance.now() - lastFetch));
  fetching = new Promise((done) => setTimeout(done, lastFetch ? wait : 0)).then(load).finally(() => { fetching = null; });
  return fetching;
}

async function load() {
  lastFetch = performance.now();
  const answer = await fetch(stage.dataset.source, { headers: { accept: "application/json" } });
  if (!answer.ok) { if (answer.status === 401) location.reload(); return null; }
  const city = await answer.json();
  for (const one of city.places) places.set(one.id, Object.assign(places.get(one.id) || {}, one));
  for (const one of city.roads) {
    const key = `${one.from}\n${one.to}`;
    roads.set(key, Object.assign(roads.get(key) || {}, one));
  }
  arrange(); draw(); rove();
  return city;
}

function listen(from) {
  const source = new EventSource(`${stage.dataset.stream}?from=${from}`);
  source.onmessage = (event) => happened(JSON.parse(event.data));
  source.onopen = () => { live.textContent = "live"; };
  source.onerror = () => { live.textContent = source.readyState === EventSource.CLOSED ? "not live: load the page again" : "waiting for the console"; };
}

// -- hands and keys ---------------------------------------------------------------------------------------------------

let current = null;

function rove(next) {
  const ordered = [...places.values()].sort((a, b) => a.u - b.u || a.v - b.v);
  if (!next) next = current && places.has(current) ? places.get(current) : ordered[0];
  if (!next) return;
  if (current && places.has(current)) places.get(current).node.tabIndex = -1;
  current = next.id;
  next.node.tabIndex = 0;
}

stage.addEventListener("keydown", (event) => {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
  const here = places.get(event.target.dataset?.id);
  if (!way || !here) return;
  event.preventDefault();
  let best = null, least = Infinity;
  for (const one of places.values()) {
    const dx = one.x - here.x, dy = one.y - here.y, along = dx * way[0] + dy * way[1];
    if (one === here || along <= 1) continue;
    const cost = along + 2.5 * Math.abs(dx * way[1]) + 2.5 * Math.abs(dy * way[0]);
    if (cost < least) { least = cost; best = one; }
  }
  if (best) { rove(best); best.node.focus(); }
});

layer.addEventListener("click", (event) => {
  const node = event.target.closest("a");
  if (!node || event.metaKey || event.ctrlKey) return;
  event.preventDefault();
  rove(places.get(node.dataset.id));
  for (const one of layer.querySelectorAll("[aria-expanded]")) one.removeAttribute("aria-expanded");
  node.setAttribute("aria-expanded", "true");
  htmx.ajax("GET", node.getAttribute("href"), { target: "#inspector", swap: "innerHTML" });
});

let resized = 0;
new ResizeObserver(() => {
  clearTimeout(resized);
  resized = setTimeout(() => { measure(); arrange(); draw(); }, 80);
}).observe(stage);
dark.addEventListener("change", () => { read(); draw(); });
document.addEventListener("visibilitychange", () => { moving = []; wake(); });

read(); measure();
load().then((city) => { if (city) listen(city.seen); });
