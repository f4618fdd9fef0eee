// How much people were asked and what they said, by the hour.
"use strict";

const place = document.getElementById("load");
const two = (number) => String(number).padStart(2, "0");

function hour(seconds) {
  const at = new Date(seconds * 1000);
  return at.getHours() ? `${two(at.getHours())}:00` : `${two(at.getMonth() + 1)}-${two(at.getDate())}`;
}

async function picture() {
  const answer = await fetch(place.dataset.load);
  if (!answer.ok) return;
  const load = await answer.json();
  const style = getComputedStyle(document.documentElement), colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const line = (label, name) => ({ label, stroke: colour(name), width: 2, points: { show: false }, paths: uPlot.paths.stepped({ align: 1 }) });
  const axis = { stroke: colour("soft"), grid: { stroke: colour("line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  const drawn = [["asked", "ask"], ["approved", "allow"], ["denied", "deny"]].filter(([name]) => name in load);
  place.replaceChildren();
  new uPlot({
    width: place.clientWidth, height: 180, cursor: { drag: { x: false, y: false } }, legend: { live: false },
    scales: { y: { range: (_, least, most) => [0, Math.max(4, most)] } },
    axes: [{ ...axis, values: (_, splits) => splits.map(hour) }, { ...axis, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000], size: 40 }],
    series: [{}, ...drawn.map(([name, colour]) => line(name, colour))],
  }, [load.hours, ...drawn.map(([name]) => load[name])], place);
}

picture();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", picture);
let wait = 0, before = place.clientWidth;
new ResizeObserver(() => { if (place.clientWidth !== before) { before = place.clientWidth; clearTimeout(wait); wait = setTimeout(picture, 150); } }).observe(place);
