"""Every key of the file, one bad input for each way to get it wrong: exactly its message, at its line and column.

In the inputs `§` stands where the mistake has to be reported; it is removed before the text is read.
"""

from __future__ import annotations

import re

import msgspec
import pytest

from citywatch.config import (
    KEYS,
    ConfigError,
    Exchanged,
    FromEnvironment,
    FromFile,
    Http,
    Limits,
    Listen,
    Mistake,
    Neighbour,
    NoticeChannel,
    Program,
    Settings,
    Spire,
    manifest_digest,
    parse_settings,
)
from citywatch.core.approvals.people import Approvals, Duty, Login, Passkeys, Person, Quorum, Uninspectable
from citywatch.core.call import Effect
from citywatch.core.label import Label, may_flow
from citywatch.core.manifest import (
    Budget,
    Delivery,
    Impact,
    Output,
    Parameter,
    ParameterType,
    Role,
    ToolManifest,
    audience_of,
)

DOMAIN = "trust_domain: acme.example\n"
LOG_KEY = "north+134265e7+AddamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"
SECRET = "sk-live-4242"
VKEY = "north+9ab90cf2+BNdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"

FULL = f"""\
trust_domain: acme.example
listen: ["http://127.0.0.1:0", "https://[::]:8461"]
names: [Gateway.Acme.Example, 10.0.0.7]
state: var/state
policies: /etc/citywatch/policies
origin: log.acme.example/main
agents:
  billing:
    roles: [payments]
    attributes: {{team: finance, level: 3, night: false, areas: [north, "no"]}}
    budgets:
      ledger/transfer: [{{calls: 100, per: 1h}}, {{calls: 500}}]
      ledger/balance: {{calls: 0}}
    audience: [bank, audit]
    content: {{personal/iban: allow}}
    svid_ttl: 10m
    token_ttl: 5m
content: {{secret: withhold, personal/iban: redact}}
servers:
  ledger:
    url: https://ledger.acme.example/mcp
    credential: {{env: LEDGER_TOKEN}}
    ca: ca.pem
    timeout: 2s
    tools:
      transfer:
        effect: irreversible
        audience: [bank]
        impact: critical
        parameters:
          amount: {{type: money, scale: 0, role: amount}}
          to: {{role: destination}}
        output: {{"$.status": trusted, "$.fee": {{label: untrusted, readers: [bank, audit], deliver: withhold}}}}
      balance: {{effect: read, parts: {{label: trusted, readers: [bank]}}}}
  remote:
    url: http://10.0.0.9/mcp
    unsafe_plain_http: true
    credential: {{file: secrets/remote}}
  documents:
    command: [python3, -m, documents]
    env: {{LANG: C.UTF-8, EMPTY: "", API_TOKEN: {{from: DOCUMENTS_TOKEN}}}}
    sandbox: {{user: nobody}}
  scratch:
    command: [scratch]
    cwd: work
    unsafe_same_user: true
limits: {{request_bytes: 1MiB, header_time: 500ms, depth: 32}}
witnesses:
  - {{name: north, url: "http://127.0.0.1:8470/", key: {VKEY}}}
witness_quorum: 1
"""


def server(body: str, head: str = "") -> str:
    return f"{DOMAIN}{head}servers:\n  ledger:\n" + "".join(f"    {line}\n" for line in body.split("\n"))


def program(body: str) -> str:
    return server("command: [run]\nunsafe_same_user: true\n" + body)


def tool(body: str) -> str:
    lines = "".join(f"\n    {line}" for line in body.split("\n"))
    return server(f"url: http://127.0.0.1:1/mcp\ntools:\n  transfer:{lines}")


def agent(body: str) -> str:
    known = "servers:\n  ledger:\n    url: http://127.0.0.1:1/mcp\n    tools: {transfer: {effect: read}}\n"
    return f"{DOMAIN}{known}agents:\n  billing:\n" + "".join(f"    {line}\n" for line in body.split("\n"))


def witness(body: str, tail: str = "witness_quorum: 1\n") -> str:
    return f"{DOMAIN}witnesses:\n  - {body}\n{tail}"


TRANSFER = "servers.ledger.tools.transfer"
ED25519_KEY = "MCowBQYDK2VwAyEA11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="
IDENTITY_KEY = "MCowBQYDK2VwAyEAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
ATTESTOR = f"{DOMAIN}attestors:\n  ci: "
ASK_FOR_KEY = "write the base64 of a public key's PEM on one line: `openssl pkey -in KEY -pubout`, without the dashes"
PLAIN_PUSH = "pushes would go out in plain text"
PUSH_ADVICE = "write it as https://hooks.example/* or https://*.hooks.example/*"
P256_KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEjlM7b6C/e0YluzBmfAH7YH75+LioD+9bMA"
    "YocDGHsqNz6x294DMYNm0Gn4Om9ZAAU8c2M8sEGyHFXhqGwfQAtA=="
)
BANK = tool("effect: write") + "principals: {alice: {may: ['*']}}\n"
ANNA = "anna: {roles: [approver], answers: ['*'], as: [alice]}"
NOTICE = f"{DOMAIN}notices: {{desk: {{link: 'https://c.example/tickets', "
PEOPLE = f"{BANK}people:\n  {ANNA}\n  ben: {{roles: [approver], answers: [ledger/*]}}\n  cara: {{roles: [auditor]}}\n"
OWN_KEY = "write the line that `citywatch tickets keygen` prints"
PEER = f"{DOMAIN}agents: {{a: {{}}}}\npeers:\n  b:\n"
NEAR = f"{DOMAIN}federation:\n  p.example:\n"
SPEAKING = f'{DOMAIN}principals: {{anna: {{may: ["*"]}}}}\n' + NEAR.removeprefix(DOMAIN)
FOREIGN = f"{DOMAIN}federation: {{p.example: {{bundle: p.json}}}}\nagents:\n  a: "
KINDS_OF_KEYS = "use an Ed25519 key, or one on P-256"
ISSUER = "issuer: https://gateway.acme.example\n"
TOKENS = "url: http://127.0.0.1/\ncredential: {exchange: {resource: https://a.example"
LENT = ", at: {issuer: 'https://a.example', token_endpoint: 'https://a.example', client_id: x,"
DEPOT = "a: {resource: https://a.example, scopes: [x]}"
IDP = "issuer: https://i.example, audience: b, keys: k.json"
INLINE = "a credential is never written into this file"
FROM = "write {env: NAME} or {file: path}, and change the secret if this file was shared"
LINES = "write `key: value` lines, indented below this key"

