// What every page does: say how long ago something was, and ask before something grave.
"use strict";

const STEPS = [[60, "second"], [60, "minute"], [24, "hour"], [365, "day"], [Infinity, "year"]];

function ago(iso) {
  let span = Math.max(0, (Date.now() - Date.parse(iso)) / 1000);
  for (const [size, name] of STEPS) {
    if (span < size) {
      const count = Math.floor(span);
      return name === "second" && count < 5 ? "just now" : `${count} ${name}${count === 1 ? "" : "s"} ago`;
    }
    span /= size;
  }
  return "";
}

function tell(root) {
  for (const one of root.querySelectorAll("time[data-ago]")) one.textContent = ago(one.dateTime);
}

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  if (opener) document.getElementById(opener.dataset.opens).showModal();
  const closer = event.target.closest("[data-closes]");
  if (closer) closer.closest("dialog").close();
});

document.addEventListener("htmx:afterSwap", (event) => tell(event.target));
tell(document);
setInterval(() => tell(document), 15000);
