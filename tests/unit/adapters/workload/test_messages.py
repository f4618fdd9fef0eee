"""Messages of the Workload API against Google's own library, and against bytes that are none."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from citywatch.adapters.workload import messages
from citywatch.core.errors import Malformed

wire: Any = import_module("spiffe._proto.workload_pb2")
written: Any = import_module("google.protobuf.json_format")
texts = st.text(alphabet=st.characters(exclude_categories=["Cs"]))
numbers = st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
claims = st.dictionaries(
    texts,
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**53), 2**53)
        | st.floats(allow_nan=False, allow_infinity=False)
        | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


@given(st.lists(texts, max_size=3), texts)
def test_a_request_for_a_token_is_read_as_the_library_writes_it(audiences: list[str], name: str) -> None:
    request = wire.JWTSVIDRequest(audience=audiences, spiffe_id=name).SerializeToString()
    assert messages.parse_token_request(request) == messages.TokenRequest(tuple(audiences), name)


@given(texts, texts)
def test_a_request_to_validate_is_read_as_the_library_writes_it(audience: str, token: str) -> None:
    request = wire.ValidateJWTSVIDRequest(audience=audience, svid=token).SerializeToString()
    assert messages.parse_validate_request(request) == messages.ValidateRequest(audience, token)


@given(texts, st.binary(), st.binary(max_size=300), st.binary())
def test_replies_are_read_by_the_library_as_they_were_meant(name: str, one: bytes, two: bytes, three: bytes) -> None:
    reply = wire.X509SVIDResponse.FromString(messages.format_certificate_reply(name, one, two, three, {"o": one}))
    assert dict(reply.federated_bundles) == {"o": one}
    (svid,) = reply.svids
    assert (svid.spiffe_id, svid.x509_svid, svid.x509_svid_key, svid.bundle) == (name, one, two, three)
    bundles = {"a": one, "b": two}
    assert dict(wire.X509BundlesResponse.FromString(messages.format_certificate_bundles(bundles)).bundles) == bundles
    assert dict(wire.JWTBundlesResponse.FromString(messages.format_token_bundles(bundles)).bundles) == bundles
    (token,) = wire.JWTSVIDResponse.FromString(messages.format_token_reply(name, "t.o.k")).svids
    assert (token.spiffe_id, token.svid) == (name, "t.o.k")


@given(texts, claims)
def test_claims_are_read_by_the_library_as_they_were_meant(name: str, told: dict[str, Any]) -> None:
    reply = wire.ValidateJWTSVIDResponse.FromString(messages.format_validate_reply(name, told))
    expected = written.ParseDict({"spiffeId": name, "claims": told}, wire.ValidateJWTSVIDResponse())
    assert reply.spiffe_id == name
    assert reply == expected


@given(st.binary(max_size=200))
@example(b"\x0d\x00\x00\x00\x00")
@example(b"\x08\x01\x11abcdefgh")
def test_any_bytes_are_a_request_or_malformed_and_never_read_otherwise_than_by_the_library(data: bytes) -> None:
    try:
        ours = messages.parse_token_request(data)
    except Malformed:
        return
    theirs = wire.JWTSVIDRequest.FromString(data)
    assert (ours.audiences, ours.spiffe_id) == (tuple(theirs.audience), theirs.spiffe_id)


@pytest.mark.parametrize(
    "data",
    [b"\x0a", b"\x0a\x05ab", b"\x80" * 11, b"\x00\x00", b"\x0b", b"\x0a\x01\xff", b"\xff" * 9 + b"\x02", b"\x09\x00"],
)
def test_what_is_no_message_is_malformed(data: bytes) -> None:
    with pytest.raises(Malformed):
        messages.parse_token_request(data)


def test_bounds_hold() -> None:
    deep: Any = "x"
    for _ in range(40):
        deep = [deep]
    for told in ({"a": deep}, {"a": 10**400}, {"a": object()}):
        with pytest.raises(Malformed):
            messages.format_validate_reply("n", told)
    with pytest.raises(Malformed):
        messages.parse_empty(b"\x0a" + b"\x00" * messages.MAX_REQUEST)
    messages.parse_empty(b"\x12\x01a\x18\x05\x25abcd\x29abcdefgh")


@given(
    st.lists(st.binary(max_size=300), max_size=3), st.lists(st.binary(max_size=70_000), max_size=2), texts, st.binary()
)
def test_papers_are_read_as_the_library_writes_them(
    chain: list[bytes], authorities: list[bytes], name: str, key: bytes
) -> None:
    def der(content: bytes) -> bytes:
        size = len(content)
        if size < 0x80:
            return bytes([0x30, size]) + content
        octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
        return bytes([0x30, 0x80 | len(octets)]) + octets + content

    first, second = [der(one) for one in chain], [der(one) for one in authorities]
    svid = wire.X509SVID(spiffe_id=name, x509_svid=b"".join(first), x509_svid_key=key, bundle=b"".join(second))
    other = wire.X509SVID(spiffe_id="another")
    reply = wire.X509SVIDResponse(svids=[svid, other], federated_bundles={"x": b"y"}).SerializeToString()
    found = messages.parse_certificate_reply(reply)
    assert (found.spiffe_id, found.chain, found.key, found.authorities) == (name, tuple(first), key, tuple(second))


@pytest.mark.parametrize(("wanted", "found"), [("b", "b"), ("c", "c"), ("", "a"), ("d", "a")])
def test_of_several_papers_those_are_taken_that_are_wanted_or_the_first(wanted: str, found: str) -> None:
    """Several entries of an issuer may select one workload, and which comes first is nobody's to say."""
    svids = [wire.X509SVID(spiffe_id=name, x509_svid_key=name.encode()) for name in "abc"]
    reply = wire.X509SVIDResponse(svids=svids).SerializeToString()
    papers = messages.parse_certificate_reply(reply, wanted)
    assert (papers.spiffe_id, papers.key) == (found, found.encode())


@given(st.dictionaries(texts, st.binary(max_size=50), max_size=4))
def test_bundles_of_keys_are_read_as_the_library_writes_them(bundles: dict[str, bytes]) -> None:
    reply = wire.JWTBundlesResponse(bundles=bundles).SerializeToString()
    assert messages.parse_token_bundles(reply) == bundles


@given(st.binary(max_size=200))
def test_any_bytes_are_a_reply_or_malformed(data: bytes) -> None:
    for parse in (messages.parse_certificate_reply, messages.parse_token_bundles):
        try:
            parse(data)
        except Malformed:
            continue


@pytest.mark.parametrize("cut", [b"0", b"0\x80", b"0\x84\0\0\0\0", b"0\x82\xff", b"0\x01", b"x\0"])
def test_a_certificate_that_ends_nowhere_is_malformed(cut: bytes) -> None:
    reply = wire.X509SVIDResponse(svids=[wire.X509SVID(x509_svid=cut)]).SerializeToString()
    with pytest.raises(Malformed):
        messages.parse_certificate_reply(reply)
