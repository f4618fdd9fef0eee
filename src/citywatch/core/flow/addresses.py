"""Where something goes: e-mail addresses, hosts and URLs, each to one normal form.

Decides what a stretch of text is as an address, the way its consumer would take it (WHATWG hosts, RFC 3986 paths);
does not decide who answers there. INVARIANTS: what a consumer could take in two ways (a backslash, a control, a bad
port) has a normal form of its own that meets nothing else, and no host; the part before `@` is never part of the host;
a letter that only looks like another is another. Never raises.
"""

from __future__ import annotations

import ipaddress
import re
import string

from citywatch.core.flow.fold import normalised, scannable

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
_LOCAL = re.compile(r"[\w.!#$%&'*+/=?^{|}~-]{1,64}\Z")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset(string.ascii_letters + string.digits + "-._~")
_PORTS = {"http": "80", "https": "443", "ws": "80", "wss": "443", "ftp": "21"}
_UNCLEAR = re.compile(r"[\\\x00-\x20\x7f]")
_NUMERIC = re.compile(r"(?:0[xX][0-9a-fA-F]*|[0-9]+)\Z")
_AUTHORITY_END = re.compile(r"[/?#]")
_TOP = re.compile(r"(?:[^\W\d_]{2,63}|xn--[a-z0-9-]+)\Z", re.IGNORECASE)


def normal_host(text: str) -> str | None:
    """A host in lower case and A-labels, an IPv4 address dotted, IPv6 compressed; None if it is no host."""
    if len(text) > 1024:
        return None
    if text.startswith("["):
        return _ipv6(text[1:-1]) if text.endswith("]") else None
    if "%" in text:
        text = _ESCAPE.sub(lambda hit: chr(int(hit[1], 16)), text)
    if not text.isascii():
        text = normalised("NFKC", text.replace("。", ".")).lower()
    labels = text.translate(_LOWER).removesuffix(".").split(".")
    if _NUMERIC.match(labels[-1]):
        return _ipv4(labels)
    for n, label in enumerate(labels):
        if not label.isascii():
            labels[n] = label = _ascii_label(label)
        if not _LABEL.match(label):
            return None
    host = ".".join(labels)
    return host if len(host) <= 253 else None


def _ascii_label(label: str) -> str:
    # Punycode takes quadratic time, and a label has at most 63 characters in any case.
    if len(label) > 63 or ";" in scannable(label):
        return ""
    try:
        return "xn--" + label.encode("punycode").decode("ascii")
    except UnicodeError:
        return ""


def _ipv4(labels: list[str]) -> str | None:
    """SPEC: WHATWG URL §3.5: up to four parts, decimal, octal or hexadecimal, the last one takes the rest."""
    if len(labels) > 4 or not all(_NUMERIC.match(label) and len(label) <= 14 for label in labels):
        return None
    try:
        parts = [_part(label) for label in labels]
    except ValueError:
        return None
    last = parts.pop()
    if last >= 256 ** (4 - len(parts)) or any(part > 255 for part in parts):
        return None
    total = last + sum(part << 8 * (3 - n) for n, part in enumerate(parts))
    return ".".join(str(total >> shift & 255) for shift in (24, 16, 8, 0))


def _part(label: str) -> int:
    if label[:2] == "0x":
        return int(label[2:] or "0", 16)
    return int(label, 8 if len(label) > 1 and label[0] == "0" else 10)


def _ipv6(text: str) -> str | None:
    try:
        return f"[{ipaddress.IPv6Address(text).compressed}]" if len(text) <= 45 and "%" not in text else None
    except ValueError:
        return None


def is_named_host(text: str) -> bool:
    """Does a bare text look like a host by itself: dotted, and its last label a word (`file.txt` does)?"""
    head, dot, top = text.removesuffix(".").rpartition(".")
    return bool(dot and head and _TOP.match(top))


def normal_email(text: str) -> str | None:
    """An address in lower case, its host in A-labels; dots and tags are kept, they can be another mailbox."""
    local, at, domain = text.rpartition("@")
    if not at or len(text) > 320 or not (_LOCAL.match(local) or _odd_local(local)):
        return None
    if "%" in domain or not (is_named_host(domain) or domain == "localhost" or domain.startswith("[")):
        return None
    host = normal_host(domain)
    return f"{local.translate(_LOWER)}@{host}" if host else None


def _odd_local(local: str) -> bool:
    """With characters that are not seen it is still an address, and another one than without."""
    return not local.isascii() and bool(_LOCAL.match(scannable(local)))


def normal_url(text: str) -> tuple[str, str | None]:
    """The normal form of a URL with a scheme (or of `//host/path`), and its host; no host where consumers disagree."""
    scheme, _, rest = text.partition("://") if not text.startswith("//") else ("", "", text[2:])
    scheme = scheme.translate(_LOWER)
    prefix = f"{scheme}://" if scheme else "//"
    cut = _AUTHORITY_END.search(rest)
    authority, tail = (rest[: cut.start()], rest[cut.start() :]) if cut else (rest, "")
    userinfo, at, server = authority.rpartition("@")
    name, port = _port(server, scheme)
    host = None if _UNCLEAR.search(rest) or port is None else normal_host(name)
    if host is None:
        return prefix + rest, None
    return f"{prefix}{userinfo}{at}{host}{port}{_tail(tail)}", host


def _port(server: str, scheme: str) -> tuple[str, str | None]:
    """The host's text, and `:port` unless it is the scheme's own; None for a port that is none."""
    name, colon, port = server.rpartition(":")
    if not colon or "]" in port:
        return server, ""
    if not port:
        return name, ""
    if not (port.isascii() and port.isdigit()) or len(port) > 8 or int(port) > 65535:
        return name, None
    number = str(int(port))
    return name, "" if _PORTS.get(scheme) == number else f":{number}"


def _tail(tail: str) -> str:
    """Path, query and fragment. SPEC: RFC 3986 §6.2.2: escapes, then dot segments; an empty path is `/`."""
    tail = _escaped(tail)
    path, mark, rest = tail, "", ""
    if cut := re.search("[?#]", tail):
        path, mark, rest = tail[: cut.start()], tail[cut.start()], tail[cut.end() :]
    if mark == "#" and not rest:
        mark = ""
    return (_no_dots(path) or "/") + mark + rest


def _escaped(text: str) -> str:
    if not text.isascii():
        text = re.sub(
            r"[^\x00-\x7f]+",
            lambda run: "".join(f"%{byte:02X}" for byte in run[0].encode("utf-8", "surrogatepass")),
            text,
        )
    return _ESCAPE.sub(_unescape, text) if "%" in text else text


def _unescape(hit: re.Match[str]) -> str:
    char = chr(int(hit[1], 16))
    return char if char in _UNRESERVED else hit[0].upper()


def _no_dots(path: str) -> str:
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments[1:]:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)
