"""Every process of the mesh from one program: it imports once, and forks a process for each agent and for the servers.

`python -m examples.mesh.processes --data FOLDER AGENT...`; MESH_TOKENS holds all tokens as a JSON object. The first
line on stdout says where everything is, and which process each agent is. INVARIANTS: each agent is a process of its
own, and keeps no other's token once it has begun; all of them end with standard input, whose other end whoever started
this holds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from examples.mesh.agent import Colleague, address, app, card, run
from examples.mesh.cast import CAST
from examples.mesh.serving import BUILD, serve
from examples.support_desk.model import choose_model

SERVERS = "servers"


def fork(does: Callable[[], None]) -> int:
    """A process that does one thing, and nothing after it."""
    child = os.fork()
    if child == 0:
        try:
            does()
            os._exit(0)
        except BaseException as failure:
            print(f"{type(failure).__name__}: {failure}", file=sys.stderr, flush=True)
            os._exit(1)
    return child


def listener() -> socket.socket:
    return socket.create_server(("127.0.0.1", 0))


def close(sockets: Iterable[socket.socket]) -> None:
    for one in sockets:
        one.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("agents", nargs="+", choices=sorted(CAST))
    parser.add_argument("--data", type=Path, required=True)
    options = parser.parse_args()
    tokens: dict[str, str] = json.loads(os.environ.pop("MESH_TOKENS"))
    servers = {name: listener() for name in BUILD}
    agents = {name: (listener(), listener()) for name in options.agents}
    told = {name: f"{address('http', one)}/mcp" for name, one in servers.items()}

    def serves() -> None:
        for pair in agents.values():
            close(pair)
        asyncio.run(serve(options.data, tokens, servers))

    def acts(name: str) -> None:
        close(servers.values())
        for other in (pair for key, pair in agents.items() if key != name):
            close(other)
        own = tokens[name]
        tokens.clear()
        colleague = Colleague(name, options.data, choose_model(os.environ))
        plain, proven = agents[name]
        run(lambda url: app(card(name, url), colleague, own), plain, proven, options.data / "papers" / name)

    serving, acting = fork(serves), {name: fork(partial(acts, name)) for name in agents}
    where = {name: address("http", plain) for name, (plain, _) in agents.items()}
    proven = {name: address("https", one) for name, (_, one) in agents.items()}
    print(json.dumps({SERVERS: told, "agents": where, "proven": proven, "processes": acting}), flush=True)
    for held in (servers.values(), *agents.values()):
        close(held)
    for child in (serving, *acting.values()):
        os.waitpid(child, 0)


if __name__ == "__main__":
    main()
