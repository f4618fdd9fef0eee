"""The program that the tests run as an agent: PyPI's `spiffe` as it is. Writes one JSON line for each thing it sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from importlib import import_module
from typing import Any

GATEWAY = "spiffe://acme.example/gateway"


def say(**what: Any) -> None:
    print(json.dumps(what), flush=True)


def everything() -> None:
    with import_module("spiffe").WorkloadApiClient(default_timeout=20) as client:
        began = time.perf_counter()
        svid = client.fetch_x509_svid()
        took = time.perf_counter() - began
        key = svid.private_key.public_key() == svid.leaf.public_key()
        bundles = client.fetch_x509_bundles()
        authorities = [len(bundle.x509_authorities) for bundle in bundles.bundles]
        token = client.fetch_jwt_svid({GATEWAY})
        checked = client.validate_jwt_svid(token.token, GATEWAY)
        say(
            uid=os.getuid(),
            groups=os.getgroups(),
            environment=sorted(os.environ),
            svid=str(svid.spiffe_id),
            key=key,
            authorities=authorities,
            token=str(token.spiffe_id),
            checked=str(checked.spiffe_id),
            signers=len(client.fetch_jwt_bundles().bundles),
            took=took,
        )
        for audiences in ({GATEWAY, "https://other.example"},):
            try:
                client.fetch_jwt_svid(audiences)
            except Exception as failure:
                say(two=str(failure))
        try:
            client.validate_jwt_svid(token.token, "https://other.example")
        except Exception as failure:
            say(other=str(failure))


def stream() -> None:
    over = threading.Event()
    say(socket=os.environ["SPIFFE_ENDPOINT_SOCKET"])
    with import_module("spiffe").WorkloadApiClient(default_timeout=20) as client:

        def seen(context: Any) -> None:
            svid = context.default_svid
            authorities = [len(one.x509_authorities) for one in context.x509_bundle_set.bundles]
            say(serial=svid.leaf.serial_number, authorities=authorities)

        def failed(failure: Exception) -> None:
            say(ended=str(failure))
            over.set()

        def keys(bundles: Any) -> None:
            say(keys=[len(one.jwt_authorities) for one in bundles.bundles])

        client.stream_x509_contexts(seen, failed, retry_connect=False)
        client.stream_jwt_bundles(keys, lambda failure: None, retry_connect=False)
        for line in sys.stdin:
            if line.strip() == "token":
                try:
                    say(token=str(client.fetch_jwt_svid({GATEWAY}).spiffe_id))
                except Exception as failure:
                    say(no_token=str(failure))
            if line.strip() == "anew":
                try:
                    with import_module("spiffe").WorkloadApiClient(default_timeout=5) as another:
                        say(anew=str(another.fetch_x509_svid().spiffe_id))
                except Exception as failure:
                    say(no_anew=f"{type(failure).__name__}: {failure}")
            if line.strip() == "certificate":
                try:
                    say(again=client.fetch_x509_svid().leaf.serial_number)
                except Exception as failure:
                    say(no_certificate=str(failure))
        over.wait(60)


def bare() -> None:
    """What a browser or a proxy would send: no header of the specification."""
    grpc: Any = import_module("grpc")
    with grpc.insecure_channel(os.environ["SPIFFE_ENDPOINT_SOCKET"].replace("unix://", "unix:")) as channel:
        for metadata in ((), (("workload.spiffe.io", "false"),), (("workload.spiffe.io", "true"),) * 2):
            told: dict[str, Any] = {"metadata": metadata, "timeout": 20}
            for method in ("FetchX509SVID", "FetchX509Bundles", "FetchJWTBundles"):
                stream = channel.unary_stream(f"/SpiffeWorkloadAPI/{method}")
                status(method, lambda stream=stream, told=told: next(iter(stream(b"", **told))))
            for method in ("FetchJWTSVID", "ValidateJWTSVID"):
                ask = channel.unary_unary(f"/SpiffeWorkloadAPI/{method}")
                status(method, lambda ask=ask, told=told: ask(b"\x0a\x01a\x12\x01b", **told))
    say(done=True)


def status(method: str, ask: Any) -> None:
    grpc: Any = import_module("grpc")
    try:
        ask()
        say(method=method, status="OK")
    except grpc.RpcError as failure:
        say(method=method, status=failure.code().name)


def away() -> None:
    """Start something that does all it can to outlive us, and wait."""
    child = (
        "import os, time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "if os.fork(): os._exit(0)\n"
        "import signal\n"
        "for n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\n"
        "print('{\"escaped\": %d}' % os.getuid(), flush=True)\n"
        "time.sleep(300)\n"
    )
    subprocess.run([sys.executable, "-S", "-c", child, sys.argv[2]], check=True)
    say(waiting=os.getpid(), marker=sys.argv[2])
    time.sleep(300)


if __name__ == "__main__":
    if sys.argv[1] == "exit":
        sys.exit(int(sys.argv[2]))
    {"everything": everything, "stream": stream, "bare": bare, "away": away}[sys.argv[1]]()