EVERYBODY_IS_NONE = "`everybody` is no name for an audience"
MEMBERS = "write an audience, or one of agent:NAME, principal:NAME, server:NAME, person:NAME"
KINDS_AND_NAMES = "write one of agent, principal, server, person, a colon and a name"
BAD: list[tuple[str, str, str, str]] = [
    # the text itself
    ("§", "", "the file is empty", "run `citywatch init` for an example to start from"),
    ("§# only a comment\n", "", "the file is empty", "run `citywatch init` for an example to start from"),
    ("§~\n", "", "the file is empty", "run `citywatch init` for an example to start from"),
    ("§- a list\n", "", "expected a mapping", LINES),
    (
        f"{DOMAIN}names: [a.example\n§",
        "",
        "not YAML: expected ',' or ']', but got '<stream end>' while parsing a flow sequence begun on line 2",
        "correct the YAML here",
    ),
    (
        f"{DOMAIN}agents:\n§\tbilling: x\n",
        "",
        "not YAML: found character '\\t' that cannot start any token",
        "indent with spaces",
    ),
    (f"{DOMAIN}state: a§\x00b\n", "", "a character that text cannot contain", "save the file as UTF-8 text"),
    (f"{DOMAIN}§---\n{DOMAIN}", "", "a second document", "keep one; remove the `---`"),
    (f"{DOMAIN}names: §&all [a.example]\n", "", "an anchor (`&`)", "remove it and write the value out where needed"),
    (f"{DOMAIN}names: §*all\n", "", "an alias (`*`)", "write the value out"),
    (f"{DOMAIN}state: §!!python/name:os.system x\n", "", "a tag (`!`)", "remove it; plain values are enough"),
    (f'{DOMAIN}state: §"a\\0b"\n', "", "a control character or half a character", "write visible text"),
    (f'{DOMAIN}state: §"\\ud800"\n', "", "a control character or half a character", "write visible text"),
    (f'{DOMAIN}state: "\\UFFFFFFFF"\n', "", "not YAML: an escape or a directive out of range", "remove it"),
    (f"{DOMAIN}names: {'[' * 22}§[]{']' * 22}\n", "", "nested deeper than 24 levels", "flatten it; no key needs that"),
    (f"{DOMAIN}§8460: x\n", "", "this key is not text", "write a word, in quotes if it looks like a number or a yes"),
    (f"{DOMAIN}§[a]: x\n", "", "this key is not text", "write a word, in quotes if it looks like a number or a yes"),
    (f"{DOMAIN}§<<: {{}}\n", "", "this key is not text", "write a word, in quotes if it looks like a number or a yes"),
    (f"{DOMAIN}state: a\n§state: b\n", "", "`state` stands here twice, first on line 2", "keep one"),
    # the first level
    ("§names: []\n", "", "`trust_domain` is missing", "write `trust_domain: acme.example`"),
    (
        "trust_domain: §Acme Example\n",
        "trust_domain",
        "`Acme Example` is not a trust domain",
        "use lower-case letters, digits, dots, dashes, underscores",
    ),
    ("trust_domain:§ \n", "trust_domain", "expected text, found nothing", "write one text"),
    ("trust_domain: §12\n", "trust_domain", "expected text, found a number", "put it in quotes"),
    ("trust_domain: §no\n", "trust_domain", "expected text, found a yes or no", "put it in quotes"),
    ("trust_domain: §[a]\n", "trust_domain", "expected text, found a list", "write one text"),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [§x]\n",
        "peers.b.callers[0]",
        "no agent `x` in this file",
        "write one of a",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    envelope_for: §router\n",
        "peers.b.envelope_for",
        "`router` is not a SPIFFE ID",
        "write spiffe://<trust-domain>/<path>",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    envelope: §maybe\n",
        "peers.b.envelope",
        "expected true or false",
        "write true or false",
    ),
    (
        DOMAIN + "servers: {s: {url: 'http://127.0.0.1:9', envelope_for: §gate}}\n",
        "servers.s.envelope_for",
        "`gate` is not a SPIFFE ID",
        "write spiffe://<trust-domain>/<path>",
    ),
    (
        DOMAIN + "servers: {s: {command: [x], unsafe_same_user: true, §envelope_for: spiffe://a/gateway}}\n",
        "servers.s.envelope_for",
        "a program of this machine is behind no gateway",
        "remove it",
    ),
    (
        DOMAIN + "servers: {s: {url: 'http://127.0.0.1:9', envelope: §1}}\n",
        "servers.s.envelope",
        "expected true or false",
        "write true or false",
    ),
    (
        NEAR + "    bundle: p.json\n    ceiling: §[bob]\n",
        "federation.p.example.ceiling",
        "`bob` is not an origin: expected principal:, server:, outside:, agent: or domain: and a name",
        "write [anybody], [], or origins such as outside:partner",
    ),
    (
        NEAR + "    bundle: p.json\n    §chains: {tools: [a/b], calls: 1, longest: 1h}\n",
        "federation.p.example.chains",
        "that domain speaks for nobody here, so no chain of it counts",
        "add `speaks_for`",
    ),
    (
        SPEAKING + "    bundle: p.json\n    speaks_for: [anna]\n    chains: §{calls: 1, longest: 1h}\n",
        "federation.p.example.chains",
        "it leaves nothing: no tool and no skill",
        "write `tools: [server/*]`",
    ),
    (
        SPEAKING + "    bundle: p.json\n    speaks_for: [anna]\n    chains: §{tools: [a/b], calls: 1}\n",
        "federation.p.example.chains",
        "`longest` is missing",
        "write `longest: 1h`",
    ),
    (
        SPEAKING + "    bundle: p.json\n    speaks_for: [anna]\n    chains: §{tools: [a/b], longest: 1h}\n",
        "federation.p.example.chains",
        "`calls` is missing",
        "write `calls: 20`",
    ),
    (
        SPEAKING + "    bundle: p.json\n    speaks_for: [anna]\n    chains: {§tools: [x], calls: 1, longest: 1h}\n",
        "federation.p.example.chains.tools",
        "the ceiling `tools` holds what is no name there",
        "write it as a grant's caveats",
    ),
    (
        SPEAKING + "    bundle: p.json\n    speaks_for: [anna]\n    chains: {§skills: x, calls: 1, longest: 1h}\n",
        "federation.p.example.chains.skills",
        "the ceiling `skills` is no list of at most 128 names",
        "write it as a grant's caveats",
    ),
    (
        SPEAKING + "    bundle: p.json\n    speaks_for: [anna]\n"
        "    chains: {tools: [a/b], §arguments: {a/b: {x: {at_most: y}}}, calls: 1, longest: 1h}\n",
        "federation.p.example.chains.arguments",
        "`arguments.a/b`, `x`: it is no range of amounts: write 500, or `500.00 EUR`, the lower one first",
        "write it as a grant's caveats",
    ),
    (
        SPEAKING
        + "    bundle: p.json\n    speaks_for: [anna]\n"
        + "    chains: {tools: [a/b], §readers: {x: y, x: z}, calls: 1, longest: 1h}\n",
        "federation.p.example.chains.readers",
        "a name stands here twice",
        "write it as a grant's caveats",
    ),
    (
        SPEAKING
        + "    bundle: p.json\n    speaks_for: [anna]\n"
        + "    chains: {tools: [a/b], §origins: [null], calls: 1, longest: 1h}\n",
        "federation.p.example.chains.origins",
        "this is no text, number, true or false",
        "write it as a grant's caveats",
    ),
    (
        NEAR + "    bundle: p.json\n    speaks_for: [§bob]\n",
        "federation.p.example.speaks_for[0]",
        "no principal `bob` in this file",
        "remove it",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    agent: §x\n",
        "peers.b.agent",
        "no agent `x` in this file",
        "write one of a",
    ),
    (
        f"{DOMAIN}agents: {{a: {{}}, c: {{}}}}\npeers:\n  b:\n"
        "    url: https://b.example\n    callers: [a]\n    agent: c\n    §ca: ca.pem\n",
        "peers.b.ca",
        "an agent of this file shows papers of our own authority",
        "remove `ca`, or `agent`",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    §callers: [a]\n    agent: a\n",
        "peers.b.callers",
        "`a` is this peer itself",
        "name those who speak to it",
    ),
    # other trust domains
    (
        f"{DOMAIN}servers: {{b: {{url: https://a.example/mcp, spiffe_id: §gateway}}}}\n",
        "servers.b.spiffe_id",
        "`gateway` is not a SPIFFE ID",
        "write spiffe://<trust-domain>/<path>",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    §spiffe_id: spiffe://p.example/gateway\n",
        "peers.b.spiffe_id",
        "it is proved over https, by its trust domain's bundle",
        "write https, and no `ca`",
    ),
    (
        f"{DOMAIN}authority: §{{}}\n",
        "authority",
        "`spire` is missing",
        "write `spire: {socket: unix:///run/spire/agent/api.sock}`",
    ),
    (
        f"{DOMAIN}authority: {{spire: §{{}}}}\n",
        "authority.spire",
        "`socket` is missing",
        "write `socket: unix:///run/spire/agent/api.sock`",
    ),
    (
        f"{DOMAIN}authority: {{spire: {{socket: §/run/api.sock}}}}\n",
        "authority.spire.socket",
        "not the address of a Workload API",
        "write unix:///run/spire/agent/api.sock",
    ),
    (
        f"{DOMAIN}authority: {{spire: {{socket: unix:///run/api.sock, spiffe_id: §spiffe://p.example/g}}}}\n",
        "authority.spire.spiffe_id",
        "`spiffe://p.example/g` is not of `acme.example`",
        "name one of that trust domain",
    ),
    (
        f"{DOMAIN}authority: {{spire: {{socket: unix:///run/api.sock}}}}\n§issuer: https://g.acme.example\n",
        "issuer",
        "access tokens are signed beside our own authority, and `authority` names another",
        "remove it",
    ),
    (
        f"{DOMAIN}authority: {{spire: {{socket: unix:///run/api.sock}}}}\n"
        "§agents: {a: {spiffe_id: spiffe://acme.example/agent/b}, b: {}}\n",
        "agents",
        "`a` and `b` are called the same there",
        "give one of them its `spiffe_id`",
    ),
    (
        f"{DOMAIN}federation: {{acme.example: §{{bundle: a.json}}}}\n",
        "federation.acme.example",
        "this is our own trust domain",
        "remove it",
    ),
    (
        f"{DOMAIN}federation: {{§P.example: {{bundle: a.json}}}}\n",
        "federation",
        "`P.example` is not a trust domain",
        "use lower-case letters, digits, dots, dashes, underscores",
    ),
    (
        NEAR + "    §max_age: 1h\n",
        "federation.p.example",
        "nothing says where its bundle is",
        "write `bundle: <file>` or `endpoint: <url>`",
    ),
    (
        f"{DOMAIN}bundle_endpoint: {{§listen: 'http://127.0.0.1:1', certificate: a.pem, key: a.key}}\n",
        "bundle_endpoint.listen",
        "a bundle over plain HTTP is anybody's",
        "write https://127.0.0.1:1",
    ),
    (
        f"{DOMAIN}bundle_endpoint: §{{listen: 'https://127.0.0.1:1', key: a.key}}\n",
        "bundle_endpoint",
        "`certificate` is missing",
        "write `certificate: /etc/citywatch/web.pem`",
    ),
    (
        f"{DOMAIN}bundle_endpoint: §{{listen: 'https://127.0.0.1:1', certificate: a.pem}}\n",
        "bundle_endpoint",
        "`key` is missing",
        "write `key: /etc/citywatch/web.key`",
    ),
    (
        f"{DOMAIN}authority: {{spire: {{socket: 'unix:///a'}}}}\n"
        "§bundle_endpoint: {listen: 'https://127.0.0.1:1', certificate: a.pem, key: a.key}\n",
        "bundle_endpoint",
        "the bundle is SPIRE's, and so is its endpoint",
        "remove it",
    ),
    (NEAR + "    bundle: §7\n", "federation.p.example.bundle", "expected text, found a number", "put it in quotes"),
    (
        NEAR + "    endpoint: §http://p.example/b\n    profile: https_web\n",
        "federation.p.example.endpoint",
        "a bundle over plain HTTP is anybody's",
        "write an https URL",
    ),
    (
        NEAR + "    §endpoint: https://p.example/b\n",
        "federation.p.example",
        "`profile` is missing",
        "write `profile: https_web` or `profile: https_spiffe`",
    ),
    (
        NEAR + "    endpoint: https://p.example/b\n    profile: §https_wep\n",
        "federation.p.example.profile",
        "`https_wep` is not a choice here",
        "did you mean `https_web`? write one of https_web, https_spiffe",
    ),
    (
        NEAR + "    §endpoint: https://p.example/b\n    profile: https_spiffe\n    bundle: p.json\n",
        "federation.p.example",
        "`endpoint_id` is missing",
        "write `endpoint_id: spiffe://partner.example/gateway`",
    ),
    (
        NEAR + "    §endpoint: https://p.example/b\n    profile: https_spiffe\n"
        "    endpoint_id: spiffe://p.example/gateway\n",
        "federation.p.example",
        "`bundle` is missing: nothing proves the endpoint the first time",
        "add the file",
    ),
    (
        NEAR + "    endpoint: https://p.example/b\n    profile: https_spiffe\n    bundle: p.json\n"
        "    endpoint_id: §spiffe://q.example/gateway\n",
        "federation.p.example.endpoint_id",
        "`spiffe://q.example/gateway` is not of `p.example`",
        "name one of that trust domain",
    ),
    (
        NEAR + "    endpoint: https://p.example/b\n    profile: https_web\n"
        "    §endpoint_id: spiffe://p.example/gateway\n",
        "federation.p.example.endpoint_id",
        "with https_web the endpoint proves its host's name",
        "write `profile: https_spiffe`",
    ),
    (
        NEAR + "    endpoint: https://p.example/b\n    profile: https_spiffe\n    bundle: p.json\n"
        "    endpoint_id: spiffe://p.example/gateway\n    §ca: web.pem\n",
        "federation.p.example.ca",
        "with https_spiffe the domain's own bundle is what is trusted",
        "remove it",
    ),
    (
        NEAR + "    bundle: p.json\n    §ca: web.pem\n",
        "federation.p.example.ca",
        "this is about an endpoint, and there is none",
        "write `endpoint: <url>`",
    ),
    (
        NEAR + "    bundle: p.json\n    refresh: §2\n",
        "federation.p.example.refresh",
        "expected a duration",
        "write a number and a unit, such as 500ms, 30s, 5m, 1h, 1d",
    ),
    (
        NEAR + "    bundle: p.json\n    max_age: §1s\n",
        "federation.p.example.max_age",
        "this duration is out of range",
        "write a time from 1m to 366d",
    ),
    (
        FOREIGN + "{spiffe_id: §https://p.example/a}\n",
        "agents.a.spiffe_id",
        "`https://p.example/a` is not a SPIFFE ID",
        "write spiffe://<trust-domain>/<path>",
    ),
    (
        FOREIGN + "{spiffe_id: §spiffe://p.example}\n",
        "agents.a.spiffe_id",
        "`spiffe://p.example` names no workload",
        "write spiffe://<trust-domain>/<path>",
    ),
    (
        FOREIGN + "{spiffe_id: §spiffe://p.exampel/a}\n",
        "agents.a.spiffe_id",
        "no trust domain `p.exampel` is believed in this file",
        "did you mean `p.example`?",
    ),
    (
        DOMAIN + "agents: {a: {spiffe_id: §spiffe://acme.example/a}}\n",
        "agents.a.spiffe_id",
        "no trust domain `acme.example` is believed in this file",
        "name it under `federation.acme.example`",
    ),
    (
        FOREIGN + "{spiffe_id: spiffe://p.example/a}\n  b: {§spiffe_id: spiffe://p.example/a}\n",
        "agents.b.spiffe_id",
        "`a` has this SPIFFE ID too",
        "name each agent once",
    ),
    (
        FOREIGN + "{spiffe_id: spiffe://p.example/a, §svid_ttl: 5m}\n",
        "agents.a.svid_ttl",
        "another authority issues this agent's papers",
        "remove it",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    messages: {§a b: {schema: x.json}}\n",
        "peers.b.messages",
        "`a b` is no type of a message",
        "use letters, digits, `.`, `_`, `-`",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    messages: {refund: §{}}\n",
        "peers.b.messages.refund",
        "`schema` is missing",
        "write `schema: refund.json`",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    §free_text: false\n",
        "peers.b.free_text",
        "neither free text nor any `messages`: it could be told nothing",
        "declare one",
    ),
    (PEER + "    §callers: [a]\n", "peers.b", "`url` is missing", "write `url: http://127.0.0.1:9001/mcp`"),
    (PEER + "    §url: http://127.0.0.1:9\n", "peers.b", "`callers` is missing", "write `callers: [router]`"),
    (
        PEER + "    url: §here\n    callers: [a]\n",
        "peers.b.url",
        "not an http or https URL",
        "write it as http://127.0.0.1:9001/mcp or https://host/mcp",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    card: §card\n",
        "peers.b.card",
        "not an http or https URL",
        "write it as http://127.0.0.1:9001/mcp or https://host/mcp",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    binding: §GRPC\n",
        "peers.b.binding",
        "`GRPC` is not a choice here",
        "write one of JSONRPC, HTTP+JSON",
    ),
    (
        PEER + "    §url: http://127.0.0.1:9/?a=b\n    callers: [a]\n    binding: HTTP+JSON\n",
        "peers.b.url",
        "requests over HTTP+JSON go to addresses below it, and it has a query",
        "remove the query",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    push: §http://gate.example\n",
        "peers.b.push",
        "pushes would go out in plain text",
        "write https, or http://127.0.0.1:port/",
    ),
    (
        f"{DOMAIN}agents: {{a: {{push: §'http://hooks.example/hook'}}}}\n",
        "agents.a.push",
        "pushes would go out in plain text",
        "write https, or http://127.0.0.1:port/",
    ),
    *(
        (f"{DOMAIN}agents: {{a: {{push: [{before}§'{word}']}}}}\n", f"agents.a.push[{at}]", wrong, advice)
        for word, before, at, wrong, advice in (
            ("http://hooks.example/*", "", 0, PLAIN_PUSH, "write https, or http://127.0.0.1:*/*"),
            ("http://*.a.example/*", "'https://a.example/', ", 1, PLAIN_PUSH, "write https, or http://127.0.0.1:*/*"),
            (
                "https://*/*",
                "",
                0,
                "a `*` stands first in a host (`*.example.com`), for a port, or at the end of a path",
                PUSH_ADVICE,
            ),
            ("https://*.example/*", "", 0, "a `*` stands for the hosts of a domain of at least two words", PUSH_ADVICE),
            ("https://*.a.example", "", 0, "a pattern says which paths: end it with `/*` for all of them", PUSH_ADVICE),
        )
    ),
    (
        f"{DOMAIN}agents: {{a: {{push: §[]}}}}\n",
        "agents.a.push",
        "an empty list",
        "name at least one, or remove the key",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    links: [§'https://*/*']\n",
        "peers.b.links[0]",
        "a `*` stands first in a host (`*.example.com`), for a port, or at the end of a path",
        "write it as https://files.example/* or https://*.files.example/*",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    extensions: [§'a b']\n",
        "peers.b.extensions[0]",
        "`a b` is not the URI of an extension",
        "no spaces, no commas, at most 256 characters",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    links: §[]\n",
        "peers.b.links",
        "an empty list",
        "name at least one, or remove the key",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    skills: §[]\n",
        "peers.b.skills",
        "an empty list",
        "name at least one, or remove the key",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    audience: §[everybody, x]\n",
        "peers.b.audience",
        "`everybody` stands beside others",
        "name the audiences, or write [everybody]",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    ca: §''\n",
        "peers.b.ca",
        "expected text on one line, found none or more",
        "write one line",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    unsafe_plain_http: §maybe\n",
        "peers.b.unsafe_plain_http",
        "expected true or false",
        "write true or false",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    timeout: §1h\n",
        "peers.b.timeout",
        "this duration is out of range",
        "write a time from 100ms to 10m",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    credential: §abc\n",
        "peers.b.credential",
        INLINE,
        FROM,
    ),
    (
        f"{DOMAIN}agents: {{a: {{}}}}\nservers: {{b: {{url: http://127.0.0.1:8}}}}\n"
        "peers: {b: §{url: http://127.0.0.1:9, callers: [a]}}\n",
        "peers.b",
        "`b` is a server of this file too",
        "give the peer another name",
    ),
    (ATTESTOR + "§{}\n", "attestors.ci", "`key` is missing", "write `key: MCowBQYDK2VwAyEA…`"),
    (ATTESTOR + f"{{§url: x, key: {ED25519_KEY}}}\n", "attestors.ci", "unknown key `url`", "write one of key"),
    (ATTESTOR + "{key: §-----BEGIN}\n", "attestors.ci.key", "not a public key in base64", ASK_FOR_KEY),
    (ATTESTOR + "{key: §MCow}\n", "attestors.ci.key", "the bytes are not a public key that we know", KINDS_OF_KEYS),
    (
        ATTESTOR + f"{{key: §{IDENTITY_KEY}}}\n",
        "attestors.ci.key",
        "an Ed25519 public key is of small order",
        KINDS_OF_KEYS,
    ),
    (
        ATTESTOR + f"{{key: {ED25519_KEY}}}\n  cd: {{§key: {ED25519_KEY}}}\n",
        "attestors.cd.key",
        "this is the key of `ci` too",
        "give each attestor a key of its own",
    ),
    (
        f"{DOMAIN}attestors: {{§c/i: {{key: {ED25519_KEY}}}}}\n",
        "attestors",
        "`c/i` is not a name for an attestor",
        "use letters, digits, dots, dashes, underscores, at most 128",
    ),
    (
        agent("attested_by: §ci"),
        "agents.billing.attested_by",
        "no attestor `ci` in this file",
        "name it under `attestors:` with its key",
    ),
    (
        agent("attested_by: §builde") + f"attestors: {{builder: {{key: {ED25519_KEY}}}}}\n",
        "agents.billing.attested_by",
        "no attestor `builde` in this file",
        "did you mean `builder`?",
    ),
    (f"{DOMAIN}§agent: {{}}\n", "", "unknown key `agent`", "did you mean `agents`?"),
    (
        f"{DOMAIN}§zzz: 1\n",
        "",
        "unknown key `zzz`",
        "write one of trust_domain, listen, names, state, policies, temporal_rules, plan_templates, boilerplate, "
        "origin, issuer, resources, issuers, agents, servers, peers, federation, authority, bundle_endpoint, "
        "attestors, principals, people, approvals, notices, audiences, reader, content, limits, witnesses, "
        "witness_quorum, console, unsafe_observe",
    ),
    (f"{DOMAIN}listen: §[]\n", "listen", "an empty list", "name at least one, or remove the key"),
    (
        f"{DOMAIN}listen: §http://127.0.0.1:1\n",
        "listen",
        "expected a list, found text",
        "write it as [one, two] or as `- ` lines",
    ),
    (
        f'{DOMAIN}listen: [§"http://0.0.0.0:8460"]\n',
        "listen[0]",
        "plain http is for loopback only",
        "write https://0.0.0.0:8460, or http://127.0.0.1:8460 for this machine alone",
    ),
    (
        f'{DOMAIN}listen: [§"http://[::]:1"]\n',
        "listen[0]",
        "plain http is for loopback only",
        "write https://[::]:1, or http://127.0.0.1:1 for this machine alone",
    ),
    (
        f'{DOMAIN}listen: [§"http://localhost:1"]\n',
        "listen[0]",
        "`localhost` is a name, not an address",
        "write http://127.0.0.1:1; names for clients go under `names`",
    ),
    (
        f'{DOMAIN}listen: ["http://127.0.0.1:1", §"127.0.0.1:2"]\n',
        "listen[1]",
        "`127.0.0.1:2` is not an address to serve on",
        "write it as https://0.0.0.0:8461",
    ),
    (
        f'{DOMAIN}listen: [§"https://127.0.0.1:70000"]\n',
        "listen[0]",
        "`https://127.0.0.1:70000` is not an address to serve on",
        "write it as https://0.0.0.0:8461",
    ),
    (
        f'{DOMAIN}§listen: ["http://127.0.0.1:1", "http://127.0.0.1:1/"]\n',
        "listen",
        "the same address stands here twice",
        "keep one",
    ),
    (
        f"{DOMAIN}names: [ok.example, §not_a_host]\n",
        "names[1]",
        "`not_a_host` is not a DNS name or an IP address",
        "write it as gateway.acme.example",
    ),
    (
        f"{DOMAIN}state: §~/citywatch\n",
        "state",
        "`~` and `$` are not expanded in a path",
        "write the path itself, or one from here",
    ),
    (
        f"{DOMAIN}policies: §$HOME/policies\n",
        "policies",
        "`~` and `$` are not expanded in a path",
        "write the path itself, or one from here",
    ),
    (
        f"{DOMAIN}origin: §two words\n",
        "origin",
        "an origin has no space, no plus, at most 255 characters",
        "write acme.example/citywatch",
    ),
    (f"{DOMAIN}servers: §[]\n", "servers", "expected a mapping", LINES),
    # agents
    (f"{DOMAIN}agents: §3\n", "agents", "expected a mapping", LINES),
    (
        f"{DOMAIN}agents: {{§a/b: {{}}}}\n",
        "agents",
        "`a/b` is not a name for an agent",
        "use letters, digits, dots, dashes, underscores, at most 128",
    ),
    (f"{DOMAIN}agents:\n  billing:§ \n", "agents.billing", "expected a mapping", LINES),
    (agent("§role: x"), "agents.billing", "unknown key `role`", "did you mean `roles`?"),
    (
        agent("roles: §x"),
        "agents.billing.roles",
        "expected a list, found text",
        "write it as [one, two] or as `- ` lines",
    ),
    (
        agent("roles: [x, §a b]"),
        "agents.billing.roles[1]",
        "`a b` is not a role",
        "use letters, digits, dots, dashes, underscores, at most 128",
    ),
    (
        agent("attributes: {§__entity: x}"),
        "agents.billing.attributes",
        "`__entity` is not an attribute's name",
        "use letters, digits, underscores",
    ),
    (
        agent("attributes: {level: §1.5}"),
        "agents.billing.attributes.level",
        "policies know no fractions",
        "write a whole number of a smaller unit, or quote it",
    ),
    (
        agent("attributes: {level: §9223372036854775808}"),
        "agents.billing.attributes.level",
        "`9223372036854775808` is out of range",
        "write a number from -9223372036854775808 to 9223372036854775807",
    ),
    (
        agent("attributes: {level: §0x10}"),
        "agents.billing.attributes.level",
        "expected a whole number",
        "write a number from -9223372036854775808 to 9223372036854775807, digits only",
    ),
    (
        agent("attributes: {night: §yes}"),
        "agents.billing.attributes.night",
        "expected true or false",
        "write true or false",
    ),
    (
        agent("attributes: {t: [a, §1]}"),
        "agents.billing.attributes.t[1]",
        "expected text, found a number",
        "put it in quotes",
    ),
    (agent("attributes: {t: §{}}"), "agents.billing.attributes.t", "expected text, found a mapping", "write one text"),
    (
        agent("attributes: {§credential: x}"),
        "agents.billing.attributes",
        "`credential` is what policies read from what was vouched for of the agent",
        "choose another name",
    ),
    (
        agent("attributes: {§domain: x}"),
        "agents.billing.attributes",
        "`domain` is what policies read from the agent's SPIFFE ID",
        "choose another name",
    ),
    (
        f"{DOMAIN}agents:\n  a: {{attributes: {{level: 3}}}}\n  b: {{attributes: {{level: §'3'}}}}\n",
        "agents.b.attributes.level",
        "not the type of `agents.a.attributes.level`",
        "quote both, or neither",
    ),
    (
        agent("budgets: {ledger/transfer: §[]}"),
        "agents.billing.budgets.ledger/transfer",
        "an empty list",
        "name at least one, or remove the key",
    ),
    (
        agent("budgets: {§transfer: {calls: 1}}"),
        "agents.billing.budgets",
        "`transfer` is not a tool",
        "write <server>/<tool>, such as ledger/transfer",
    ),
    (
        agent("budgets: {§leger/transfer: {calls: 1}}"),
        "agents.billing.budgets",
        "no server `leger` in this file",
        "did you mean `ledger`?",
    ),
    (
        agent("budgets: {§ledger/transfers: {calls: 1}}"),
        "agents.billing.budgets",
        "server `ledger` declares no tool `transfers`",
        "did you mean `transfer`?",
    ),
    (
        agent("budgets: {ledger/transfer: §{per: 1h}}"),
        "agents.billing.budgets.ledger/transfer",
        "`calls` is missing",
        "write `calls: 100`",
    ),
    (
        agent("budgets: {ledger/transfer: {calls: §-1}}"),
        "agents.billing.budgets.ledger/transfer.calls",
        "`-1` is out of range",
        "write a number from 0 to 2147483647",
    ),
    (
        agent("budgets: {ledger/transfer: {calls: 1, per: §60}}"),
        "agents.billing.budgets.ledger/transfer.per",
        "expected a duration",
        "write a number and a unit, such as 500ms, 30s, 5m, 1h, 1d",
    ),
    (
        agent("budgets: {ledger/transfer: {calls: 1, §each: 1h}}"),
        "agents.billing.budgets.ledger/transfer",
        "unknown key `each`",
        "write one of calls, per",
    ),
    (
        agent("svid_ttl: §30d"),
        "agents.billing.svid_ttl",
        "this duration is out of range",
        "write a time from 1m to 24h",
    ),
    (
        agent("token_ttl: §1s"),
        "agents.billing.token_ttl",
        "this duration is out of range",
        "write a time from 1m to 24h",
    ),
    # servers
    (
        f"{DOMAIN}servers: {{§..: {{url: 'http://127.0.0.1/'}}}}\n",
        "servers",
        "`..` is not a name for a server",
        "use letters, digits, dots, dashes, underscores, at most 128",
    ),
    (
        server("§timeout: 1s"),
        "servers.ledger",
        "`url` is missing",
        "write `url: http://127.0.0.1:9001/mcp` or `command: [program, argument]`",
    ),
    (
        server("url: http://127.0.0.1:1/mcp\n§command: [x]"),
        "servers.ledger.command",
        "a server has `url` or `command`, not both",
        "keep one of them",
    ),
    (
        server("url: http://127.0.0.1/\n§tiemout: 1s"),
        "servers.ledger",
        "unknown key `tiemout`",
        "did you mean `timeout`?",
    ),
    (
        server("url: http://127.0.0.1/\ntimeout: §11m"),
        "servers.ledger.timeout",
        "this duration is out of range",
        "write a time from 100ms to 10m",
    ),
    (
        server("url: §ftp://127.0.0.1/"),
        "servers.ledger.url",
        "not an http or https URL",
        "write it as http://127.0.0.1:9001/mcp or https://host/mcp",
    ),
    (
        server("url: §http://127.0.0.1:99999/"),
        "servers.ledger.url",
        "not an http or https URL",
        "write it as http://127.0.0.1:9001/mcp or https://host/mcp",
    ),
    (
        server("url: §http://[::1/"),
        "servers.ledger.url",
        "not an http or https URL",
        "write it as http://127.0.0.1:9001/mcp or https://host/mcp",
    ),
    (
        server(f"url: §https://user:{SECRET}@host/mcp"),
        "servers.ledger.url",
        "a secret inside a URL",
        "use `credential: {env: NAME}`",
    ),
    (
        server(f"url: §https://{SECRET}@host/mcp"),
        "servers.ledger.url",
        "a secret inside a URL",
        "use `credential: {env: NAME}`",
    ),
    (
        server(f"url: §https://host/mcp?api_key={SECRET}"),
        "servers.ledger.url",
        "a secret inside a URL",
        "use `credential: {env: NAME}`",
    ),
    (server("url: §https://host/mcp#x"), "servers.ledger.url", "a URL with a fragment (`#`)", "remove the fragment"),
    (
        server("§url: http://ledger.acme.example/mcp"),
        "servers.ledger.url",
        "plain http to another machine shows every call and credential on the way",
        "write https, or add `unsafe_plain_http: true`",
    ),
    (
        server("§url: http://localhost:9001/mcp"),
        "servers.ledger.url",
        "`localhost` is a name, and may lead elsewhere",
        "write 127.0.0.1 or [::1] in its place",
    ),
    (
        server("url: https://host/mcp\n§owner: desk"),
        "servers.ledger.owner",
        "only of http on loopback can it be seen whose it is",
        "write http://127.0.0.1, or remove it",
    ),
    (
        server("url: http://192.0.2.1/mcp\nunsafe_plain_http: true\n§owner: desk"),
        "servers.ledger.owner",
        "only of http on loopback can it be seen whose it is",
        "write http://127.0.0.1, or remove it",
    ),
    (
        PEER + "    url: http://127.0.0.1:9\n    callers: [a]\n    owner: §'-x'\n",
        "peers.b.owner",
        "`-x` is no account's name",
        "write it as in /etc/passwd",
    ),
    (
        server("url: https://host/mcp\n§unsafe_plain_http: true"),
        "servers.ledger.unsafe_plain_http",
        "this server is reached over https",
        "remove it",
    ),
    (
        server("url: http://127.0.0.1/\n§ca: x.pem"),
        "servers.ledger.ca",
        "a `ca` is of no use over http",
        "write https in the url, or remove `ca`",
    ),
    (
        server("url: http://127.0.0.1/\n§cwd: ."),
        "servers.ledger.cwd",
        "`cwd` is for a server with `command`",
        "remove it",
    ),
    (server(f"url: http://127.0.0.1/\ncredential: §{SECRET}"), "servers.ledger.credential", INLINE, FROM),
    (server(f"url: http://127.0.0.1/\ncredential: §[{SECRET}]"), "servers.ledger.credential", INLINE, FROM),
    (
        server(f"url: http://127.0.0.1/\ncredential: {{§{SECRET}: }}"),
        "servers.ledger.credential",
        "an unknown key",
        "write `env` or `file` or `exchange`",
    ),
    (
        server(f"url: http://127.0.0.1/\ncredential: {{§token: {SECRET}}}"),
        "servers.ledger.credential",
        "an unknown key",
        "write `env` or `file` or `exchange`",
    ),
    (
        server(f"url: http://127.0.0.1/\ncredential: {{env: §{SECRET}}}"),
        "servers.ledger.credential.env",
        "not the name of an environment variable",
        "use letters, digits, underscores",
    ),
    (
        server("url: http://127.0.0.1/\ncredential: {exchange: §yes}"),
        "servers.ledger.credential.exchange",
        "expected a mapping",
        LINES,
    ),
    (
        server("url: http://127.0.0.1/\ncredential: {exchange: §{}}"),
        "servers.ledger.credential.exchange",
        "`resource` is missing",
        "write `resource: https://ledger.acme.example/mcp`",
    ),
    (
        server("url: http://127.0.0.1/\ncredential: {exchange: {resource: §'http://ledger.acme.example/mcp'}}"),
        "servers.ledger.credential.exchange.resource",
        "plain http, and not on this machine",
        "write it with https",
    ),
    (
        server(TOKENS + ", at: §yes}}", ISSUER),
        "servers.ledger.credential.exchange.at",
        "expected a mapping",
        LINES,
    ),
    (
        server(TOKENS + LENT.replace("issuer: 'https", "issuer: §'http") + " grant: jwt_bearer}}}", ISSUER),
        "servers.ledger.credential.exchange.at.issuer",
        "plain http, and not on this machine",
        "write it with https",
    ),
    (
        server(TOKENS + LENT.replace("endpoint: 'https", "endpoint: §'http") + " grant: jwt_bearer}}}", ISSUER),
        "servers.ledger.credential.exchange.at.token_endpoint",
        "plain http, and not on this machine",
        "write it with https",
    ),
    (
        server(TOKENS + LENT.replace("client_id: x", "client_id: §[]") + " grant: jwt_bearer}}}", ISSUER),
        "servers.ledger.credential.exchange.at.client_id",
        "expected text, found a list",
        "write one text",
    ),
    (
        server(TOKENS + LENT + " grant: §password}}}", ISSUER),
        "servers.ledger.credential.exchange.at.grant",
        "`password` is not a choice here",
        "write one of token_exchange, jwt_bearer",
    ),
    (
        server(TOKENS + LENT + " grant: jwt_bearer, ca: §[]}}}", ISSUER),
        "servers.ledger.credential.exchange.at.ca",
        "expected text, found a list",
        "write one text",
    ),
    (
        server(TOKENS + ", scopes: [§'a b']}}", ISSUER),
        "servers.ledger.credential.exchange.scopes[0]",
        "`a b` is no scope",
        "write one word, without spaces, quotes and backslashes",
    ),
    (
        server(TOKENS + "}}").replace("serv", "§serv"),
        "servers",
        "`ledger` takes access tokens, and nobody issues them",
        "write the address at which servers reach this gateway, such as `issuer: https://gateway.acme.example`",
    ),
    (
        server(TOKENS + "}}", ISSUER).replace("serv", "§serv")
        + "  other:\n    url: http://127.0.0.1:1/\n    credential: {exchange: {resource: 'https://A.example:443/'}}\n",
        "servers",
        "`ledger` and `other` are one resource: each could use a token that the other was shown",
        "give each server a resource of its own",
    ),
    (
        f"{DOMAIN}resources: {{§a: {{resource: https://a.example, scopes: [x]}}}}\n".replace("res", "§res", 1).replace(
            "{§a", "{a"
        ),
        "resources",
        "`a` takes access tokens, and nobody issues them",
        "write the address at which servers reach this gateway, such as `issuer: https://gateway.acme.example`",
    ),
    (
        f"{DOMAIN}{ISSUER}resources: {{a: §{{scopes: [x]}}}}\n",
        "resources.a",
        "`resource` is missing",
        "write `resource: https://warehouse.acme.example/`",
    ),
    (
        f"{DOMAIN}{ISSUER}resources: {{a: §{{resource: https://a.example}}}}\n",
        "resources.a",
        "`scopes` is missing",
        "write `scopes: [orders.read]`",
    ),
    (
        f"{DOMAIN}{ISSUER}resources: {{a: {{resource: https://a.example, scopes: [x], audience: §[everybody, b]}}}}\n",
        "resources.a.audience",
        "`everybody` stands beside others",
        "name the audiences, or write [everybody]",
    ),
    (
        server(
            "url: http://127.0.0.1/", f"{ISSUER}resources: {{ledger: §{{resource: https://a.example, scopes: [x]}}}}\n"
        ),
        "resources.ledger",
        "`ledger` is a server or peer of this file too",
        "give the resource another name",
    ),
    (
        f"{DOMAIN}{ISSUER}§resources:\n  a: {{resource: https://a.example, scopes: [x]}}\n"
        "  b: {resource: https://a.example/, scopes: [x]}\n",
        "resources",
        "`a` and `b` are one resource: a token for the one would be good for the other",
        "give each a resource of its own",
    ),
    (
        server(TOKENS + "}}", f"{ISSUER}resources: {{{DEPOT}}}\n").replace("serv", "§serv"),
        "servers",
        "agents are given tokens for `a`, which is `ledger`: they would go around the gateway",
        "give each server a resource of its own",
    ),
    (
        f"{DOMAIN}issuers: {{a: §{{audience: b, keys: k.json}}}}\n",
        "issuers.a",
        "`issuer` is missing",
        "write `issuer: https://idp.acme.example`",
    ),
    (
        f"{DOMAIN}issuers: {{a: §{{issuer: https://i.example, keys: k.json}}}}\n",
        "issuers.a",
        "`audience` is missing",
        "write `audience: https://gateway.acme.example`",
    ),
    (
        f"{DOMAIN}issuers: {{a: {{issuer: https://i.example, audience: b, keys: §~/k.json}}}}\n",
        "issuers.a.keys",
        "`~` and `$` are not expanded in a path",
        "write the path itself, or one from here",
    ),
    (
        f"{DOMAIN}issuers: §{{a: {{{IDP}}}, b: {{{IDP}}}}}\n",
        "issuers",
        "two issuers have one `issuer`",
        "keep one of them: which keys hold would be a guess",
    ),
    (
        f"{DOMAIN}issuer: §https://acme.example/gateway\n",
        "issuer",
        "an issuer with a path",
        "write the scheme and the host alone, https://gateway.example",
    ),
    (
        server("url: http://127.0.0.1/\ncredential: {file: §~/secret}"),
        "servers.ledger.credential.file",
        "`~` and `$` are not expanded in a path",
        "write the path itself, or one from here",
    ),
    (
        server("§command: [run]"),
        "servers.ledger.command",
        "this program would run as the gateway's own user and could read its keys",
        "add `sandbox: {user: nobody}`, or `unsafe_same_user: true` to accept that",
    ),
    (
        server("§command: [run]\nunsafe_same_user: false"),
        "servers.ledger.command",
        "this program would run as the gateway's own user and could read its keys",
        "add `sandbox: {user: nobody}`, or `unsafe_same_user: true` to accept that",
    ),
    (
        server("command: [run]\nunsafe_same_user: §yes\nsandbox: {user: nobody}"),
        "servers.ledger.unsafe_same_user",
        "expected true or false",
        "write true or false",
    ),
    (
        server("command: [run]\n§unsafe_same_user: true\nsandbox: {user: nobody}"),
        "servers.ledger.unsafe_same_user",
        "`sandbox` and `unsafe_same_user` exclude each other",
        "keep `sandbox`",
    ),
    (server("command: [run]\nsandbox: §{}"), "servers.ledger.sandbox", "`user` is missing", "write `user: nobody`"),
    (
        server("command: [run]\nsandbox: §{user: root}"),
        "servers.ledger.sandbox",
        "a sandbox that runs as root is none",
        "name an ordinary user, such as nobody",
    ),
    (
        server("command: [run]\nsandbox: {user: nobody}").rstrip("\n")
        + "\n  notes:\n    command: [run]\n    sandbox: {user: §nobody}\n",
        "servers.notes.sandbox.user",
        "the program of `ledger` runs as `nobody` too, and the two could read each other",
        "give each program a user of its own",
    ),
    (
        server("command: §run it\nunsafe_same_user: true"),
        "servers.ledger.command",
        "expected a list, found text",
        "write it as [one, two] or as `- ` lines",
    ),
    (
        server(f"command: §[run, --token, {SECRET}]\nunsafe_same_user: true"),
        "servers.ledger.command",
        "a secret on a command line is seen by every user of the machine",
        "pass it in the environment, with env: {NAME: {from: NAME}}",
    ),
    (
        server(f"command: §[run, --api-key={SECRET}]\nunsafe_same_user: true"),
        "servers.ledger.command",
        "a secret on a command line is seen by every user of the machine",
        "pass it in the environment, with env: {NAME: {from: NAME}}",
    ),
    (
        program("§credential: {env: X}"),
        "servers.ledger.credential",
        "a program is given its credential in its environment",
        "write env: {X: {from: X}}",
    ),
    (program("§ca: x.pem"), "servers.ledger.ca", "`ca` is for a server with `url`", "remove it"),
    (
        program(f"env: {{§{SECRET}: x}}"),
        "servers.ledger.env",
        "not the name of an environment variable",
        "use letters, digits, underscores",
    ),
    (
        program(f"env: {{API_TOKEN: §{SECRET}}}"),
        "servers.ledger.env.API_TOKEN",
        INLINE,
        "write {from: API_TOKEN} to take it from the gateway's environment",
    ),
    (
        program("env: {HOME: §'${HOME}'}"),
        "servers.ledger.env.HOME",
        "`${…}` is not expanded",
        "write {from: NAME} to pass a variable on",
    ),
    (program("env: {PORT: §80}"), "servers.ledger.env.PORT", "expected text, found a number", "put it in quotes"),
    (program("env: {HOME: §{}}"), "servers.ledger.env.HOME", "`from` is missing", "write `from: HOME`"),
    (program("env: {HOME: {§form: HOME, from: HOME}}"), "servers.ledger.env.HOME", "an unknown key", "write `from`"),
    (program("cwd: §~"), "servers.ledger.cwd", "expected text, found nothing", "write one text"),
    # tools
    (
        server(f"url: http://127.0.0.1/\ntools: {{§{'x' * 129}: {{}}}}"),
        "servers.ledger.tools",
        "a tool's name has at most 128 characters",
        "write the name that the server lists",
    ),
    (
        tool("impact: §critcal"),
        f"{TRANSFER}.impact",
        "`critcal` is not a choice here",
        "did you mean `critical`? write one of low, medium, high, critical",
    ),
    (
        tool("effect: §writes"),
        f"{TRANSFER}.effect",
        "`writes` is not a choice here",
        "did you mean `write`? write one of read, write, irreversible",
    ),
    (tool("§effects: read"), TRANSFER, "unknown key `effects`", "did you mean `effect`?"),
    (tool("audience: §[]"), f"{TRANSFER}.audience", "an empty list", "name at least one, or remove the key"),
    (
        tool("parameters: {§__extn: {type: string}}"),
        f"{TRANSFER}.parameters",
        "a parameter's name must not start with `__`",
        "such arguments are always refused",
    ),
    (
        tool("parameters: {a: {type: §float}}"),
        f"{TRANSFER}.parameters.a.type",
        "`float` is not a choice here",
        "write one of string, integer, boolean, decimal, money",
    ),
    (
        tool("parameters: {a: {type: money, scale: §7}}"),
        f"{TRANSFER}.parameters.a.scale",
        "`7` is out of range",
        "write a number from 0 to 6",
    ),
    (
        tool("parameters: {a: {type: integer, §scale: 2}}"),
        f"{TRANSFER}.parameters.a.scale",
        "`scale` is for `type: money`",
        "write `type: money`, or remove `scale`",
    ),
    (
        tool("parameters: {a: {role: §subject}}"),
        f"{TRANSFER}.parameters.a.role",
        "`subject` is not a choice here",
        "did you mean `object`? write one of destination, object, amount, time, command, secret, content",
    ),
    (
        tool("parameters: {a: {§kind: x}}"),
        f"{TRANSFER}.parameters.a",
        "unknown key `kind`",
        "write one of type, scale, currency, role, party, adds",
    ),
    (
        tool("output: {§status: trusted}"),
        f"{TRANSFER}.output",
        "`status` does not begin with `$`, which stands for the whole reply",
        'write "$.field", "$[*].field", "$..field", or "$" for all of it',
    ),
    (
        tool('output: {"$.status": §trust}'),
        f"{TRANSFER}.output.$.status",
        "`trust` is not a choice here",
        "did you mean `trusted`? write one of trusted, untrusted",
    ),
    (
        tool('output: {"$.status": §{party: payees}}'),
        f"{TRANSFER}.output.$.status",
        "`label` is missing",
        "write `label: untrusted`",
    ),
    (
        tool('output: {"$.status": {label: §mine}}'),
        f"{TRANSFER}.output.$.status.label",
        "`mine` is not a choice here",
        "write one of trusted, untrusted",
    ),
    (
        tool('output: {"$.status": {label: trusted, party: §Pay ees}}'),
        f"{TRANSFER}.output.$.status.party",
        "`Pay ees` is not a name for a set of known parties",
        "use letters, digits, dots, dashes, underscores, at most 128",
    ),
    (
        tool('output: {"$.status": {label: trusted, key: §1}}'),
        f"{TRANSFER}.output.$.status.key",
        "expected true or false",
        "write true or false",
    ),
    (
        tool("parameters: {a: {role: destination, party: §Pay ees}}"),
        f"{TRANSFER}.parameters.a.party",
        "`Pay ees` is not a name for a set of known parties",
        "use letters, digits, dots, dashes, underscores, at most 128",
    ),
    (
        tool("parameters: {a: {adds: §Pay ees}}"),
        f"{TRANSFER}.parameters.a.adds",
        "`Pay ees` is not a name for a set of known parties",
        "use letters, digits, dots, dashes, underscores, at most 128",
    ),
    (
        tool("parameters: {a: {adds: payees, §role: object}}"),
        f"{TRANSFER}.parameters.a.role",
        "whoever is added to `payees` is a destination",
        "write `role: destination`",
    ),
    (
        tool("parameters: {a: {adds: payees}}\n§effect: read"),
        f"{TRANSFER}.effect",
        "a tool that adds a party changes something",
        "write `effect: write`",
    ),
    # audiences
    (
        f"{DOMAIN}audiences: {{§everybody: ['person:x']}}\n",
        "audiences",
        EVERYBODY_IS_NONE,
        "it stands for all",
    ),
    (f"{DOMAIN}audiences: {{hr: §[]}}\n", "audiences.hr", "an empty list", "name at least one, or remove the key"),
    (f"{DOMAIN}audiences: {{hr: [§staff]}}\n", "audiences.hr", "no audience `staff` in this file", MEMBERS),
    (f"{DOMAIN}audiences: {{hr: [§'group:x']}}\n", "audiences.hr", "`group:x` is no member", KINDS_AND_NAMES),
    (f"{DOMAIN}audiences: {{hr: [§'person:']}}\n", "audiences.hr", "`person:` is no member", KINDS_AND_NAMES),
    (f"{DOMAIN}audiences: {{hr: [§'agent:eve']}}\n", "audiences.hr", "no agent `eve` in this file", "remove it"),
    (
        f"{DOMAIN}audiences: {{crowd: §[{', '.join(f'person:p{n}' for n in range(65))}]}}\n",
        "audiences.crowd",
        "an audience has at most 64 members",
        "name groups as `person:<group>` where they need not be told apart",
    ),
    (
        tool("audience: [§staf]") + "audiences: {staff: ['person:x']}\n",
        f"{TRANSFER}.audience",
        "no audience `staf` in this file",
        "did you mean `staff`?",
    ),
    (
        tool('output: {"$.pay": {label: trusted, readers: [hr, §boss]}}') + "audiences: {hr: ['person:x']}\n",
        f"{TRANSFER}.output.$.pay.readers",
        "no audience `boss` in this file",
        "write one of hr, everybody",
    ),
    (
        agent("isolation: §session"),
        "agents.billing.isolation",
        "`session` is not a choice here",
        "write one of process, task",
    ),
    (
        tool("disclosure: §maybe"),
        f"{TRANSFER}.disclosure",
        "`maybe` is not a choice here",
        "write one of deny, ask",
    ),
    (
        agent("delegated_only: §sometimes"),
        "agents.billing.delegated_only",
        "expected true or false",
        "write true or false",
    ),
    (
        agent("handles: [§transfer]"),
        "agents.billing.handles[0]",
        "`transfer` is not a tool",
        "write <server>/<tool>, such as ledger/transfer",
    ),
    (
        agent("handles: [§ledger/tranfer]"),
        "agents.billing.handles[0]",
        "server `ledger` declares no tool `tranfer`",
        "did you mean `transfer`?",
    ),
    (
        agent("handles: [§citywatch/ask]"),
        "agents.billing.handles[0]",
        "no server `citywatch` in this file",
        "write one of ledger",
    ),
    (
        agent("handles: [ledger/*]").replace("agents:", "§agents:"),
        "agents",
        "`billing` has `handles`, and without principals nothing is hidden",
        "name the people whose words steer acts under `principals`, or remove `handles`",
    ),
    # temporal rules
    (
        f"{DOMAIN}temporal_rules: §[a.rules]\n",
        "temporal_rules",
        "expected text, found a list",
        "write one text",
    ),
    (f"{DOMAIN}boilerplate: §7\n", "boilerplate", "expected text, found a number", "put it in quotes"),
    (f"{DOMAIN}plan_templates: §7\n", "plan_templates", "expected text, found a number", "put it in quotes"),
    # principals
    (
        f"{DOMAIN}principals: §[alice]\n",
        "principals",
        "expected a mapping",
        "write `key: value` lines, indented below this key",
    ),
    (f"{DOMAIN}principals: {{alice: §{{}}}}\n", "principals.alice", "`may` is missing", "write `may: [server/tool]`"),
    (
        f"{DOMAIN}principals: {{alice: {{may: [§pay]}}}}\n",
        "principals.alice.may[0]",
        "`pay` is not an act",
        "write <server>/<tool>, <server>/* or *",
    ),
    (
        f"{DOMAIN}principals: {{alice: {{may: [§bank/*]}}}}\n",
        "principals.alice.may[0]",
        "no server `bank` in this file",
        "remove it",
    ),
    (
        tool("effect: read") + "principals: {alice: {may: [§ledger/transfers]}}\n",
        "principals.alice.may[0]",
        "server `ledger` declares no tool `transfers`",
        "did you mean `transfer`?",
    ),
    (
        f"{DOMAIN}principals: {{alice: {{may: ['*'], own: §7}}}}\n",
        "principals.alice.own",
        "expected a list, found a number",
        "write it as [one, two] or as `- ` lines",
    ),
    (
        tool("parameters: {amount: {type: money, currency: §euro}}"),
        f"{TRANSFER}.parameters.amount.currency",
        "`euro` is not a currency",
        "write its three letters, such as EUR",
    ),
    (
        tool("parameters: {amount: {type: decimal, §currency: EUR}}"),
        f"{TRANSFER}.parameters.amount.currency",
        "`currency` is for `type: money`",
        "write `type: money`, or remove `currency`",
    ),
    # people and approvals
    (f"{BANK}people: §[anna]\n", "people", "expected a mapping", "write `key: value` lines, indented below this key"),
    (
        f"{BANK}people: {{§an na: {{roles: [operator]}}}}\n",
        "people",
        "`an na` is not a name for a person",
        "use letters, digits, dots, dashes, underscores, at most 128",
    ),
    (
        f"{BANK}people: {{§auditor: {{roles: [operator]}}}}\n",
        "people",
        "`auditor` is a role",
        "call this person by a name",
    ),
    (f"{BANK}people: {{anna: §{{}}}}\n", "people.anna", "`roles` is missing", "write `roles: [approver]`"),
    (
        f"{BANK}people: {{anna: {{roles: [§approve]}}}}\n",
        "people.anna.roles[0]",
        "`approve` is not a choice here",
        "did you mean `approver`? write one of approver, auditor, operator, policy",
    ),
    (
        f"{BANK}people: {{anna: {{§roles: [approver, auditor], answers: ['*']}}}}\n",
        "people.anna.roles",
        "`approver` and `auditor` are two people's roles: each is there to check the other",
        "give one of them to somebody else",
    ),
    (
        f"{BANK}people: {{anna: {{§roles: [policy, approver], answers: ['*']}}}}\n",
        "people.anna.roles",
        "`approver` and `policy` are two people's roles: each is there to check the other",
        "give one of them to somebody else",
    ),
    (
        f"{BANK}agents: {{clerk: {{}}}}\npeers: {{crm: {{url: 'http://127.0.0.1:9/', callers: [clerk]}}}}\n"
        "people: {anna: {roles: [approver], answers: [§crm/mesage]}}\n",
        "people.anna.answers[0]",
        "server `crm` declares no tool `mesage`",
        "did you mean `message`?",
    ),
    (
        f"{BANK}people: {{anna: {{§roles: [approver]}}}}\n",
        "people.anna.roles",
        "an approver of nothing",
        "write `answers: [server/tool]`, or `answers: ['*']`",
    ),
    (
        f"{BANK}people: {{anna: {{roles: [auditor], §answers: ['*']}}}}\n",
        "people.anna.answers",
        "only an approver is asked",
        "add `approver` to its roles, or remove this",
    ),
    (
        f"{PEOPLE}approvals: {{§escalate_after: 1h}}\n",
        "approvals.escalate_after",
        "it goes together with `escalate_to`",
        "write `escalate_to` too, or remove it",
    ),
    (
        f"{PEOPLE}approvals: {{§escalate_to: [ben]}}\n",
        "approvals.escalate_to",
        "it goes together with `escalate_after`",
        "write `escalate_after` too, or remove it",
    ),
    (
        f"{PEOPLE}approvals: {{escalate_after: 1h, escalate_to: [§bem]}}\n",
        "approvals.escalate_to[0]",
        "`bem` is neither a person nor a role",
        "did you mean `ben`?",
    ),
    (
        f"{PEOPLE}approvals: {{escalate_after: 1h, §escalate_to: [ben]}}\n",
        "approvals.escalate_to",
        "it adds nobody to those who are asked first: all approvers are, where no quorum says out of whom",
        "name who is asked first in `approvals.quorum[].of`, and others here",
    ),
    (
        f"{PEOPLE}approvals: {{quorum: [{{acts: [ledger/*], need: 1, of: [anna]}}], escalate_to: [ben], "
        "§escalate_after: 24h}\n",
        "approvals.escalate_after",
        "by then a ticket has expired",
        "write a time that is shorter than `expires`",
    ),
    (
        f"{BANK}people: {{anna: {{roles: [auditor], §deputies: [ben]}}, ben: {{roles: [policy]}}}}\n",
        "people.anna.deputies",
        "only an approver is asked",
        "add `approver` to its roles, or remove this",
    ),
    (
        f"{BANK}people: {{anna: {{roles: [approver], answers: ['*'], §deputies: [anna]}}}}\n",
        "people.anna.deputies",
        "nobody stands in for themselves",
        "name somebody else",
    ),
    (
        f"{BANK}people: {{ben: {{roles: [policy]}}, anna: {{roles: [approver], answers: ['*'], §deputies: [bem]}}}}\n",
        "people.anna.deputies",
        "no person `bem` in this file",
        "did you mean `ben`?",
    ),
    (
        f"{BANK}people: {{ben: {{roles: [policy]}}, anna: {{roles: [approver], answers: ['*'], §deputies: [ben]}}}}\n",
        "people.anna.deputies",
        "`ben` is no approver, and could answer nothing",
        "name an approver",
    ),
    (
        f"{BANK}people: {{anna: {{roles: [approver], answers: [§ledger/transfers]}}}}\n",
        "people.anna.answers[0]",
        "server `ledger` declares no tool `transfers`",
        "did you mean `transfer`?",
    ),
    (
        f"{BANK}people: {{anna: {{roles: [approver], answers: ['*'], as: [§alic]}}}}\n",
        "people.anna.as[0]",
        "no principal `alic` in this file",
        "did you mean `alice`?",
    ),
    (
        f"{BANK}people: {{anna: {{roles: [approver], answers: ['*'], keys: [§-----BEGIN]}}}}\n",
        "people.anna.keys[0]",
        "not a public key in base64",
        OWN_KEY,
    ),
    (
        f"{BANK}people: {{anna: {{roles: [operator], keys: [§{P256_KEY}]}}}}\n",
        "people.anna.keys[0]",
        "answers are signed with Ed25519",
        OWN_KEY,
    ),
    (
        f"{BANK}people:\n  a: {{roles: [operator], keys: [{ED25519_KEY}]}}\n"
        f"  b: {{roles: [operator], §keys: [{ED25519_KEY}]}}\n",
        "people.b.keys",
        "this is a key of `a` too",
        "give each person keys of their own",
    ),
    (
        f"{BANK}people: {{a: {{roles: [operator], oidc: §{{subject: x}}}}}}\n",
        "people.a.oidc",
        "`issuer` is missing",
        "write `issuer: https://login.acme.example`",
    ),
    (
        f"{BANK}people: {{a: {{roles: [operator], oidc: §{{issuer: 'https://l.example'}}}}}}\n",
        "people.a.oidc",
        "`subject` is missing",
        "write `subject: '00u1a2b3c4'`",
    ),
    (
        f"{BANK}people: {{a: {{roles: [operator], oidc: {{issuer: §'http://l.example', subject: x}}}}}}\n",
        "people.a.oidc.issuer",
        "a provider of logins is reached over https",
        "write https://login.acme.example",
    ),
    (
        f"{BANK}people:\n  a: {{roles: [operator], oidc: {{issuer: 'https://l.example', subject: x}}}}\n"
        "  b: {roles: [operator], §oidc: {issuer: 'https://l.example', subject: x}}\n",
        "people.b.oidc",
        "this is the login of `a` too",
        "give each person a login of their own",
    ),
    (
        f"{BANK}people: {{a: {{roles: [operator], per_hour: §0}}}}\n",
        "people.a.per_hour",
        "`0` is out of range",
        "write a number from 1 to 10000",
    ),
    (
        f"{PEOPLE}approvals: §7\n",
        "approvals",
        "expected a mapping",
        "write `key: value` lines, indented below this key",
    ),
    (
        f"{DOMAIN}approvals: {{§unsafe_unsigned: true}}\n",
        "approvals.unsafe_unsigned",
        "this file names no people",
        "name them under `people`, or remove it",
    ),
    (
        f"{PEOPLE}approvals: {{quorum: [§{{need: 2}}]}}\n",
        "approvals.quorum[0]",
        "`acts` is missing",
        "write `acts: [server/tool]`",
    ),
    (
        f"{PEOPLE}approvals: {{quorum: [§{{acts: ['*']}}]}}\n",
        "approvals.quorum[0]",
        "`need` is missing",
        "write `need: 2`",
    ),
    (
        f"{PEOPLE}approvals: {{quorum: [{{acts: ['*'], §need: 3}}]}}\n",
        "approvals.quorum[0].need",
        "3 people have to approve `*`, and only `anna` and `ben` can",
        "name more people",
    ),
    (
        f"{PEOPLE}approvals: {{quorum: [{{acts: [ledger/transfer], of: [cara], §need: 1}}]}}\n",
        "approvals.quorum[0].need",
        "1 people have to approve `ledger/transfer`, and nobody can",
        "name more people",
    ),
    (
        f"{PEOPLE}approvals: {{quorum: [{{acts: ['*'], need: 1, of: [§bena]}}]}}\n",
        "approvals.quorum[0].of[0]",
        "`bena` is neither a person nor a role",
        "did you mean `ben`?",
    ),
    (
        f"{PEOPLE}approvals: {{quorum: [{{acts: ['*'], need: 1, blinded: §maybe}}]}}\n",
        "approvals.quorum[0].blinded",
        "expected true or false",
        "write true or false",
    ),
    (
        f"{PEOPLE}approvals: {{not_own: [§ledger]}}\n",
        "approvals.not_own[0]",
        "`ledger` is not an act",
        "write <server>/<tool>, <server>/* or *",
    ),
    (
        f"{PEOPLE}approvals: {{expires: §31d}}\n",
        "approvals.expires",
        "this duration is out of range",
        "write a time from 1m to 30d",
    ),
    (
        f"{PEOPLE}approvals: {{reason_required: §1}}\n",
        "approvals.reason_required",
        "expected true or false",
        "write true or false",
    ),
    (
        f"{DOMAIN}approvals: {{§unsafe_hasty: true}}\n",
        "approvals.unsafe_hasty",
        "this file names no people",
        "name them under `people`, or remove it",
    ),
    (
        f"{PEOPLE}approvals: {{batch: §11}}\n",
        "approvals.batch",
        "`11` is out of range",
        "write a number from 1 to 10",
    ),
    (
        f"{PEOPLE}approvals: {{canaries: §1}}\n",
        "approvals.canaries",
        "`1` is out of range",
        "write a number from 2 to 5",
    ),
    (
        f"{PEOPLE}approvals: {{asks_per_agent: §0}}\n",
        "approvals.asks_per_agent",
        "`0` is out of range",
        "write a number from 1 to 10000",
    ),
    (
        f"{PEOPLE}approvals: {{asks_per_root: §0}}\n",
        "approvals.asks_per_root",
        "`0` is out of range",
        "write a number from 1 to 10000",
    ),
    (
        f"{PEOPLE}approvals: {{one_denies: §1}}\n",
        "approvals.one_denies",
        "expected true or false",
        "write true or false",
    ),
    (
        f"{PEOPLE}approvals: {{uninspectable: §third_person}}\n",
        "approvals.uninspectable",
        "`third_person` is not a choice here",
        "did you mean `second_person`? write one of second_person, second_step, refuse",
    ),
    (
        f"{PEOPLE}approvals: {{passkeys: §{{origins: ['https://c.example']}}}}\n",
        "approvals.passkeys",
        "`rp_id` is missing",
        "write `rp_id: console.acme.example`",
    ),
    (
        f"{PEOPLE}approvals: {{passkeys: §{{rp_id: c.example}}}}\n",
        "approvals.passkeys",
        "`origins` is missing",
        "write `origins: ['https://console.acme.example']`",
    ),
    (
        f"{PEOPLE}approvals: {{passkeys: {{rp_id: §127.0.0.1, origins: ['http://localhost:8470']}}}}\n",
        "approvals.passkeys.rp_id",
        "`127.0.0.1` is not a host name",
        "write it as console.acme.example, or localhost",
    ),
    (
        f"{PEOPLE}approvals: {{passkeys: {{rp_id: c.example, origins: [§'http://c.example']}}}}\n",
        "approvals.passkeys.origins[0]",
        "browsers use passkeys on https pages only, or on localhost",
        "write it with https",
    ),
    (
        f"{PEOPLE}approvals: {{passkeys: {{rp_id: c.example, §origins: ['https://evil-c.example']}}}}\n",
        "approvals.passkeys.origins",
        "a page of `https://evil-c.example` cannot use passkeys of `c.example`",
        "write the host of the console, or one that it ends with, as `rp_id`",
    ),
    # reader
    (f"{DOMAIN}reader: §7\n", "reader", "expected a mapping", "write `key: value` lines, indented below this key"),
    (
        f"{DOMAIN}reader: {{url: §ftp://x/v1, model: m}}\n",
        "reader.url",
        "not an http or https URL",
        "write it as http://127.0.0.1:9001/mcp or https://host/mcp",
    ),
    (
        f"{DOMAIN}notices: {{desk: {{kind: §pigeon, link: 'https://c.example/'}}}}\n",
        "notices.desk.kind",
        "`pigeon` is not a choice here",
        "write one of webhook, slack, mail",
    ),
    (
        f"{DOMAIN}notices: {{desk: §{{kind: webhook}}}}\n",
        "notices.desk",
        "`link` is missing",
        "write `link: https://console.acme.example/tickets`",
    ),
    (
        f"{NOTICE}kind: mail, server: §mail.example, sender: a@b.example, to: [a@b.example]}}}}\n",
        "notices.desk.server",
        "`mail.example` is not a mail server",
        "write it as mail.acme.example:465",
    ),
    (
        f"{NOTICE}kind: mail, server: 'm:25', sender: §nobody, to: [a@b.example]}}}}\n",
        "notices.desk.sender",
        "`nobody` is not a mail address",
        "write it as oncall@acme.example",
    ),
    (
        f"{NOTICE}kind: mail, server: 'm:25', sender: a@b.example, to: [§nobody]}}}}\n",
        "notices.desk.to[0]",
        "`nobody` is not a mail address",
        "write it as oncall@acme.example",
    ),
    (
        f"{NOTICE}kind: mail, server: 'm:25', sender: a@b.example, to: [a@b.example], §user: u}}}}\n",
        "notices.desk.user",
        "a mail server is told a user and a password, or neither",
        "write both, or neither",
    ),
    (
        f"{NOTICE}kind: webhook, §url: 'http://h.example/', credential: {{env: S}}}}}}\n",
        "notices.desk.url",
        "notices go over https, or to this machine",
        "write https",
    ),
    (f"{NOTICE}kind: slack, credential: §xoxb}}}}\n", "notices.desk.credential", INLINE, FROM),
    (
        f"{NOTICE}kind: slack, credential: {{env: §'no name'}}}}}}\n",
        "notices.desk.credential.env",
        "not the name of an environment variable",
        "use letters, digits, underscores",
    ),
    (
        f"{NOTICE}kind: slack, credential: {{file: §''}}}}}}\n",
        "notices.desk.credential.file",
        "expected text on one line, found none or more",
        "write one line",
    ),
    (
        f"{NOTICE}kind: slack, credential: {{env: S}}, §ca: ca.pem}}}}\n",
        "notices.desk.ca",
        "a channel of kind `slack` has no use for it",
        "remove it",
    ),
    (f"{DOMAIN}reader: §{{url: http://127.0.0.1/v1}}\n", "reader", "`model` is missing", "write `model: qwen3:4b`"),
    (
        f"{DOMAIN}reader: {{url: 'http://127.0.0.1/v1', model: §''}}\n",
        "reader.model",
        "expected text on one line, found none or more",
        "write one line",
    ),
    (f"{DOMAIN}reader: {{url: 'http://127.0.0.1/v1', model: m, credential: §sk}}\n", "reader.credential", INLINE, FROM),
    (
        f"{DOMAIN}reader: {{url: 'http://127.0.0.1/v1', model: m, credential: {{§exchange: {{}}}}}}\n",
        "reader.credential",
        "an unknown key",
        "write `env` or `file`",
    ),
    (
        f"{DOMAIN}reader: {{url: 'http://127.0.0.1/v1', model: m, credential: {{env: §'no name'}}}}\n",
        "reader.credential.env",
        "not the name of an environment variable",
        "use letters, digits, underscores",
    ),
    (
        f"{DOMAIN}reader: {{url: 'http://127.0.0.1/v1', model: m, credential: {{file: §7}}}}\n",
        "reader.credential.file",
        "expected text, found a number",
        "put it in quotes",
    ),
    (
        f"{DOMAIN}reader: {{url: 'http://127.0.0.1/v1', model: m, ca: §7}}\n",
        "reader.ca",
        "expected text, found a number",
        "put it in quotes",
    ),
    (
        f"{DOMAIN}reader: {{url: 'http://127.0.0.1/v1', model: m, audience: §[]}}\n",
        "reader.audience",
        "an empty list",
        "name at least one, or remove the key",
    ),
    (
        f"{DOMAIN}reader: {{url: 'http://127.0.0.1/v1', model: m, timeout: §9d}}\n",
        "reader.timeout",
        "this duration is out of range",
        "write a time from 100ms to 10m",
    ),
    (
        f"{DOMAIN}reader: {{§url: 'http://10.0.0.1/v1', model: m}}\n",
        "reader.url",
        "plain http to another machine shows every hidden text on the way",
        "write https, or add `unsafe_plain_http: true`",
    ),
    (
        f"{DOMAIN}reader: {{url: 'http://127.0.0.1/v1', model: m, unsafe_plain_http: §7}}\n",
        "reader.unsafe_plain_http",
        "expected true or false",
        "write true or false",
    ),
    (
        f"{DOMAIN}§servers: {{citywatch: {{url: 'http://127.0.0.1/mcp'}}}}\n",
        "servers",
        "`citywatch` is the gateway's own server",
        "give this one another name",
    ),
    (
        f"{DOMAIN}principals: {{§A B: {{may: ['*']}}}}\n",
        "principals",
        "`A B` is not a name for a principal",
        "use letters, digits, dots, dashes, underscores, at most 128",
    ),
    (
        tool('output: {"$.status": {label: trusted, handle: true}}').replace("servers:", "§servers:"),
        "servers",
        "`ledger` has a `handle`, and without principals nothing is hidden",
        "name the people whose words steer acts under `principals`, or remove `handle`",
    ),
    (
        tool('output: {"$.status": {label: trusted, handle: §maybe}}'),
        f"{TRANSFER}.output.$.status.handle",
        "expected true or false",
        "write true or false",
    ),
    (
        tool('output: {"$.status": {label: trusted, readers: §[]}}'),
        f"{TRANSFER}.output.$.status.readers",
        "an empty list",
        "name at least one, or remove the key",
    ),
    (
        tool('output: {"$.status": {label: trusted, §readers: [everybody, hr]}}'),
        f"{TRANSFER}.output.$.status.readers",
        "`everybody` stands beside others",
        "name the audiences, or write [everybody]",
    ),
    (
        tool("parts: §trust"),
        f"{TRANSFER}.parts",
        "`trust` is not a choice here",
        "did you mean `trusted`? write one of trusted, untrusted",
    ),
    (
        tool("parts: {label: trusted, §key: true}"),
        f"{TRANSFER}.parts",
        "unknown key `key`",
        "write one of label, readers",
    ),
    (
        tool("parts: {label: §mine}"),
        f"{TRANSFER}.parts.label",
        "`mine` is not a choice here",
        "write one of trusted, untrusted",
    ),
    (
        tool("parts: {label: trusted, readers: §[]}"),
        f"{TRANSFER}.parts.readers",
        "an empty list",
        "name at least one, or remove the key",
    ),
    (
        tool('output: {"$.status": {label: trusted, deliver: §allow}}'),
        f"{TRANSFER}.output.$.status.deliver",
        "`allow` is not a choice here",
        "write one of redact, withhold",
    ),
    # content
    (
        f"{DOMAIN}content: {{§secrets: redact}}\n",
        "content",
        "`secrets` is nothing that a scan finds",
        "did you mean `secret`?",
    ),
    (
        f"{DOMAIN}content: {{§personal/ibans: redact}}\n",
        "content",
        "`personal/ibans` is nothing that a scan finds",
        "did you mean `personal/iban`?",
    ),
    (
        f"{DOMAIN}content: {{secret: §drop}}\n",
        "content.secret",
        "`drop` is not a choice here",
        "write one of allow, redact, withhold",
    ),
    (
        f"{DOMAIN}agents: {{billing: {{content: {{secret: §mask}}}}}}\n",
        "agents.billing.content.secret",
        "`mask` is not a choice here",
        "write one of allow, redact, withhold",
    ),
    (
        f"{DOMAIN}agents: {{billing: {{audience: §[everybody, hr]}}}}\n",
        "agents.billing.audience",
        "`everybody` stands beside others",
        "name the audiences, or write [everybody]",
    ),
    # limits
    (
        f"{DOMAIN}limits: {{§request_byte: 1}}\n",
        "limits",
        "unknown key `request_byte`",
        "did you mean `request_bytes`?",
    ),
    *(
        (
            f"{DOMAIN}limits: {{{key}: §4MB}}\n",
            f"limits.{key}",
            "expected a size",
            "write a number of bytes with B, KiB, MiB or GiB, such as 4MiB",
        )
        for key in ("request_bytes", "reply_bytes", "header_bytes")
    ),
    (
        f"{DOMAIN}limits: {{request_bytes: §1GiB}}\n",
        "limits.request_bytes",
        "this size is out of range",
        "write a size from 1KiB to 256MiB",
    ),
    *(
        (
            f"{DOMAIN}limits: {{{key}: §30}}\n",
            f"limits.{key}",
            "expected a duration",
            "write a number and a unit, such as 500ms, 30s, 5m, 1h, 1d",
        )
        for key in (
            "header_time",
            "body_time",
            "max_staleness",
            "hop_memory",
            "push_memory",
            "card_interval",
            "call_wait",
            "breaker_rest",
        )
    ),
    *(
        (
            f"{DOMAIN}limits: {{{key}: §0}}\n",
            f"limits.{key}",
            "`0` is out of range",
            f"write a number from {low} to {high}",
        )
        for key, low, high in (
            ("depth", 4, 128),
            ("nodes", 100, 10_000_000),
            ("headers", 8, 1000),
            ("connections", 1, 100_000),
            ("sessions_per_agent", 1, 10_000),
            ("max_in_flight", 1, 100_000),
            ("max_hops", 1, 64),
            ("calls_per_caller", 1, 10_000),
            ("calls_per_upstream", 1, 100_000),
            ("breaker_failures", 1, 1_000),
        )
    ),
    (
        f"{DOMAIN}limits: {{task_calls: §-1}}\n",
        "limits.task_calls",
        "`-1` is out of range",
        "write a number from 0 to 10000000",
    ),
    # witnesses
    (
        witness(f"§{{url: 'http://127.0.0.1:1', key: {VKEY}}}"),
        "witnesses[0]",
        "`name` is missing",
        "write `name: north`",
    ),
    (
        witness(f"{{name: §n/n, url: 'http://127.0.0.1:1', key: {VKEY}}}"),
        "witnesses[0].name",
        "`n/n` is not a name for a witness",
        "use letters, digits, dots, dashes, underscores, at most 128",
    ),
    (
        witness(f"{{name: n, url: §'127.0.0.1:1', key: {VKEY}}}"),
        "witnesses[0].url",
        "not an http or https URL",
        "write it as http://127.0.0.1:9001/mcp or https://host/mcp",
    ),
    (
        witness(f"{{name: n, url: 'http://127.0.0.1:1', key: §{VKEY[:-4]}AAAA}}"),
        "witnesses[0].key",
        "not a witness's key",
        "copy the whole line that `citywatch witness` prints as its key",
    ),
    (
        witness(f"{{name: n, url: 'http://127.0.0.1:1', key: §{LOG_KEY}}}"),  # a log cannot be its own witness
        "witnesses[0].key",
        "not a witness's key",
        "copy the whole line that `citywatch witness` prints as its key",
    ),
    (
        f"{DOMAIN}§witnesses: [{{name: n, url: 'http://127.0.0.1:1', key: {VKEY}}}]\n",
        "witnesses",
        "`witness_quorum` is missing",
        "write how many of them must cosign, such as 1",
    ),
    (
        f"{DOMAIN}§witnesses: [{{name: n, url: 'http://127.0.0.1:1', key: {VKEY}}}, "
        f"{{name: s, url: 'http://127.0.0.1:2', key: {VKEY}}}]\nwitness_quorum: 2\n",
        "witnesses",
        "two witnesses share a name, url or key",
        "one witness counts once: remove the other",
    ),
    (
        witness(f"{{name: n, url: 'http://127.0.0.1:1', key: {VKEY}}}", "§witness_quorum: 2\n"),
        "witness_quorum",
        "2 of 1 witnesses cannot cosign",
        "lower it, or name more witnesses",
    ),
    (
        f"{DOMAIN}§witness_quorum: 1\n",
        "witness_quorum",
        "1 of 0 witnesses cannot cosign",
        "lower it, or name more witnesses",
    ),
    (f"{DOMAIN}console: {{§port: 1}}\n", "console", "unknown key `port`", "write one of listen, address, oidc"),
    (
        f"{DOMAIN}console: {{listen: §'0.0.0.0:8470'}}\n",
        "console.listen",
        "`0.0.0.0:8470` is not a loopback address to serve on",
        "write 127.0.0.1:8470; for browsers elsewhere put a proxy with TLS before it, and name it `address`",
    ),
    (
        f"{DOMAIN}console: {{address: §'http://city.acme.example'}}\n",
        "console.address",
        "`http://city.acme.example` is not where browsers can safely reach the console",
        "write it as https://city.acme.example, without a path",
    ),
    (
        f"{DOMAIN}console: {{address: §'https://city.acme.example/console'}}\n",
        "console.address",
        "`https://city.acme.example/console` is not where browsers can safely reach the console",
        "write it as https://city.acme.example, without a path",
    ),
    (
        f"{DOMAIN}console:\n  oidc: §{{client_id: c}}\n",
        "console.oidc",
        "`issuer` is missing",
        "write `issuer: https://login.acme.example`",
    ),
    (
        f"{DOMAIN}console:\n  oidc: §{{issuer: 'https://login.acme.example'}}\n",
        "console.oidc",
        "`client_id` is missing",
        "write `client_id: citywatch`",
    ),
    (
        f"{DOMAIN}console:\n  oidc: {{client_id: c, §issuer: 'http://login.acme.example'}}\n",
        "console.oidc.issuer",
        "a provider that is reached in plain can be anybody",
        "write its https address",
    ),
    (
        f"{DOMAIN}console:\n  oidc: {{client_id: c, issuer: 'https://l.example', credential: §hunter2}}\n",
        "console.oidc.credential",
        INLINE,
        FROM,
    ),
    (
        f"{DOMAIN}console:\n  oidc: {{client_id: c, issuer: 'https://l.example', credential: {{env: §'1x'}}}}\n",
        "console.oidc.credential.env",
        "not the name of an environment variable",
        "use letters, digits, underscores",
    ),
    (
        f"{DOMAIN}console:\n  oidc: {{client_id: c, issuer: 'https://l.example', credential: {{file: §7}}}}\n",
        "console.oidc.credential.file",
        "expected text, found a number",
        "put it in quotes",
    ),
    (
        f"{DOMAIN}console:\n  oidc: {{client_id: c, issuer: 'https://l.example', ca: §7}}\n",
        "console.oidc.ca",
        "expected text, found a number",
        "put it in quotes",
    ),
    (f"{DOMAIN}unsafe_observe: §yes\n", "unsafe_observe", "expected true or false", "write true or false"),
]


