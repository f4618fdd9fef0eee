"""Reading policy files: what is a policy, where it stands, and that every mistake is reported at once."""

from __future__ import annotations

from typing import Any

import cedarpy
import pytest

from citywatch.core.policy.cedar import (
    MAX_BRACKETS,
    MAX_OPERATORS,
    NativeFailure,
    PolicyMistakes,
    Source,
    digest_of,
    guarded,
    parse_policies,
    split,
)

ANY = "permit (principal, action, resource)"


def parse(*texts: str) -> Any:
    return parse_policies(Source(f"{chr(97 + n)}.cedar", text) for n, text in enumerate(texts))


def mistakes(*texts: str) -> list[str]:
    with pytest.raises(PolicyMistakes) as raised:
        parse(*texts)
    assert str(raised.value) == "\n".join(map(str, raised.value.mistakes))
    return [str(mistake) for mistake in raised.value.mistakes]


def test_a_policy_is_named_by_its_id_or_its_place() -> None:
    found = parse(f'// first\n\n@id("pay") {ANY};\n\n// second\n  {ANY}\nwhen {{ true }};', f"{ANY};")
    assert [(policy.id, policy.file, policy.line) for policy in found] == [
        ("a.cedar:6", "a.cedar", 6),
        ("b.cedar:1", "b.cedar", 1),
        ("pay", "a.cedar", 3),
    ]


def test_every_mistake_of_every_file_is_reported_with_its_line() -> None:
    one = f"{ANY};\n{ANY}\nwhen {{\n  context.a >> 1\n}};\n{ANY} when {{ foo(1) }};\n"
    two = f'@id("x y") {ANY};\npermit (principal == ?principal, action, resource);\n{ANY}'
    assert mistakes(one, two) == [
        "a.cedar:4: unexpected token `>`",
        "a.cedar:6: `foo` is not a valid function",
        "b.cedar:1: `x y` is no id: use letters, digits, dots, dashes, colons, slashes, at most 128",
        "b.cedar:2: a template (`?principal`, `?resource`) permits nothing by itself: write the name",
        "b.cedar:3: unexpected end of input",
    ]


def test_an_id_is_used_once() -> None:
    assert mistakes(f'@id("x") {ANY};', f'\n@id("x") {ANY};') == [
        "b.cedar:2: x: the id `x` is taken by the policy at a.cedar:1"
    ]


def test_comments_and_strings_do_not_end_a_policy() -> None:
    text = f'{ANY} when {{ context.a == "; // not a comment \\" ;" }}; // a comment; with "one quote\n{ANY}; //'
    assert [line for line, _ in split(text)] == [1, 2]
    assert len(parse(text)) == 2


def test_a_file_without_policies_has_none() -> None:
    assert parse("", "// nothing\n", " \n ") == ()


def test_what_is_cut_differently_from_cedar_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("citywatch.core.policy.cedar.split", lambda text: [(1, f"{ANY};")])
    assert mistakes(f"{ANY};\nforbid (principal, action, resource);") == [
        "a.cedar:1: read as 1 policies one by one, as 2 at once"
    ]


@pytest.mark.parametrize(
    "body",
    [
        "[" * (MAX_BRACKETS + 1) + "1" + "]" * (MAX_BRACKETS + 1) + " == 1",
        "(" * 100_000 + "true",
        " && ".join(["true"] * (MAX_OPERATORS + 2)),
        "context" + ".a" * (MAX_OPERATORS + 1) + " == 1",
        "if true then true else " * (MAX_OPERATORS + 1) + "true",
    ],
)
def test_what_would_overflow_the_parsers_stack_never_reaches_it(body: str) -> None:
    assert "split it in two" in mistakes(f"{ANY} when {{ {body} }};")[0]


def test_a_policy_beyond_the_typed_tree_keeps_its_name_and_effect() -> None:
    many = " || ".join(f"context.n == {n}" for n in range(200))
    (policy,) = parse(f'@id("many") forbid (principal, action, resource) when {{ {many} }};')
    assert (policy.id, policy.permits, policy.tree) == ("many", False, None)


class PanicException(BaseException):
    """As PyO3 raises it: no Exception, and of a module that cannot be imported."""


def test_a_panic_of_the_native_library_is_a_failure_that_can_be_refused() -> None:
    def panics() -> None:
        raise PanicException

    with pytest.raises(NativeFailure):
        guarded(panics)


@pytest.mark.parametrize("other", [KeyboardInterrupt, SystemExit, ValueError])
def test_nothing_else_is_taken_for_a_panic(other: type[BaseException]) -> None:
    def stops() -> None:
        raise other

    with pytest.raises(other):
        guarded(stops)


def test_a_panic_while_reading_is_a_mistake_in_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    class Panics:
        @staticmethod
        def from_str(text: str) -> None:
            raise PanicException

    monkeypatch.setattr(cedarpy, "PolicySet", Panics)
    assert mistakes(f"{ANY};") == ["a.cedar:1: the policy library panicked"]


def test_the_digest_stands_for_the_set_not_for_its_order_or_files() -> None:
    one, two = f'@id("one") {ANY};', f'@id("two") {ANY} when {{ false }};'
    assert digest_of(parse(one, two)) == digest_of(parse(two + "\n// comment\n" + one))
    assert digest_of(parse(one, two)) != digest_of(parse(one))
    assert digest_of(parse(one)) != digest_of(parse(one.replace("permit", "forbid")))
    assert digest_of(parse(one)) != digest_of(parse(one.replace("one", "uno")))
    assert len(digest_of(())) == 64
