"""`python -m agents …`: the agent's process, which `weir agent` starts.

Exit status: 0 after SIGTERM, 1 for what prevents its start, 2 for wrong settings, rules or arguments.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.standalone:
        return _standalone(parser, options)
    if any(getattr(options, name) != parser.get_default(name) for name in _STANDALONE_ONLY):
        parser.error("all options but --config need --standalone; an agent of the fleet has them in its settings")
    return _with_kafka(options.config)


def _with_kafka(config: Path | None) -> int:
    from weir import settings_file

    try:
        settings = settings_file.load(config)
    except settings_file.SettingsError as error:
        print(error, file=sys.stderr)
        return USAGE

    from agents import service
    from agents.segments import SpoolInUseError
    from weir import logs

    logs.configure()
    try:
        service.run(settings, config)
    except ValueError as error:
        print(error, file=sys.stderr)
        return USAGE
    except (OSError, SpoolInUseError) as error:
        print(f"weir agent: {error}", file=sys.stderr)
        return 1
    return 0


_STANDALONE_ONLY = (
    "sources",
    "listen",
    "state",
    "score",
    "no_dns",
    "resolver",
    "dns_timeout",
    "dns_timeout_max",
    "dry_run",
)


def _standalone(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    if not options.sources:
        parser.error("--standalone needs --rules FILE")

    from agents import standalone
    from weir import logs
    from weir.rules.ruleset import Source

    logs.configure()
    try:
        standalone.run(
            standalone.Options(
                sources=[Source(Path(name), text) for name, text in options.sources],
                listen=options.listen or ["127.0.0.1:10040"],
                state=options.state,
                scores=options.score,
                dns=not options.no_dns,
                resolver=options.resolver,
                dns_timeout=options.dns_timeout,
                dns_timeout_max=options.dns_timeout_max,
                dry_run=options.dry_run,
            )
        )
    except ValueError as error:
        print(error, file=sys.stderr)
        return USAGE
    except OSError as error:
        print(f"weir agent: {error}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="weir agent", description="Answers Postfix's policy requests on this host.", allow_abbrev=False
    )
    parser.add_argument("--config", type=Path, metavar="PATH", help="settings; else $WEIR_CONFIG, /etc/weir/weir.toml")
    alone = parser.add_argument_group("standalone", "Rules on this host alone: no Kafka, no settings file.")
    add = alone.add_argument
    add("--standalone", action="store_true", help="instead of an agent of the fleet")
    sources: dict[str, Any] = {"action": "append", "dest": "sources", "default": []}
    add("--rules", type=lambda name: (name, None), metavar="FILE", help="rule file; may be repeated", **sources)
    add("--rule", type=lambda text: ("--rule", text), metavar="TEXT", help="a rule; may be repeated", **sources)
    add("--listen", action="append", default=[], metavar="PLACE", help="HOST:PORT or unix:PATH; may be repeated")
    add("--state", type=Path, metavar="DIR", help="keep counters over a restart in this folder")
    add("--score", action="append", default=[], metavar="LIMIT=ACTION", help="action of a score; may be repeated")
    add("--no-dns", action="store_true", help="ask no DNS: conditions that need it never hold")
    add("--resolver", default="", metavar="HOST:PORT", help="DNS server; else the system's")
    add("--dns-timeout", type=_seconds, default=14.0, metavar="SECONDS", help="for a DNS question (default 14)")
    add("--dns-timeout-max", type=_count, default=10, metavar="N", help="time-outs before a list is off (default 10)")
    add("--dry-run", action="store_true", help="log what the rules say, and answer DUNNO")
    return parser


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected seconds above 0, got {text}")
    return value


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"expected a whole number from 0 on (0: lists are never off), got {text}")
    return int(text)


if __name__ == "__main__":
    # structlog looks for rich to paint tracebacks on terminals: a tenth of our memory, for nothing.
    sys.modules["rich"] = None  # type: ignore[assignment]
    sys.exit(main())
