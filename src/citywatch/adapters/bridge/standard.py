"""This process's standard input and output, without blocking its event loop.

Decides nothing. INVARIANT: nothing but messages is ever written to standard output; pipes, sockets and terminals wait
for their reader, plain files need not.
"""

from __future__ import annotations

import asyncio
import os
import stat
import sys
from typing import BinaryIO

from citywatch.adapters.bridge.stdio import READ_BYTES, Writer


class _File:
    """A plain file as a writer: writing to a disk does not wait for anybody."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, data: bytes) -> None:
        self._file.write(data)

    async def drain(self) -> None:
        self._file.flush()


async def open_input() -> asyncio.StreamReader:
    """Standard input as a stream."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=READ_BYTES, loop=loop)
    source = sys.stdin.buffer
    if _is_file(source):
        reader.feed_data(source.read())
        reader.feed_eof()
        return reader
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader, loop=loop), source)
    return reader


async def open_output() -> Writer:
    """Standard output as a stream."""
    loop = asyncio.get_running_loop()
    target = sys.stdout.buffer
    if _is_file(target):
        return _File(target)
    transport, protocol = await loop.connect_write_pipe(lambda: asyncio.streams.FlowControlMixin(loop=loop), target)
    return asyncio.StreamWriter(transport, protocol, None, loop)


def _is_file(stream: BinaryIO) -> bool:
    return stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
