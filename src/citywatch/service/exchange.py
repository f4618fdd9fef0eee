"""Forwarding between the two halves of the sequence: what an agent sends, and what becomes of it.

Decides nothing: `Enforcer` judges and settles; here a judged call goes to its server, and the answer to whoever sees to
it: `replies` a whole one, `streams` one that comes piece by piece, `greetings` one that opens a session, `questions`
what servers ask.
INVARIANTS: a message reaches the agent only as what `settle` or `judge` returned for it; a call that was forwarded is
always closed: settled, failed, parked for resumption, or (if this process dies) `lost`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial

from citywatch.core.call import Call
from citywatch.core.enforce.needs import ended_rows, is_synced, waiting_key
from citywatch.core.enforce.peers import is_message, peers_context
from citywatch.core.enforce.settle import Withheld
from citywatch.core.errors import Code, Malformed, Refused, Unavailable
from citywatch.core.identity.credential import Credential
from citywatch.core.label import Label
from citywatch.core.names import parse_agent_id
from citywatch.core.wire import a2a, a2a_push, mcp
from citywatch.core.wire.a2a_push import Target, readdressed
from citywatch.core.wire.jsonrpc import Limits, Message, Request, Response
from citywatch.service.access import AccessTokens
from citywatch.service.borrowed import Borrowed
from citywatch.service.conversations import Conversations
from citywatch.service.enforcer import Enforcer
from citywatch.service.envelopes import Arrivals, Envelopes
from citywatch.service.greetings import Greetings
from citywatch.service.judged import Judged
from citywatch.service.leading import Leading
from citywatch.service.listening import Listening
from citywatch.service.listing import Listing
from citywatch.service.outward import Outward, upstream_session
from citywatch.service.own_tasks import OwnTasks
from citywatch.service.pausing import Pausing
from citywatch.service.ports import Answer, Recipient, Upstream
from citywatch.service.pushes import Opened, Pushes
from citywatch.service.questions import Questions, reason_of
from citywatch.service.replies import Outcome, Replies
from citywatch.service.reply_envelopes import ReplyArrivals, ReplyEnvelopes
from citywatch.service.streams import GONE, Streams
from citywatch.service.trees import told_hops
from citywatch.service.unhindered import unhindered

END = "transport/end"
OWN = a2a_push.METHODS | {a2a.LIST}
"""What is not forwarded as it came: it is about what is kept here."""


class Exchange:
    """Carries judged calls to their servers and settled replies back."""

    def __init__(
        self,
        enforcer: Enforcer,
        upstreams: Mapping[str, Upstream],
        limits: Limits,
        max_sessions: int,
        tokens: AccessTokens | None = None,
        recipients: Mapping[str, Recipient] = {},
        envelopes: Envelopes | None = None,
        arrivals: Arrivals | None = None,
        reply_envelopes: ReplyEnvelopes | None = None,
        reply_arrivals: ReplyArrivals | None = None,
        borrowed: Borrowed | None = None,
    ) -> None:
        """`tokens` writes what those servers are shown that take access tokens of ours; `recipients` are where agents
        take what peers push. `envelopes` writes what messages go out in, `arrivals` takes what those of other domains
        come in; the other two do the same for replies. `borrowed` has tokens of servers' own authorization
        servers."""
        self.enforcer = enforcer
        self.envelopes, self.arrivals, self.reply_arrivals = envelopes, arrivals, reply_arrivals
        self.pausing: Pausing | None = None
        """How calls wait in their clients' hands, where any may."""
        self.own_tasks: OwnTasks | None = None
        """The tasks of ours in which messages wait, where any may."""
        self.leading: Leading | None = None
        """How people are led to a call that waits, where they have a console."""
        self.outward = outward = Outward(upstreams, tokens, borrowed)
        self.questions = Questions(enforcer, outward)
        self.replies = Replies(enforcer, self.questions, limits, reply_envelopes, reply_arrivals)
        self.listening = Listening(enforcer, upstreams)
        self.streams = Streams(enforcer, self.questions, self.replies, self.listening, limits)
        self.conversations = Conversations(enforcer, self.replies, self.listening, limits)
        self.listing = Listing(enforcer, outward, self.replies)
        self.pushes = Pushes(enforcer, outward, self.replies, recipients, limits)
        self.greetings = Greetings(enforcer, outward, self.questions, self.replies, limits, max_sessions)

    @property
    def upstreams(self) -> Mapping[str, Upstream]:
        """The servers that calls can go to."""
        return self.outward.upstreams

    async def brought(self, envelope: str, message: Message, server: str, credential: Credential) -> Label:
        """The label in the envelope of another domain's gateway; no agent of ours writes one."""
        home = self.enforcer.rules.domain
        if self.arrivals is None or parse_agent_id(credential.agent).domain == home or not isinstance(message, Request):
            raise Malformed("an envelope is written by a gateway, for a request of an agent of its own trust domain")
        return await self.arrivals.take(envelope, message, server, credential)

    async def request(
        self, call: Call, credential: Credential, headers: Mapping[str, str], target: Target | None = None
    ) -> Outcome:
        """Run the whole sequence for a request that expects a reply; `target` stays beside one that asks for pushes."""
        if call.continuation is not None and self.pausing is not None and mcp.is_sealed(call.continuation):
            call, paused = await self.pausing.resumed(call, credential)
            if paused is not None:
                return paused
        if call.things and self.own_tasks is not None and is_message(call):
            call, waits = await self.own_tasks.taken(call, credential)
            if waits is not None:
                return waits
        judged = await self.enforcer.judge(call, credential)
        if not judged.allowed:
            return await self._waits(judged) or self.replies.told(judged, *reason_of(judged))
        opened = asked = None
        try:
            try:
                if is_message(call) and call.method in OWN:
                    return await self._told(judged, headers, target)
                opened = await self.pushes.open(judged, target) if target is not None else None
                envelope = None if self.envelopes is None else self.envelopes.of(judged)
                body, told = forwarded(judged, envelope), _told_by(judged, headers)
                if envelope is not None and is_message(call):
                    others = told.get("a2a-extensions", "")
                    told = {**told, "a2a-extensions": f"{a2a.ENVELOPE}, {others}" if others else a2a.ENVELOPE}
                if self.reply_arrivals is not None:
                    asked = self.reply_arrivals.asked(judged, envelope)
                if opened is not None:
                    body = readdressed(body, opened.config)
                answer = await self.outward.send(judged, body, told, repeatable=_repeatable(judged))
            except (Unavailable, Refused) as failure:
                if opened is not None:
                    await self.pushes.drop(opened)
                outcome = await self.replies.failed(judged, failure.code, failure.detail)
                outcome.retry_s = failure.retry_s if isinstance(failure, Unavailable) else 0
                return outcome
            try:
                return await self._answered(judged, answer, opened, asked)
            except (Malformed, Refused) as failure:
                code = failure.code if isinstance(failure, Refused) else Code.REPLY_MALFORMED
                return await self.replies.failed(judged, code, str(failure))
        except asyncio.CancelledError:
            await self.enforcer.closing.abandon(call, GONE)
            raise

    async def _waits(self, judged: Judged) -> Outcome | None:
        """What whoever made a call that waits for a person is told in its own words, None if it has none.

        An agent of another domain gets the refusal: its own gateway takes errors unsigned, and answers only signed.
        """
        told = None
        if judged.ticket and is_message(judged.call):
            abroad = parse_agent_id(judged.call.agent).domain != self.enforcer.rules.domain
            return None if self.own_tasks is None or abroad else self.own_tasks.told(judged)
        if judged.ticket and self.pausing is not None:
            told = await self.pausing.told(judged)
        if judged.ticket and told is None and self.leading is not None:
            told = await self.leading.told(judged)
        return told

    async def _told(self, judged: Judged, headers: Mapping[str, str], target: Target | None) -> Outcome:
        """What we answer of our own knowledge, with what the peer says to it: settled like any reply."""
        try:
            if judged.call.method == a2a.LIST:
                response = await self.listing.response(judged, headers)
            elif (opened := await self.pushes.open(judged, target)) is not None:
                response = await self.pushes.create(judged, headers, opened, forwarded(judged))
            else:
                response = await self.pushes.answer(judged, headers)
        except Malformed as failure:
            raise Refused(Code.REPLY_MALFORMED, str(failure)) from None
        return Outcome(status=200, media="json", body=await self.replies.settle(judged, response, 0))

    async def _answered(self, judged: Judged, answer: Answer, opened: Opened | None, asked: str | None) -> Outcome:
        """What became of a forwarded request: a whole reply, a stream, or only a status."""
        if not 200 <= answer.status <= 599:
            await answer.close()
            raise Malformed(f"the server answered with the status {answer.status}")
        if answer.media == "json" and answer.body is not None:
            return await self._reply(judged, answer, answer.body, opened, asked)
        if answer.media == "sse" and judged.call.method == "initialize":
            return await self.greetings.streamed(judged, answer)
        if answer.media == "sse" and is_message(judged.call) and not a2a.streams(judged.call.method):
            await answer.close()
            raise Malformed("the peer answers with a stream what asks for none")
        if answer.media == "sse" and is_message(judged.call):
            first = None if opened is None else partial(self.pushes.opened, opened)
            return self.conversations.begin(judged, answer, first, asked)
        if answer.media == "sse":
            return self.streams.begin(judged, answer, asked)
        await answer.close()
        why = f"status {answer.status} without a reply"
        if is_message(judged.call):  # SPEC: A2A 1.0 §9.5, §11.6: an error is said in words, whatever failed
            return await self.replies.failed(judged, Code.UPSTREAM_UNAVAILABLE, why)
        await self.enforcer.closing.fail(judged, Code.UPSTREAM_UNAVAILABLE, why, 0)
        return Outcome(status=answer.status if answer.status >= 400 else 502, media="none")

    async def _reply(
        self, judged: Judged, answer: Answer, raw: bytes, opened: Opened | None = None, asked: str | None = None
    ) -> Outcome:
        """The whole reply in one JSON body: the path that nearly every call takes."""
        response = self.replies.read(judged.call, raw)
        if judged.call.method == "initialize":
            return await self.greetings.opened(judged, answer, response)
        body = await self.replies.settle(judged, response, 0, asked=asked)
        if opened is not None:
            await self.pushes.opened(opened, response)
        return Outcome(status=answer.status, media="json", body=body)

    async def notify(self, call: Call, credential: Credential, headers: Mapping[str, str]) -> Outcome:
        """Forward a notification: judged and recorded like any call, with no reply to settle."""
        judged = await self.enforcer.judge(call, credential)
        if not judged.allowed:
            return Outcome(status=403, media="none")
        answer = await self.outward.send(judged, forwarded(judged), headers, repeatable=_repeatable(judged))
        await answer.close()
        return Outcome(status=answer.status, media="none")

    async def answer(
        self, call: Call, response: Response, credential: Credential, headers: Mapping[str, str]
    ) -> Outcome:
        """Take an agent's answer to a server's request: to that server, from that agent, in that session, once."""
        key = waiting_key("asked", call, response.id)
        asked, version = await self.questions.pending(key)
        if asked is None or (asked.server, asked.agent) != (call.server, call.agent):
            raise Refused(Code.REPLY_UNEXPECTED)
        judged = await self.enforcer.recall(asked, credential)

        async def carry() -> Outcome:
            settled = await self.enforcer.settle(judged, response, 0, ((key, None),), ((key, version),))
            if isinstance(settled, Withheld):
                raise Refused(settled.code, settled.detail)
            answer = await self.outward.send(judged, settled.body, headers, repeatable=False)
            await answer.close()
            return Outcome(status=answer.status, media="none")

        return await unhindered(carry())  # what the log says was let through to the server goes there

    async def listen(self, call: Call, credential: Credential, headers: Mapping[str, str]) -> Outcome:
        """Open the stream on which a server speaks unasked; each of its messages is a call of its own."""
        judged = await self.enforcer.judge(call, credential)
        if not judged.allowed:
            return Outcome(status=403, media="none")
        try:
            answer = await self.outward.listen(judged, headers)
        except asyncio.CancelledError:
            await unhindered(self.enforcer.closing.fail(judged, Code.ABANDONED, GONE, 0))
            raise
        if answer.media != "sse":
            await answer.close()
            return Outcome(status=answer.status, media="none")
        outcome = self.streams.begin(judged, answer)
        return outcome if self.leading is None else self.leading.beside(judged, outcome)

    async def end(self, call: Call, credential: Credential, headers: Mapping[str, str]) -> Outcome:
        """End a session: the row goes with the judgement, so that nothing can use it any more."""
        if call.session is None:
            raise Refused(Code.SESSION_UNKNOWN)
        judged = await unhindered(self._ended(call, call.session, credential))
        if not judged.allowed:
            return Outcome(status=403, media="none")
        session = upstream_session(judged)
        status = 200 if session is None else await self.outward.end(judged, session, headers)
        return Outcome(status=status, media="none")

    async def _ended(self, call: Call, session: str, credential: Credential) -> Judged:
        judged = await self.enforcer.judge(call, credential, puts=tuple((row, None) for row in ended_rows(session)))
        if judged.allowed:
            await self.questions.forget(session)
        return judged


def forwarded(judged: Judged, envelope: str | None = None) -> bytes:
    """What a server is sent: the message that was judged, without what was shown to us alone, in its envelope."""
    call = judged.call
    if is_message(call):
        known = judged.known
        return a2a.forwarded(call, told_hops(judged), envelope, peers_context(call, known.agent, known.things))
    bare = not call.chain and call.tightened is None and call.brought is None
    body = call.body if bare else mcp.without_chain(call.body)
    return body if envelope is None else mcp.with_envelope(body, envelope)


def _repeatable(judged: Judged) -> bool:
    """Whether a call may reach its server twice, if a kept connection broke while it was under way."""
    return not is_synced(judged.known.rules, judged.call)


def _told_by(judged: Judged, headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers that repeat arguments say what is forwarded, not the handle that the agent wrote there."""
    call = judged.call
    wanted = judged.known.rules.mirrored(call.server, call.name) if call.filled else ()
    return mcp.mirrored_anew(headers, wanted, call.arguments)
