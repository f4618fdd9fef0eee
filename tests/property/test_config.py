"""What holds for every text that somebody might save as `citywatch.yaml`."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import settings as running
from hypothesis import strategies as st

from citywatch.config import KEYS, ConfigError, Http, Program, Settings, parse_settings

SEED = """\
trust_domain: acme.example
listen: ["http://127.0.0.1:8460"]
agents:
  billing: {roles: [payments], attributes: {level: 3}, budgets: {ledger/transfer: {calls: 1, per: 1h}}}
servers:
  ledger:
    url: http://127.0.0.1:9001/mcp
    credential: {env: LEDGER_TOKEN}
    tools: {transfer: {parameters: {amount: {type: money}}, output: {"$.status": trusted}}}
  remote: {url: http://10.0.0.9/mcp, unsafe_plain_http: true}
  documents:
    command: [python3]
    env: {LANG: C}
    sandbox: {user: nobody}
  scratch: {command: [scratch], unsafe_same_user: true}
"""
YAML = [
    "&a ",
    "*a",
    "!!int ",
    "- ",
    ": ",
    "? ",
    "[",
    "]",
    "{",
    "}",
    "\n",
    "  ",
    "\t",
    "'",
    '"',
    "|\n",
    "---\n",
    "...\n",
]
ODD = [
    '"\\UFFFFFFFF"',
    '"\\ud800"',
    "%YAML 9999999999999.1\n---\n",
    "~",
    "yes",
    "0x10",
    "1_0",
    "<<: ",
    "=",
    "#",
    "\x00",
]
ODD += ["\ud800", "\ufeff", "\u2028", "http://[::1", "${A}", "99999999999999999999", "-1", "1e3", "2020-01-01"]
PIECES = st.sampled_from([*YAML, *ODD, *sorted({key for keys in KEYS.values() for key in keys})])


@st.composite
def spoiled(draw: st.DrawFn) -> str:
    """The seed with a few pieces put in, taken out or written over."""
    text = SEED
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(text)))
        text = text[:at] + draw(PIECES | st.just("")) + text[at + draw(st.integers(0, 20)) :]
    return text


def outcome(text: str) -> Settings | ConfigError:
    try:
        return parse_settings(text, "/srv/gate")
    except ConfigError as error:
        return error


@running(max_examples=250, deadline=None)
@given(st.text() | st.text("[]{}:,-?&*!|>%@`'\"# \n\tab1") | spoiled())
def test_any_text_gives_settings_or_a_list_of_mistakes_that_stand_in_it(text: str) -> None:
    found = outcome(text)
    if isinstance(found, ConfigError):
        assert found.mistakes
        lines = len(text.splitlines()) + 1
        for mistake in found.mistakes:
            assert 1 <= mistake.line <= lines
            assert mistake.column >= 1
            assert mistake.message
            assert mistake.advice
            assert len(str(mistake).splitlines()) == 1
            assert str(mistake).isprintable()


@running(max_examples=100, deadline=None)
@given(spoiled())
def test_whatever_is_accepted_listens_in_the_open_nowhere_and_says_what_is_unsafe(text: str) -> None:
    found = outcome(text)
    if isinstance(found, Settings):
        assert all(listen.tls or listen.host in ("127.0.0.1", "::1") for listen in found.listen)
        reaches = [server.reach for server in found.servers.values()]
        unboxed = [reach for reach in reaches if isinstance(reach, Program) and reach.user is None]
        open_http = [reach for reach in reaches if isinstance(reach, Http) and reach.unsafe_plain_http]
        assert len(found.unsafe) == len(unboxed) + len(open_http)


@given(st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S"]), min_size=8, max_size=40))
def test_a_secret_written_inline_is_never_repeated(secret: str) -> None:
    # What is said of any secret may well hold a piece of text that is this one: `credenti`, of the key's own name.
    assume(secret not in str(outcome("trust_domain: a\nservers: {s: {url: http://127.0.0.1/, credential: [x]}}\n")))
    quoted = "'" + secret.replace("'", "''") + "'"
    for inline in (quoted, f"[{quoted}]", f"{{{quoted}: }}", f"{{value: {quoted}}}", f"{{env: {quoted}, file: x}}"):
        found = outcome(f"trust_domain: a\nservers:\n  s:\n    url: http://127.0.0.1/\n    credential: {inline}\n")
        assert isinstance(found, ConfigError)
        assert secret not in str(found)


def test_a_bomb_of_aliases_costs_nothing() -> None:
    layers = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 60))
    found = outcome(f"l0: &l0 [x]\n{layers}")
    assert isinstance(found, ConfigError)
    assert len(found.mistakes) > 500
