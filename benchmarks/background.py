"""Load beside a benchmark: `python -m benchmarks.background RATE SECONDS SOCKET`, requests that add recipients only.

Every account has one message, which gets more and more recipients: it crosses no threshold of messages.
"""

import re
import sys
from pathlib import Path

from benchmarks import policy_load


def main() -> None:
    rate, seconds, socket = float(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
    bodies = [
        re.sub(rb"instance=\w+\.65f1\.(\w+)\.0", rb"instance=\1.bg", body)
        for body in policy_load.requests(1000, seed=7)
    ]
    load = policy_load.run(socket, bodies, 8, seconds, rate)
    print(f"  beside: {load.requests / load.seconds:,.0f} requests/s at {socket.parent.name}", flush=True)


if __name__ == "__main__":
    main()
