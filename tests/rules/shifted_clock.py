"""`python -m tests.rules.shifted_clock SECONDS agent …`: the agent's process, its clock so many seconds ahead.

Only `time.time` is moved: that is where the agent takes its time from.
"""

import sys
import time

from agents.__main__ import main


def shift(seconds: float) -> None:
    real = time.time
    time.time = lambda: real() + seconds


if __name__ == "__main__":
    shift(float(sys.argv[1]))
    sys.exit(main(sys.argv[3:]))
