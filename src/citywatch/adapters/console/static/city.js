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
const WORDS = { allow: "let through", ask: "asked", deny: "stopped", turned_away: "turned away", quarantined: "in quarantine", lifted: "acts again", halted: "stopped", resumed: "acts again" };
const STANDING = new Set(["revoked", "quarantined", "lifted", "halted", "resumed"]);
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

// So many as can be read stand there by name, in rows if they must; more of them are dots, whose names come when asked.
function stand(list, from, to, most) {
  const across = (tall ? width : height) * 0.86, room = Math.max(1, Math.floor(across / (tall ? 112 : 36)));
  const lanes = Math.ceil(list.length / room);
  if (lanes <= most) spread(list, from, to, Math.ceil(list.length / Math.max(1, lanes)), false);
  else {
    const along = (tall ? height : width) * (to - from);
    const most_rows = Math.max(1, Math.floor(across / 21));
    spread(list, from, to, Math.max(1, Math.min(most_rows, Math.ceil(Math.sqrt(list.length * across / along)))), true);
  }
}

function spread(list, from, to, rows, dot) {
  const lanes = Math.ceil(list.length / rows) || 1;
  list.forEach((one, i) => {
    const lane = Math.floor(i / rows), row = i % rows, here = Math.min(rows, list.length - lane * rows);
    one.u = lanes === 1 ? (from + to) / 2 : from + (to - from) * lane / (lanes - 1);
    one.v = dot ? 0.09 + 0.86 * (row + 0.5 + (lane % 2) * 0.4) / (rows + 0.4) : 0.09 + 0.86 * (row + 0.5) / here;
    one.dot = dot;
  });
}

function arrange() {
  const kinds = { person: [], agent: [], rest: [] };
  for (const one of [...places.values()].sort((a, b) => a.name.localeCompare(b.name)))
    (kinds[one.kind] || kinds.rest).push(one);
  stand(kinds.person, tall ? 0.09 : 0.1, tall ? 0.16 : 0.1, tall ? 2 : 1);
  stand(kinds.agent, tall ? 0.3 : 0.3, tall ? 0.5 : 0.46, tall ? 4 : 2);
  untangle(kinds.rest);
  stand(kinds.rest, tall ? 0.76 : 0.84, tall ? 0.95 : 0.9, tall ? 4 : 1);
  for (const one of places.values()) {
    [one.x, one.y] = at(one.u, one.v);
    settle(one);
  }
  roads.forEach(trace);
}

// What is reached stands across from whoever goes there most, so that fewer roads cross.
function untangle(list) {
  const pull = new Map();
  for (const road of roads.values()) {
    const from = places.get(road.from), weight = 1 + Math.log2(1 + road.passed + road.asked + road.stopped);
    if (!from || from.v === undefined) continue;
    const [sum, count] = pull.get(road.to) || [0, 0];
    pull.set(road.to, [sum + from.v * weight, count + weight]);
  }
  const middle = (one) => { const [sum, count] = pull.get(one.id) || [0, 0]; return count ? sum / count : 2; };
  list.sort((a, b) => middle(a) - middle(b) || a.name.localeCompare(b.name));
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

// A road as points, and how far along it meets the gate (a fraction of a point too).
function trace(road) {
  const a = places.get(road.from), b = places.get(road.to);
  if (!a || !b) { road.line = null; return; }
  const line = new Float32Array(SAMPLES * 2);
  const loop = (a.u < GATE) === (b.u < GATE) && a.kind !== "person";
  const turn = (4 * GATE - a.u - b.u) / 2, m = (a.u + b.u) / 2;
  let before = a.u;
  road.gate = (SAMPLES - 1) * (loop ? 0.5 : 0.7);
  for (let i = 0; i < SAMPLES; i++) {
    const t = i / (SAMPLES - 1), s = 1 - t;
    let u, v;
    if (loop) {
      u = s * s * a.u + 2 * s * t * turn + t * t * b.u;
      v = s * s * a.v + 2 * s * t * (a.v + b.v) / 2 + t * t * b.v;
    } else {
      u = s ** 3 * a.u + 3 * s * s * t * m + 3 * s * t * t * m + t ** 3 * b.u;
      v = s ** 3 * a.v + 3 * s * s * t * a.v + 3 * s * t * t * b.v + t ** 3 * b.v;
      if (i && (before < GATE) !== (u < GATE)) road.gate = i - 1 + (GATE - before) / (u - before);
    }
    before = u;
    [line[2 * i], line[2 * i + 1]] = at(u, v);
  }
  road.line = line;
}

function point(line, place) {
  const i = Math.min(SAMPLES - 2, Math.floor(place)), f = place - i;
  return [line[2 * i] + f * (line[2 * i + 2] - line[2 * i]), line[2 * i + 1] + f * (line[2 * i + 3] - line[2 * i + 1])];
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
    const [x, y] = point(road.line, road.gate);
    paint.fillStyle = colours.deny;
    paint.beginPath(); paint.arc(x, y, Math.min(5, 2 + Math.log2(1 + road.stopped) * 0.5), 0, 7); paint.fill();
  }
  signs();
}

