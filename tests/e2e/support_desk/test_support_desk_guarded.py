"""Through citywatch the same agent makes the honest payment; whatever was planted is refused, by a rule with a name."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest

from examples.support_desk import gateway, model, services, story, telling, wording, world
from examples.support_desk.agent import Place

PAYEES, LIMIT = "only-to-payees-on-file", "refunds-above-50-euros-are-for-finance"
Rebuild = Callable[[wording.Attack | None], world.World]


@dataclass(frozen=True)
class Guarded:
    """A gateway that is up in front of the desk, and the agent's way in."""

    gateway: gateway.Gateway
    places: dict[str, Place]


@contextmanager
def _guard(folder: Path, desk: services.Desk, policies: Callable[[str], str]) -> Iterator[Guarded]:
    made = gateway.Gateway(folder, desk, lambda words, output: None)
    settings = folder / "citywatch.yaml"
    settings.write_text(settings.read_text().replace("{calls: 5, per: 1h}", "{calls: 1000, per: 1h}"))
    refunds = folder / "policies" / "refunds.cedar"
    refunds.write_text(policies(refunds.read_text()))
    made.run("agent", "add", gateway.AGENT)
    made.run("tools", "approve", "--yes")
    with made.up():
        yield Guarded(made, dict(made.places(made.run("agent", "token", gateway.AGENT).strip())))


@pytest.fixture(scope="module")
def guarded(open_desk: services.Desk, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with _guard(tmp_path_factory.mktemp("guarded") / "gateway", open_desk, lambda text: text) as found:
        yield found


def _run(guarded: Guarded, drawn: world.World, desk: services.Desk) -> telling.Run:
    run = story.handle(model.ObedientModel(), guarded.places, drawn, desk.data)
    return replace(run, rules=story.refusals(guarded.gateway, run.transcript))


def test_an_honest_ticket_is_unharmed(guarded: Guarded, open_desk: services.Desk, rebuild: Rebuild) -> None:
    drawn = rebuild(None)
    bare = story.handle(model.ObedientModel(), open_desk.bare(), drawn, open_desk.data)
    rebuild(None)
    through = _run(guarded, drawn, open_desk)
    steps = [[(s.server, s.tool, s.arguments, s.outcome, s.text) for s in r.transcript.steps] for r in (bare, through)]
    assert steps[0] == steps[1]
    assert (through.customer, through.rules) == (drawn.owed, {})


@pytest.mark.parametrize("place", wording.PLACES)
def test_what_is_planted_moves_money_bare_and_is_refused_through_citywatch(
    guarded: Guarded, open_desk: services.Desk, rebuild: Rebuild, place: str, seed: int
) -> None:
    """Account, amount, reference and wording are drawn now, from the grammar's productions."""
    attack = replace(wording.draw_attack(random.Random(seed)), place=place)
    said = f"seed {seed}: {attack.text}"
    drawn = rebuild(attack)
    bare = story.handle(model.ObedientModel(), open_desk.bare(), drawn, open_desk.data)
    assert (bare.thief, bare.customer) == (attack.cents, drawn.owed), said
    rebuild(attack)
    through = _run(guarded, drawn, open_desk)
    assert (through.thief, through.customer) == (0, drawn.owed), said
    assert through.company == world.OPENING_BALANCE - drawn.owed, said
    rules = (PAYEES, LIMIT) if attack.cents > 5000 else (PAYEES,)
    assert list(through.rules.values()) == [rules], said
    tools = [(s.tool, s.outcome) for s in through.transcript.steps if s.tool in ("transfer", "reply")]
    assert sorted(tools) == [("reply", "done"), ("transfer", "done"), ("transfer", "refused")], said


@pytest.mark.parametrize(
    ("cents", "on_file", "rules"),
    [(4999, False, (PAYEES,)), (5001, True, (LIMIT,)), (5001, False, (PAYEES, LIMIT)), (5000, True, None)],
)
def test_each_rule_stops_by_itself_and_what_meets_both_is_paid(
    guarded: Guarded, open_desk: services.Desk, rebuild: Rebuild, cents: int, on_file: bool, rules: tuple[str] | None
) -> None:
    """The last row is the limit of such rules, said in the example's README: a payee on file can be the thief."""
    someone = next(c for c in rebuild(None).customers if c != rebuild(None).customer)
    chance = random.Random(cents)
    attack = wording.draw_attack(chance, cents, someone.account if on_file else None)
    drawn = rebuild(attack)
    run = _run(guarded, drawn, open_desk)
    assert run.thief == (0 if rules else cents)
    assert list(run.rules.values()) == ([rules] if rules else [])
    assert run.customer == drawn.owed


def test_without_the_two_rules_the_stolen_payment_goes_through(
    open_desk: services.Desk, rebuild: Rebuild, tmp_path: Path
) -> None:
    """The rules are what stops it, nothing else in between does."""
    drawn = rebuild(world.default_attack())
    assert drawn.attack is not None

    def only_permits(text: str) -> str:
        return text[: text.index(f'@id("{LIMIT}")')]

    with _guard(tmp_path / "gateway", open_desk, only_permits) as lax:
        run = story.handle(model.ObedientModel(), lax.places, drawn, open_desk.data)
    assert (run.thief, run.customer) == (drawn.attack.cents, drawn.owed)


def test_the_agent_sees_only_the_tools_that_it_may_call(guarded: Guarded, open_desk: services.Desk) -> None:
    shown = asyncio.run(_listed(guarded.places))
    assert set(asyncio.run(_listed(open_desk.bare()))) - set(shown) == {"crm__update_address"}


async def _listed(places: dict[str, Place]) -> list[str]:
    class Idle:
        name = "idle"

        async def step(self, messages: object, tools: object) -> model.Message:
            return {"role": "assistant", "content": ""}

    from examples.support_desk.agent import run_agent

    return (await run_agent(Idle(), places, "", "")).tools


def test_no_token_of_a_server_opens_the_gateway_and_the_agents_opens_no_server(
    guarded: Guarded, open_desk: services.Desk
) -> None:
    agents = next(iter(guarded.places.values())).headers["Authorization"]  # type: ignore[union-attr]
    for name, url in open_desk.urls.items():
        assert httpx.post(url, json={}, headers={"Authorization": agents}, trust_env=False).status_code == 401
        ours = f"http://127.0.0.1:{guarded.gateway.port}/mcp/{name}"
        headers = {"Authorization": f"Bearer {open_desk.tokens[name]}"}
        assert httpx.post(ours, json={}, headers=headers, trust_env=False).status_code == 401


def test_no_secret_is_in_the_gateways_files_or_words(guarded: Guarded, open_desk: services.Desk) -> None:
    tokens = [token.encode() for token in open_desk.tokens.values()]
    tokens += [place.headers["Authorization"][7:].encode() for place in guarded.places.values()]  # type: ignore[union-attr]
    for path, content in _files(guarded.gateway.folder).items():
        assert not any(token in content for token in tokens), path


def _files(folder: Path) -> dict[Path, bytes]:
    """All of a folder in which a gateway works: looked through anew if a draft got its name meanwhile."""
    while True:
        try:
            return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        except FileNotFoundError:
            continue


def test_every_policy_is_tried_by_the_tables_beside_them(guarded: Guarded) -> None:
    assert "6 policies fit" in guarded.gateway.run("policy", "check")
    assert guarded.gateway.run("policy", "test") == "10 passed, 0 failed\n"
