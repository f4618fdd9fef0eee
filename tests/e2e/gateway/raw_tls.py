"""A TLS 1.3 client by hand, for what no library sends: bytes that are no certificate, a certificate without its key.

One suite, one group, nothing checked of the server. SPEC: RFC 8446 §4, §5.2, §7.1.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import socket
import struct

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

ALERT, HANDSHAKE, APPLICATION = 21, 22, 23
SERVER_HELLO, CERTIFICATE, CERTIFICATE_VERIFY, FINISHED = 2, 11, 15, 20


def counted(size: int, data: bytes) -> bytes:
    return len(data).to_bytes(size, "big") + data


def sha(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def extract(salt: bytes, secret: bytes) -> bytes:
    return hmac.digest(salt, secret, "sha256")


def expand(secret: bytes, label: bytes, context: bytes, length: int) -> bytes:
    told = length.to_bytes(2, "big") + counted(1, b"tls13 " + label) + counted(1, context)
    return hmac.digest(secret, told + b"\x01", "sha256")[:length]


class Keys:
    """One direction's traffic: a secret, and how many records it has seen."""

    def __init__(self, secret: bytes) -> None:
        self.secret = secret
        self._cipher = AESGCM(expand(secret, b"key", b"", 16))
        self._nonce = int.from_bytes(expand(secret, b"iv", b"", 12), "big")
        self._count = 0

    def _next(self) -> bytes:
        self._count += 1
        return (self._nonce ^ (self._count - 1)).to_bytes(12, "big")

    def seal(self, kind: int, data: bytes) -> bytes:
        head = struct.pack("!BHH", APPLICATION, 0x0303, len(data) + 17)
        return head + self._cipher.encrypt(self._next(), data + bytes([kind]), head)

    def open(self, head: bytes, data: bytes) -> tuple[int, bytes]:
        plain = self._cipher.decrypt(self._next(), data, head).rstrip(b"\0")
        return plain[-1], plain[:-1]


def show(port: int, certificate: bytes, key: ec.EllipticCurvePrivateKey) -> int:
    """Show a certificate and sign with a key, whatever they are; return the number of the alert that comes back."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        stream = connection.makefile("rb")

        def record() -> tuple[bytes, bytes]:
            while True:
                head = stream.read(5)
                assert len(head) == 5, "the gateway hung up without an alert"
                data = stream.read(int.from_bytes(head[3:], "big"))
                if head[0] != 20:  # a change of cipher, which says nothing
                    return head, data

        own = X25519PrivateKey.generate()
        hello = _hello(own)
        connection.sendall(struct.pack("!BHH", HANDSHAKE, 0x0301, len(hello)) + hello)
        _, answer = record()
        assert answer[0] == SERVER_HELLO
        shared = own.exchange(X25519PublicKey.from_public_bytes(_share(answer)))
        secret = extract(expand(extract(b"\0", b"\0" * 32), b"derived", sha(b""), 32), shared)
        said = hello + answer
        ours = Keys(expand(secret, b"c hs traffic", sha(said), 32))
        theirs = Keys(expand(secret, b"s hs traffic", sha(said), 32))
        flight = b""
        while not _is_whole(flight):
            kind, data = theirs.open(*record())
            assert kind == HANDSHAKE
            flight += data
        said += flight
        master = extract(expand(secret, b"derived", sha(b""), 32), b"\0" * 32)
        after = Keys(expand(master, b"s ap traffic", sha(said), 32))
        for message in _papers(said, ours.secret, certificate, key):
            connection.sendall(ours.seal(HANDSHAKE, message))
        kind, data = after.open(*record())
        assert kind == ALERT
        return data[1]


def _hello(own: X25519PrivateKey) -> bytes:
    share = own.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    extensions = {
        10: counted(2, b"\x00\x1d"),  # x25519
        13: counted(2, b"\x04\x03"),  # ecdsa_secp256r1_sha256
        43: counted(1, b"\x03\x04"),  # TLS 1.3
        51: counted(2, b"\x00\x1d" + counted(2, share)),
    }
    wrapped = b"".join(number.to_bytes(2, "big") + counted(2, data) for number, data in extensions.items())
    suites = counted(2, b"\x13\x01")  # AES-128-GCM with SHA-256
    return b"\x01" + counted(3, b"\x03\x03" + os.urandom(32) + b"\0" + suites + b"\x01\0" + counted(2, wrapped))


def _share(answer: bytes) -> bytes:
    at = 4 + 2 + 32 + 1 + answer[38] + 2 + 1 + 2
    while at < len(answer):
        number, length = struct.unpack_from("!HH", answer, at)
        if number == 51:
            return answer[at + 8 : at + 4 + length]
        at += 4 + length
    raise AssertionError("the gateway sent no key share")


def _is_whole(flight: bytes) -> bool:
    at, last = 0, 0
    while at + 4 <= len(flight):
        last, at = flight[at], at + 4 + int.from_bytes(flight[at + 1 : at + 4], "big")
    return last == FINISHED and at == len(flight)


def _papers(said: bytes, secret: bytes, certificate: bytes, key: ec.EllipticCurvePrivateKey) -> list[bytes]:
    entry = counted(3, certificate) + counted(2, b"")
    shown = bytes([CERTIFICATE]) + counted(3, b"\0" + counted(3, entry))
    said += shown
    signed = b" " * 64 + b"TLS 1.3, client CertificateVerify\0" + sha(said)
    signature = key.sign(signed, ec.ECDSA(SHA256()))
    proof = bytes([CERTIFICATE_VERIFY]) + counted(3, b"\x04\x03" + counted(2, signature))
    said += proof
    finished = hmac.digest(expand(secret, b"finished", b"", 32), sha(said), "sha256")
    return [shown, proof, bytes([FINISHED]) + counted(3, finished)]
