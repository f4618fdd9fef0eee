"""Envelopes of replies: written for what an agent of another domain is answered, taken when another domain's gateway
wrote them.

Decides nothing of what stands in one: what a reply brings to whoever gets it was decided when it was settled, and
`core.identity.envelope` says what may be believed. INVARIANTS
1. An envelope is of what was released, with the label under which it was settled, for who proved to have asked and for
   that request alone; what is said on our own account (a refusal) has none.
2. One that came is verified before the reply is settled, and taken once: a bad one withholds its reply.
3. A reply that had to come in one and did not is never worth more than if anybody had written it (`UNTOLD`), or is a
   third party's text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from citywatch.core.delegation.chain import Chain
from citywatch.core.enforce.abroad import UNTOLD, Told
from citywatch.core.enforce.chains import is_act
from citywatch.core.enforce.hearing import hearing_of
from citywatch.core.enforce.peers import is_message, receiver_of
from citywatch.core.enforce.settle import Released
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.flow.history import History
from citywatch.core.identity.envelope import (
    LONGEST_MS,
    MAX_HOPS,
    REPLY_TYPE,
    Answered,
    Envelope,
    ReplyTo,
    as_trace,
    fitting,
    read_envelope,
    reply_digest,
    request_digest,
    verify_reply,
)
from citywatch.core.identity.x509 import gateway_id
from citywatch.core.names import AgentId
from citywatch.core.signature import thumbprint
from citywatch.core.wire import a2a, enveloped, mcp
from citywatch.core.wire.jsonrpc import FROM_SERVER, Response, format_message, parse_message
from citywatch.service.authority import p256
from citywatch.service.enforcer import Enforcer
from citywatch.service.envelopes import Keys, beside, digest_of, envelope_key, going_out, held, params_of, signed
from citywatch.service.judged import Judged
from citywatch.service.messages import spend
from citywatch.service.ports import Signer
from citywatch.service.trees import told_hops


class ReplyEnvelopes:
    """Writes the envelopes of what is answered to agents of other domains."""

    def __init__(self, enforcer: Enforcer, signer: Signer) -> None:
        self._enforcer = enforcer
        self._signer = signer
        self._kid = thumbprint(p256(signer.public))

    async def enveloped(self, judged: Judged, released: Released, number: int) -> bytes:
        """What goes out of a released reply; as it is, if nobody abroad asked or it has no place for an envelope."""
        call, spoken = judged.call, is_message(judged.call)
        if released.label is None or not _has_place(judged):
            return released.body
        message = parse_message(released.body, FROM_SERVER)
        if not isinstance(message, Response) or message.result is None:
            return released.body
        bare, _ = enveloped.parted(message.result, spoken=spoken)
        params = params_of(call.body)
        shown = beside(params).get(a2a.ENVELOPE if spoken else mcp.ENVELOPE)
        domain, now = judged.known.rules.domain, self._enforcer.clock.now_ms()
        chain = judged.known.chain if isinstance(judged.known.chain, Chain) else None
        answers = receiver_of(call, judged.known.rules)
        try:
            one = Envelope(
                issuer=gateway_id(domain),
                sender=gateway_id(domain) if answers is None else str(AgentId(domain, answers)),
                receiver=read_envelope(shown.encode()).issuer if isinstance(shown, str) else judged.credential.key,
                issued=now,
                expires=now + LONGEST_MS,
                name=f"{call.id}-{number}",
                message=reply_digest(bare),
                label=fitting(released.label),
                items=held(await self._histories(judged)),
                task=call.task,
                chain=None if chain is None else chain.hashes[-1],
                hops=min(told_hops(judged) or 0, MAX_HOPS),
                trace=as_trace(beside(params).get("traceparent")),
                reply=ReplyTo(_asked_by(judged, shown), number),
            )
            told = enveloped.put_in(bare, signed(one, self._signer, self._kid, REPLY_TYPE), spoken=spoken)
        except Malformed:
            told = None  # nothing is said of it then, which is worth less
        return released.body if told is None else format_message(Response(message.id, told))

    async def _histories(self, judged: Judged) -> Sequence[History]:
        """What the contexts hold that it was said out of; none where no agent of ours answered."""
        rules = judged.known.rules
        row, _ = await self._enforcer.snapshots.hearer(judged.call, rules) if is_message(judged.call) else (None, ())
        hearing = hearing_of(judged.call, rules, row)
        if hearing is None:
            return ()
        loaded = await self._enforcer.store.load(hearing.contexts, ())
        return [await self._enforcer.contexts.history(key, loaded) for key in hearing.contexts]


class ReplyArrivals:
    """Takes the envelopes that replies come in from behind the gateways of other domains."""

    def __init__(
        self,
        enforcer: Enforcer,
        *,
        trusted: Callable[[], Keys],
        answerers: Mapping[str, str],
        own: frozenset[str],
        leeway_ms: int,
    ) -> None:
        """`answerers` says, by the name of a peer or server that is behind such a gateway, who answers there; `own` are
        the SPIFFE IDs under which we ask."""
        self._enforcer = enforcer
        self._trusted = trusted
        self._answerers = answerers
        self._own = own
        self._leeway = leeway_ms

    def asked(self, judged: Judged, envelope: str | None) -> str | None:
        """What names the request that goes out, where its reply can come in an envelope."""
        if judged.call.server not in self._answerers:
            return None
        return digest_of(judged.call.method, going_out(judged)) if envelope is None else request_digest(envelope)

    async def told(self, judged: Judged, response: Response, number: int, asked: str | None) -> Told | None:
        """What that domain's gateway says of a reply, once; None where nobody has to say anything of it."""
        sender = self._answerers.get(judged.call.server)
        if sender is None or response.result is None or not _has_place(judged):
            return None
        spoken = is_message(judged.call)
        try:
            bare, token = enveloped.parted(response.result, spoken=spoken)
            named = "" if token is None or asked is None else reply_digest(bare)
        except Malformed as failure:
            raise Refused(Code.ENVELOPE_REFUSED, f"step 1: {failure}") from None
        if token is None or asked is None:  # INVARIANT: 3. What comes by another way than it was asked for, too.
            return None if spoken else UNTOLD
        answered = Answered(message=named, sender=sender, receivers=self._own, reply=ReplyTo(asked, number))
        now = self._enforcer.clock.now_ms()
        found = verify_reply(token.encode("utf-8"), self._trusted(), answered, now=now, leeway=self._leeway)
        key = envelope_key(found.domain, found.envelope.name)
        if not await spend(self._enforcer.store, key, found.envelope.expires):  # INVARIANT: 2.
            raise Refused(Code.ENVELOPE_REFUSED, "step 9: it came before")
        return Told(found.envelope.issuer, found.envelope.sender, found.envelope.label)


def _asked_by(judged: Judged, envelope: object) -> str:
    """What names a request that came: the envelope that it came in, else its own digest."""
    if isinstance(envelope, str):
        return request_digest(envelope)
    return digest_of(judged.call.method, params_of(judged.call.body))


def _has_place(judged: Judged) -> bool:
    call = judged.call
    return call.method in enveloped.METHODS if is_message(call) else is_act(call)
