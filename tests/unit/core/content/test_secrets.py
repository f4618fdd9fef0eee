"""Each detector of secrets fires on one, and lets an honest text of the same look through."""

from __future__ import annotations

import base64

import pytest

from citywatch.core.content.scan import scan
from citywatch.core.content.secrets import SECRETS, TOKENS
from citywatch.core.content.signals import Channel, Kind

BODY = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8s9T0u1V2w3X4y5Z6"
HEX = "0123456789abcdef" * 4
PEM = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA7bq3Zx9Kf0uYh2Wc\n" * 12 + "-----END RSA PRIVATE KEY-----"
HEADER = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=").decode()
NO_ALGORITHM = base64.urlsafe_b64encode(b'{"typ":"JWT","x":"HS256"}').rstrip(b"=").decode()

# Name, a text with one in it (between guillemets: what the signal spans), and an honest one that is none.
CASES = [
    ("aws-key", "key «AKIAQ4XT7NPLM2SVBZ3K» here", "the sample AKIAIOSFODNN7EXAMPLE of the manual"),
    ("github-token", f"«ghp_{BODY[:36]}»", "ghp_" + "x" * 36),
    ("github-token-fine", f"«github_pat_{BODY[:40]}»", "github_pat_" + "x" * 40),
    ("gitlab-token", f"«glpat-{BODY[:20]}»", "glpat-too-short"),
    ("slack-token", "«xoxb-123456789012-abcDEFghi»", "xoxb-xxxxxxxxxxxxxxxxxxxx"),
    ("slack-webhook", f"https://«hooks.slack.com/services/T0A1B2C3D/B0A1B2C3D/{BODY[:24]}»", "https://hooks.slack.com/services/"),
    ("stripe-key", f"«sk_live_{BODY[:24]}»", f"pk_live_{BODY[:24]}"),
    ("model-provider-key", f"«sk-proj-{BODY[:40]}»", "a risk-based-assessment-of-the-whole-house"),
    ("google-key", f"«AIza{BODY[:35]}»", "AIza" + "0" * 35),
    ("google-oauth-token", f"«ya29.{BODY[:40]}»", "ya29.short"),
    ("npm-token", f"«npm_{BODY[:36]}»", "npm_config_registry"),
    ("pypi-token", f"«pypi-AgEIcHlwaS5vcmc{BODY[:50]}»", "pypi-AgEIcHlwaS5vcmc"),
    ("huggingface-token", f"«hf_{BODY[:34]}»", "hf_transfer"),
    ("sendgrid-key", f"«SG.{BODY[:22]}.{BODY[:43]}»", "SG.about.us"),
    ("twilio-key", f"«SK{HEX[:32]}»", f"SK{HEX[:31]}"),
    ("digitalocean-token", f"«dop_v1_{HEX}»", f"dop_v1_{HEX[:20]}"),
    ("telegram-token", f"«1234567890:AA{BODY[:33]}»", "10:AAA"),
    ("vault-token", f"«hvs.{BODY[:28]}»", "hvs.example"),
    ("age-key", f"«AGE-SECRET-KEY-1{BODY.upper()}»", "AGE-SECRET-KEY-1 is how they begin"),
    ("azure-storage-key", f"«AccountKey={BODY}{BODY[:34]}==»", "AccountKey=short"),
    ("linear-key", f"«lin_api_{BODY[:40]}»", "lin_api_key"),
    ("shopify-token", f"«shpat_{HEX[:32]}»", "shpat_key"),
    ("databricks-token", f"«dapi{HEX[:32]}»", f"dapi{HEX[:31]}"),
    ("private-key", f"x\n«{PEM}»\ny", PEM.replace("PRIVATE", "PUBLIC")),
    ("private-key", f"«{PEM}»".replace("\n", "\\n"), "those with -----BEGIN RSA PRIVATE KEY----- are secret"),
    ("jwt", f"«{HEADER}.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN»", f"{NO_ALGORITHM}.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN"),
    ("jwt", f"«{HEADER}.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jVmN».", f"{HEADER} alone is a header"),
    ("url-credential", "postgres://app:«s3cr3t-w0rd»@db.example/x", "http://localhost:8080/path@2x.png"),
    ("url-credential", "https://u:«hunter2»@host", "https://$USER:$PASSWORD@host"),
    ("authorization", f"Authorization: Bearer «{BODY[:30]}»", "bearer authentication-schemes are described"),
    ("assigned", "DB_PASSWORD='«tr0ub4dor&3»'", "DB_PASSWORD='${DB_PASSWORD}'"),
    ("assigned", "the password is «Tr0ub4dor3».", "the password is required."),
    ("assigned", '{"api_key": "«9f8e7d6c5b4a»"}', '{"api_key": "string", "type": "<your key 123>"}'),
    ("assigned", "secret: «p@ssw0rd!x»", "password = os.environ['DB2_PASSWORD']"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "honest"), CASES)
def test_a_secret_is_seen_where_it_stands_and_its_look_alike_is_not(name: str, text: str, honest: str) -> None:
    start, end = text.index("«"), text.index("»") - 1
    found = scan(text.replace("«", "").replace("»", ""), Channel.DATA, None).of(Kind.SECRET)
    assert (name, start, end) in [(one.name, one.start, one.end) for one in found]
    assert name not in [one.name for one in scan(honest, Channel.DATA, None).of(Kind.SECRET)]


def test_every_detector_has_a_case() -> None:
    assert {name for name, _, _ in CASES} == {detector.name for detector in SECRETS}
    assert len({detector.name for detector in SECRETS}) == len(SECRETS) > len(TOKENS)


def test_a_secret_split_by_invisible_characters_is_still_seen() -> None:
    text = f"key ghp_{BODY[:10]}\u200b{BODY[10:36]} end"
    (found,) = scan(text, Channel.DATA, None).of(Kind.SECRET)
    assert text[found.start : found.end] == f"ghp_{BODY[:10]}\u200b{BODY[10:36]}"
