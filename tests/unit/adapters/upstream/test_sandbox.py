"""Under which account a program runs and what is closed to it. What needs root runs as root, else it is refused."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from citywatch.adapters.upstream import StdioServer, StdioUpstream
from citywatch.adapters.upstream.sandbox import Account, account_of, check_apart, check_private
from citywatch.core.errors import Malformed, Unavailable
from tests.upstream_world import gone, message, unseen_errors, until

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture(autouse=True)
def nothing_fails_behind_our_back(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """An error in one of the loop's callbacks is only logged: here it fails the test."""
    yield
    assert not unseen_errors(caplog)


def server(**settings: Any) -> StdioServer:
    given: dict[str, Any] = {"name": "world", "command": ("/bin/sh",), "env": {}, "cwd": "/"}
    return StdioServer(**(given | settings))


def refused(our_uid: int = 0, **settings: Any) -> str:
    with pytest.raises(Unavailable) as caught:
        account_of(server(**settings), our_uid)
    assert caught.value.detail == "`world` is not started"
    return caught.value.operator


def test_root_starts_a_program_as_the_user_it_names() -> None:
    for name in ("nobody", str(NOBODY.pw_uid)):
        assert account_of(server(user=name), 0) == Account(NOBODY.pw_uid, NOBODY.pw_gid)


def test_nobody_else_can() -> None:
    assert "only root" in refused(1000, user="nobody")


def test_our_own_account_needs_the_operator_s_word() -> None:
    assert "unsafe_same_user" in refused()
    assert account_of(server(unsafe_same_user=True), 1000) is None


@pytest.mark.parametrize("user", ["root", "0", "00", "99999999999999999999", "no-such-user", ""])
def test_no_sandbox_is_root_s_or_nobody_s(user: str) -> None:
    refused(user=user)


def test_root_is_no_sandbox_whoever_asks() -> None:
    assert "is root" in refused(1000, user="root")


def test_the_gateway_s_own_account_is_no_sandbox() -> None:
    assert "own user" in refused(NOBODY.pw_uid, user="nobody")


def test_two_servers_programs_never_get_one_account() -> None:
    """Whatever they call it: one could read the other's secrets in /proc and answer through its pipes."""
    one, two = server(name="one", user="nobody"), server(name="two", user=str(NOBODY.pw_uid))
    with pytest.raises(Malformed, match="`one` and `two` have one user"):
        check_apart([one, two])
    check_apart([one, server(name="two", user="daemon"), server(name="three", user="no-such-user")])
    check_apart([server(name="one", unsafe_same_user=True), server(name="two", unsafe_same_user=True)])


def test_a_program_cannot_be_both_sandboxed_and_not() -> None:
    refused(user="nobody", unsafe_same_user=True)


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o704, 0o770, 0o755, 0o702])
def test_what_is_private_must_be_closed_to_others(mode: int, tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(mode)
    wanted = server(user="nobody", private=(str(state),))
    with pytest.raises(Unavailable) as caught:
        check_private(wanted, Account(NOBODY.pw_uid, NOBODY.pw_gid))
    assert "open to other users" in caught.value.operator
    assert str(tmp_path) not in str(caught.value)
    state.chmod(0o700)
    check_private(wanted, Account(NOBODY.pw_uid, NOBODY.pw_gid))


def test_what_belongs_to_the_program_s_account_is_not_private(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(Unavailable):
        check_private(server(private=(str(tmp_path),)), Account(os.geteuid(), os.getegid()))


def test_what_does_not_exist_yet_cannot_be_read(tmp_path: Path) -> None:
    check_private(server(private=(str(tmp_path / "none"),)), Account(1, 1))


def test_a_private_path_that_cannot_be_checked_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(Unavailable) as caught:
        check_private(server(private=(str(tmp_path / "file" / "below"),)), Account(1, 1))
    assert "cannot be checked" in caught.value.operator
    assert str(tmp_path) not in str(caught.value)


SCRIPT = """
read line
status() { grep "$1" /proc/self/status | tr -dc 0-9a-f; }
result='{"id":"%s","key":"%s","files":"%s","core":"%s","umask":"%s","status":"%s"}'
printf '{"jsonrpc":"2.0","id":1,"result":'"$result"'}\\n' \
    "$(id | tr ' ' ';')" "$(cat "$1" 2>/dev/null || echo closed)" "$(ulimit -n)" "$(ulimit -c)" "$(umask)" \
    "$(status ^NoNewPrivs:),$(status ^SigIgn:)"
read line
"""


async def test_a_sandboxed_program_is_another_user_and_cannot_read_our_keys(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("secret")
    key.chmod(0o600)
    tmp_path.chmod(0o700)
    upstream = StdioUpstream(
        server(
            command=("/bin/sh", "-c", SCRIPT, "sh", str(key)),
            env={"PATH": os.defpath},
            user="nobody",
            private=(str(tmp_path), str(key)),
            files=64,
        )
    )
    try:
        if os.geteuid() != 0:
            with pytest.raises(Unavailable, match="is not started"):
                await upstream.send("a", message(id=1, method="x"), {}, None, repeatable=True)
            pytest.skip("only root can start a program as another user")
        # A group that only the gateway is in, so that it is seen to be given up.
        ours = os.getgroups()
        os.setgroups([54_321])
        try:
            answer = await upstream.send("a", message(id=1, method="x"), {}, None, repeatable=True)
        finally:
            os.setgroups(ours)
        assert answer.body is not None
        found = json.loads(answer.body)["result"]
        assert f"uid={NOBODY.pw_uid}(" in found["id"]
        assert f"gid={NOBODY.pw_gid}(" in found["id"]
        assert "root" not in found["id"]
        assert "54321" not in found["id"]
        assert found["key"] == "closed"
        assert found["umask"].endswith("077")
        assert (found["files"], found["core"]) == ("64", "0")
        if sys.platform.startswith("linux"):
            # No rights to be gained from setuid programs; no signal ignored on Python's behalf.
            rights, ignored = found["status"].removeprefix("e").split(",")
            assert rights.endswith("1")
            pythons = 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
            assert int(ignored[-16:], 16) & pythons == 0
    finally:
        await upstream.close()


async def test_an_open_state_directory_stops_the_start(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    upstream = StdioUpstream(server(user="nobody", private=(str(tmp_path),)))
    with pytest.raises(Unavailable) as caught:
        await upstream.send("a", message(id=1, method="x"), {}, None, repeatable=True)
    assert ("open to other users" if os.geteuid() == 0 else "only root") in caught.value.operator
    await upstream.close()


async def test_a_program_dies_with_the_gateway(tmp_path: Path) -> None:
    """A gateway of its own, killed without a chance to clean up; its program ignores the end of its input."""
    script = f"""
import asyncio, os, signal
from citywatch.adapters.upstream import StdioServer, StdioUpstream
command = ("/bin/sh", "-c", "read line; echo $$ > {tmp_path}/pid; exec sleep 3600")
async def main():
    upstream = StdioUpstream(StdioServer(name="x", command=command, env={{"PATH": "{os.defpath}"}}, cwd="/",
                                         unsafe_same_user=True))
    body = b'{{"jsonrpc":"2.0","id":1,"method":"x"}}'
    call = asyncio.create_task(upstream.send("a", body, {{}}, None, repeatable=True))
    while not (os.path.exists("{tmp_path}/pid") and open("{tmp_path}/pid").read().strip()):
        await asyncio.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    gateway = await asyncio.create_subprocess_exec(sys.executable, "-c", script)
    assert await gateway.wait() == -signal.SIGKILL
    await until(lambda: gone(int((tmp_path / "pid").read_text())))
