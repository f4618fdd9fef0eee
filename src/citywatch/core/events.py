"""The closed vocabulary of what can have happened. An event, encoded by `log.entry`, is a leaf of the log.

Decides nothing. INVARIANTS: frozen; every field reaches the leaf's hash (the leaf is the whole canonical encoding);
integers stay below 2**53; payloads appear only as salted digests, so that they can be erased without breaking the log.

Past 400 lines, and one thing because a vocabulary is closed only where all of it can be read in one place.

Evolution rule: never rename, remove or re-type a field or a tag; new fields get a default; a reader that meets an
unknown tag keeps the leaf and says so.

This is one thing because the vocabulary is closed: what is not in this list did not happen.
"""

from __future__ import annotations

import msgspec

WOULD = "would_"


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """`at` is milliseconds since the epoch, `replica` the process that wrote it."""

    at: int
    replica: str


class Decided(Event, frozen=True, kw_only=True, tag="decided"):
    """A call was judged. Committed before it is forwarded. `body` is the salted digest of the message judged.

    `decision` is allow, ask or deny; with `would_` before it (`unsafe_observe`) the call went through all the same.
    """

    call: str
    direction: str
    agent: str
    key: str
    server: str
    method: str
    name: str | None
    revision: str
    effect: str
    decision: str
    code: str | None
    policies: tuple[str, ...]
    detail: str
    policy: str
    manifest: str
    pin: str | None
    body: str
    sources: tuple[str, ...] = ()  # what entitled each argument that steers the act
    handles: tuple[str, ...] = ()  # which handles were filled in: where, with what from which source; never a value
    assumes: tuple[str, ...] = ()  # beside havoc: honest until tainted, honest runtime
    task: str | None = None  # the one that the agent named
    redacted: tuple[str, ...] = ()  # what was taken out of a server's message before it was judged, and how often
    via: tuple[str, ...] = ()  # by the chain that the agent showed: the principal, and the agents down to this one
    grants: tuple[str, ...] = ()  # the hashes of the chain's links
    hears: tuple[str, ...] = ()  # the contexts of the agent of ours that it speaks to; what it carries enters them
    asserted: tuple[str, ...] = ()  # by a foreign issuer, which is first: the subject, then who acts for it
    carriers: tuple[str, ...] = ()  # the agents that carried on what the call carries on, its own last
    proved: str = ""  # the thumbprint behind `key`, where that is a name which another authority vouches for
    rooted: str = ""  # the trust domain that rooted the chain, where that is not ours

    @property
    def verdict(self) -> str:
        """What the gates found, allow, ask or deny, whether or not it was enforced."""
        return self.decision.removeprefix(WOULD)

    @property
    def forwarded(self) -> bool:
        """Whether the call was let go."""
        return self.became == "allow"

    @property
    def became(self) -> str:
        """What became of the call: allow, ask or deny, as it was enforced."""
        return "allow" if self.decision.startswith(WOULD) else self.decision


class Settled(Event, frozen=True, kw_only=True, tag="settled"):
    """One message of a call's reply was judged. Committed before it is released to the agent."""

    call: str
    message: int
    outcome: str  # released | withheld | failed
    code: str | None
    detail: str
    final: bool
    is_error: bool
    size: int
    body: str | None
    handles: int = 0  # how many values the agent was given as handles
    shelf: str = ""  # what those handles have in common
    redacted: tuple[str, ...] = ()  # what was taken out, and how often; `body` is the reply as it came
    # the gateway of another domain that signed whose words these are; `nobody`: it had to, and did not
    said_by: str = ""


class Lost(Event, frozen=True, kw_only=True, tag="lost"):
    """A call was open when its process died: its outcome is unknown, it is never forwarded again."""

    call: str


class Resolved(Event, frozen=True, kw_only=True, tag="resolved"):
    """A person found out what became of a call that was lost: `outcome` is happened or did_not_happen."""

    call: str
    outcome: str
    by: str
    reason: str


class Rejected(Event, frozen=True, kw_only=True, tag="rejected"):
    """A request that never became a call, or a TLS handshake that let nobody in: no or bad credential, malformed bytes.

    `peer` is the agent if its papers were judged, else an address. `count` folds a flood into one. A server's denied
    messages are folded too, past the first few of a second: then `peer` is "the server".
    """

    code: str
    detail: str
    peer: str
    server: str
    count: int


