"""Servers that are programs, behind a real gateway: whose process, which user, what environment, and whose failure."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from tests.e2e.gateway.desk import HERE, Desk, wait_for

MODES = ["legacy", "auto"]
PATH = "/usr/bin:/bin"
CONFIG = """
trust_domain: t.example
listen: ["http://127.0.0.1:{port}"]
agents:
  clerk: {{roles: [payer]}}
  other: {{roles: [payer]}}
servers:
  desk:
    command: ["{python}", "{here}/desk_server.py", "{folder}"]
    unsafe_same_user: true
    tools:
      look: {{effect: read}}
      count: {{effect: read}}
      nap: {{effect: write}}
      pay: {{effect: irreversible}}
  rogue:
    command: ["{python}", "-S", "{here}/rogue_server.py"]
    unsafe_same_user: true
    env: {{PLAIN: "told", PYTHONSAFEPATH: "1", HANDED_ON: {{from: CW_TEST_HANDED_ON}}}}
    tools:
      who: {{effect: read}}
      misbehave: {{effect: read}}
  caged:
    command: ["/bin/sh", "-c", "eval \\"$SCRIPT\\"", "sh", "{folder}"]
    sandbox: {{user: nobody}}
    env: {{PATH: "{path}", SCRIPT: {{from: CW_TEST_SCRIPT}}}}
    cwd: /
    tools:
      who: {{effect: read}}
"""

# A program that any account can run, wherever our interpreter lies. SPEC: MCP 2025-11-25, one message a line.
CAGED = r"""
while read -r line; do
  id=$(printf %s "$line" | sed -n 's/.*"id":\("[^"]*"\|[0-9]*\).*/\1/p')
  [ -n "$id" ] || continue
  case $line in
  *'"method":"initialize"'*)
    r='{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"caged","version":"1"}}' ;;
  *'"method":"tools/list"'*)
    r='{"tools":[{"name":"who","inputSchema":{"type":"object"}}]}' ;;
  *'"method":"tools/call"'*)
    said="uid=$(id -u)"
    for file in "$1/.citywatch" "$1/.citywatch/keys" "$1/.citywatch/replicas"; do
      ls "$file" >/dev/null 2>&1 && said="$said opened:$file"
    done
    for file in "$1/.citywatch/citywatch.db" "$1/.citywatch/keys/log.pem"; do
      cat "$file" >/dev/null 2>&1 && said="$said read:$file"
    done
    touch "$1/.citywatch/mine" >/dev/null 2>&1 && said="$said wrote"
    said="$said env=$(env | sed -n 's/^\([A-Za-z_]*\)=.*/\1/p' | sort | tr '\n' ',')"
    r='{"content":[{"type":"text","text":"'"$said"'"}]}' ;;
  *)
    printf '{"jsonrpc":"2.0","id":%s,"error":{"code":-32601,"message":"no such method"}}\n' "$id"; continue ;;
  esac
  printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" "$r"
done
"""


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A gateway over three programs; its own environment holds a secret that nobody was promised."""
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patched:
        patched.setenv("CW_TEST_SECRET", "not-for-programs")
        patched.setenv("CW_TEST_HANDED_ON", "as-the-file-says")
        patched.setenv("CW_TEST_SCRIPT", CAGED)
        desk = Desk(tmp_path_factory.mktemp("stdio"), stack)
        told = {"port": desk.port, "python": sys.executable, "here": HERE, "folder": desk.folder}
        text = CONFIG.format(path=PATH, **told)
        if os.geteuid() != 0:  # nobody else may start a program under another account: seen below
            text = text[: text.index("  caged:")]
        (desk.folder / "citywatch.yaml").write_text(text)
        for name in ("clerk", "other"):
            desk.run("agent", "add", name)
        desk.run("tools", "approve", "--yes")
        desk.up(afresh=True)
        yield desk


@pytest.fixture(scope="module")
def tokens(desk: Desk) -> dict[str, str]:
    return {name: desk.run("agent", "token", name).stdout.strip() for name in ("clerk", "other")}


@asynccontextmanager
async def client(desk: Desk, server: str, token: str, mode: str) -> AsyncIterator[Client]:
    url = f"http://127.0.0.1:{desk.port}/mcp/{server}"
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=60) as http,
        Client(streamable_http_client(url, http_client=http), mode=mode) as connected,
    ):
        yield connected


async def who(agent: Client) -> dict[str, Any]:
    result = await agent.call_tool("who", {})
    assert not result.is_error, result
    found: dict[str, Any] = json.loads(result.content[0].text)  # type: ignore[union-attr]
    return found


@pytest.mark.parametrize("mode", MODES)
async def test_a_program_is_a_server_like_any_other(desk: Desk, tokens: dict[str, str], mode: str) -> None:
    steps: list[float] = []

    async def progressed(progress: float, total: float | None, message: str | None) -> None:
        steps.append(progress)

    async with client(desk, "desk", tokens["clerk"], mode) as agent:
        assert {tool.name for tool in (await agent.list_tools()).tools} == {"look", "pay", "count", "nap"}
        assert not (await agent.call_tool("pay", {"to": mode, "amount": 100})).is_error
        refused = await agent.call_tool("pay", {"to": "eve", "amount": 101})
        assert (refused.meta or {})["citywatch/code"] == "no_permit"
        await agent.call_tool("count", {"upto": 3}, progress_callback=progressed)
        assert (await agent.read_resource("desk://note")).contents[0].text == "a note"  # type: ignore[union-attr]
    assert steps == [0, 1, 2]
    assert desk.ledger()[-1] == f"{mode} 100"


