"""`python -m benchmarks [NAME …]`: run all benchmarks, or those named."""

import argparse
import importlib

NAMES = ("agent", "latency", "streams", "failover", "rules", "reload", "sink", "history", "maillog")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; none: all")
    parser.add_argument("--rows", type=int, default=20_000_000, help="events in `history`")
    options = parser.parse_args()
    for name in options.names:
        if name not in NAMES:
            parser.error(f"no benchmark {name}: expected {', '.join(NAMES)}")
    for name in options.names or NAMES:
        print(f"== {name}", flush=True)
        benchmark = importlib.import_module(f"benchmarks.{name}")
        if name == "history":
            benchmark.main(options.rows)
        else:
            benchmark.main()


if __name__ == "__main__":
    main()
