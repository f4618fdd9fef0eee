"""The bytes that a stranger gets, pinned: `spec/log.md` §4 and §5."""

import json

from citywatch.core.log.export import export_entry, export_header, growth_bundle, proof_bundle
from tests.log_world import head_of, leaves

NOTE = head_of(leaves(1))


def test_lines_are_compact_json_with_the_members_of_the_law() -> None:
    assert export_entry(3, b"{}") == b'{"index":3,"leaf":"e30="}\n'
    assert export_entry(3, b"{}", (b"s", b"b")) == (
        b'{"index":3,"leaf":"e30=","payload":{"body":"Yg==","salt":"cw=="}}\n'
    )
    header = export_header("gateway.example/log", NOTE)
    assert header.endswith(b'"citywatch-export":1,"origin":"gateway.example/log"}\n')
    assert json.loads(header)["checkpoint"].encode() == NOTE


def test_bundles_hold_all_that_is_needed() -> None:
    proof = json.loads(proof_bundle(b"{}", 0, 2, [b"h"], NOTE))
    assert proof == {
        "citywatch-proof": 1,
        "leaf": "e30=",
        "index": 0,
        "tree_size": 2,
        "hashes": ["aA=="],
        "checkpoint": NOTE.decode(),
    }
    growth = json.loads(growth_bundle(NOTE, NOTE, []))
    assert growth == {"citywatch-growth": 1, "old": NOTE.decode(), "new": NOTE.decode(), "hashes": []}