def marked(text: str) -> tuple[str, int, int]:
    before, mark, after = text.partition("§")
    if not mark:
        return text, 1, 1  # the parser itself does not know where
    return before + after, before.count("\n") + 1, len(before) - before.rfind("\n")


def mistakes(text: str) -> tuple[Mistake, ...]:
    with pytest.raises(ConfigError) as caught:
        parse_settings(text, "/srv/gate")
    return caught.value.mistakes


@pytest.mark.parametrize(("text", "path", "message", "advice"), BAD)
def test_a_bad_input_gives_its_message_at_its_place(text: str, path: str, message: str, advice: str) -> None:
    text, line, column = marked(text)
    assert mistakes(text) == (Mistake(line, column, path, message, advice),)


def test_a_server_is_shown_tokens_for_its_resource() -> None:
    text = server(TOKENS + "/mcp, scopes: [mcp]}}", ISSUER)
    settings = parse_settings(text, "/srv")
    reach = settings.servers["ledger"].reach
    assert isinstance(reach, Http)
    assert reach.credential == Exchanged(resource="https://a.example/mcp", scopes=("mcp",))
    assert settings.issuer == "https://gateway.acme.example"
    assert manifest_digest(settings) != manifest_digest(msgspec.structs.replace(settings, issuer="https://b.example"))