class AgentAdded(Event, frozen=True, kw_only=True, tag="agent_added"):
    """An agent was registered under a key (`key` is the RFC 7638 thumbprint)."""

    agent: str
    key: str
    by: str


class AgentInvited(Event, frozen=True, kw_only=True, tag="agent_invited"):
    """Whoever holds the invitation, which is kept nowhere, can join as this agent, once, until `until`."""

    agent: str
    until: int
    by: str


class AgentRevoked(Event, frozen=True, kw_only=True, tag="agent_revoked"):
    """An agent's papers are void from the next request on."""

    agent: str
    by: str
    reason: str


class AgentVouched(Event, frozen=True, kw_only=True, tag="agent_vouched"):
    """From now on this credential is held of an agent, by this issuer under this key; nothing, if they are empty."""

    agent: str
    issuer: str
    key: str
    document: str
    by: str


class AgentAttested(Event, frozen=True, kw_only=True, tag="agent_attested"):
    """From now on this envelope is held of what an agent runs, by this attestor; nothing, if they are empty.

    `key` is the attestor's, a SubjectPublicKeyInfo in base64.
    """

    agent: str
    attestor: str
    key: str
    envelope: str
    by: str


class IssuerDistrusted(Event, frozen=True, kw_only=True, tag="issuer_distrusted"):
    """No credential counts any more that this key (a Multikey) signed; each one that was held has its own entry."""

    key: str
    by: str
    reason: str


class KeyRevoked(Event, frozen=True, kw_only=True, tag="key_revoked"):
    """One key of an agent is void from the next request on, and so are the papers that were issued to it."""

    agent: str
    key: str
    by: str
    reason: str


class Halted(Event, frozen=True, kw_only=True, tag="halted"):
    """From the next request on nothing goes through for `what`: `all`, an agent's SPIFFE ID, or `task:<id>`."""

    what: str
    by: str
    reason: str


class Resumed(Event, frozen=True, kw_only=True, tag="resumed"):
    """What was halted goes on."""

    what: str
    by: str
    reason: str


class Quarantined(Event, frozen=True, kw_only=True, tag="quarantined"):
    """An agent is put aside: refused from the next request; what it touched from entry `since` on is being frozen."""

    agent: str
    since: int
    by: str
    reason: str


class QuarantineLifted(Event, frozen=True, kw_only=True, tag="quarantine_lifted"):
    """The agent acts again; what was frozen stays so."""

    agent: str
    by: str
    reason: str


class Frozen(Event, frozen=True, kw_only=True, tag="frozen"):
    """What `agent` can have shaped counts for nothing from here on: so many rows of each kind."""

    agent: str
    objects: int
    parties: int
    contexts: int
    by: str


class ToolWithdrawn(Event, frozen=True, kw_only=True, tag="tool_withdrawn"):
    """An approval was taken back: the definition is as one that nobody approved."""

    server: str
    kind: str
    name: str
    digest: str
    by: str
    reason: str


class KeyReplaced(Event, frozen=True, kw_only=True, tag="key_replaced"):
    """An agent that proved both keys changed `old` for `key`; papers issued to `old` are void."""

    agent: str
    old: str
    key: str


class ProgramMeasured(Event, frozen=True, kw_only=True, tag="program_measured"):
    """What an agent's program has to be was put on file: `measured` is the digest of its command and files."""

    agent: str
    measured: str
    uid: int
    by: str


class ProgramStarted(Event, frozen=True, kw_only=True, tag="program_started"):
    """A program was found to be what was measured, and started under the account `uid` with a key of its own."""

    agent: str
    key: str
    measured: str
    uid: int
    by: str


class AuthorityChanged(Event, frozen=True, kw_only=True, tag="authority_changed"):
    """The trust domain's authority was founded, or changes its keys: `change` is founded, prepared, activated, retired.

    `generation` numbers the pair of keys, `certificate` and `bundle` are digests of what is believed from now on.
    """

    domain: str
    change: str
    generation: int
    certificate: str
    bundle: str
    by: str


