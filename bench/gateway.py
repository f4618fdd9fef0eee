"""What the gateway costs on the wire: requests a second, and milliseconds added, beside nginx's unparsed proxying.

One gateway process started by its own command line; a raw stub upstream (nginx answering one fixed reply); `wrk` on
kept-alive connections, every request with arguments of its own; both entries of each call are committed. A JWT-SVID is
verified once per connection and cached by hash; for the mTLS row a second nginx holds the agent's certificate, for wrk
cannot, and so its hop is in that figure. Needs nginx and wrk, from Debian. Run it: `python -m bench.gateway`.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.decide import row
from bench.pace import percentiles

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 3
SECONDS = 4
CONNECTIONS = 64
TOOL = {
    "name": "echo",
    "description": "Says what it was told.",
    "inputSchema": {"type": "object", "properties": {"n": {"type": "integer"}, "text": {"type": "string"}}},
}
REPLY = {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": "ok"}], "resultType": "complete"}}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientInfo": {"name": "bench", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {},
}
POLICY = '@id("echo") permit(principal in Role::"bench", action == Action::"stub/echo", resource)\n' + (
    "when { context.args.n >= 0 };\n"
)
LUA = """
local n = 0
local headers = {%s}
request = function()
  n = n + 1
  return wrk.format("POST", "%s", headers, '%s' .. n .. '%s')
end
local wrong = 0
response = function(status, headers, body)
  if status ~= 200 or not body:find('"ok"', 1, true) then
    wrong = wrong + 1
    if wrong == 1 then io.stderr:write("unexpected: " .. status .. " " .. body .. "\\n") end
  end
end
"""


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


def body_halves() -> tuple[str, str]:
    """The request's text before and after the number that makes it distinct."""
    params = {"name": "echo", "arguments": {"n": 0, "text": "hello"}, "_meta": META}
    text = json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, separators=(",", ":"))
    before, _, after = text.partition('"n":0')
    return before + '"n":', after


def headers_for(token: str) -> dict[str, str]:
    named = {
        "Content-Type": "application/json",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": "tools/call",
        "Mcp-Name": "echo",
    }
    return {**named, "Authorization": f"Bearer {token}"} if token else named


class Bench:
    """The processes of one run, and the folder they live in."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.stub, self.proxy, self.bridge = free_port(), free_port(), free_port()
        self.http, self.https = free_port(), free_port()
        self.token = ""
        asyncio.run(self._set_up())
        self._nginx(stack)
        self.gateway = spawn(stack, folder, [sys.executable, "-m", "bench.counted", "up"], self.http)

    async def _set_up(self) -> None:
        """What `agent add` and `tools approve` do; the stub cannot be surveyed, so the tool is pinned directly."""
        from citywatch.adapters.keys import KeyKind, SecretDirectory, open_key
        from citywatch.core.wire.mcp import Definition
        from citywatch.main.assembly import open_city
        from citywatch.main.place import read_place
        from citywatch.service.authority import p256
        from citywatch.service.tools import approve, compare

        (self.folder / "policies").mkdir()
        (self.folder / "policies" / "echo.cedar").write_text(POLICY)
        config = {
            "trust_domain": "bench.example",
            "listen": [f"http://127.0.0.1:{self.http}", f"https://127.0.0.1:{self.https}"],
            "agents": {"loader": {"roles": ["bench"]}},
            "servers": {"stub": {"url": f"http://127.0.0.1:{self.stub}/mcp", "tools": {"echo": {"effect": "read"}}}},
            "limits": {"connections": 4096},
        }
        (self.folder / "citywatch.yaml").write_text(json.dumps(config))
        async with open_city(read_place(self.folder / "citywatch.yaml")) as city:
            secrets = SecretDirectory(make(self.folder / "agent"))
            key = open_key(secrets, "key.pem", KeyKind.P256)
            await city.admin.add_agent("loader", key.public, "bench")
            offered = Definition(kind="tool", name="echo", value=TOOL)
            await approve(city.store, city.clock, city.replica.name, compare("stub", [offered], []), "bench")
            self.token = (await city.issuer.token("loader")).value.decode()
            certificate = await city.issuer.certificate("loader", p256(key.public))
            (self.folder / "agent" / "cert.pem").write_text(pem(certificate.value))

    def _nginx(self, stack: ExitStack) -> None:
        config = f"""
