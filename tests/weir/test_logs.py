"""Logs: a full disk stops nobody."""

import subprocess
import sys

PROGRAM = """
import logging, structlog
from weir import logs
logs.configure()
for number in range(3):
    structlog.get_logger("weir").error("ours", number=number)
    logging.getLogger("library").error("theirs")
print("went on")
"""


def test_a_full_disk_loses_the_lines_and_nothing_else() -> None:
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=full, text=True, timeout=30, check=False
        )
    assert ended.stdout == "went on\n"
