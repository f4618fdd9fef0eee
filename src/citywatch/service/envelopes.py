"""Envelopes of messages: written for what goes out, verified and taken once when another domain's gateway wrote them.

Decides nothing of what stands in one: `enforce.said` says what shaped a message, `core.identity.envelope` what may be
believed. INVARIANTS
1. An envelope is written for a judged call that was let through, from what was known when it was judged, and of the
   very message that goes out.
2. Its key signs nothing else, so that none passes for papers, a grant, a card or an access token.
3. One that came is taken once, whichever replica it reaches, before anything that it speaks of is judged.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from citywatch.core.canonical import canonical, digest
from citywatch.core.delegation.chain import Chain
from citywatch.core.enforce.chains import is_act
from citywatch.core.enforce.peers import is_message, peers_context
from citywatch.core.enforce.rules import Rules
from citywatch.core.enforce.said import said_in
from citywatch.core.enforce.verify import check_standing
from citywatch.core.errors import CitywatchError, Code, Malformed, Refused
from citywatch.core.flow.history import History
from citywatch.core.identity.credential import Credential
from citywatch.core.identity.envelope import (
    LONGEST_MS,
    MAX_HOPS,
    MAX_ITEMS,
    TYPE,
    Arrived,
    Envelope,
    Items,
    as_trace,
    envelope_claims,
    fitting,
    message_digest,
    verify_envelope,
)
from citywatch.core.identity.registration import agent_key, parse_agent_row
from citywatch.core.identity.x509 import gateway_id
from citywatch.core.label import Label
from citywatch.core.names import AgentId, parse_agent_id
from citywatch.core.signature import P256Key, format_jwk, thumbprint
from citywatch.core.wire import a2a
from citywatch.core.wire.jsonrpc import FROM_SERVER, Request, parse_message
from citywatch.service.authority import bare_signature, p256
from citywatch.service.judged import Judged
from citywatch.service.messages import spend
from citywatch.service.ports import Clock, Key, Signer, Store
from citywatch.service.trees import told_hops

Keys = Mapping[str, Mapping[str, P256Key]]
"""The keys for envelopes of each trust domain, by `kid`."""


class Envelopes:
    """Writes the envelopes of one gateway."""

    def __init__(self, *, domain: str, signer: Signer, receivers: Mapping[str, str], clock: Clock) -> None:
        """`receivers` says, by the name of a server or peer that takes envelopes, whom they are for."""
        self._issuer = gateway_id(domain)
        self._signer = signer
        self._receivers = receivers
        self._clock = clock
        self._kid = thumbprint(self._key)

    @property
    def _key(self) -> P256Key:
        return p256(self._signer.public)

    def keys(self) -> dict[str, P256Key]:
        """The public key that verifies them, by `kid`."""
        return {thumbprint(self._key): self._key}

    def key_set(self) -> bytes:
        """The same as a JWK set."""
        told = [{**format_jwk(key), "kid": kid, "alg": "ES256", "use": "sig"} for kid, key in self.keys().items()]
        return msgspec.json.encode({"keys": told})

    def of(self, judged: Judged) -> str | None:
        """The envelope in which this call goes out; None if its server takes none, or nobody knows what shaped it."""
        call, flow = judged.call, judged.known.flow
        receiver = self._receivers.get(call.server)
        carries = a2a.carries(call.method) if is_message(call) else is_act(call)
        if receiver is None or flow is None or not carries or call.rpc_id is None:
            return None
        if not judged.allowed:  # INVARIANT: 1.
            raise CitywatchError("an envelope for a call that was not let through")
        chain = judged.known.chain if isinstance(judged.known.chain, Chain) else None
        now, params = self._clock.now_ms(), going_out(judged)
        one = Envelope(
            issuer=self._issuer,
            sender=call.agent,
            receiver=receiver,
            issued=now,
            expires=now + LONGEST_MS,
            name=call.id,
            message=digest_of(call.method, params),
            label=fitting(said_in(call, flow)),
            items=held((flow.history,)),
            task=call.task,
            chain=None if chain is None else chain.hashes[-1],
            hops=min(told_hops(judged) or 0, MAX_HOPS),
            trace=as_trace(beside(params).get("traceparent")),
        )
        try:
            return signed(one, self._signer, self._kid)
        except Malformed as failure:
            raise Refused(Code.MALFORMED, f"its envelope cannot be written: {failure}") from None


class Arrivals:
    """Takes the envelopes that messages of other trust domains come in."""

    def __init__(
        self, *, store: Store, clock: Clock, rules: Callable[[], Rules], trusted: Callable[[], Keys], leeway_ms: int
    ) -> None:
        self._store = store
        self._clock = clock
        self._rules = rules
        self._trusted = trusted
        self._leeway = leeway_ms

    async def take(self, token: str, message: Request, peer: str, credential: Credential) -> Label:
        """The label that the sender's gateway gives this message, once; `Refused` otherwise."""
        arrived = Arrived(
            message=digest_of(message.method, message.params or {}),
            sender=credential.key,
            receiver=self._receiver(peer),
        )
        now = self._clock.now_ms()
        found = verify_envelope(token.encode("utf-8"), self._trusted(), arrived, now=now, leeway=self._leeway)
        holder = agent_key(parse_agent_id(credential.agent).name)
        row = (await self._store.load((holder,), ())).rows.get(holder)
        registered = None if row is None else parse_agent_row(row.value)
        check_standing(credential.agent, credential.key, registered, credential.proved)  # or it would leave rows here
        key = envelope_key(found.domain, found.envelope.name)
        if not await spend(self._store, key, found.envelope.expires):
            raise Refused(Code.ENVELOPE_REFUSED, "step 8: it came before")
        return found.envelope.label

    def _receiver(self, peer: str) -> str:
        """Whom a message to this peer, or a call to this server, is for, as its sender's gateway has to call them."""
        rules = self._rules()
        declared = rules.peers.get(peer)
        agent = "" if declared is None else declared.agent
        return str(AgentId(rules.domain, agent)) if agent else gateway_id(rules.domain)