function signs() {
  for (const [name, u, text] of [["s-people", tall ? 0.035 : 0.1, "people"], ["s-agents", tall ? 0.235 : 0.38, "agents"], ["s-gate", tall ? GATE - 0.03 : GATE, "citywatch"], ["s-rest", tall ? 0.71 : 0.87, "what they reach"]]) {
    let sign = document.getElementById(name);
    if (!sign) {
      sign = document.createElement("div");
      sign.id = name; sign.className = "sign"; sign.textContent = text; sign.setAttribute("aria-hidden", "true");
      stage.append(sign);
    }
    const [x, y] = at(u, 0);
    sign.style.transform = tall ? `translate(8px, ${Math.round(y) - 9}px)` : `translate(${Math.round(x)}px, 9px) translateX(-50%)`;
    sign.hidden = !places.size;
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
      const eased = spent / one.travel, [x, y] = point(line, eased * one.end * (SAMPLES - 1));
      paint.globalAlpha = Math.min(1, (1 - eased) * 4 + (one.flash ? 1 : 0.1));
      paint.beginPath(); paint.arc(x, y, 3, 0, 7); paint.fill();
    } else {
      const age = (spent - one.travel) / FLASH_MS, [x, y] = point(line, one.road.gate);
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
  for (const [href, when, source, target, became, name, code, label, quiet, count] of told) {
    if (STANDING.has(became)) { fresh = true; pending.push([href, when, source, target, became, name, code, count]); continue; }
    let road = roads.get(`${source}\n${target}`) || null;
    const back = became === "released" || became === "withheld" || became === "failed";
    if (!road && back) road = mirrored(source, target);
    if (!road && source !== "gate" && target !== "gate") {
      if (!places.has(source) || !places.has(target)) fresh = true;
      else { road = { from: source, to: target, passed: 0, asked: 0, stopped: 0, label: "" }; roads.set(`${source}\n${target}`, road); trace(road); }
    }
    if ((!road && became === "turned_away") || became === "withheld") add("stopped", count);
    if (road && !back) {
      if (label !== "" || source.startsWith("a:")) road.label = label;
      if (became === "allow") { road.passed++; add("passed", 1); }
      else if (became === "ask") { road.asked++; add("asked", 1); }
      else { road.stopped += count; add("stopped", count); }
      stale = true;
    }
    if (road && became !== "released" && !(quiet && moving.length > MOST_MOVING / 3)) start(road, became, now);
    if (!quiet && became !== "released") pending.push([href, when, source, target, became, name, code, count]);
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

function line([href, when, source, target, became, name, code, count]) {
  const item = document.createElement("li"), time = document.createElement("time"), middle = document.createElement("span");
  const link = document.createElement(href ? "a" : "span"), what = document.createElement("span"), pill = document.createElement("span");
  const moment = new Date(when).toISOString();
  time.dateTime = moment; time.textContent = moment.slice(11, 19); time.title = `${moment.slice(0, 19).replace("T", " ")} UTC`;
  if (href) link.href = href;
  link.textContent = STANDING.has(became) ? (source === "gate" ? "everybody" : lastPart(source)) : `${source === "gate" ? "somebody" : lastPart(source)} → ${lastPart(target)}`;
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
