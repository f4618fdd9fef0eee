"""A gateway that listens on https, agents with papers of their own, and papers that only look like theirs."""

from __future__ import annotations

import json
import ssl
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.e2e.gateway.desk import Desk
from tests.fault.test_killed_gateway import MODERN
from tests.ports import free_port

SHIFTED = [sys.executable, str(Path(__file__).with_name("shifted.py"))]


class City:
    """A gateway that listens on https too, and agents with papers of their own."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.tls_port = free_port()
        file = desk.folder / "citywatch.yaml"
        plain = file.read_text()
        told = plain.replace('"]', f'", "https://127.0.0.1:{self.tls_port}"]', 1)
        told = told.replace("agents:\n", "agents:\n  brief:\n    roles: [payer]\n    svid_ttl: 10m\n  other: {}\n")
        file.write_text(told)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.tls_port}/mcp/desk"

    def papers(self, name: str) -> Path:
        return self.desk.folder / "agents" / name

    def trust(self) -> ssl.SSLContext:
        """What a client outside has: the bundle, and nothing else."""
        return ssl.create_default_context(cafile=str(self.papers("clerk") / "bundle.pem"))

    def context(self, certificate: Path, key: Path) -> ssl.SSLContext:
        context = self.trust()
        context.load_cert_chain(certificate, key)
        return context

    def of(self, name: str) -> ssl.SSLContext:
        return self.context(self.papers(name) / "svid.pem", self.papers(name) / "key.pem")

    def up(self) -> None:
        """Bring it up with three agents, whose certificates lie in their folders."""
        self.desk.start_upstream()
        for name in ("clerk", "brief", "other"):
            self.desk.run("agent", "add", name)
            self.desk.run("agent", "certificate", name)
        self.desk.run("tools", "approve", "--yes")
        self.desk.up([*SHIFTED, "up"])

    async def refusal(self, context: ssl.SSLContext, headers: dict[str, str] | None = None) -> tuple[int, str]:
        """The status and the code that a call gets."""
        async with httpx2.AsyncClient(verify=context, timeout=30) as http:
            return await look(http, self.url, headers or {})


async def look(http: httpx2.AsyncClient, url: str, headers: dict[str, str]) -> tuple[int, str]:
    meta = {"io.modelcontextprotocol/protocolVersion": MODERN, "io.modelcontextprotocol/clientCapabilities": {}}
    params: dict[str, Any] = {"name": "look", "arguments": {}, "_meta": meta}
    own = {
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": MODERN,
        "Mcp-Method": "tools/call",
        "Mcp-Name": "look",
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    response = await http.post(url, json=message, headers=own | headers)
    answer = json.loads(response.text if response.text.startswith("{") else response.text.partition("data: ")[2])
    if "error" in answer:
        return response.status_code, answer["error"]["data"]["code"]
    return response.status_code, answer["result"].get("_meta", {}).get("citywatch/code", "done")


@contextmanager
def open_city(folder: Path) -> Iterator[City]:
    with ExitStack() as stack:
        city = City(Desk(folder, stack))
        city.up()
        yield city


def write_pair(
    folder: Path,
    own: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    issuer: str | x509.Name,
    *,
    start: timedelta = timedelta(minutes=-1),
    authority: bool = False,
    stranger: bool = False,
    name_it: str = "spiffe://t.example/agent/clerk",
) -> None:
    """A leaf that looks just like ours, for the agent `clerk`, but for one defect; it lasts an hour."""
    name = issuer if isinstance(issuer, x509.Name) else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)])
    begin = datetime.now(UTC) + start
    uses = [x509.oid.ExtendedKeyUsageOID.SERVER_AUTH, x509.oid.ExtendedKeyUsageOID.CLIENT_AUTH]
    identity = x509.UniformResourceIdentifier(name_it)
    usage = {
        "key_cert_sign": authority,
        "crl_sign": False,
        "content_commitment": False,
        "key_encipherment": False,
        "data_encipherment": False,
        "key_agreement": False,
        "encipher_only": False,
        "decipher_only": False,
    }
    builder = (
        x509.CertificateBuilder()
        .public_key(own.public_key())
        .subject_name(name if authority else x509.Name([]))
        .issuer_name(name)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        .add_extension(x509.KeyUsage(digital_signature=True, **usage), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectAlternativeName([identity]), critical=not authority)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
    )
    if stranger:
        unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"\x05\x00")
        builder = builder.add_extension(unknown, critical=True)
    certificate = builder.sign(signer, SHA256())
    (folder / "svid.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(own.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