def test_no_message_repeats_a_secret() -> None:
    carriers = [marked(text)[0] for text, *_ in BAD if SECRET in text]
    carriers.append(program(f"env: {{{SECRET}: [x]}}"))  # a wrong name and a wrong value: the path of the second
    assert len(carriers) >= 10
    for text in carriers:
        assert SECRET not in str(ConfigError(mistakes(text)))


def test_every_key_has_a_bad_input() -> None:
    """A key added without one would be a key whose mistakes nobody has read."""
    keys = {f"{shape}.{key}".lstrip(".") for shape, known in KEYS.items() for key in known}
    seen = set()
    for _, path, message, _ in BAD:
        missing = re.match(r"`(\w+)` is missing", message)
        for shape in (path, f"{path}.{missing[1]}" if missing else path):
            shape = re.sub(r"\[\d+\]", "[]", shape)
            shape = re.sub(r"^federation\.\w+\.example", "federation.*", shape)
            shape = re.sub(
                r"^(agents|servers|peers|attestors|principals|people|resources|issuers|notices)\.[^.]+", r"\1.*", shape
            )
            shape = re.sub(r"\.output\.\$\.status\b", ".output.*", shape)
            shape = re.sub(r"\.(tools|parameters|budgets|env|messages)\.(?!from\b)[^.]+", r".\1.*", shape)
            seen.add(shape)
            seen.update(key for key in keys if shape.startswith((f"{key}.", f"{key}[")))
    assert keys <= seen


