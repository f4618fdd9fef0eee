"""What does a builder say of what an agent runs? A signed in-toto statement becomes an `Attestation`, or is refused.

Decides that the key of an attestor, whom the operator named, signed these words: which programs and files it vouches
for, of which kind the statement is, and who built them. Does not decide what follows: the Workload API compares what
runs, policies read the rest.

1. a DSSE envelope that the key signed (`dsse`) · 2. an in-toto Statement v1 · 3. of one of two kinds: ours, which names
this agent and has an end, or SLSA provenance v1, which names a builder · 4. subjects, each with digests in their form.

A whole program has a digest of a kind of its own (`citywatchWorkloadV1`, see `identity.workload`) beside the `sha256`
of files: the measurement of a program is the hash of a text, and a builder that hashes whatever files it is given would
otherwise vouch for any program whose text somebody hands it as a file.

INVARIANTS: any bytes give an `Attestation` or `Malformed`; a statement of a kind that is not known is none; one of our
kind counts for one agent.
SPEC: in-toto Attestation Framework v1 (Statement, DigestSet), SLSA Provenance v1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import rfc8785

from citywatch.core.canonical import digest
from citywatch.core.errors import Code, Malformed, Refused
from citywatch.core.identity.dsse import open_envelope
from citywatch.core.identity.token import format_moment, moment_claim, parse_object, text_claim
from citywatch.core.names import AgentId
from citywatch.core.signature import Key, thumbprint

PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
STATEMENT: Final = "https://in-toto.io/Statement/v1"
AGENT_KIND: Final = "urn:citywatch:attestation:agent:v1"
SLSA_KIND: Final = "https://slsa.dev/provenance/v1"
PROGRAM: Final = "citywatchWorkloadV1"
MAX_SUBJECTS: Final = 1024
_SHA256 = re.compile(r"[0-9a-f]{64}")


class Attestation(msgspec.Struct, frozen=True, kw_only=True):
    """What `attestor` vouches for. `key` is the thumbprint of the key that signed; times are milliseconds.

    `programs` are measurements of whole programs in hex, `subjects` those of files, as `sha256:<hex>`. `not_after` is 0
    where the statement knows no end. `digest` is the SHA-256 of the envelope as it was shown.
    """

    agent: str
    attestor: str
    key: str
    kind: str
    builder: str
    programs: tuple[str, ...]
    subjects: tuple[str, ...]
    not_before: int = 0
    not_after: int = 0
    digest: str

    def holds(self, attestors: Mapping[str, str], now: int) -> bool:
        """Whether it counts at `now`: inside its time, of an attestor that is still named, under the same key."""
        begun = self.not_before <= now and (not self.not_after or now < self.not_after)
        return begun and attestors.get(self.attestor) == self.key


def is_attested(held: Attestation | None, by: str, attestors: Mapping[str, str], now: int) -> bool:
    """Whether the word of the attestor `by` is held of an agent, and counts at `now`."""
    return held is not None and held.attestor == by and held.holds(attestors, now)


def check_program(held: Attestation | None, by: str, attestors: Mapping[str, str], program: str, now: int) -> None:
    """Raise `Refused(NOT_ATTESTED)` unless the attestor `by` vouches, at `now`, for the program of this measurement."""
    if held is None or not is_attested(held, by, attestors, now):
        raise Refused(Code.NOT_ATTESTED, f"no attestation of `{by}` is held that counts")
    if program not in held.programs:
        raise Refused(Code.NOT_ATTESTED, f"`{by}` attests another program than the one that was measured ({program})")


class Said(msgspec.Struct, frozen=True, kw_only=True):
    """What a builder is about to say of an agent: files by the name of what they are, the program if it was measured.

    `files` are SHA-256 in hex; times are milliseconds.
    """

    agent: AgentId
    builder: str
    program: str
    files: tuple[tuple[str, str], ...]
    built_at: int
    until: int


def verify_attestation(envelope: bytes, agent: AgentId, attestor: str, key: Key) -> Attestation:
    """Return what `attestor`, whose key is `key`, says of what `agent` runs; raise `Malformed` if it does not."""
    statement = parse_object(open_envelope(envelope, PAYLOAD_TYPE, key))  # 1
    if statement.get("_type") != STATEMENT:  # 2
        raise Malformed(f"the attestation is not a statement of the type `{STATEMENT}`")
    kind, predicate = statement.get("predicateType"), statement.get("predicate")
    if kind not in (AGENT_KIND, SLSA_KIND) or not isinstance(predicate, dict):  # 3
        raise Malformed(f"the attestation is neither of the kind `{AGENT_KIND}` nor of `{SLSA_KIND}`")
    if kind == AGENT_KIND:
        if predicate.get("agent") != str(agent):
            raise Malformed(f"the attestation is not about `{agent}`")
        builder, begins, ends = (
            text_claim(predicate, "builder"),
            moment_claim(predicate, "built"),
            moment_claim(predicate, "until"),
        )
        if begins >= ends:
            raise Malformed("the attestation ends before it begins")
    else:
        builder, begins, ends = _slsa_builder(predicate), 0, 0
    programs, subjects = _subjects(statement.get("subject"))  # 4
    return Attestation(
        agent=str(agent),
        attestor=attestor,
        key=thumbprint(key),
        kind=kind,
        builder=builder,
        programs=programs,
        subjects=subjects,
        not_before=begins,
        not_after=ends,
        digest=digest(envelope),
    )


def format_statement(said: Said) -> bytes:
    """The statement of our kind as canonical JSON: the payload that a builder signs."""
    subjects = [{"name": name, "digest": {"sha256": value}} for name, value in said.files]
    if said.program:
        subjects.insert(0, {"name": "program", "digest": {PROGRAM: said.program}})
    predicate = {
        "agent": str(said.agent),
        "builder": said.builder,
        "built": format_moment(said.built_at),
        "until": format_moment(said.until),
    }
    whole = {"_type": STATEMENT, "subject": subjects, "predicateType": AGENT_KIND, "predicate": predicate}
    try:
        return rfc8785.dumps(whole)  # type: ignore[arg-type]
    except (rfc8785.CanonicalizationError, UnicodeError):
        raise Malformed("the statement cannot be written as canonical JSON") from None


def _subjects(value: object) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if not isinstance(value, list) or not 0 < len(value) <= MAX_SUBJECTS:
        raise Malformed(f"an attestation has one to {MAX_SUBJECTS} subjects")
    programs: dict[str, None] = {}
    files: dict[str, None] = {}
    for one in value:
        digests = one.get("digest") if isinstance(one, dict) else None
        if not isinstance(digests, dict) or not digests:
            raise Malformed("a subject of the attestation has no digest")
        for algorithm in (PROGRAM, "sha256"):
            if algorithm not in digests:
                continue  # digests of other kinds say nothing to us
            found = digests[algorithm]
            if not isinstance(found, str) or not _SHA256.fullmatch(found):
                raise Malformed(f"a subject's `{algorithm}` is not 64 digits in hex")
            if algorithm == PROGRAM:
                programs[found] = None
            else:
                files[f"sha256:{found}"] = None
    if not programs and not files:
        raise Malformed(f"no subject of the attestation has a digest that counts: `sha256` or `{PROGRAM}`")
    return tuple(programs), tuple(files)


def _slsa_builder(predicate: Mapping[str, Any]) -> str:
    details = predicate.get("runDetails")
    builder = details.get("builder") if isinstance(details, dict) else None
    if not isinstance(builder, dict):
        raise Malformed("the provenance names no builder")
    return text_claim(builder, "id")
