"""Chains of certificates, ours against two other readers: `cryptography`'s verifier and OpenSSL in a handshake.

They search for a path among what was shown and know no trust domains, so they may let in what we refuse; what we let
in, both have to. And what each of them refuses for a reason that X.509 gives, we refuse.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    PolicyBuilder,
    Store,
    VerificationError,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from citywatch.adapters.tls import GatewayTls, TlsKey
from citywatch.core.errors import Malformed, Refused
from citywatch.core.identity.bundle import TrustBundle
from citywatch.core.identity.certificate import format_certificate, parse_authority_certificate
from citywatch.core.identity.credential import check_time
from citywatch.core.identity.x509 import verify_x509_svid
from tests.unit.adapters.test_tls_chains import client, pkcs8
from tests.unit.core.identity.forgery import AUDIENCE, HOUR, Key, draw, usage
from tests.unit.core.identity.hierarchy import Tree, bundle_of

URI, DNS = x509.UniformResourceIdentifier, x509.DNSName
OTHER = draw()
BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def ours(chain: Sequence[bytes], bundle: TrustBundle, now: int) -> bool:
    try:
        for one in bundle.certificates:  # what a bundle may hold is asked when it is read
            parse_authority_certificate(format_certificate(one), bundle.domain)
        check_time(verify_x509_svid(chain, bundle), now, 0)
    except (Refused, Malformed):
        return False
    return True


def theirs(chain: Sequence[bytes], bundle: TrustBundle, now: int) -> bool:
    """`cryptography`, told of the two things in which an SVID differs from a certificate of the Web's."""
    anywhere = ExtensionPolicy.permit_all()
    leaf = anywhere.require_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    above = anywhere.require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    verifier = (
        PolicyBuilder()
        .store(Store(list(bundle.certificates)))
        .time(datetime.fromtimestamp(now / 1000, UTC).replace(tzinfo=None))
        .extension_policies(ee_policy=leaf, ca_policy=above)
        .build_client_verifier()
    )
    try:
        verifier.verify(x509.load_der_x509_certificate(chain[0]), list(map(x509.load_der_x509_certificate, chain[1:])))
    except (VerificationError, ValueError):
        return False
    return True


def handshake(chain: Sequence[bytes], key: Key, bundle: TrustBundle) -> bool:
    """OpenSSL, as our listeners are set up, in memory."""
    host = Tree(0)
    gate = GatewayTls()
    gate.install([host.leaf(uris=(AUDIENCE,))], TlsKey(pkcs8(host.leaf_key)), bundle)
    with TemporaryDirectory() as folder:
        context = client(chain, key, Path(folder))
    one, other = (ssl.MemoryBIO(), ssl.MemoryBIO()), (ssl.MemoryBIO(), ssl.MemoryBIO())
    caller = context.wrap_bio(*one, server_side=False, server_hostname="gate")
    taker = gate.context.wrap_bio(*other, server_side=True)
    done = False
    for _ in range(6):
        with contextlib.suppress(ssl.SSLWantReadError):
            caller.do_handshake()
        other[0].write(one[1].read())
        try:
            taker.do_handshake()
            done = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            return False
        one[0].write(other[1].read())
    return done and taker.getpeercert(binary_form=True) == chain[0]


CHANGES: list[dict[str, Any]] = [
    {"ca": False},
    {"path_length": 0},
    {"path_length": 1},
    {"path_length": 2},
    {"key_usage": usage(crl_sign=True)},
    {"issuer": "authority 9"},
    {"end": 0},
    {"start": 1},
    {"extended": (ExtendedKeyUsageOID.EMAIL_PROTECTION,)},
    {"extended": BOTH},
    {"critical_stranger": True},
    {"uris": ()},
    {"uris": ("spiffe://evil.example",)},
    {"constraints": x509.NameConstraints([DNS("acme.example")], None)},
    {"constraints": x509.NameConstraints(None, [DNS("acme.example")])},
    {"constraints": x509.NameConstraints([DNS("evil.example")], None)},
]
SPELLINGS = ["as it is", "turned round", "one missing", "one more", "one twice", "with the root"]


def rewritten(chain: list[bytes], spelling: str, root: bytes, foreign: bytes) -> list[bytes]:
    leaf, above = chain[0], chain[1:]
    return {
        "as it is": chain,
        "turned round": [leaf, *reversed(above)],
        "one missing": [leaf, *above[1:]],
        "one more": [*chain, foreign],
        "one twice": [leaf, *above[:1], *above],
        "with the root": [*chain, root],
    }[spelling]


def grown(between: int, changes: dict[int, dict[str, Any]], leaf: dict[str, Any]) -> tuple[Tree, list[bytes]]:
    now = Tree(0).now
    timed = {"start": {1: now + HOUR // 2}, "end": {0: now - HOUR // 2}}
    resolved = {
        place: {name: timed[name][value] if name in timed else value for name, value in one.items()}
        for place, one in changes.items()
    }
    tree = Tree(between, resolved)
    return tree, tree.chain(**leaf)


@settings(max_examples=120)
@given(
    st.integers(0, 3),
    st.dictionaries(st.integers(0, 3), st.sampled_from(CHANGES), max_size=2),
    st.sampled_from([{}, {"dns": ("gate.acme.example",)}, {"ca": True}, {"extended": None}]),
    st.sampled_from(SPELLINGS),
    st.booleans(),
)
def test_what_we_let_in_everybody_lets_in(
    between: int, changes: dict[int, dict[str, Any]], leaf: dict[str, Any], spelling: str, foreign_root: bool
) -> None:
    tree, chain = grown(between, changes, leaf)
    chain = rewritten(chain, spelling, tree.ders[0], tree.authority(OTHER, OTHER, 7, 7))
    bundle = bundle_of([Tree(0).ders[0]]) if foreign_root else tree.bundle()
    if ours(chain, bundle, tree.now):
        assert handshake(chain, tree.leaf_key, bundle)
        assert theirs(chain, bundle, tree.now) or leaf.get("extended", BOTH) is None
    elif not (theirs(chain, bundle, tree.now) or handshake(chain, tree.leaf_key, bundle)):
        return  # all three
    else:
        assert why_we_are_stricter(between, changes, leaf, spelling)


def why_we_are_stricter(between: int, changes: dict[int, Any], leaf: dict[str, Any], spelling: str) -> bool:
    """What SPIFFE or we ask beyond X.509, or one of the two does not ask of an authority that it is given."""
    names = {name for place, one in changes.items() if place <= between for name in one}
    spelt = spelling != "as it is" and (between > 0 or spelling == "one more")
    return spelt or bool(names) or bool(leaf)


@settings(max_examples=20)
@given(st.integers(0, 3))
def test_honest_chains_are_everybodys(between: int) -> None:
    tree, chain = grown(between, {}, {})
    assert ours(chain, tree.bundle(), tree.now)
    assert theirs(chain, tree.bundle(), tree.now)
    assert handshake(chain, tree.leaf_key, tree.bundle())