def test_all_mistakes_are_reported_at_once_in_the_order_of_lines() -> None:
    text = (
        "trust_domain: ACME\n"
        "listen: ['http://0.0.0.0:1']\n"
        "agents:\n  billing: {roles: 1, rolls: []}\n"
        "servers:\n  a: {command: [x], timeout: 1}\n  b: {url: x, tools: {t: {effect: none}}}\n"
        "names: &n []\n"
    )
    found = mistakes(text)
    assert [(mistake.line, mistake.path) for mistake in found] == [
        (1, "trust_domain"),
        (2, "listen[0]"),
        (4, "agents.billing.roles"),
        (4, "agents.billing"),
        (6, "servers.a.command"),
        (6, "servers.a.timeout"),
        (7, "servers.b.url"),
        (7, "servers.b.tools.t.effect"),
        (8, ""),
    ]
    lines = str(ConfigError(found)).split("\n")
    assert len(lines) == 9
    assert lines[1] == (
        "line 2, column 10: listen[0]: plain http is for loopback only; "
        "write https://0.0.0.0:1, or http://127.0.0.1:1 for this machine alone"
    )


def test_a_full_file_gives_the_values_it_says() -> None:
    settings = parse_settings(FULL, "/srv/gate")
    assert settings.listen == (Listen(False, "127.0.0.1", 0), Listen(True, "::", 8461))
    assert [str(listen) for listen in settings.listen] == ["http://127.0.0.1:0", "https://[::]:8461"]
    assert settings.names == ("gateway.acme.example", "10.0.0.7")
    assert (settings.state, settings.policies) == ("/srv/gate/var/state", "/etc/citywatch/policies")
    assert settings.origin == "log.acme.example/main"
    billing = settings.agents["billing"]
    assert billing.attributes == {"team": "finance", "level": 3, "night": False, "areas": ("north", "no")}
    assert billing.budgets == {
        ("ledger", "transfer"): (Budget(calls=100, window_ms=3_600_000), Budget(calls=500)),
        ("ledger", "balance"): (Budget(calls=0),),
    }
    assert (billing.svid_ttl_ms, billing.token_ttl_ms) == (600_000, 300_000)
    assert (billing.audience, billing.content) == (("bank", "audit"), {"personal/iban": Delivery.ALLOW})
    assert settings.content == {"secret": Delivery.WITHHOLD, "personal/iban": Delivery.REDACT}
    ledger = settings.servers["ledger"]
    assert ledger.reach == Http(
        url="https://ledger.acme.example/mcp", credential=FromEnvironment("LEDGER_TOKEN"), ca="/srv/gate/ca.pem"
    )
    assert ledger.timeout_ms == 2_000
    assert ledger.tools["transfer"] == ToolManifest(
        effect=Effect.IRREVERSIBLE,
        audience=("bank",),
        impact=Impact.CRITICAL,
        parameters={
            "amount": Parameter(type=ParameterType.MONEY, scale=0, role=Role.AMOUNT),
            "to": Parameter(role=Role.DESTINATION),
        },
        output={
            "$.status": Output(trusted=True),
            "$.fee": Output(readers=("bank", "audit"), deliver=Delivery.WITHHOLD),
        },
    )
    assert ledger.tools["balance"].effect is Effect.READ
    assert ledger.tools["balance"].parts == Output(trusted=True, readers=("bank",))
    remote = settings.servers["remote"].reach
    assert isinstance(remote, Http)
    assert remote.credential == FromFile("/srv/gate/secrets/remote")
    assert settings.servers["documents"].reach == Program(
        command=("python3", "-m", "documents"),
        env={"LANG": "C.UTF-8", "EMPTY": "", "API_TOKEN": FromEnvironment("DOCUMENTS_TOKEN")},
        cwd="/srv/gate",
        user="nobody",
    )
    scratch = settings.servers["scratch"].reach
    assert isinstance(scratch, Program)
    assert (scratch.user, scratch.cwd) == (None, "/srv/gate/work")
    assert settings.limits == Limits(request_bytes=1 << 20, header_time_ms=500, depth=32)
    assert settings.witnesses[0].url == "http://127.0.0.1:8470"
    assert settings.unsafe == ("servers.remote.unsafe_plain_http", "servers.scratch.unsafe_same_user")


