"""`citywatch tickets keygen`, `enrol` and `passkeys`: the keys and passkeys that answers are signed with."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from pathlib import Path
from typing import TYPE_CHECKING

import click

from citywatch.main.place import read_place
from citywatch.main.within import within

if TYPE_CHECKING:
    from citywatch.main.assembly import City


def register(tickets: click.Group) -> None:
    for command in (keygen, enrol, passkeys):
        tickets.add_command(command)


def signed_with(key: Path, message: bytes) -> str:
    """The signature of a key file that nobody else may read, in base64url."""
    from citywatch.adapters.keys import KeyKind, SecretDirectory, load_key

    signer = load_key(SecretDirectory(key.absolute().parent), key.name, KeyKind.ED25519)
    return urlsafe_b64encode(signer.sign(message)).rstrip(b"=").decode()


@click.command()
@click.argument("key", type=click.Path(path_type=Path))
def keygen(key: Path) -> None:
    """Draw an Ed25519 key for signing answers; print the line for `people.*.keys`.

    KEY is a new file in a folder that nobody else may read (mode 0700); one that is not there is made.
    """
    from citywatch.adapters.keys import KeyKind, SecretDirectory, create_key

    folder = SecretDirectory(key.absolute().parent)
    click.echo(b64encode(create_key(folder, key.name, KeyKind.ED25519).public).decode())


@click.command()
@click.argument("person")
@click.pass_obj
def enrol(file: Path, person: str) -> None:
    """Let somebody enrol a passkey: print a code that is good once, for a quarter of an hour, in the console."""
    from citywatch.main.assembly import operator
    from citywatch.main.desks import passkeys_of

    async def run(city: City) -> None:
        code = await passkeys_of(city).invite(person, operator())
        click.echo(code)

    within(read_place(file), run)


@click.command()
@click.argument("person", required=False)
@click.option("--revoke", default="", metavar="ID", help="Take this one back.")
@click.option("--reason", default="", help="With --revoke: why; it stands in the log.")
@click.pass_obj
def passkeys(file: Path, person: str | None, revoke: str, reason: str) -> None:
    """List somebody's passkeys, or take one back: it signs no answer from then on."""
    from citywatch.core.approvals.showing import when
    from citywatch.main.assembly import operator
    from citywatch.main.desks import passkeys_of

    if bool(revoke) == (person is not None) or (revoke and not reason):
        raise click.UsageError("name a person, or give --revoke with its --reason")

    async def run(city: City) -> None:
        if revoke:
            gone = await passkeys_of(city).revoke(revoke, operator(), reason)
            click.echo(f"{gone.id} of {gone.person} is revoked")
            return
        for one in await passkeys_of(city).of(person or ""):
            state, at = ("revoked", one.revoked) if one.revoked else ("enrolled", one.added)
            called = json.dumps(one.called)[1:-1] or "-"
            click.echo(f"{one.id}  {called}  {state} {when(at).removesuffix(' UTC')}")

    within(read_place(file), run)
