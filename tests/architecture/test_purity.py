"""Core decides and does nothing else: each rule of `tools/purity.py` refuses what it names, and no more."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import purity

IMPURE = {
    "a clock": "import time",
    "a clock by its function": "from time import monotonic",
    "now": "import datetime\nat = datetime.datetime.now(datetime.UTC)",
    "now under another name": "from datetime import datetime as dt\nat = dt.now",
    "today": "from datetime import date\nat = date.today()",
    "local time": "from datetime import datetime\nat = datetime.fromtimestamp(0)",
    "the clock inside X.509": (
        "from cryptography.x509 import verification as v\ncheck = v.PolicyBuilder().store(1).build_client_verifier()"
    ),
    "random": "import random",
    "secrets": "from secrets import token_bytes",
    "uuid": "import uuid",
    "the environment": "import os\nhome = os.environ['HOME']",
    "urandom": "from os import urandom",
    "sockets": "import socket",
    "a subprocess": "import subprocess",
    "asyncio": "import asyncio",
    "http": "import urllib.request",
    "a path": "from pathlib import Path",
    "a log": "import logging",
    "an import inside a function": "def f():\n    import random\n    return random",
    "an unlisted third party": "import httpx",
    "an outer ring": "from citywatch.service import ports",
    "the root": "import citywatch",
    "a relative import": "from . import errors",
    "open": "text = open('x')",
    "open as a value": "reader = open",
    "print": "print('x')",
    "input": "x = input()",
    "eval": "x = eval('1')",
    "exec": "exec('x = 1')",
    "compile": "code = compile('1', 'x', 'eval')",
    "vars": "names = vars()",
    "globals": "names = globals()",
    "a debugger": "breakpoint()",
    "import by name": "x = __import__('time')",
    "an async function": "async def f(): ...",
    "global": "x = 0\ndef f():\n    global x\n    x = 1",
    "a cache": "from functools import lru_cache\n@lru_cache\ndef f(): ...",
    "a cache of everything": "from functools import cache\n@cache\ndef f(x): return x",
    "a defaultdict to fill": "from collections import defaultdict\nseen = defaultdict()",
    "a defaultdict of lists": "from collections import defaultdict\nseen = defaultdict(list)",
    "an empty dict to fill": "seen: dict[str, int] = {}",
    "an empty list to fill": "seen = []",
    "an empty set to fill": "seen = set()",
    "a private key": "from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey",
    "a private key by attribute": (
        "from cryptography.hazmat.primitives.asymmetric import ec\nkey = ec.generate_private_key(ec.SECP256R1())"
    ),
    "a loaded private key": "from cryptography.hazmat.primitives.serialization import load_pem_private_key",
    "a signature": "def f(key):\n    return key.sign(b'')",
    "an issued certificate": "from cryptography.x509 import CertificateBuilder",
    "encryption": "from cryptography.fernet import Fernet",
}

PURE = {
    "the core's own": "from citywatch.core.errors import Code\nfrom citywatch.core import names",
    "arithmetic on time": "from datetime import UTC, datetime\ndef f(at):\n    return datetime.fromtimestamp(at, UTC)",
    "verification told the time": (
        "from cryptography.x509 import verification as v\n"
        "def f(store, now):\n    return v.PolicyBuilder().store(store).time(now).build_client_verifier()"
    ),
    "verification": "def f(key, signature, message):\n    key.verify(signature, message)",
    "a public key": "from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey",
    "a table": "ADVICE = {'a': 1}\nNONE = frozenset()",
    "a compiled pattern": "import re\nNAME = re.compile('a')",
    "a word that only looks like one": "def opened(): ...\nopened()\nsigned = 1",
}


@pytest.mark.parametrize("source", IMPURE.values(), ids=IMPURE.keys())
def test_core_refuses(source: str) -> None:
    assert purity.check(source, Path("core/x.py"))


@pytest.mark.parametrize("source", PURE.values(), ids=PURE.keys())
def test_core_lets_through(source: str) -> None:
    assert purity.check(source, Path("core/x.py")) == []


def test_a_finding_names_its_line() -> None:
    (finding,) = purity.check("x = 1\n\nimport time\n", Path("core/x.py"))
    assert (finding.line, "time" in finding.text) == (3, True)


def test_the_core_is_pure() -> None:
    assert purity.main() == 0