class BundleBelieved(Event, frozen=True, kw_only=True, tag="bundle_believed"):
    """From now on another trust domain's papers are judged by this bundle. `by`: its endpoint or file, an operator."""

    domain: str
    sequence: int
    bundle: str
    by: str


class BundleRefused(Event, frozen=True, kw_only=True, tag="bundle_refused"):
    """A bundle that another trust domain's endpoint or file gave was not believed; the one before it still is."""

    domain: str
    by: str
    detail: str


class TaskStarted(Event, frozen=True, kw_only=True, tag="task_started"):
    """A principal gave an agent a task over their own session. `body` is the salted digest of the prompt.

    `plan` is the digest of the plan that holds from here on, one that came with this task or an earlier one; `kind`
    says who vouches for it: signed, template or written. `calls` is how many may be made for it in all, 0 for any
    number.
    """

    task: str
    principal: str
    agent: str
    by: str
    body: str
    plan: str | None = None
    kind: str | None = None
    template: str | None = None
    calls: int = 0


class GrantRooted(Event, frozen=True, kw_only=True, tag="grant_rooted"):
    """The first link of a chain was signed in a principal's name: `grant` is its hash, `key` whose it is to use."""

    grant: str
    chain: str
    task: str
    principal: str
    agent: str
    key: str
    not_after: int
    by: str


class GrantWithdrawn(Event, frozen=True, kw_only=True, tag="grant_withdrawn"):
    """A link (`grant:<hash>`) or a chain (`chain:<id>`) is void from the next call on, and all beneath it."""

    grant: str
    by: str
    reason: str


class TaskEnded(Event, frozen=True, kw_only=True, tag="task_ended"):
    """A task is over: an agent that names it from here on is refused."""

    task: str
    agent: str
    by: str
    reason: str


class PlanWritten(Event, frozen=True, kw_only=True, tag="plan_written"):
    """An agent wrote a plan and is held to it from here on, *honest until tainted*. `body` digests the plan's bytes.

    `parent` is the digest of the plan that it narrows.
    """

    agent: str
    key: str
    task: str
    plan: str
    parent: str | None
    body: str


class TicketAnswered(Event, frozen=True, kw_only=True, tag="ticket_answered"):
    """A person answered a ticket: `answer` is approved or denied. `by` typed it, in the name of `principal` if of one.

    A yes holds for the one call it was shown for, once; before `until` (ms; 0: never) also for calls that
    differ in words alone.
    """

    ticket: str
    call: str
    agent: str
    answer: str
    by: str
    reason: str
    principal: str = ""
    until: int = 0


class TicketAsked(Event, frozen=True, kw_only=True, tag="ticket_asked"):
    """A call waits for a person until `expires` (ms): in the transaction of the decision that asked.

    `digest` is what a yes is bound to (`approvals.binding`), over a salt that stands nowhere in the log.
    """

    ticket: str
    call: str
    agent: str
    server: str
    tool: str
    digest: str
    expires: int


class TicketShown(Event, frozen=True, kw_only=True, tag="ticket_shown"):
    """Somebody who may answer a ticket was first shown it; `document` is the salted digest of what they saw."""

    ticket: str
    by: str
    document: str


class TicketSigned(Event, frozen=True, kw_only=True, tag="ticket_signed"):
    """One person's answer to a ticket: `statement` is what they signed, letter by letter (`approvals.statement`).

    `method` is ed25519, webauthn or unsigned, `key` the thumbprint or the credential's id, `signature` in base64url.
    For webauthn the authenticator's data and the client's, in base64url. `weight` counts hundredths of a vote. Of an
    answer to several tickets at once `batch` is what was signed: it names this statement by its digest, and the others.
    """

    ticket: str
    by: str
    answer: str
    statement: str
    method: str
    key: str
    signature: str
    authenticator: str = ""
    client: str = ""
    weight: int = 100
    batch: str = ""


class TicketUsed(Event, frozen=True, kw_only=True, tag="ticket_used"):
    """The yes to a ticket let this call through, in the transaction of the decision; `digest` is the ticket's."""

    ticket: str
    call: str
    digest: str


class TicketExpired(Event, frozen=True, kw_only=True, tag="ticket_expired"):
    """Nobody answered a ticket in time, or nobody used its yes in time: from its end on it was no."""

    ticket: str
    state: str  # what it was: pending or approved


