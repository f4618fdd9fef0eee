"""Honest chains as somebody forged them: thirteen kinds, each in several ways.

What a forger may have: every key but those of the principals and of the agents that are named as honest, all chains
that were ever sent, and any number of attempts. `bench.chain` counts, and so does a test with fewer of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from bench.grants import (
    ABROAD,
    AGENTS,
    DOMAIN,
    FOREIGN,
    MALLORY,
    NOW,
    PRINCIPALS,
    RIVAL,
    SPEAKERS,
    Author,
    Party,
    Presented,
    put_together,
    raw_key,
    resigned,
    town,
    written,
)
from citywatch.core.canonical import canonical
from citywatch.core.delegation.caveats import Caveats
from citywatch.core.delegation.chain import Trust
from citywatch.core.delegation.grant import format_grant, parse_link
from citywatch.core.delegation.handing import Holder, next_grant
from citywatch.core.signature import Ed25519Key, parse_b64url, parse_spki
from citywatch.service.grants import sign_grant


def _with(honest: Presented, texts: Sequence[str], **asking: Any) -> Presented:
    return msgspec.structs.replace(
        honest, texts=tuple(texts), asking=msgspec.structs.replace(honest.asking, **asking) if asking else honest.asking
    )


def forged(author: Author, honest: Presented) -> Presented:
    """Other words under an old signature, or a signature of somebody else's under the honest key."""
    place = author.chance.randrange(len(honest.texts))
    grant, key, signature = honest.texts[place].split(".")
    way = author.chance.randrange(3)
    if way == 0:
        raw = {**msgspec.json.decode(parse_b64url(grant)), "not_after": NOW + 10**9}
        grant = written(canonical(raw))
    elif way == 1:
        bits = bytearray(parse_b64url(signature))
        bits[author.chance.randrange(64)] ^= 1 << author.chance.randrange(8)
        signature = written(bytes(bits))
    else:
        other = put_together(parse_b64url(grant), town()[MALLORY].signer)
        signature = other.split(".")[2]
    texts = [*honest.texts]
    texts[place] = f"{grant}.{key}.{signature}"
    return _with(honest, texts)


def spliced(author: Author, honest: Presented) -> Presented:
    """A link from beneath another root, of the same agents: another chain, or one that calls itself the same."""
    honest = author.honest(author.chance.randint(2, 5))
    people = town()
    root = parse_link(honest.texts[0]).grant
    changes: Mapping[str, Any] = {"chain_id": "f" * 32} if author.chance.random() < 0.5 else {"caveats": {
        "audience": [DOMAIN]}, "not_after": root.not_after + 1}  # fmt: skip
    return _with(honest, [resigned(honest.texts[0], people[root.delegator].signer, **changes), *honest.texts[1:]])


def reordered(author: Author, honest: Presented) -> Presented:
    """Links left out, turned round, or written twice."""
    honest = author.honest(author.chance.randint(2, 5))
    texts = [*honest.texts]
    way = author.chance.randrange(3)
    place = author.chance.randrange(len(texts) - 1)
    if way == 0:
        del texts[place]
    elif way == 1:
        texts[place], texts[place + 1] = texts[place + 1], texts[place]
    else:
        texts.insert(place, texts[place])
    return _with(honest, texts)


