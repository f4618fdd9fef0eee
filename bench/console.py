"""The console's City in a real Chromium: two hundred agents, fifty events a second, how long its frames take.

A city is seeded, `citywatch console` serves it by its own command line, a second process writes decisions at a fixed
pace, and the browser's own clock says how far apart its frames were (`requestAnimationFrame` to the next) and how long
the page's own work in each of them took. Chromium draws in software here (`--disable-gpu`): with a graphics card it is
faster. The floor in the same run is an empty page whose script asks for frames and does nothing.
Also: how long until the first thing is painted on each page, by the browser's own measure. Run it: `python -m bench
console`.
"""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from bench.decide import row
from bench.gateway import free_port
from citywatch.adapters.sqlite import open_store
from citywatch.core.events import Decided
from citywatch.core.log.entry import encode_event
from citywatch.service.ports import Append, NewEntry

AGENTS, SERVERS, PEOPLE = 200, 24, 8
EVENTS_S = 50
SECONDS, WARM_S = 20, 4
ROUNDS = 3
PAGES = ("/", "/tickets", "/decisions", "/agents", "/policy", "/log", "/people")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
COUNT = """() => {
  window.frames_ = []; window.work_ = [];
  let last = 0;
  const tick = (now) => { if (last) window.frames_.push(now - last); last = now; raf(tick); };
  const raf = window.requestAnimationFrame.bind(window);
  window.requestAnimationFrame = (call) => raf((now) => {
    const begun = performance.now(); call(now); window.work_.push(performance.now() - begun);
  });
  raf(tick);
}"""


def configuration(port: int) -> str:
    agents = "\n".join(f"  agent-{number}: {{}}" for number in range(AGENTS))
    servers = "\n".join(f"  server-{number}: {{url: http://127.0.0.1:1/mcp}}" for number in range(SERVERS))
    people = "\n".join(f"  person-{number}: {{may: [server-0/*]}}" for number in range(PEOPLE))
    return (
        f"trust_domain: bench.example\nstate: state\nconsole: {{listen: '127.0.0.1:{port}'}}\n"
        f"agents:\n{agents}\nservers:\n{servers}\nprincipals:\n{people}\n"
    )


def happening(draw: random.Random) -> NewEntry:
    """One decision: four of five go through, most of the rest are stopped."""
    verdict, code = draw.choices((("allow", None), ("deny", "no_permit"), ("ask", "approval_required")), (80, 15, 5))[0]
    event = Decided(
        at=time.time_ns() // 1_000_000, replica="r1", call=f"{draw.getrandbits(128):032x}", direction="to_server",
        agent=f"spiffe://bench.example/agent/agent-{draw.randrange(AGENTS)}", key="k",
        server=f"server-{draw.randrange(SERVERS)}", method="tools/call", name=f"tool_{draw.randrange(9)}",
        revision="2026-07-28", effect="write", decision=verdict, code=code, policies=("some",), detail="",
        policy="p", manifest="m", pin=None, body="b",
    )  # fmt: skip
    return NewEntry(encode_event(event))


def write(folder: Path, stop: threading.Event, draw: random.Random, pace: float) -> None:
    """Record decisions at a fixed pace, until told to stop; with no pace, a lot at once."""

    async def run() -> None:
        store = open_store(folder / "state" / "citywatch.db")
        try:
            if not pace:
                for _ in range(8):
                    await store.append(Append(entries=tuple(happening(draw) for _ in range(500))))
                return
            due = time.monotonic()
            while not stop.is_set():
                await store.append(Append(entries=(happening(draw),)))
                due += 1 / pace
                await asyncio.sleep(max(0.0, due - time.monotonic()))
        finally:
            await store.close()

    asyncio.run(run())


def until(page: Any, condition: str) -> None:
    """Poll: the page's own policy lets nothing in it evaluate a text."""
    for _ in range(1000):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(20)
    sys.exit(f"waited in vain for {condition}")


def p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20)[-1]


def run() -> list[dict[str, Any]]:
    """The rows of this part."""
    chromium = shutil.which("chromium")
    if chromium is None:
        sys.exit("chromium is not installed (apt install chromium)")
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder, draw = Path(name), random.Random(7)
        (folder / "policies").mkdir()
        (folder / "policies" / "some.cedar").write_text('@id("some") permit(principal, action, resource);\n')
        (folder / "citywatch.yaml").write_text(configuration(free_port()))
        command = [sys.executable, "-m", "citywatch", "console"]
        subprocess.run([*command, "link"], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        seeded = threading.Thread(target=write, args=(folder, threading.Event(), draw, 0.0))
        seeded.start()
        seeded.join()
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        try:
            assert process.stdout is not None
            said = ""
            for line in process.stdout:
                said += line
                if line == "ready\n":
                    break
            link = re.search(r"http\S+#\S+", said)
            assert link is not None, said
            return measured(browser, link[0], folder, draw)
        finally:
            browser.close()
            process.terminate()
            process.wait(30)


def measured(browser: Any, link: str, folder: Path, draw: random.Random) -> list[dict[str, Any]]:
    page = browser.new_context(viewport={"width": 1360, "height": 900}).new_page()
    page.goto(link)
    page.wait_for_url(re.compile(r":\d+/$"))
    origin = page.url.rstrip("/")
    paints: list[float] = []
    for path in PAGES * ROUNDS:
        page.goto(f"{origin}{path}", wait_until="load")
        until(page, "performance.getEntriesByName('first-contentful-paint').length > 0")
        paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    floor_page = browser.new_page()
    floor_page.goto("about:blank")
    frames, works, floors = [], [], []
    for _ in range(ROUNDS):
        floor_page.bring_to_front()
        floor_page.evaluate(COUNT)
        floor_page.wait_for_timeout(3_000)
        floors.append(p95(floor_page.evaluate("window.frames_")))
        frame, work = watched(page.context.new_page(), origin, folder, draw)
        frames.append(frame)
        works.append(work)
    n = ROUNDS * SECONDS * EVENTS_S
    return [
        row("console.frame_p95_ms", frames, "ms", n, "an empty page", floors),
        row("console.work_p95_ms", works, "ms", n),
        row("console.first_paint_ms", [p95(paints[at::ROUNDS]) for at in range(ROUNDS)], "ms", len(paints)),
    ]


def watched(page: Any, origin: str, folder: Path, draw: random.Random) -> tuple[float, float]:
    """How far apart frames are, and the page's own work in one, at the 95th percentile, while events come."""
    page.add_init_script(f"({COUNT})()")
    page.goto(f"{origin}/")
    until(page, "document.getElementById('live').textContent === 'live'")
    stop = threading.Event()
    writing = threading.Thread(target=write, args=(folder, stop, draw, float(EVENTS_S)))
    writing.start()
    try:
        page.wait_for_timeout(WARM_S * 1000)
        places = page.evaluate("document.querySelectorAll('.stage .agent').length")
        assert places == AGENTS, f"{places} agents are drawn"
        before = int(page.locator("[data-total=passed]").inner_text().replace(",", ""))
        page.evaluate("window.frames_ = []; window.work_ = [];")
        page.wait_for_timeout(SECONDS * 1000)
        frames, works = page.evaluate("[window.frames_, window.work_]")
        after = int(page.locator("[data-total=passed]").inner_text().replace(",", ""))
        assert after - before > EVENTS_S * SECONDS * 0.8 * 0.7, f"only {after - before} of the events were seen"
    finally:
        stop.set()
        writing.join()
        page.close()
    return p95(frames), p95(works)


if __name__ == "__main__":
    for one in run():
        print(one)