class TicketSuperseded(Event, frozen=True, kw_only=True, tag="ticket_superseded"):
    """A ticket speaks of a call that is another one by now: `next` waits in its place, `why` says what changed."""

    ticket: str
    next: str
    why: str


class TicketEscalated(Event, frozen=True, kw_only=True, tag="ticket_escalated"):
    """A ticket waited too long, and from now on those in `to` may answer it too."""

    ticket: str
    to: tuple[str, ...]


class TicketWithdrawn(Event, frozen=True, kw_only=True, tag="ticket_withdrawn"):
    """A yes that was decided is none any more, before it let anything through (again): `why` says what became of it."""

    ticket: str
    why: str


class AbsenceSaid(Event, frozen=True, kw_only=True, tag="absence_said"):
    """An approver is away until `until` (ms), and `deputy` stands in; without one, they are back.

    `statement` is what they signed, letter by letter (`approvals.absence`), under the key of that thumbprint.
    """

    person: str
    deputy: str
    until: int
    statement: str
    key: str
    signature: str


class PasskeyInvited(Event, frozen=True, kw_only=True, tag="passkey_invited"):
    """Whoever holds a code, which is kept nowhere, can enrol one passkey for this person, once, until `until`."""

    person: str
    until: int
    by: str


class PasskeyEnrolled(Event, frozen=True, kw_only=True, tag="passkey_enrolled"):
    """From now on this person's answers may be signed with this credential, under this key (SPKI in base64)."""

    person: str
    credential: str
    key: str
    by: str


class PasskeyRevoked(Event, frozen=True, kw_only=True, tag="passkey_revoked"):
    """A passkey signs nothing any more, from the next answer on."""

    person: str
    credential: str
    by: str
    reason: str


class ConsoleEntered(Event, frozen=True, kw_only=True, tag="console_entered"):
    """Somebody came in at the console: `how` is link, oidc or passkey (they lent a front end a key), `roles` are what
    they may do there."""

    person: str
    roles: tuple[str, ...]
    how: str


class TicketSealed(Event, frozen=True, kw_only=True, tag="ticket_sealed"):
    """A ticket was opened by an approver who may answer it; it was asked at `asked`, reading it takes `reading_ms`.

    `seal` hides what the ticket is, a call or one that was made up (`approvals.seal`); every ticket has one.
    """

    ticket: str
    by: str
    seal: str
    category: str
    asked: int
    reading_ms: int


class TicketUnsealed(Event, frozen=True, kw_only=True, tag="ticket_unsealed"):
    """All have answered: what the ticket was (call, canary or clean), with the salt under which that was sealed."""

    ticket: str
    kind: str
    category: str
    salt: str


class ApprovalReversed(Event, frozen=True, kw_only=True, tag="approval_reversed"):
    """A person found that an approved call should not have been: it escaped whoever approved it."""

    ticket: str
    by: str
    reason: str


class FloodStruck(Event, frozen=True, kw_only=True, tag="flood_struck"):
    """An agent or a root (`kind`) asked more than it may: what it asks is shown to nobody before `until`.

    `number` counts its strikes; with `aside` it is to be put in quarantine.
    """

    kind: str
    who: str
    number: int
    until: int
    aside: bool


class LabelReleased(Event, frozen=True, kw_only=True, tag="label_released"):
    """A label was let down for one value of one call, in the transaction that let the call through.

    `path` is the argument and `role` what it does in the act; `how` names the rule, `source` says where the value
    stands or who vouches for it, `items` are digests of what holds it. `origins` and `readers` are the label before,
    `to_…` the one after: `anybody` could have shaped it, `everybody` may see it, and what is past a bound is counted.
    """

    call: str
    agent: str
    path: str
    role: str
    how: str
    source: str
    items: tuple[str, ...]
    origins: tuple[str, ...]
    readers: tuple[str, ...]
    to_origins: tuple[str, ...]
    to_readers: tuple[str, ...]
    reason: str


