"""The documentation is held against the code it speaks of.

Decides: every relative link and fragment leads somewhere; every command a person could paste exists (a verb of the
Makefile, a command and option of `citywatch`, a script or module of the tree); README opens with the two commands of a
fresh machine; each refusal code has a section in `docs/reference/codes.md` and each section a code; and what is
generated is what the code says (`--write` writes it): `docs/reference/cli.md` of `--help`, `approvals-api.md` and its
JSON of the API's table. Does not decide whether the prose is true.
INVARIANT: a part that found nothing to check has failed.

`--commands PAGE N` prints the commands of a page's first N console blocks, one a line, for a script that runs them.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote

import click

from tools import api_page, markdown
from tools.findings import ROOT, Finding, report

FIRST = ("make demo", "make test")
CLI = Path("docs/reference/cli.md")
CODES = Path("docs/reference/codes.md")
API = Path("docs/reference/approvals-api.md")
WIDTH = 100
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)
_ASSIGNMENT = re.compile(r"[A-Z_][A-Z0-9_]*=")


def pages(root: Path) -> list[Path]:
    """Every page a reader can be sent to."""
    return sorted(
        {*root.glob("*.md"), *root.glob("docs/**/*.md"), *root.glob("spec/*.md"), *root.glob("changelog.d/*.md")}
    )


def broken_links(root: Path) -> tuple[int, list[Finding]]:
    """How many links were followed within the tree, and those that lead nowhere."""
    count, found = 0, list[Finding]()
    for page in pages(root):
        prose, _ = markdown.split(page.read_text())
        for number, target in markdown.links(prose):
            if _ELSEWHERE.match(target):
                continue
            count += 1
            path, _, fragment = unquote(target).partition("#")
            file = (page.parent / path).resolve() if path else page
            if not file.exists():
                found.append(Finding(page, number, f"`{target}` leads nowhere"))
            elif (
                fragment
                and file.suffix == ".md"
                and fragment not in markdown.anchors(markdown.split(file.read_text())[0])
            ):
                found.append(Finding(page, number, f"`{target}`: no heading of that name"))
    return count, found


def wrong_commands(root: Path, cli: click.Command) -> tuple[int, list[Finding]]:
    """How many pasteable commands were looked at, and those that would not run as written."""
    count, found = 0, list[Finding]()
    for page in pages(root):
        for block in markdown.split(page.read_text())[1]:
            for number, text in block.commands() if block.language == "console" else ():
                count += 1
                found += [Finding(page, number, wrong) for wrong in misuse(text, root, cli)]
    opening = [line.text for block in first_blocks(root / "README.md", len(FIRST)) for line in block.commands()]
    found += [
        Finding(root / "README.md", 1, f"`{one}` is not in the first blocks") for one in FIRST if one not in opening
    ]
    return count, found


def first_blocks(page: Path, count: int) -> list[markdown.Block]:
    """A page's first console blocks."""
    blocks = markdown.split(page.read_text())[1] if page.exists() else []
    return [block for block in blocks if block.language == "console"][:count]


def misuse(text: str, root: Path, cli: click.Command) -> Iterator[str]:
    """What is wrong with a command line, as far as it speaks of this project."""
    for part in re.split(r"\s*(?:&&|\|\||[|;&])\s*", text):
        try:
            words = shlex.split(part, comments=True)
        except ValueError:
            continue  # the cut fell inside quotes: such a line is for a person to read
        while words and _ASSIGNMENT.match(words[0]):
            words.pop(0)
        match words:
            case ["make", *rest]:
                verbs = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE))
                yield from (f"`make` has no verb `{word}`" for word in rest if "=" not in word and word not in verbs)
            case [program, *rest] if Path(program).name == "citywatch":
                yield from misused_option(cli, "citywatch", rest)
            case [program, *rest] if re.fullmatch(r"python[0-9.]*", Path(program).name):
                yield from missing_script([word for word in rest if word not in ("-I", "-S", "-u", "-B")], root)


def misused_option(command: click.Command, path: str, words: list[str]) -> Iterator[str]:
    """Follow words through commands and options, without running anything."""
    context = click.Context(command, info_name=path)
    options = {
        name: option for option in command.get_params(context) for name in (*option.opts, *option.secondary_opts)
    }
    skip = False
    for index, word in enumerate(words):
        if skip:
            skip = False
        elif word == "--":
            return
        elif word.startswith("-") and word != "-":
            option = options.get(word.split("=")[0])
            if option is None:
                yield f"`{path}` has no option `{word.split('=')[0]}`"
            skip = isinstance(option, click.Option) and not (option.is_flag or option.count or "=" in word)
        elif isinstance(command, click.Group):
            below = command.get_command(context, word)
            if below is None:
                yield f"`{path}` has no command `{word}`"
            else:
                yield from misused_option(below, f"{path} {word}", words[index + 1 :])
            return


