"""Who has only a passkey lends a front end a key that asks in their name; it answers nothing, and it ends."""

from __future__ import annotations

import hashlib
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from citywatch.adapters.memory import MemorySigner
from citywatch.core import events
from citywatch.core.approvals.lending import LONGEST_MS
from citywatch.core.approvals.webauthn import Assertion
from citywatch.service.lending import LOANS
from tests.front_end import ORIGIN, FrontEnd, answer, key_name
from tests.passkeys import RP, Authenticator
from tests.simulation.api import Api, api
from tests.simulation.people import DOMAIN, enrolling
from tests.simulation.test_approvals_api import AT, YES, waits
from tests.simulation.test_voting import enrolled, passes

KEY = MemorySigner(71)
HOUR = 3_600_000


def spki(signer: MemorySigner) -> str:
    return b64encode(signer.public).decode()


def challenge(prefix: bytes = b"citywatch/lent-key/v1\n", **members: Any) -> bytes:
    """As the reference has it, without a line of ours."""
    return hashlib.sha256(prefix + rfc8785.dumps(members)).digest()


class Page:
    """A page of somebody's, with a key that it drew."""

    def __init__(self, here: Api, device: Authenticator, key: MemorySigner = KEY) -> None:
        self.here, self.device, self.key = here, device, key
        self.front = FrontEnd(here.app, key, here.here.clock.now_ms, ORIGIN)

    def loan(self, **changed: Any) -> dict[str, Any]:
        now = self.here.here.clock.now_ms()
        return {"person": "anna", "key": spki(self.key), "issued": now, "expires": now + HOUR, **changed}

    def signed(self, loan: dict[str, Any], made: Assertion | None = None, **changed: Any) -> dict[str, Any]:
        made = made or self.device.sign(challenge(**({**loan, "domain": DOMAIN} | changed)))
        return {**loan, "passkey": msgspec.to_builtins(made)}

    async def lend(self, told: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        reply = await self.front.post("/api/v1/keys", self.signed(self.loan()) if told is None else told)
        return reply.status_code, reply.json()


async def page() -> Page:
    here = await api()
    return Page(here, await enrolled(here.here))


async def lent(one: Page) -> int:
    return len(await one.here.here.store.scan("lent_key"))


async def test_somebody_with_a_passkey_alone_reads_and_answers_from_a_page_of_theirs() -> None:
    one = await page()
    name = await waits(one.here)
    status, told = await one.lend()
    assert (status, told["person"]) == (200, "anna"), told
    (came,) = [event for event in await one.here.here.events() if isinstance(event, events.ConsoleEntered)]
    assert (came.person, came.roles, came.how) == ("person:anna", ("approver",), "passkey")
    assert [each["ticket"] for each in (await one.front.get("/api/v1/tickets")).json()["tickets"]] == [name]
    shown = (await one.front.post(AT.format(name) + "/open")).json()
    one.here.here.clock.advance(shown["counts_in_ms"])
    prepared = (await one.front.post(AT.format(name) + "/prepare", YES)).json()
    told = (await one.front.post(AT.format(name) + "/vote", answer(KEY, prepared["statement"]))).json()
    assert (told["status"], "none of the keys of `anna`" in told["detail"]) == (422, True), "a lent key answers nothing"
    made = one.device.sign(urlsafe_b64decode(prepared["challenge"] + "="))
    proof = {"method": "webauthn", **msgspec.to_builtins(made)}
    voted = await one.front.post(AT.format(name) + "/vote", {"statement": prepared["statement"], "proof": proof})
    assert (voted.status_code, voted.json()["state"]) == (200, "approved"), voted.text
    assert await passes(one.here.here)
    assert key_name(KEY) not in "".join(str(event) for event in await one.here.here.events())


def _p256() -> str:
    public = ec.derive_private_key(7, ec.SECP256R1()).public_key()
    return b64encode(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).decode()


Attack = Callable[[Page], dict[str, Any]]
ATTACKS: dict[str, Attack] = {
    "the passkey signed another key": lambda one: one.signed(one.loan(), key=spki(MemorySigner(72))),
    "for another person": lambda one: one.signed(one.loan(person="ben")),
    "for somebody whom the file does not name": lambda one: one.signed(one.loan(person="nobody")),
    "in another's name than was signed": lambda one: one.signed(one.loan(person="ben"), person="anna"),
    "for another city": lambda one: one.signed(one.loan(), domain="evil.example"),
    "for longer than was signed": lambda one: one.signed(one.loan(), expires=one.loan()["expires"] - 1),
    "for ever": lambda one: one.signed(one.loan(expires=one.loan()["issued"] + LONGEST_MS + 1)),
    "over already": lambda one: one.signed(one.loan(issued=one.loan()["issued"] - 2, expires=one.loan()["issued"])),
    "of yesterday": lambda one: one.signed(one.loan(issued=one.loan()["issued"] - 24 * HOUR)),
    "of tomorrow": lambda one: one.signed(one.loan(issued=one.loan()["issued"] + 10_000)),
    "a key of another kind": lambda one: one.signed(one.loan(key=_p256())),
    "no key": lambda one: one.signed(one.loan(key="%")),
    "a key that did not sign the request": lambda one: one.signed(one.loan(key=spki(MemorySigner(72)))),
    "a passkey that nobody enrolled": lambda one: Page(one.here, Authenticator(9)).signed(one.loan()),
    "a page of another site": lambda one: one.signed(
        one.loan(), one.device.sign(challenge(**one.loan(), domain=DOMAIN), RP, origin="https://evil.example")
    ),
    "nobody was there": lambda one: one.signed(
        one.loan(), one.device.sign(challenge(**one.loan(), domain=DOMAIN), RP, flags=0)
    ),
    "signed for something else": lambda one: one.signed(
        one.loan(), one.device.sign(challenge(b"citywatch/approval/v1\n", **one.loan(), domain=DOMAIN))
    ),
}


@pytest.mark.parametrize("how", ATTACKS)
async def test_a_key_that_was_not_lent_asks_nothing(how: str) -> None:
    one = await page()
    status, told = await one.lend(ATTACKS[how](one))
    assert status in (401, 422), told
    assert await lent(one) == 0
    assert not [event for event in await one.here.here.events() if isinstance(event, events.ConsoleEntered)]
    assert (await one.front.get("/api/v1/me")).status_code == 401
    assert (await one.lend())[0] == 200, "and an honest loan is made"


async def test_a_loan_is_made_once_and_its_bytes_are_good_for_nothing_again() -> None:
    one = await page()
    told = one.signed(one.loan())
    assert (await one.lend(told))[0] == 200
    assert (await one.lend(told))[0] in (401, 422)
    other = Page(one.here, one.device, MemorySigner(73))
    assert (await other.lend(told))[0] == 401, "by another key"


async def test_a_lent_key_ends_with_its_time_with_its_passkey_and_with_its_person() -> None:
    one = await page()
    me = "/api/v1/me"
    assert (await one.lend())[0] == 200
    assert (await one.front.get(me)).status_code == 200
    one.here.here.clock.advance(HOUR)
    assert (await one.front.get(me)).status_code == 401
    second = Page(one.here, one.device, MemorySigner(73))
    assert (await second.lend())[0] == 200
    assert await lent(one) == 1, "what is over is forgotten"
    people = {name: who for name, who in one.here.people.items() if name != "anna"}
    gone = Api(one.here.here, people=people)
    front = FrontEnd(gone.app, second.key, one.here.here.clock.now_ms)
    assert (await front.get(me)).status_code == 401, "the file does not name her any more"
    assert (await second.front.get(me)).status_code == 200
    (mine,) = await enrolling(one.here.here).of("anna")
    await enrolling(one.here.here).revoke(mine.id, "operator", "lost")
    assert (await second.front.get(me)).status_code == 401


async def test_nobody_fills_the_log_with_keys_that_a_program_lends() -> None:
    """The attack: an authenticator that is a program lends key after key, each a row and an entry."""
    one = await page()
    pages = [Page(one.here, one.device, MemorySigner(1_000 + number)) for number in range(LOANS + 1)]
    told = [(await each.lend())[0] for each in pages]
    assert told == [200] * LOANS + [422]
    assert await lent(one) == LOANS
    one.here.here.clock.advance(HOUR)
    assert (await pages[-1].lend())[0] == 200