@pytest.mark.parametrize("mode", MODES)
async def test_each_caller_has_a_process_of_its_own(desk: Desk, tokens: dict[str, str], mode: str) -> None:
    async with (
        client(desk, "rogue", tokens["clerk"], mode) as clerk,
        client(desk, "rogue", tokens["other"], mode) as other,
    ):
        first, second = await asyncio.gather(who(clerk), who(other))
        assert first["pid"] != second["pid"]
        assert (await who(clerk))["pid"] == first["pid"]
        assert desk.process is not None
        assert desk.process.pid not in (first["pid"], second["pid"])


@pytest.mark.parametrize("mode", MODES)
async def test_a_program_gets_the_configured_environment_and_no_more(
    desk: Desk, tokens: dict[str, str], mode: str
) -> None:
    assert desk.process is not None
    ours = Path(f"/proc/{desk.process.pid}/environ").read_bytes()
    assert b"not-for-programs" in ours, "the gateway itself has it"
    async with client(desk, "rogue", tokens["clerk"], mode) as agent:
        found = (await who(agent))["environment"]
    found.pop("LC_CTYPE", None)  # Python sets it for itself where no locale is given
    assert found == {"PLAIN": "told", "PYTHONSAFEPATH": "1", "HANDED_ON": "as-the-file-says"}


async def test_a_sandboxed_program_is_another_user_and_reaches_nothing_of_ours(
    desk: Desk, tokens: dict[str, str]
) -> None:
    if os.geteuid() != 0:
        done = desk.run("tools", "list", check=False)
        assert "only root can start a program as `nobody`" in done.stderr
        pytest.skip("only root can start a program as another user")
    state = desk.folder / ".citywatch"
    assert (state / "keys" / "log.pem").exists()
    # Opened up to the state folder, so that this folder's own mode is what keeps the program out.
    above = [one for one in desk.folder.parents if stat.S_IMODE(one.stat().st_mode) & 0o001 == 0]
    modes = {one: stat.S_IMODE(one.stat().st_mode) for one in (desk.folder, *above)}
    for one, mode in modes.items():
        one.chmod(mode | 0o011)
    try:
        async with client(desk, "caged", tokens["clerk"], "legacy") as agent:
            result = await agent.call_tool("who", {})
    finally:
        for one, mode in modes.items():
            one.chmod(mode)
    assert not result.is_error
    said = result.content[0].text  # type: ignore[union-attr]
    assert said.startswith(f"uid={pwd.getpwnam('nobody').pw_uid} env="), said
    assert set(said.partition("env=")[2].strip(",").split(",")) <= {"PATH", "SCRIPT", "PWD", "OLDPWD", "SHLVL", "_"}
    assert not (state / "mine").exists()


async def test_a_program_that_would_reach_an_open_state_folder_is_not_started(
    desk: Desk, tokens: dict[str, str]
) -> None:
    state = desk.folder / ".citywatch"
    state.chmod(0o755)
    try:
        done = desk.run("tools", "list", check=False)
        assert done.returncode == 2
        assert f"run `chmod 700 {state}`" in done.stderr
    finally:
        state.chmod(0o700)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("how", "code"),
    [
        ("die", "upstream_unavailable"),
        ("garbage", "reply_malformed"),
        ("long line", "reply_too_large"),
        ("flood", "reply_malformed"),
    ],
)
async def test_a_program_that_misbehaves_fails_its_own_callers_call_and_no_other(
    desk: Desk, tokens: dict[str, str], how: str, code: str, mode: str
) -> None:
    async with (
        client(desk, "rogue", tokens["other"], mode) as other,
        client(desk, "rogue", tokens["clerk"], mode) as clerk,
    ):
        before, bad = await who(other), await who(clerk)
        waiting = asyncio.ensure_future(clerk.call_tool("misbehave", {"how": how}))
        assert (await who(other))["pid"] == before["pid"]
        refused = await waiting
        assert refused.is_error
        assert (refused.meta or {})["citywatch/code"] == code
        assert "unharmed" not in str(refused.content)
        wait_for(lambda: not _cmdline(bad["pid"]), "the program to be gone")
        if mode == "auto":  # there is no session to lose: the next call starts another program
            assert (await who(clerk))["pid"] != bad["pid"]
        else:
            with pytest.raises(MCPError, match=r"session"):
                await who(clerk)
        assert (await who(other))["pid"] == before["pid"]


def _cmdline(pid: int) -> bytes:
    """Empty for a process that has ended and only waits to be counted."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # gone before it was opened, or while it was read
        return b""


async def test_no_program_outlives_the_gateway(desk: Desk, tokens: dict[str, str]) -> None:
    """The last test here: it stops the gateway that all of them share."""
    async with client(desk, "rogue", tokens["clerk"], "auto") as agent:
        pid = (await who(agent))["pid"]
    assert b"rogue_server.py" in _cmdline(pid)
    await asyncio.to_thread(desk.down)
    assert not _cmdline(pid)
