"""Status: the newest state of each agent and worker, one record each on weir.status (key `agent HOST`, `worker NAME`).

An agent's is its heartbeat event, by the same way through the spool; a worker's is below.
"""

import msgspec

VERSION = 1


class WorkerStatus(msgspec.Struct, omit_defaults=True):
    """One streams worker, once a second. Times are Unix seconds by the worker's clock."""

    version: int
    weir: str
    """Weir's version."""
    name: str
    time: float
    partitions: list[int] = []
    lag: int = 0
    """Messages of its partitions of weir.tallies that are not counted yet."""
    last_transaction: float = 0.0
    """Time of the last commit, 0 if none yet."""
    accounts: int = 0
    """Accounts with a window."""
    brake: bool = False
    """The brake is on: what it decides is a shadow."""


def agent_key(host: str) -> bytes:
    return f"agent {host}".encode()


def worker_key(name: str) -> bytes:
    return f"worker {name}".encode()
