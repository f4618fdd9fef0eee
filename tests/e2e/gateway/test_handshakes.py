"""Whom TLS does not let in: each learns why by TLS's own alert, and the log by a reason of its own."""

from __future__ import annotations

import shutil
import socket
import ssl
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from citywatch.service.rejections import MAX_REJECTED
from tests import forked
from tests.e2e.gateway import raw_tls
from tests.e2e.gateway.city import SHIFTED, City, open_city, write_pair
from tests.e2e.gateway.desk import wait_for
from tests.e2e.gateway.shifted import put

HOUR_MS = 3_600_000
REQUEST = b"GET /citywatch/health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"
DECRYPT_ERROR, DECODE_ERROR, BAD_CERTIFICATE = 51, 50, 42
Reason = tuple[str, str]


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[City]:
    with open_city(tmp_path_factory.mktemp("handshakes")) as city:
        yield city


def visit(city: City, context: ssl.SSLContext, port: int | None = None) -> bytes:
    """What a client gets that asks for something harmless; raises the alert that it gets instead."""
    with (
        socket.create_connection(("127.0.0.1", port or city.tls_port), timeout=30) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as secure,
    ):
        secure.sendall(REQUEST)
        received = b""
        while chunk := secure.recv(65536):
            received += chunk
        return received


def rejected(city: City) -> list[dict[str, Any]]:
    return [event for event in city.desk.events() if event["type"] == "rejected"]


def turned_away(city: City, folder: Path) -> tuple[str, Reason]:
    """Show the papers in the folder; return the alert, and the one entry that they left. An honest agent goes on."""
    before = len(rejected(city))
    with pytest.raises(ssl.SSLError) as caught:
        visit(city, city.context(folder / "svid.pem", folder / "key.pem"))
    wait_for(lambda: len(rejected(city)) > before, "the entry")
    (entry,) = rejected(city)[before:]
    assert (entry["peer"], entry["server"], entry["count"]) == ("127.0.0.1", "", 1)
    assert visit(city, city.of("clerk")).startswith(b"HTTP/1.1 200")
    return str(caught.value.reason), (entry["code"], entry["detail"])


def authority_of(city: City) -> tuple[ec.EllipticCurvePrivateKey, x509.Name]:
    """What a thief of the state folder has."""
    key = load_pem_private_key(
        (city.desk.folder / ".citywatch" / "keys" / "authority-1-certificates.pem").read_bytes(), None
    )
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    bundle = (city.papers("clerk") / "bundle.pem").read_bytes()
    return key, x509.load_pem_x509_certificate(bundle).subject


def draw() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def expired(city: City, folder: Path) -> None:
    shutil.copytree(city.papers("clerk"), folder, dirs_exist_ok=True)
    folder.chmod(0o700)
    place = folder.parent / "past"
    place.mkdir()
    put(place, -2 * HOUR_MS)
    command = ["-c", str(city.desk.folder / "citywatch.yaml"), "agent", "certificate", "clerk", "--out", str(folder)]
    assert forked.run([*SHIFTED, *command], cwd=place, timeout=60).returncode == 0


def too_early(city: City, folder: Path) -> None:
    key, issuer = authority_of(city)
    write_pair(folder, draw(), key, issuer, start=timedelta(minutes=30))


def another_citys(city: City, folder: Path) -> None:
    """Another trust domain of citywatch, whose papers are in perfect order."""
    there = folder.parent / "u.example"
    (there / "policies").mkdir(parents=True)
    shutil.copy(city.desk.folder / "policies" / "desk.cedar", there / "policies")
    text = (city.desk.folder / "citywatch.yaml").read_text().replace("t.example", "u.example")
    (there / "citywatch.yaml").write_text(text)
    for verb in ("add", "certificate"):
        city.desk.run("-c", str(there / "citywatch.yaml"), "agent", verb, "clerk")
    shutil.copytree(there / "agents" / "clerk", folder, dirs_exist_ok=True)


def strangers(city: City, folder: Path) -> None:
    write_pair(folder, draw(), draw(), "stranger")


def strangers_with_authority(city: City, folder: Path) -> None:
    stranger = draw()
    write_pair(folder, stranger, stranger, "stranger", authority=True)
    authority = (folder / "svid.pem").read_bytes()
    write_pair(folder, draw(), stranger, "stranger")
    with (folder / "svid.pem").open("ab") as chain:
        chain.write(authority)


def self_signed(city: City, folder: Path) -> None:
    own = draw()
    write_pair(folder, own, own, "clerk", authority=True)


def the_authoritys_own(city: City, folder: Path) -> None:
    """Whoever has stolen the authority's key still has to issue; its own certificate names nobody."""
    shutil.copy(city.desk.folder / ".citywatch" / "keys" / "authority-1-certificates.pem", folder / "key.pem")
    shutil.copy(city.papers("clerk") / "bundle.pem", folder / "svid.pem")