def test_a_neighbour_and_its_agents_are_what_the_file_says() -> None:
    near = (
        FOREIGN
        + """{spiffe_id: spiffe://p.example/ns/x/router, roles: [guest]}
  b: {}
"""
    )
    settings = parse_settings(near, "/srv/gate")
    assert settings.federation["p.example"] == Neighbour(domain="p.example", bundle="/srv/gate/p.json")
    assert str(settings.agent_id("a")) == "spiffe://p.example/agent/a"
    assert (
        str(settings.agent_id("b"))
        == str(settings.agent_id("c")).replace("/c", "/b")
        == "spiffe://acme.example/agent/b"
    )
    assert manifest_digest(settings) != manifest_digest(parse_settings(near.replace("router", "rooter"), "/srv/gate"))
    assert manifest_digest(settings) != manifest_digest(parse_settings(near.replace("p.json", "q.json"), "/srv/gate"))


def test_another_authority_calls_agents_as_the_file_says_or_by_their_names() -> None:
    text = f"{DOMAIN}authority: {{spire: {{socket: unix:///run/api.sock}}}}\n"
    text += "agents: {a: {spiffe_id: spiffe://acme.example/ns/x}, b: {}}\n"
    settings = parse_settings(text, "/srv/gate")
    assert settings.spire == Spire("/run/api.sock", "spiffe://acme.example/gateway")
    assert [settings.called(name) for name in "abc"] == [
        "spiffe://acme.example/ns/x",
        "spiffe://acme.example/agent/b",
        "",
    ]
    assert str(settings.agent_id("a")) == "spiffe://acme.example/agent/a"
    assert manifest_digest(settings) != manifest_digest(parse_settings(text.replace("api.sock", "b.sock"), "/srv/gate"))