def missing_script(words: list[str], root: Path) -> Iterator[str]:
    match words:
        case ["-m", module, *_]:
            try:
                known = find_spec(module) is not None
            except ModuleNotFoundError:
                known = False
            if not known:
                yield f"there is no module `{module}`"
        case [script, *_] if script.endswith(".py"):
            # A tour works in `try/`, into which `citywatch init` wrote the starter's files.
            places = (root / script, root / script.removeprefix("../"), root / "src/citywatch/starter" / script)
            if not any(place.is_file() for place in places):
                yield f"there is no `{script}`"


def wrong_codes(root: Path, codes: set[str]) -> tuple[int, list[Finding]]:
    """How many refusal codes there are, and those whose section in the reference is missing, empty or of no code."""
    page = root / CODES
    written = markdown.sections(markdown.split(page.read_text())[0]) if page.exists() else []
    named = {match[1]: (heading.number, text) for heading, text in written if (match := _code(heading.text))}
    found = [Finding(page, 1, f"`{code}` has no section") for code in sorted(codes - named.keys())]
    found += [Finding(page, named[code][0], f"`{code}` is no code") for code in sorted(named.keys() - codes)]
    found += [Finding(page, line, f"`{code}` says nothing") for code, (line, text) in named.items() if not text]
    return len(codes), found


def _code(heading: str) -> re.Match[str] | None:
    return re.fullmatch(r"`([a-z0-9_]+)`", heading)


def cli_page(cli: click.Command) -> str:
    """The reference page of the command line: what `--help` says of every command."""
    head = ["# The command line", "", "Written by `make docs` from what `--help` says.", ""]
    return "\n".join([*head, *_helps(cli, "citywatch", None)])


def _helps(command: click.Command, name: str, parent: click.Context | None) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent, terminal_width=WIDTH, max_content_width=WIDTH)
    yield from (f"## `{context.command_path}`", "", "```text")
    yield from (line.rstrip() for line in command.get_help(context).splitlines())
    yield from ("```", "")
    for below in command.list_commands(context) if isinstance(command, click.Group) else ():
        found = command.get_command(context, below) if isinstance(command, click.Group) else None
        if found is not None and not found.hidden:
            yield from _helps(found, below, context)


def stale_cli(root: Path, cli: click.Command) -> tuple[int, list[Finding]]:
    """Whether the command line's page is what `--help` says today."""
    page = root / CLI
    current = page.exists() and page.read_text() == cli_page(cli)
    return 1, [] if current else [Finding(page, 1, "is not what `--help` says: run `make docs`")]


def api_files() -> dict[Path, str]:
    """The reference of the approvals API, as a page and as OpenAPI."""
    from citywatch.adapters.approvals_api.operations import DOCUMENT, openapi

    document = openapi()
    written = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    return {API: api_page.page(document, DOCUMENT), API.with_suffix(".json"): written}


def stale_files(root: Path, files: Mapping[Path, str]) -> tuple[int, list[Finding]]:
    """How many files are generated, and those that are not what they would be today."""
    stale = [root / one for one, text in files.items() if not (root / one).exists() or (root / one).read_text() != text]
    return len(files), [Finding(one, 1, "is not what the code says: run `make docs`") for one in stale]


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--commands"]:
        page, count = ROOT / arguments[1], int(arguments[2])
        lines = [line.text for block in first_blocks(page, count) for line in block.commands()]
        print("\n".join(lines))
        return 0 if len(lines) >= count else 1
    from citywatch.core.errors import Code
    from citywatch.main import cli

    if arguments == ["--write"]:
        (ROOT / CLI).parent.mkdir(parents=True, exist_ok=True)
        (ROOT / CLI).write_text(cli_page(cli))
        for path, text in api_files().items():
            (ROOT / path).write_text(text)
    return max(
        report("links", *broken_links(ROOT)),
        report("commands in pages", *wrong_commands(ROOT, cli)),
        report("codes", *wrong_codes(ROOT, {code.value for code in Code})),
        report("command line", *stale_cli(ROOT, cli)),
        report("approvals API", *stale_files(ROOT, api_files())),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