def signed(one: Envelope, signer: Signer, kid: str, typ: str = TYPE) -> str:
    """An envelope as it is sent. `Malformed` for what has no canonical form."""
    header = _b64url(canonical({"alg": "ES256", "kid": kid, "typ": typ}))
    text = f"{header}.{_b64url(canonical(envelope_claims(one)))}"
    return f"{text}.{_b64url(bare_signature(signer.sign(text.encode('ascii'))))}"


def held(histories: Sequence[History]) -> Items:
    """What contexts hold, one after the other, as an envelope says it."""
    if len(histories) == 1:
        (history,) = histories
        count = len(history.items)
        newest = tuple(one.digest for one in history.items[-MAX_ITEMS:])
        return Items(count=count, newest=newest, before=history.over(count - MAX_ITEMS))
    digests = [one.digest for history in histories for one in history.items]
    before = ""
    for one in digests[:-MAX_ITEMS]:
        before = digest(f"{before}\n{one}".encode())
    return Items(count=len(digests), newest=tuple(digests[-MAX_ITEMS:]), before=before or None)


def envelope_key(domain: str, name: str) -> Key:
    """Where it is kept that an envelope was taken: no thumbprint has a colon, so it meets no other nonce."""
    return ("nonce", f"envelope:{domain}\n{name}")


def digest_of(method: str, params: Mapping[str, Any]) -> str:
    """The digest of a message, A2A's or MCP's, without what gateways write beside it."""
    skill, kind = (one if isinstance(one := beside(params).get(key), str) else None for key in (a2a.SKILL, a2a.TYPE))
    kept = {key: value for key, value in a2a.visible(params).items() if key != "_meta"}
    if isinstance(asked := kept.get("configuration"), dict):  # where to push to is written anew by each gateway
        kept["configuration"] = {key: value for key, value in asked.items() if key != "taskPushNotificationConfig"}
    try:
        return message_digest(method, kept, skill, kind)
    except Malformed as failure:
        raise Refused(Code.MALFORMED, f"the message has no digest: {failure}") from None


def params_of(body: bytes) -> Mapping[str, Any]:
    """The parameters of a request of ours; none of anything else."""
    message = parse_message(body, FROM_SERVER)
    return (message.params or {}) if isinstance(message, Request) else {}


def going_out(judged: Judged) -> Mapping[str, Any]:
    """The parameters of a call as they leave: a conversation that its sender named has another name out there."""
    call, known = judged.call, judged.known
    params = params_of(call.body)
    context = peers_context(call, known.agent, known.things) if is_message(call) else None
    return params if context is None else {**params, "message": {**params["message"], "contextId": context}}


def beside(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """What stands beside a message, A2A's or MCP's."""
    found = params.get("metadata", params.get("_meta"))
    return found if isinstance(found, dict) else {}


def _b64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