def test_observing_is_off_unless_it_is_switched_on_and_is_named_and_in_the_digest_then() -> None:
    plain, off, on = (
        parse_settings(DOMAIN + more, "/srv") for more in ("", "unsafe_observe: false\n", "unsafe_observe: true\n")
    )
    assert plain == off
    assert not plain.observe
    assert on.observe
    assert on.unsafe == ("unsafe_observe",)
    assert manifest_digest(on) != manifest_digest(plain) == manifest_digest(off)


def test_one_line_is_enough_and_its_defaults_are_closed() -> None:
    settings = parse_settings(DOMAIN, "/srv/gate")
    assert settings == Settings(
        trust_domain="acme.example",
        listen=(Listen(False, "127.0.0.1", 8460),),
        names=(),
        state="/srv/gate/.citywatch",
        policies="/srv/gate/policies",
        origin="acme.example/citywatch",
        agents={},
        servers={},
        principals={},
        reader=None,
        limits=Limits(),
        witnesses=(),
        witness_quorum=0,
        unsafe=(),
    )


def test_a_declared_tool_is_irreversible_for_everybody_until_it_says_less() -> None:
    (ledger,) = parse_settings(tool("{}").replace("transfer:\n        {}", "transfer: {}"), "/").servers.values()
    assert ledger.tools["transfer"] == ToolManifest(effect=Effect.IRREVERSIBLE, audience=("everybody",), declared=True)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "http://127.8.9.10:1", "http://[::1]:1"])
