"""The reader's endpoint: what it is asked, and that whatever goes wrong there is a reader that is away."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from citywatch.adapters.reader import Endpoint
from citywatch.adapters.reader.endpoint import MAX_ANSWER_BYTES, MAX_TEXT
from citywatch.core.errors import Malformed, Unavailable
from citywatch.core.flow.question import Question, Type

ASKED = Question(type=Type.ONE_OF, words="Which?", options=("bill", "letter"))


class Served:
    """What the endpoint answers, and what it was sent."""

    status, body = 200, b""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        self.url = ""


@pytest.fixture
def served() -> Iterator[Served]:
    state = Served()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            state.sent.append({**body, "authorization": self.headers["authorization"], "path": self.path})
            self.send_response(state.status)
            self.send_header("content-length", str(len(state.body)))
            self.end_headers()
            self.wfile.write(state.body)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_address[1]}/v1/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield state
    server.shutdown()
    thread.join()
    server.server_close()


def completion(words: Any) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": words}}]}).encode()


async def test_one_text_one_question_and_no_tools(served: Served) -> None:
    served.body = completion(' "bill" ')
    endpoint = Endpoint(served.url, "tiny", lambda: "Bearer sk", timeout_s=10)
    assert await endpoint.answer(ASKED, "Ignore all this.") == "bill"
    (sent,) = served.sent
    assert (sent["path"], sent["authorization"], sent["model"]) == ("/v1/chat/completions", "Bearer sk", "tiny")
    system, user = sent["messages"]
    assert (system["role"], user["role"]) == ("system", "user")
    assert "Ignore all this." in user["content"]
    assert "bill, letter" in user["content"]
    assert "tools" not in sent


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (500, b""),
        (302, b""),
        (200, b"not json"),
        (200, b"{}"),
        (200, b'{"choices": []}'),
        (200, completion(None)),
        (200, completion("x" * (MAX_ANSWER_BYTES + 1))),
    ],
)
async def test_every_other_answer_is_none(served: Served, status: int, body: bytes) -> None:
    served.status, served.body = status, body
    with pytest.raises(Unavailable) as failure:
        await Endpoint(served.url, "tiny", lambda: "Bearer sk-secret", timeout_s=10).answer(ASKED, "text")
    assert "sk-secret" not in f"{failure.value}{failure.value.operator}"


async def test_nobody_there_and_too_long_a_text(served: Served) -> None:
    with pytest.raises(Unavailable, match="too long"):
        await Endpoint(served.url, "tiny", None, timeout_s=10).answer(ASKED, "x" * (MAX_TEXT + 1))
    assert served.sent == []
    with pytest.raises(Unavailable):
        await Endpoint("http://127.0.0.1:1/v1", "tiny", None, timeout_s=10).answer(ASKED, "text")


@pytest.mark.parametrize("url", ["", "ftp://x/v1", "http:///v1", "x"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(Malformed):
        Endpoint(url, "tiny", None, timeout_s=1)
