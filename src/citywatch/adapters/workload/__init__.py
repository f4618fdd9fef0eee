"""The SPIFFE Workload API for one program at a time: papers over a Unix socket, to a process that was measured.

Decides which process is on the other end (`peer`, `door`), what its files are (`measure`) and under whose account it
runs (`program`); which papers it gets is `service.workload`'s.
"""

from citywatch.adapters.workload.accounts import Accounts, folder_mark
from citywatch.adapters.workload.client import WorkloadClient
from citywatch.adapters.workload.door import Door, open_door
from citywatch.adapters.workload.key import WorkloadKey
from citywatch.adapters.workload.measure import measure_program
from citywatch.adapters.workload.peer import check_peer
from citywatch.adapters.workload.program import Program, check_account, start_program
from citywatch.adapters.workload.server import WorkloadApi, open_server

__all__ = [
    "Accounts",
    "Door",
    "Program",
    "WorkloadApi",
    "WorkloadClient",
    "WorkloadKey",
    "check_account",
    "check_peer",
    "folder_mark",
    "measure_program",
    "open_door",
    "open_server",
    "start_program",
]