def test_plain_http_is_served_on_loopback(address: str) -> None:
    assert parse_settings(f"{DOMAIN}listen: ['{address}']\n", "/").listen[0].tls is False


@pytest.mark.parametrize(
    "address",
    ["http://0.0.0.0:1", "http://10.0.0.1:1", "http://[::]:1", "http://[::ffff:10.0.0.1]:1", "http://[2001:db8::1]:1"],
)
def test_plain_http_is_served_nowhere_else(address: str) -> None:
    (mistake,) = mistakes(f"{DOMAIN}listen: ['{address}']\n")
    assert mistake.message == "plain http is for loopback only"


def test_words_that_only_look_like_secrets_pass() -> None:
    text = program('env: {TOKENIZERS_PARALLELISM: "false", AUTHOR: me, KEYBOARD: us}').replace(
        "[run]", "[run, --token-file, /run/x, --password, --keyboard=us]"
    )
    assert "ledger" in parse_settings(text, "/").servers


def test_the_digest_names_what_is_declared_and_hides_literal_values() -> None:
    digest = manifest_digest(parse_settings(FULL, "/srv/gate"))
    assert re.fullmatch(r"[0-9a-f]{64}", digest)

    def changed(old: str, new: str) -> bool:
        assert old in FULL
        return manifest_digest(parse_settings(FULL.replace(old, new), "/srv/gate")) != digest

    for old, new in (
        ("effect: read", "effect: write"),
        ("scale: 0", "scale: 3"),
        ("calls: 100", "calls: 101"),
        ("level: 3", "level: 4"),
        ("night: false", "night: true"),
        ("[payments]", "[payment]"),
        ("acme.example/mcp", "acme.example/mcp2"),
        ("user: nobody", "user: games"),
        ("LEDGER_TOKEN", "LEDGER_TOKEN2"),
    ):
        assert changed(old, new), old
    attested = f"attestors: {{ci: {{key: {ED25519_KEY}}}}}\n"
    assert changed("limits:", f"{attested}limits:")
    believed = manifest_digest(parse_settings(FULL + attested, "/srv/gate"))
    demanded = FULL.replace("    svid_ttl: 10m", "    attested_by: ci\n    svid_ttl: 10m") + attested
    assert manifest_digest(parse_settings(demanded, "/srv/gate")) != believed
    assert parse_settings(demanded, "/srv/gate").agents["billing"].attested_by == "ci"
    assert not changed("LANG: C.UTF-8", "LANG: C")
    assert not changed("depth: 32", "depth: 33")
    assert not changed("  billing:\n", "  # a comment\n  billing:\n")


def test_an_audience_stands_for_its_members_through_others() -> None:
    text = (
        tool('audience: [staff]\noutput: {"$.pay": {label: trusted, readers: [hr, board]}, "$": trusted}')
        + "agents: {billing: {}}\n"
        + "audiences: {hr: ['person:dora', 'agent:billing'], board: ['person:emil'], staff: [hr, board]}\n"
    )
    manifest = parse_settings(text, "/etc").servers["ledger"].tools["transfer"]
    everyone = ("agent:billing", "person:dora", "person:emil")
    assert manifest.audience == everyone
    assert manifest.output["$.pay"].readers == everyone
    label = Label(frozenset(), audience_of(manifest.output["$.pay"].readers))
    assert may_flow(label, audience_of(("person:dora",)))
    assert may_flow(label, audience_of(manifest.audience))
    assert not may_flow(label, audience_of(("person:dora", "person:eve")))
    assert not may_flow(label, audience_of(("everybody",)))


def test_without_audiences_a_name_stands_for_itself() -> None:
    assert parse_settings(tool("audience: [bank]"), "/etc").servers["ledger"].tools["transfer"].audience == ("bank",)
    told = tool("audience: [everybody]") + "audiences: {hr: ['person:x']}\n"
    assert parse_settings(told, "/etc").servers["ledger"].tools["transfer"].audience == ("everybody",)


def test_each_audience_of_a_circle_is_named() -> None:
    with pytest.raises(ConfigError) as found:
        parse_settings(f"{DOMAIN}audiences: {{a: [b], b: [a, 'person:x'], c: [a]}}\n", "/etc")
    assert [(one.path, one.message) for one in found.value.mistakes] == [
        ("audiences.a", "`a` is a member of itself"),
        ("audiences.b", "`b` is a member of itself"),
    ]


def test_people_are_asked_as_the_file_says() -> None:
    text = PEOPLE + (
        f"  dora: {{roles: [approver, operator], answers: [ledger/transfer], keys: [{ED25519_KEY}], per_hour: 5,"
        " oidc: {issuer: 'https://l.example/', subject: '7'}}\n"
        "approvals:\n"
        "  quorum: [{acts: [ledger/transfer], need: 2, of: [dora, ben], blinded: false}]\n"
        "  not_own: true\n  expires: 2h\n  reason_required: false\n  one_denies: false\n"
        "  uninspectable: refuse\n  unsafe_unsigned: true\n  unsafe_hasty: true\n"
        "  canaries: 4\n  asks_per_agent: 3\n  asks_per_root: 9\n  batch: 5\n"
        "  passkeys: {rp_id: localhost, origins: ['http://localhost:8470', 'https://localhost:443']}\n"
    )
    settings = parse_settings(text, "/srv")
    assert settings.people["dora"] == Person(
        name="dora",
        roles=(Duty.APPROVER, Duty.OPERATOR),
        answers=("ledger/transfer",),
        keys=(ED25519_KEY,),
        oidc=Login("https://l.example/", "7"),
        per_hour=5,
    )
    assert settings.people["anna"].speaks_for == ("alice",)
    assert settings.approvals == Approvals(
        quorum=(Quorum(acts=("ledger/transfer",), need=2, of=("dora", "ben"), blinded=False),),
        not_own=("*",),
        expires_ms=7_200_000,
        reason_required=False,
        one_denies=False,
        uninspectable=Uninspectable.REFUSE,
        passkeys=Passkeys(rp_id="localhost", origins=("http://localhost:8470", "https://localhost")),
        unsafe_unsigned=True,
        unsafe_hasty=True,
        canaries=4,
        batch=5,
        asks_per_agent=3,
        asks_per_root=9,
    )
    assert settings.unsafe == ("approvals.unsafe_unsigned", "approvals.unsafe_hasty")


def test_messages_are_answered_by_whom_their_skill_reaches_or_the_peer_itself() -> None:
    peers = "peers:\n  crm: {url: 'http://127.0.0.1:9/', callers: [clerk]}\n"
    peers += "  desk: {url: 'http://127.0.0.1:8/', callers: [clerk], skills: [invoice]}\n"
    people = "people: {anna: {roles: [approver], answers: [crm/message, desk/invoice]}}\n"
    asked = "approvals: {quorum: [{acts: [desk/*], need: 1}]}\n"
    settings = parse_settings(f"{BANK}agents: {{clerk: {{}}}}\n{peers}{people}{asked}", "/etc")
    assert settings.people["anna"].answers == ("crm/message", "desk/invoice")
    (mistake,) = mistakes(f"{BANK}agents: {{clerk: {{}}}}\n{peers}{people.replace('desk/invoice', 'desk/message')}")
    assert "declares no tool `message`" in mistake.message


def test_without_people_tickets_are_answered_as_before_there_were_any() -> None:
    settings = parse_settings(BANK, "/srv")
    assert (settings.people, settings.approvals) == ({}, Approvals())
    named = parse_settings(PEOPLE, "/srv")
    assert manifest_digest(named) == manifest_digest(settings)
    apart = parse_settings(PEOPLE + "approvals: {not_own: [ledger/transfer]}\n", "/srv")
    assert manifest_digest(apart) != manifest_digest(settings)
    assert parse_settings(PEOPLE + "approvals: {not_own: false}\n", "/srv").approvals == Approvals()


def test_whoever_answers_some_of_the_acts_of_a_pattern_can_be_of_its_quorum() -> None:
    text = PEOPLE.replace("answers: ['*'], as", "answers: [ledger/transfer], as")
    for acts in ("'*'", "ledger/*", "ledger/transfer"):
        rule = f"approvals: {{quorum: [{{acts: [{acts}], need: 2}}]}}\n"
        assert parse_settings(text + rule, "/srv").approvals.quorum_of("ledger", "transfer").need == 2


@pytest.mark.parametrize("other", ["auditor", "policy"])
def test_nobody_has_two_roles_of_which_one_checks_the_other(other: str) -> None:
    (mistake,) = mistakes(f"{BANK}people: {{anna: {{roles: [approver, {other}], answers: ['*']}}}}\n")
    assert "two people's roles" in mistake.message


def test_a_key_is_one_persons() -> None:
    two = "".join(f"  {name}: {{roles: [operator], keys: [{ED25519_KEY}]}}\n" for name in ("a", "b"))
    (mistake,) = mistakes(f"{BANK}people:\n{two}")
    assert mistake.message == "this is a key of `a` too"


def test_a_channel_links_to_the_console_that_the_file_names() -> None:
    channel = "notices: {chat: {kind: slack, credential: {env: S}%s}}\n"
    at = f"{DOMAIN}console: {{address: 'https://c.example'}}\n"
    assert parse_settings(at + channel % "", "/srv").notices["chat"].link == "https://c.example/tickets"
    own = parse_settings(at + channel % ", link: 'https://own.example/'", "/srv")
    assert own.notices["chat"].link == "https://own.example/"


def test_channels_are_as_the_file_says() -> None:
    settings = parse_settings(
        f"{DOMAIN}notices:\n"
        "  hook: {kind: webhook, link: 'https://c.example/t', url: 'https://h.example/in',\n"
        "    credential: {env: S}, ca: a.pem}\n"
        "  chat: {kind: slack, link: 'https://c.example/t', credential: {file: slack}}\n"
        "  mail: {kind: mail, link: 'https://c.example/t', server: 'm.example:465', sender: a@b.example,\n"
        "    to: [c@d.example], user: u, credential: {env: P}}\n",
        "/srv",
    )
    assert settings.notices == {
        "hook": NoticeChannel(
            kind="webhook",
            link="https://c.example/t",
            url="https://h.example/in",
            credential=FromEnvironment("S"),
            ca="/srv/a.pem",
        ),
        "chat": NoticeChannel(kind="slack", link="https://c.example/t", credential=FromFile("/srv/slack")),
        "mail": NoticeChannel(
            kind="mail",
            link="https://c.example/t",
            server="m.example:465",
            sender="a@b.example",
            to=("c@d.example",),
            user="u",
            credential=FromEnvironment("P"),
        ),
    }
