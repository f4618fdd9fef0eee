"""Any OpenAI-compatible endpoint can take the model's place: spoken to over real HTTP, its mistakes are named."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from examples.support_desk import agent, model

KEY = "k-for-this-test"


class Endpoint(ThreadingHTTPServer):
    """A chat endpoint that answers from a list, and keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[tuple[str, str | None, dict[str, Any]]] = []
        self.answers: list[tuple[int, bytes]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append((self.path, self.headers["authorization"], body))
        status, answer = self.server.answers.pop(0)
        self.send_response(status)
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _says(content: str | None, *calls: tuple[str, dict[str, Any]]) -> tuple[int, bytes]:
    functions = [{"name": name, "arguments": json.dumps(arguments)} for name, arguments in calls]
    made = [{"id": f"c{i}", "type": "function", "function": f, "index": i} for i, f in enumerate(functions)]
    message = {"role": "assistant", "content": content, "refusal": None, **({"tool_calls": made} if made else {})}
    return 200, json.dumps({"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}).encode()


def _chosen(url: str) -> model.Model:
    names = {"URL": url, "KEY": KEY, "NAME": "some-model"}
    return model.choose_model({f"CITYWATCH_DEMO_MODEL_{name}": value for name, value in names.items()})


async def test_an_endpoint_drives_the_real_tools(endpoint: Endpoint, open_desk: Any) -> None:
    endpoint.answers = [
        _says(None, ("tickets__read_ticket", {"ticket_id": "T-1002"}), ("ledger__balance", {})),
        _says("Bela's toaster is broken."),
    ]
    transcript = await agent.run_agent(_chosen(endpoint.url), open_desk.bare(), "You help.", "What is T-1002 about?")
    assert transcript.final == "Bela's toaster is broken."
    assert [(step.tool, step.outcome) for step in transcript.steps] == [("read_ticket", "done"), ("balance", "done")]
    (path, authorization, first), (_, _, second) = endpoint.asked
    assert (path, authorization, first["model"]) == ("/v1/chat/completions", f"Bearer {KEY}", "some-model")
    assert {tool["function"]["name"] for tool in first["tools"]} >= {"ledger__transfer", "documents__read_document"}
    assert [message["role"] for message in second["messages"]] == ["system", "user", "assistant", "tool", "tool"]
    assert second["messages"][3].keys() == {"role", "tool_call_id", "content"}
    assert "toaster" in second["messages"][3]["content"]


async def test_a_tool_that_is_not_offered_and_arguments_that_are_not_json_are_told_to_the_model(
    endpoint: Endpoint, open_desk: Any
) -> None:
    bad = json.loads(_says(None, ("nowhere__none", {}), ("ledger__balance", {}))[1])
    bad["choices"][0]["message"]["tool_calls"][1]["function"]["arguments"] = "{"
    endpoint.answers = [(200, json.dumps(bad).encode()), _says("well")]
    transcript = await agent.run_agent(_chosen(endpoint.url), open_desk.bare(), "", "")
    assert [step.outcome for step in transcript.steps] == ["failed", "failed"]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ((401, b"wrong key"), "answered 401: wrong key"),
        ((200, b"<html>"), "cannot be used"),
        ((200, b'{"choices": []}'), "without a message"),
        ((200, b'{"choices": [{"message": "hello"}]}'), "without a message"),
        ((200, b"[]"), "without a message"),
    ],
)
async def test_an_endpoint_that_gives_no_message_is_named(
    endpoint: Endpoint, answer: tuple[int, bytes], said: str
) -> None:
    endpoint.answers = [answer]
    with pytest.raises(model.ModelError, match=said) as raised:
        await _chosen(endpoint.url).step([], [])
    assert KEY not in str(raised.value)


def test_the_environment_chooses_the_model() -> None:
    assert isinstance(model.choose_model({}), model.ObedientModel)
    with pytest.raises(model.ModelError, match="CITYWATCH_DEMO_MODEL_NAME"):
        model.choose_model({"CITYWATCH_DEMO_MODEL_URL": "http://127.0.0.1:1/v1"})
    with pytest.raises(model.ModelError, match="http"):
        model.choose_model({"CITYWATCH_DEMO_MODEL_URL": "file:///etc/passwd", "CITYWATCH_DEMO_MODEL_NAME": "m"})