class ContextReleased(Event, frozen=True, kw_only=True, tag="context_released"):
    """An operator let the label of an agent's context down; its `items` stay, each with a label of its own.

    `context` is the key whose context it is; `origins` and `readers` are the label before, `to_…` what is left of it.
    """

    agent: str
    context: str
    items: int
    origins: tuple[str, ...]
    readers: tuple[str, ...]
    to_origins: tuple[str, ...]
    to_readers: tuple[str, ...]
    by: str
    reason: str


class PartiesForgotten(Event, frozen=True, kw_only=True, tag="parties_forgotten"):
    """An operator took parties out of a known set: one of them by its `value`, or all. `count` says how many names."""

    party: str
    value: str | None
    count: int
    by: str
    reason: str


class CredentialIssued(Event, frozen=True, kw_only=True, tag="credential_issued"):
    """An SVID was issued, or an agent was handed a token; `kind` is x509, jwt, wit or access, `digest` hashes it, the
    secret itself is nowhere. `call` is the one that asked for it."""

    agent: str
    key: str
    kind: str
    digest: str
    not_after: int
    call: str = ""


class ToolApproved(Event, frozen=True, kw_only=True, tag="tool_approved"):
    """A person approved a definition (tool, prompt, template, instructions) by its digest."""

    server: str
    kind: str
    name: str
    digest: str
    by: str


class ToolChanged(Event, frozen=True, kw_only=True, tag="tool_changed"):
    """A server offered something new or other than approved; it was withheld."""

    server: str
    kind: str
    name: str
    approved: str | None
    offered: str
    difference: str


class OffersDropped(Event, frozen=True, kw_only=True, tag="offers_dropped"):
    """A reply held `count` new or changed definitions too many to be reported one by one; all were withheld."""

    server: str
    count: int


class Started(Event, frozen=True, kw_only=True, tag="started"):
    """A gateway started; `checkpoint` is the size of the last published head, `size` how many entries were synced."""

    version: str
    policy: str
    manifest: str
    checkpoint: int
    size: int
    unsafe: tuple[str, ...]
    assumes: tuple[str, ...] = ()  # for which agents more than havoc is assumed, and what
    weights: str = ""  # the digest of the content model's weights: with others, a scan may say something else


class Stopped(Event, frozen=True, kw_only=True, tag="stopped"):
    """A gateway drained and stopped on purpose."""


class Gap(Event, frozen=True, kw_only=True, tag="gap"):
    """The machine went down under a running gateway: entries above `checkpoint` may have existed and are gone for good.

    `size` is how many entries were still there.
    """

    checkpoint: int
    size: int


class PolicyLoaded(Event, frozen=True, kw_only=True, tag="policy_loaded"):
    """From here on a gateway decides by other policies than before; `by` is the account that it runs under."""

    policy: str
    by: str


class Erased(Event, frozen=True, kw_only=True, tag="erased"):
    """The payloads of entry `index` were erased with their salt; its leaf stands."""

    index: int
    by: str
    reason: str


AnyEvent = (
    Decided
    | Settled
    | Lost
    | Resolved
    | Rejected
    | AgentAdded
    | AgentVouched
    | AgentAttested
    | IssuerDistrusted
    | AgentInvited
    | AgentRevoked
    | KeyRevoked
    | Halted
    | Resumed
    | Quarantined
    | QuarantineLifted
    | Frozen
    | ToolWithdrawn
    | KeyReplaced
    | ProgramMeasured
    | ProgramStarted
    | AuthorityChanged
    | BundleBelieved
    | BundleRefused
    | TaskStarted
    | TaskEnded
    | GrantRooted
    | GrantWithdrawn
    | PlanWritten
    | TicketAnswered
    | TicketAsked
    | TicketShown
    | TicketSigned
    | TicketUsed
    | TicketExpired
    | TicketSuperseded
    | TicketEscalated
    | TicketWithdrawn
    | AbsenceSaid
    | PasskeyInvited
    | PasskeyEnrolled
    | PasskeyRevoked
    | ConsoleEntered
    | TicketSealed
    | TicketUnsealed
    | ApprovalReversed
    | FloodStruck
    | LabelReleased
    | ContextReleased
    | PartiesForgotten
    | CredentialIssued
    | ToolApproved
    | ToolChanged
    | OffersDropped
    | Started
    | Stopped
    | Gap
    | PolicyLoaded
    | Erased
)
