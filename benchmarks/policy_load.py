"""Load on a policy server, closed loop: each connection sends its next request when the answer is there.

One thread over epoll, about 10 µs of its own CPU for a request; every request carries the attributes of Postfix 3.7.
"""

import random
import selectors
import socket
import time
from array import array
from collections import Counter
from pathlib import Path
from typing import NamedTuple

REQUESTS = 20_000
"""Different requests that are made beforehand and sent round and round."""


class Load(NamedTuple):
    requests: int
    seconds: float
    p50: float
    """Milliseconds from the request to its whole answer; so `p99` and `slowest`."""
    p99: float
    slowest: float
    actions: Counter[str]


class _Connection:
    def __init__(self, address: Path | tuple[str, int]) -> None:
        if isinstance(address, tuple):
            self.socket = socket.create_connection(address, 10)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(str(address))
        self.sent = 0.0
        self.answer = b""


def requests(accounts: int, seed: int = 1, state: str = "RCPT") -> list[bytes]:
    """Policy requests of that many accounts, each of an instance of its own, in a random order."""
    generator = random.Random(seed)
    made = []
    for number in range(REQUESTS):
        account = generator.randrange(accounts)
        attributes = {
            "request": "smtpd_access_policy",
            "protocol_state": state,
            "protocol_name": "ESMTP",
            "client_address": f"10.{account >> 16 & 255}.{account >> 8 & 255}.{account & 255}",
            "client_name": f"host{account}.dyn.example.net",
            "client_port": 1024 + number * 7919 % 60000,
            "reverse_client_name": f"host{account}.dyn.example.net",
            "server_address": "198.51.100.5",
            "server_port": 587,
            "helo_name": f"pc-{account}.lan",
            "sender": f"user{account}@customer{account % 997}.example",
            "recipient": f"recipient{number % 5000}@destination{number % 211}.example",
            "recipient_count": 0 if state == "RCPT" else 1,
            "queue_id": "" if state == "RCPT" else f"4Vx{number:08X}",
            "instance": f"{number:x}.65f1.{account:x}.0",
            "size": 900 + number * 37 % 50000,
            "etrn_domain": "",
            "stress": "",
            "sasl_method": "PLAIN",
            "sasl_username": f"user{account}@customer{account % 997}.example",
            "sasl_sender": "",
            "ccert_subject": "",
            "ccert_issuer": "",
            "ccert_fingerprint": "",
            "ccert_pubkey_fingerprint": "",
            "encryption_protocol": "TLSv1.3",
            "encryption_cipher": "TLS_AES_256_GCM_SHA384",
            "encryption_keysize": 256,
            "policy_context": "submission",
        }
        made.append(("".join(f"{name}={value}\n" for name, value in attributes.items()) + "\n").encode())
    return made


def run(
    address: Path | tuple[str, int], bodies: list[bytes], connections: int, seconds: float, rate: float = 0.0
) -> Load:
    """Send for so many seconds; `rate` requests a second at most, 0: as fast as answers come.

    Raises ConnectionError if the server ends a connection.
    """
    selector = selectors.DefaultSelector()
    latencies = array("d")
    actions: Counter[str] = Counter()
    turn = 0

    def send(connection: _Connection) -> None:
        nonlocal turn
        connection.sent = time.perf_counter()
        connection.socket.sendall(bodies[turn % len(bodies)])
        turn += 1

    everyone = [_Connection(address) for _ in range(connections)]
    start = time.perf_counter()
    idle: list[_Connection] = list(everyone)
    for connection in everyone:
        selector.register(connection.socket, selectors.EVENT_READ, connection)
    while (now := time.perf_counter()) < start + seconds:
        due = len(idle) if not rate else min(len(idle), int((now - start) * rate) - turn + 1)
        for _ in range(due):
            send(idle.pop())
        for key, _ in selector.select(0.001 if idle else 0.2):
            connection = key.data
            received = connection.socket.recv(4096)
            if not received:
                raise ConnectionResetError("the policy server ended a connection")
            connection.answer += received
            if connection.answer.endswith(b"\n\n"):
                latencies.append((time.perf_counter() - connection.sent) * 1000)
                actions[connection.answer[7:].split(b"\n")[0].split(b" ")[0].decode()] += 1
                connection.answer = b""
                idle.append(connection)
    took = time.perf_counter() - start
    for connection in everyone:
        connection.socket.close()
    ranked = sorted(latencies)
    return Load(
        len(ranked),
        took,
        ranked[len(ranked) // 2],
        ranked[len(ranked) * 99 // 100],
        ranked[-1],
        actions,
    )