worker_processes 1; daemon off; pid {self.folder}/nginx.pid; error_log {self.folder}/nginx.log;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; default_type application/json;
  client_body_temp_path {self.folder}; proxy_temp_path {self.folder}; fastcgi_temp_path {self.folder};
  uwsgi_temp_path {self.folder}; scgi_temp_path {self.folder};
  upstream stub {{ server 127.0.0.1:{self.stub}; keepalive 256; keepalive_requests 1000000000; }}
  upstream gate {{ server 127.0.0.1:{self.https}; keepalive 256; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{self.stub}; location / {{ return 200 '{json.dumps(REPLY)}'; }} }}
  server {{ listen 127.0.0.1:{self.proxy}; location / {{
    proxy_pass http://stub; proxy_http_version 1.1; proxy_set_header Connection ""; }} }}
  server {{ listen 127.0.0.1:{self.bridge}; location / {{
    proxy_pass https://gate; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host localhost;
    proxy_ssl_certificate {self.folder}/agent/cert.pem; proxy_ssl_certificate_key {self.folder}/agent/key.pem;
    proxy_ssl_protocols TLSv1.3; }} }}
}}
"""
        path = self.folder / "nginx.conf"
        path.write_text(config)
        spawn(stack, self.folder, ["nginx", "-p", str(self.folder), "-c", str(path)], self.stub)


def make(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def pem(der: bytes) -> str:
    import ssl

    return ssl.DER_cert_to_PEM_cert(der)


def spawn(stack: ExitStack, folder: Path, command: list[str], port: int) -> subprocess.Popen[bytes]:
    """Start a process that ends with the run, and wait until it listens."""
    log = stack.enter_context((folder / f"{Path(command[0]).name}.out").open("ab"))
    found = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=folder, env=found, stdout=log, stderr=log)
    stack.callback(_end, process)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.05)
    raise SystemExit(f"`{command[0]}` did not start: {(folder / f'{Path(command[0]).name}.out').read_text()[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def wrk(folder: Path, port: int, path: str, token: str, connections: int, seconds: int) -> tuple[float, float]:
    """Requests a second, and the median latency in milliseconds. Any reply but the right one ends the run."""
    before, after = body_halves()
    pairs = ",".join(f'["{name}"]="{value}"' for name, value in headers_for(token).items())
    script = folder / "load.lua"
    script.write_text(LUA % (pairs, path, before, after))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script)]
    done = subprocess.run([*command, f"http://127.0.0.1:{port}"], capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout or "unexpected" in done.stderr:
        raise SystemExit(f"wrk saw replies that are not the stub's: {done.stderr[:500]}")
    rate = re.search(r"Requests/sec:\s+([0-9.]+)", done.stdout)
    half = re.search(r"50%\s+([0-9.]+)(us|ms|s)", done.stdout)
    assert rate is not None
    assert half is not None
    return float(rate[1]), float(half[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[half[2]]


@contextmanager
def running() -> Iterator[Bench]:
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        os.chmod(name, 0o700)
        yield Bench(Path(name), stack)


def run() -> list[dict[str, Any]]:
    """All rows; empty, with a word why, where nginx or wrk lack."""
    lacking = [tool for tool in ("nginx", "wrk") if shutil.which(tool) is None]
    if lacking:
        print(f"bench.gateway: not measured, for want of {' and '.join(lacking)} (apt install {' '.join(lacking)})")
        return []
    with running() as bench:
        folder, token = bench.folder, bench.token
        wrk(folder, bench.http, "/mcp/stub", token, CONNECTIONS, 1)
        wrk(folder, bench.proxy, "/mcp", "", CONNECTIONS, 1)
        rates: dict[str, list[float]] = {"gateway": [], "nginx": [], "mtls": [], "alone": [], "direct": []}
        for _ in range(ROUNDS):
            rates["gateway"].append(wrk(folder, bench.http, "/mcp/stub", token, CONNECTIONS, SECONDS)[0])
            rates["nginx"].append(wrk(folder, bench.proxy, "/mcp", "", CONNECTIONS, SECONDS)[0])
            rates["mtls"].append(wrk(folder, bench.bridge, "/mcp/stub", "", CONNECTIONS, SECONDS)[0])
            rates["alone"].append(wrk(folder, bench.http, "/mcp/stub", token, 1, 2)[1])
            rates["direct"].append(wrk(folder, bench.stub, "/mcp", "", 1, 2)[1])
        half = sorted(rates["gateway"])[ROUNDS // 2] / 2
        tails = [
            percentiles(bench.http, "/mcp/stub", headers_for(token), body_halves(), half, SECONDS)
            for _ in range(ROUNDS)
        ]
        shares = [ours / nginx for ours, nginx in zip(rates["gateway"], rates["nginx"], strict=True)]
        added = [ours - direct for ours, direct in zip(rates["alone"], rates["direct"], strict=True)]
        number = int(sum(rates["gateway"]) * SECONDS)
        alone = int(sum(2000 / ms for ms in rates["alone"]))
        verified = bench.folder.joinpath("verified").stat().st_size
        remembered = 100 * (1 - verified / (number + sum(rates["mtls"]) * SECONDS))
        return [
            row("gateway.papers_remembered_pct", [remembered], "%", number),
            row("gateway.rps", rates["gateway"], "1/s", number, "nginx.rps", rates["nginx"]),
            row("nginx.rps", rates["nginx"], "1/s", int(sum(rates["nginx"]) * SECONDS)),
            row("gateway.of_nginx", shares, "", number, "nginx.rps"),
            row(
                "gateway.mtls_rps", rates["mtls"], "1/s", int(sum(rates["mtls"]) * SECONDS), "nginx.rps", rates["nginx"]
            ),
            row("gateway.added_p50_ms", added, "ms", alone, "stub direct"),
            row("gateway.alone_p50_ms", rates["alone"], "ms", alone, "stub direct", rates["direct"]),
            *(
                row(f"gateway.half_load_{name}_ms", [tail[name] for tail in tails], "ms", int(half * SECONDS * ROUNDS))
                for name in tails[0]
            ),
        ]


if __name__ == "__main__":
    for found in run():
        print(found)
