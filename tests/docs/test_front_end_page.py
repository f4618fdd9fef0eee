"""The program of the page on a front end of one's own, run as it is written, against the API behind a socket."""

from __future__ import annotations

import asyncio
import re
import socket
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from citywatch.core.approvals.ticket import State
from tests.simulation.api import Api
from tests.simulation.people import SIGNERS
from tests.simulation.test_answers import WANTED, asked, read_letter
from tests.simulation.test_voting import passes

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "use-your-own-front-end.md"
ADDRESS = "https://city.acme.example"


class Clock:
    """The city's, as the program sees it: to wait is to move it."""

    def __init__(self, api: Api) -> None:
        self._clock = api.here.clock

    def time(self) -> float:
        return self._clock.now_ms() / 1000

    def sleep(self, seconds: float) -> None:
        self._clock.advance(int(seconds * 1000))


def program(address: str, key: Path) -> str:
    (found,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    for name in (ADDRESS, '"anna.pem"', "import hashlib, json, os, time\n"):
        assert name in found
    found = found.replace(ADDRESS, address).replace('"anna.pem"', repr(str(key)))
    return str(found).replace("import hashlib, json, os, time\n", "import hashlib, json, os\n")


@pytest.mark.parametrize(("decision", "state"), [("approve", State.APPROVED), ("deny", State.DENIED)])
async def test_the_program_of_the_page_answers_what_waits(tmp_path: Path, decision: str, state: State) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        api = Api(await read_letter(), address)
        name = (await asked(api.here, **WANTED)).id
        key = tmp_path / "anna.pem"
        key.write_bytes(SIGNERS["anna"]._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        server = uvicorn.Server(uvicorn.Config(api.app, log_config=None, lifespan="off", ws="none"))
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        printed: list[str] = []
        typed = iter([decision, "I rang the payee myself"])
        world: dict[str, Any] = {
            "time": Clock(api), "input": lambda _: next(typed), "print": printed.append, "__name__": "__main__",
        }  # fmt: skip
        try:
            await asyncio.to_thread(exec, program(address, key), world)
        finally:
            server.should_exit = True
            await serving
    assert printed[-1] == state.value
    assert "What will happen" in printed
    assert f"    | {WANTED['to']}" in printed
    assert (await api.here.tickets.find(name)).state is state
    assert await passes(api.here) is (decision == "approve")
