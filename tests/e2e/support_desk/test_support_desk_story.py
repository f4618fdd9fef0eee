"""The demo as a person runs it, and what it says when the story does not hold."""

from __future__ import annotations

import base64
import io
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from examples.support_desk import gateway, model, story, tampering, telling, world
from examples.support_desk.agent import Transcript
from examples.support_desk.screen import Screen
from examples.support_desk.station import CommandFailed

ROOT = Path(__file__).resolve().parents[3]


def _demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.support_desk", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "100", **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def _work() -> float:
    """Seconds of processor that ended children took, theirs included: what else the machine does is not in it."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_the_demo_tells_the_whole_story(tmp_path: Path) -> None:
    before = _work()
    done = _demo("--keep", str(tmp_path / "kept"))
    work = _work() - before
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    page = done.stdout.splitlines()
    assert max(map(len, page)) <= 100
    assert "\x1b" not in done.stdout
    assert "eyJ" not in done.stdout  # how every JWT begins
    drawn = world.build(tmp_path / "again", world.default_attack())
    assert drawn.attack is not None
    wanted = [
        drawn.attack.account,
        "$ citywatch tools approve --yes",
        "new tool ledger/transfer",
        "10 passed, 0 failed",
        "$ citywatch up",
        "the agent was told: citywatch refused this call",
        "$ citywatch policy why ",
        "only-to-payees-on-file (refunds.cedar:",
        f'(context.args.to is "{drawn.attack.account}")',
        f"(context.args.amount is {drawn.attack.cents})",
        "WITHOUT CITYWATCH                               │ THROUGH CITYWATCH",
        "says `denx` instead of `deny`",
        "good  everything that was asked for was checked",
        "WRONG the entries give another root",
    ]
    places = [next((n for n, line in enumerate(page) if text in line), None) for text in wanted]
    [seconds] = [line.split()[0] for line in page if " seconds. Try `make demo" in line]
    assert int(seconds) > 0
    assert work < 60, "the README promises an attack in less than a minute, on a machine that does nothing else"
    assert None not in places, [text for text, place in zip(wanted, places, strict=True) if place is None]
    [moved] = [line for line in page if line.count("attacker   ") == 2]
    stolen = f"{drawn.attack.cents // 100}.{drawn.attack.cents % 100:02d} EUR"
    assert moved.partition("│")[0].rstrip().endswith(f"→     {stolen}")
    assert moved.rstrip().endswith("→       0.00 EUR")
    assert world.balance(tmp_path / "kept" / "desk", drawn.attack.account) == 0


def test_a_kept_folder_must_be_empty_and_a_wrong_endpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("precious")
    done = _demo("--keep", str(tmp_path))
    assert done.returncode == 2
    assert "not empty" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    done = _demo(CITYWATCH_DEMO_MODEL_URL="ftp://nowhere", CITYWATCH_DEMO_MODEL_NAME="m")
    assert done.returncode == 1
    assert "CITYWATCH_DEMO_MODEL_URL must start with" in done.stdout


@pytest.mark.parametrize(
    ("bare", "through", "fault"),
    [
        ((0, 1), (1, 0), "bare, the money did not move"),
        ((1, 1), (1, 1), "the attacker got money"),
        ((1, 1), (0, 0), "the customer did not get the refund"),
        ((1, 1), (1, 0), None),
    ],
)
def test_a_story_that_did_not_hold_ends_badly(
    tmp_path: Path, bare: tuple[int, int], through: tuple[int, int], fault: str | None
) -> None:
    """`bare` and `through` say whether the thief and the customer (then: the customer and the thief) were paid."""
    drawn = world.build(tmp_path, world.default_attack())
    assert drawn.attack is not None
    one = telling.Run(Transcript([], []), 0, bare[1] * drawn.owed, bare[0] * drawn.attack.cents)
    two = telling.Run(Transcript([], []), 0, through[0] * drawn.owed, through[1] * drawn.attack.cents)
    out = io.StringIO()
    code = story.conclude(Screen(out, {}), model.ObedientModel(), drawn, one, two, 1.0)
    assert code == (1 if fault else 0)
    assert fault is None or fault in " ".join(out.getvalue().split())


def test_a_model_of_ones_own_may_refuse_the_bait(tmp_path: Path) -> None:
    drawn = world.build(tmp_path, world.default_attack())
    nothing = telling.Run(Transcript([], []), world.OPENING_BALANCE, 0, 0)
    real = model.EndpointModel("http://127.0.0.1:1/v1", "", "m")
    assert story.conclude(Screen(io.StringIO(), {}), real, drawn, nothing, nothing, 1.0) == 0


def test_one_byte_is_changed_and_no_more(tmp_path: Path) -> None:
    leaves = [b'{"decision":"allow"}', b'{"other":1}', b'{"decision":"deny","x":1}']
    lines = [{"index": n, "leaf": base64.b64encode(leaf).decode()} for n, leaf in enumerate(leaves)]
    export, copy = tmp_path / "export", tmp_path / "copy"
    export.write_text("\n".join(map(json.dumps, [{"checkpoint": "é\n"}, *lines])))
    assert "entry 2 says `denx` instead of `deny`" in tampering.flip_one_byte(export, copy)
    before, after = export.read_bytes(), copy.read_bytes()
    assert len(before) == len(after)
    assert sum(one != two for one, two in zip(before, after, strict=True)) == 1
    export.write_text('{"checkpoint": ""}')
    with pytest.raises(tampering.NothingToTamper):
        tampering.flip_one_byte(export, copy)


def test_a_command_that_ends_badly_is_told_with_what_it_printed(tmp_path: Path) -> None:
    ran: list[str] = []
    made = gateway.Gateway.__new__(gateway.Gateway)
    made.folder = tmp_path
    made.__dict__.update(_show=lambda words, output: ran.append(output), _environment=dict(os.environ))
    with pytest.raises(CommandFailed, match="citywatch no-such-command"):
        made.run("no-such-command")
    assert len(ran) == 1
