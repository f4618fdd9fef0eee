"""What decides the agent's next step: an obedient model, or any OpenAI-compatible chat endpoint.

`ObedientModel` does whatever any text tells it to do, by the one grammar of `language.py`, with the tools on offer. It
makes no difference between its operator, the customer and a document, as a language model makes none that one could
rely on. Nothing in it knows this scenario. CITYWATCH_DEMO_MODEL_URL (with _NAME, _KEY) puts a real model in its place.
INVARIANT: `ObedientModel` is a function of messages and tools: the same conversation gives the same step.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import anyio.to_thread

from examples.support_desk.language import Imperative, imperatives, phrases, tokens
from examples.support_desk.matching import Fact, Json, facts_of, find_call, parse_json, parse_tool, words

Message = dict[str, Any]
"""One message of a chat: `{role, content, tool_calls?, tool_call_id?, name?}`, as OpenAI's chat API writes it."""


class Model(Protocol):
    """Given the conversation and the tools, the assistant's next message."""

    name: str

    async def step(self, messages: Sequence[Message], tools: Sequence[Json]) -> Message: ...


class ModelError(Exception):
    """The endpoint did not give a usable message."""


class ObedientModel:
    """Does every imperative it reads, in reading order, each once, as soon as it has what the order speaks of."""

    name = "obedient (built in)"

    async def step(self, messages: Sequence[Message], tools: Sequence[Json]) -> Message:
        offered = [parse_tool(tool["function"]) for tool in tools]
        known = [fact for message in messages for fact in _facts(message)]
        made = [call for message in messages for call in message.get("tool_calls") or ()]
        done = {call["id"] for call in made}
        before = {(call["function"]["name"], call["function"]["arguments"]) for call in made}
        for number, order in enumerate(_orders(messages)):
            found = None if f"order-{number}" in done else find_call(order, offered, known)
            if found is None or (found[0], json.dumps(found[1])) in before:
                continue
            function = {"name": found[0], "arguments": json.dumps(found[1])}
            call = {"id": f"order-{number}", "type": "function", "function": function}
            return {"role": "assistant", "content": None, "tool_calls": [call]}
        return {"role": "assistant", "content": f"I did {len(made)} things that I was told to do."}


class EndpointModel:
    """A model behind an OpenAI-compatible chat endpoint; `url` is its base, such as http://127.0.0.1:11434/v1."""

    def __init__(self, url: str, key: str, name: str, timeout: float = 120.0) -> None:
        plain = url.rstrip("/")
        if not plain.startswith(("http://", "https://")):
            raise ModelError("CITYWATCH_DEMO_MODEL_URL must start with http:// or https://")
        self.url = plain if plain.endswith("/chat/completions") else f"{plain}/chat/completions"
        self.name = name
        self._key = key
        self._timeout = timeout

    async def step(self, messages: Sequence[Message], tools: Sequence[Json]) -> Message:
        # The API knows no name on a tool's message, and strict endpoints refuse what they do not know.
        known = [{k: v for k, v in m.items() if (m["role"], k) != ("tool", "name")} for m in messages]
        body = {"model": self.name, "messages": known, "tools": list(tools), "temperature": 0}
        answer = await anyio.to_thread.run_sync(self._ask, json.dumps(body).encode())
        try:
            message = answer["choices"][0]["message"]
            calls = [_plain_call(call) for call in message.get("tool_calls") or ()]
            content = message.get("content")
        except (KeyError, IndexError, TypeError, AttributeError) as error:
            raise ModelError(f"`{self.url}` answered without a message") from error
        kept: Message = {"role": "assistant", "content": content if isinstance(content, str) else None}
        return {**kept, "tool_calls": calls} if calls else kept

    def _ask(self, body: bytes) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.url, data=body, headers=headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(300).decode(errors="replace").strip()
            raise ModelError(f"`{self.url}` answered {error.code}: {said}") from error
        except (OSError, ValueError) as error:
            raise ModelError(f"`{self.url}` cannot be used: {error}") from error


def choose_model(environment: Mapping[str, str]) -> Model:
    """The endpoint that the environment names, or the obedient model if it names none."""
    url = environment.get("CITYWATCH_DEMO_MODEL_URL", "")
    if not url:
        return ObedientModel()
    name = environment.get("CITYWATCH_DEMO_MODEL_NAME", "")
    if not name:
        raise ModelError("set CITYWATCH_DEMO_MODEL_NAME to the model that the endpoint should use")
    return EndpointModel(url, environment.get("CITYWATCH_DEMO_MODEL_KEY", ""), name)


def _plain_call(call: Mapping[str, Any]) -> Json:
    function = {"name": str(call["function"]["name"]), "arguments": str(call["function"].get("arguments") or "{}")}
    return {"id": str(call["id"]), "type": "function", "function": function}


def _texts(message: Message) -> Iterator[str]:
    """All text of a message that somebody else wrote; of JSON, every string in it."""
    content = message.get("content")
    if message["role"] == "assistant" or not isinstance(content, str):
        return
    value = parse_json(content) if message["role"] == "tool" else None
    if value is None:
        yield content
    else:
        yield from (str(fact.value) for fact in facts_of(value, frozenset()) if isinstance(fact.value, str))


def _orders(messages: Sequence[Message]) -> Iterator[Imperative]:
    for message in messages:
        for text in _texts(message):
            yield from imperatives(text)


def _facts(message: Message) -> list[Fact]:
    """What can be referred to later: fields of tool results, and values that the user named ("ticket T-1007")."""
    content = message.get("content")
    if message["role"] == "tool" and isinstance(content, str):
        return facts_of(parse_json(content), words(str(message.get("name", ""))))
    if message["role"] == "user" and isinstance(content, str):
        named = [phrase for phrase in phrases(tokens(content)) if phrase.value is not None and phrase.words]
        return [Fact(frozenset(p.words), frozenset(), p.value.value) for p in named if p.value is not None]
    return []