def widened(author: Author, honest: Presented) -> Presented:
    """A holder, with its own good key, hands on more than it has: one caveat of each kind."""
    people, chance = town(), author.chance
    honest = _narrowed(author)
    last = parse_link(honest.texts[-1]).grant
    more: Sequence[dict[str, Any]] = (
        {"not_after": last.not_after + 1},
        {"depth": last.depth},
        {"depth": last.depth + 1},
        {"caveats": {"calls": 6}},
        {"caveats": {"tools": ["*"]}},
        {"caveats": {"tools": ["bank/*"]}},
        {"caveats": {"tools": ["bank/pay", "mail/send"]}},
        {"caveats": {"readers": ["anna", "carol"]}},
        {"caveats": {"origins": ["outside:*"]}},
        {"caveats": {"audience": ["other.example"]}},
        {"caveats": {"arguments": {"bank/pay": {"amount": {"at_most": "501"}}}}},
        {"caveats": {"arguments": {"bank/pay": {"amount": {"at_least": "1"}}}}},
        {"caveats": {"arguments": {"bank/pay": {"to": {"one_of": ["anna", "bob"]}}}}},
        {"caveats": {"arguments": {"bank/pay": {"to": {"equals": "bob"}}}}},
        {"caveats": {"arguments": {"bank/pay": {"day": {"not_before": "2026-01-01"}}}}},
    )
    claims = {"depth": last.depth - 1, "not_after": last.not_after, "caveats": {}, **chance.choice(more)}
    child = {
        "v": 1, "chain_id": last.chain_id, "parent": parse_link(honest.texts[-1]).hash, "delegator": last.delegate,
        "delegator_thumb": last.delegate_thumb, "delegate": AGENTS[1], "delegate_thumb": people[AGENTS[1]].thumb,
        "task": last.task, "human_root": last.human_root, **claims,
    }  # fmt: skip
    text = put_together(canonical(child), people[last.delegate].signer)
    return _with(honest, [*honest.texts, text], agent=AGENTS[1], key=people[AGENTS[1]].thumb)


def _narrowed(author: Author) -> Presented:
    """A chain of one link that has a caveat of every kind."""
    people, honest = town(), author.honest(1)
    root = parse_link(honest.texts[0]).grant
    caveats = {
        "audience": [DOMAIN], "calls": 5, "tools": ["bank/pay", "crm/*"], "readers": ["anna"], "origins": ["server:*"],
        "arguments": {"bank/pay": {
            "amount": {"at_most": "500"}, "to": {"one_of": ["anna"]}, "day": {"not_before": "2026-11-01"},
        }},
    }  # fmt: skip
    signer = people[root.delegator].signer
    return _with(honest, [resigned(honest.texts[0], signer, caveats=caveats, depth=3, not_after=NOW + 500)])


def replayed(author: Author, honest: Presented) -> Presented:
    """Somebody who saw the chain sends it with papers of their own, or says that it is theirs."""
    people, chance = town(), author.chance
    thief = people[chance.choice([name for name in AGENTS if name != honest.asking.agent])]
    if chance.random() < 0.5:
        return _with(honest, honest.texts, agent=thief.name, key=thief.thumb)
    return _with(honest, honest.texts, key=thief.thumb)


def expired(author: Author, honest: Presented) -> Presented:
    """It ends with the first link that does, whatever the others say; and at that instant."""
    ends = min(parse_link(text).grant.not_after for text in honest.texts)
    return msgspec.structs.replace(honest, now=ends + author.chance.choice((0, 0, 1, 10**6)))


def cross_task(author: Author, honest: Presented) -> Presented:
    """The call is for another task, or for none; or a link was signed for another one."""
    if author.chance.random() < 0.7:
        return _with(honest, honest.texts, task=author.chance.choice((None, "t-0")))
    place = author.chance.randrange(len(honest.texts))
    grant = parse_link(honest.texts[place]).grant
    texts = [*honest.texts]
    texts[place] = resigned(texts[place], town()[grant.delegator].signer, task="t-0")
    return _with(honest, texts, task="t-0" if len(texts) > 1 and author.chance.random() < 0.5 else honest.asking.task)


def wrong_audience(author: Author, honest: Presented) -> Presented:
    """Shown to a gateway that it was not made for, or made for nobody in particular."""
    if author.chance.random() < 0.6:
        return msgspec.structs.replace(honest, trust=msgspec.structs.replace(honest.trust, domain="third.example"))
    honest = author.honest(1)
    root = parse_link(honest.texts[0]).grant
    audiences: list[dict[str, list[str]]] = [{}, {"audience": []}, {"audience": ["other.example"]}]
    audience = author.chance.choice(audiences)
    return _with(honest, [resigned(honest.texts[0], town()[root.delegator].signer, caveats=audience)])


