"""An MCP server over pipes that does what each request tells it, well or badly. Standard library only."""

import json
import os
import subprocess
import sys
import time
from typing import Any

held: list[dict[str, Any]] = []


def say(*values: object) -> None:
    for value in values:
        sys.stdout.write(value if isinstance(value, str) else json.dumps(value))
        sys.stdout.write("\n")
    sys.stdout.flush()


def result(request: dict[str, Any], **members: object) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": request["id"], "result": members}


def answer(request: dict[str, Any]) -> None:
    method, params = request["method"], request.get("params", {})
    if method == "initialize":
        say(result(request, protocolVersion="2025-11-25", capabilities={}, serverInfo={"name": "p", "version": "1"}))
    elif method == "refuse":
        say({"jsonrpc": "2.0", "id": request["id"], "error": {"code": -1, "message": "no"}})
    elif method == "say":
        # Lines as given; "$ID" stands for this request's id.
        say(*(line.replace("$ID", json.dumps(request["id"])) for line in params["lines"]))
    elif method == "hold":
        # Answers nothing until `of` requests are here, then the last one first.
        held.append(request)
        if len(held) == params["of"]:
            while held:
                one = held.pop()
                say(result(one, me=one["params"]["me"]))
    elif method == "silence":
        pass
    elif method == "die":
        os._exit(3)
    elif method == "break off":
        sys.stdout.write('{"jsonrpc":"2.0","id":')
        sys.stdout.flush()
        os._exit(0)
    elif method == "close output":
        os.close(1)
        time.sleep(3600)
    elif method == "deaf":
        say(result(request))
        time.sleep(3600)
    elif method == "long line":
        block = "x" * (1 << 20)
        for _ in range(params["megabytes"]):
            sys.stdout.write(block)
        say("")
    elif method == "flood":
        while True:
            say(params["line"])
    elif method == "leave a child":
        child = subprocess.Popen(["/bin/sleep", "3600"])
        say(result(request, pid=os.getpid(), child=child.pid))
    elif method == "leave a child and go":
        subprocess.Popen(["/bin/sleep", "3600"])
        os._exit(0)
    elif method == "who":
        say(
            result(
                request,
                env=dict(os.environ),
                cwd=os.getcwd(),
                descriptors=sorted(os.listdir("/proc/self/fd")),
                leads=os.getsid(0) == os.getpid() == os.getpgid(0),
                pid=os.getpid(),
            )
        )
    else:
        say(result(request, method=method, params=params))


sys.stderr.write("last words\n")
sys.stderr.flush()
heard: list[Any] = []
for line in sys.stdin:
    message = json.loads(line)
    if message.get("method") == "heard":
        say(result(message, heard=heard))
    elif "method" in message and "id" in message:
        heard.append(message)
        answer(message)
    else:
        heard.append(message)
