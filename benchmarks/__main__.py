"""`python -m benchmarks [NAME …]`: run all benchmarks, or those named."""

import importlib
import sys

NAMES = ("agent", "latency", "streams", "failover", "sink", "history")


def main() -> int:
    names = sys.argv[1:] or NAMES
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}: expected {', '.join(NAMES)}", file=sys.stderr)
        return 2
    for name in names:
        print(f"== {name}", flush=True)
        importlib.import_module(f"benchmarks.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