def downgraded(author: Author, honest: Presented) -> Presented:
    """Another version, a caveat that nobody knows, another algorithm, another notation; or a root of one's own."""
    people, chance = town(), author.chance
    place = chance.randrange(len(honest.texts))
    grant = parse_link(honest.texts[place]).grant
    raw = msgspec.json.decode(format_grant(grant))
    signer, texts, way = people[grant.delegator].signer, [*honest.texts], chance.randrange(8)
    public = parse_spki(signer.public)
    odd: tuple[dict[str, Any], ...] = (
        {"v": 0}, {"v": 2}, {"v": "1"}, {"caveats": {**raw["caveats"], "unless": ["urgent"]}}, {"any": True},
    )  # fmt: skip
    if way < len(odd):
        texts[place] = put_together(canonical(raw | odd[way]), signer)
    elif way == 5:  # the same words with a blank: two readers could disagree on other ones
        texts[place] = put_together(canonical(raw).replace(b":", b": ", 1), signer)
    elif way == 6:  # a key of the other kind, or one under which anybody can sign
        other = parse_spki(people[PRINCIPALS[0 if isinstance(public, Ed25519Key) else 1]].signer.public)
        texts[place] = put_together(
            canonical(raw), signer, chance.choice((raw_key(other), bytes(32), b"\1" + bytes(31)))
        )
    else:  # the holder roots a chain by itself
        own = people[honest.asking.agent]
        root = {**raw, "parent": 0, "delegator": grant.human_root, "delegator_thumb": own.thumb, "delegate": own.name,
                "delegate_thumb": own.thumb, "caveats": {"audience": [DOMAIN]}}  # fmt: skip
        texts = [put_together(canonical(root), own.signer)]
    return _with(honest, texts)


def revoked_ancestor(author: Author, honest: Presented) -> Presented:
    """One link, key, agent, the task, the chain or its principal was taken back: all beneath it falls."""
    links = [parse_link(text) for text in honest.texts]
    link = author.chance.choice(links)
    name = author.chance.choice(
        (
            f"grant:{link.hash}",
            f"agent:{link.grant.delegate}",
            f"key:{link.grant.delegate_thumb}",
            f"key:{link.grant.delegator_thumb}",
            f"chain:{link.grant.chain_id}",
            f"task:{link.grant.task}",
            link.grant.human_root,
        )
    )
    known = honest.trust.revoked
    return msgspec.structs.replace(
        honest, trust=msgspec.structs.replace(honest.trust, revoked=frozenset({*known, name}), epoch=2)
    )


def swapped_key(author: Author, honest: Presented) -> Presented:
    """The forger's key stands where another's did: as a delegator's, or as the one that a link is given to."""
    people, chance = town(), author.chance
    honest = author.honest(chance.randint(2, 5))
    mallory = people[MALLORY]
    place = chance.randrange(len(honest.texts))
    texts, way = [*honest.texts], chance.randrange(3)
    if way == 0:  # a link by the forger's key, which says so
        texts[place] = resigned(texts[place], mallory.signer, delegator_thumb=mallory.thumb)
    elif way == 1:  # a link by the forger's key, which says it is the delegator's
        texts[place] = resigned(texts[place], mallory.signer)
    else:  # the last link given to the forger by the forger
        texts[-1] = resigned(texts[-1], mallory.signer, delegate=MALLORY, delegate_thumb=mallory.thumb)
        return _with(honest, texts, agent=MALLORY, key=mallory.thumb)
    return _with(honest, texts)