def issued_by_a_leaf(city: City, folder: Path) -> None:
    """An agent that signs for others, with its own papers sent along."""
    signer = load_pem_private_key((city.papers("other") / "key.pem").read_bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    svid = (city.papers("other") / "svid.pem").read_bytes()
    write_pair(folder, draw(), signer, x509.load_pem_x509_certificate(svid).subject)
    with (folder / "svid.pem").open("ab") as chain:
        chain.write(svid)


def irregular(city: City, folder: Path) -> None:
    key, issuer = authority_of(city)
    write_pair(folder, draw(), key, issuer, stranger=True)


KINDS = {
    expired: ("credential_expired", "SSLV3_ALERT_CERTIFICATE_EXPIRED"),
    too_early: ("credential_not_yet_valid", "SSLV3_ALERT_BAD_CERTIFICATE"),
    another_citys: ("credential_untrusted", "TLSV1_ALERT_UNKNOWN_CA"),
    strangers_with_authority: ("credential_untrusted", "TLSV1_ALERT_UNKNOWN_CA"),
    self_signed: ("credential_untrusted", "TLSV1_ALERT_UNKNOWN_CA"),
    the_authoritys_own: ("credential_not_a_leaf", "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"),
    issued_by_a_leaf: ("credential_not_a_leaf", "SSLV3_ALERT_CERTIFICATE_UNKNOWN"),
    irregular: ("credential_malformed", "SSLV3_ALERT_CERTIFICATE_UNKNOWN"),
}


@pytest.mark.parametrize("write", KINDS, ids=lambda write: write.__name__)
def test_papers_that_tls_refuses_leave_their_reason(city: City, tmp_path: Path, write: Any) -> None:
    (tmp_path / "papers").mkdir()
    write(city, tmp_path / "papers")
    code, expected = KINDS[write]
    alert, reason = turned_away(city, tmp_path / "papers")
    assert (alert, reason[0]) == (expected, code), reason


def test_each_kind_has_a_reason_of_its_own(city: City, tmp_path: Path) -> None:
    reasons = {}
    for write in KINDS:
        folder = tmp_path / write.__name__ / "papers"
        folder.mkdir(parents=True)
        write(city, folder)
        reasons[write] = turned_away(city, folder)[1]
    assert len(set(reasons.values())) == len(KINDS)


def test_a_stranger_is_told_apart_from_nobody_of_another_city(city: City, tmp_path: Path) -> None:
    """TLS does not show what it refuses: who issued such papers cannot be said, only that it was none of ours."""
    strangers(city, tmp_path)
    assert turned_away(city, tmp_path) == (
        "TLSV1_ALERT_UNKNOWN_CA",
        (
            "credential_untrusted",
            "an authority that is not ours issued the certificate: another trust domain's, or a stranger's",
        ),
    )


def test_a_certificate_without_its_key_is_refused_as_such(city: City) -> None:
    """A certificate is public: whoever has seen one can show it, and cannot sign."""
    svid = ssl.PEM_cert_to_DER_cert((city.papers("clerk") / "svid.pem").read_text())
    before = len(rejected(city))
    assert raw_tls.show(city.tls_port, svid, draw()) == DECRYPT_ERROR
    wait_for(lambda: len(rejected(city)) > before, "the entry")
    (entry,) = rejected(city)[before:]
    assert (entry["code"], entry["detail"]) == (
        "credential_untrusted",
        "the client does not hold the certificate's key",
    )


@pytest.mark.parametrize("shown", [b"", b"\x30\x03\x02\x01", b"no certificate at all"])
def test_bytes_that_are_no_certificate_are_refused_as_such(city: City, shown: bytes) -> None:
    before = len(rejected(city))
    assert raw_tls.show(city.tls_port, shown, draw()) in (BAD_CERTIFICATE, DECODE_ERROR)
    wait_for(lambda: len(rejected(city)) > before, "the entry")
    (entry,) = rejected(city)[before:]
    assert (entry["code"], entry["detail"]) == ("credential_malformed", "the certificate cannot be read")


def test_a_flood_of_bad_handshakes_is_counted_and_not_entered_one_by_one(city: City, tmp_path: Path) -> None:
    strangers(city, tmp_path)
    context = city.context(tmp_path / "svid.pem", tmp_path / "key.pem")
    before, flood = len(rejected(city)), 8 * MAX_REJECTED

    def knock(_: int) -> None:
        with pytest.raises(ssl.SSLError):
            visit(city, context)

    # All within one second of the gateway's clock, one that nobody has knocked in: however slow this machine is.
    put(city.desk.folder, f"={(time.time_ns() // 10**9 + 2) * 1000}")
    try:
        with ThreadPoolExecutor(16) as crowd:
            list(crowd.map(knock, range(flood)))
    finally:
        put(city.desk.folder, 0)
    wait_for(lambda: sum(event["count"] for event in rejected(city)[before:]) >= flood, "all to be counted")
    entries = rejected(city)[before:]
    assert sum(event["count"] for event in entries) == flood
    counted = [event for event in entries if event["detail"] == "more of the same"]
    assert len(entries) - len(counted) == MAX_REJECTED
    assert any(event["count"] > 1 for event in counted)
    assert visit(city, city.of("clerk")).startswith(b"HTTP/1.1 200")


def test_what_is_no_tls_of_ours_is_not_blamed_on_papers(city: City) -> None:
    before = len(city.desk.events())
    old = city.of("clerk")
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError, match="alert protocol version"):
        visit(city, old)
    with socket.create_connection(("127.0.0.1", city.tls_port), timeout=30) as plain:
        plain.sendall(REQUEST)
        assert b"HTTP" not in plain.recv(65536)
    unbelieving = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        visit(city, unbelieving)
    assert visit(city, city.of("clerk")).startswith(b"HTTP/1.1 200")
    assert len(city.desk.events()) == before


async def test_another_citys_token_is_refused_by_name(city: City, tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    another_citys(city, tmp_path / "papers")
    config = str(tmp_path / "u.example" / "citywatch.yaml")
    token = city.desk.run("-c", config, "agent", "token", "clerk").stdout.strip()
    status, code = await city.refusal(city.trust(), {"Authorization": f"Bearer {token}"})
    assert (status, code) == (401, "credential_wrong_domain")