def wrong_domain(author: Author, honest: Presented) -> Presented:
    """A root of another domain that this domain's own bundle does not bear out, or that nobody let in here."""
    people, chance = town(), author.chance
    honest = author.abroad(chance.randint(1, 4))
    root, known, way = parse_link(honest.texts[0]).grant, honest.trust, chance.randrange(6)
    frontier = known.abroad[ABROAD]
    rival = people[SPEAKERS[RIVAL]]
    if way == 0:  # the file has no frontier for it
        known = msgspec.structs.replace(known, abroad={RIVAL: frontier})
    elif way == 1:  # its bundle has no such key, or is too old to have any
        keys = chance.choice((frozenset(), frozenset({rival.thumb})))
        known = msgspec.structs.replace(known, abroad={ABROAD: msgspec.structs.replace(frontier, keys=keys)})
    elif way == 2:  # a rival, believed for chains of its own, roots one of the partner's
        both = {ABROAD: frontier, RIVAL: msgspec.structs.replace(frontier, keys=frozenset({rival.thumb}))}
        known = msgspec.structs.replace(known, abroad=both)
        return _rerooted(honest, known, rival, root.delegate)
    elif way == 3:  # the partner roots a chain that begins with the rival's agent, or with one of ours
        both = {ABROAD: frontier, RIVAL: msgspec.structs.replace(frontier, keys=frozenset({rival.thumb}))}
        known = msgspec.structs.replace(known, abroad=both)
        start = chance.choice((FOREIGN[RIVAL][0], AGENTS[0]))
        return _rerooted(honest, known, people[SPEAKERS[ABROAD]], start)
    elif way == 4:  # it goes on into a third domain
        last, spy = parse_link(honest.texts[-1]).grant, people[FOREIGN[RIVAL][0]]
        further = next_grant(honest.texts, Holder(spy.name, spy.thumb), Caveats())
        texts = [*honest.texts, sign_grant(further, people[last.delegate].signer)]
        return _with(honest, texts, agent=spy.name, key=spy.thumb, called=spy.name)
    else:  # an agent of the partner signs the root itself
        return _rerooted(honest, known, people[root.delegate], root.delegate)
    return msgspec.structs.replace(honest, trust=known)


def _rerooted(honest: Presented, known: Trust, signer: Party, start: str) -> Presented:
    """A chain of one link, with the honest root's words, signed by somebody else or given to somebody else."""
    first = town()[start]
    text = resigned(
        honest.texts[0], signer.signer, delegator_thumb=signer.thumb, delegate=first.name, delegate_thumb=first.thumb
    )
    asking = msgspec.structs.replace(honest.asking, agent=first.name, key=first.thumb, called=first.name)
    return msgspec.structs.replace(honest, texts=(text,), asking=asking, trust=known)


def past_frontier(author: Author, honest: Presented) -> Presented:
    """A root that the partner did sign: for somebody it does not speak for here, for too long, or held by another."""
    people, chance = town(), author.chance
    honest = author.abroad(1)
    speaker, way = people[SPEAKERS[ABROAD]], chance.randrange(4)
    frontier = honest.trust.abroad[ABROAD]
    if way == 0:
        other = resigned(honest.texts[0], speaker.signer, delegator=PRINCIPALS[1], human_root=PRINCIPALS[1])
        return _with(honest, [other])
    if way == 1:
        far = NOW + frontier.longest + chance.choice((1, 10**6))
        return _with(honest, [resigned(honest.texts[0], speaker.signer, not_after=far)])
    if way == 2:  # an agent that is known here by the very name that the holder has over there
        return _with(honest, honest.texts, called=FOREIGN[ABROAD][1])
    return _with(honest, honest.texts, agent=AGENTS[1], key=people[AGENTS[1]].thumb, called="")


KINDS: dict[str, Callable[[Author, Presented], Presented]] = {
    "forged": forged,
    "spliced": spliced,
    "reordered": reordered,
    "widened": widened,
    "replayed": replayed,
    "expired": expired,
    "cross-task": cross_task,
    "wrong-audience": wrong_audience,
    "downgraded": downgraded,
    "revoked-ancestor": revoked_ancestor,
    "swapped-key": swapped_key,
    "wrong-domain": wrong_domain,
    "past-frontier": past_frontier,
}


def forgery(author: Author, kind: str, honest: Presented | None = None) -> Presented:
    """One forged chain of a kind: it differs from the honest one in its texts or in who shows it, where and when."""
    honest = honest or author.honest()
    false = KINDS[kind](author, honest)
    assert false != honest
    return false
