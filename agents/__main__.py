"""`python -m agents [--config PATH]`: the agent's process, which `weir agent` starts.

Exit status: 0 after SIGTERM, 1 for what prevents its start, 2 for wrong settings or arguments.
"""

import argparse
import sys
from pathlib import Path

from weir import settings_file


def main() -> int:
    parser = argparse.ArgumentParser(prog="weir agent", description="Answers Postfix's policy requests on this host.")
    parser.add_argument("--config", type=Path, metavar="PATH", help="settings; else $WEIR_CONFIG, /etc/weir/weir.toml")
    config = parser.parse_args().config
    try:
        settings = settings_file.load(config)
    except settings_file.SettingsError as error:
        print(error, file=sys.stderr)
        return 2
    # structlog looks for rich to paint tracebacks on terminals: a tenth of our memory, for nothing.
    sys.modules["rich"] = None  # type: ignore[assignment]

    from agents import service
    from agents.segments import SpoolInUseError
    from weir import logs

    logs.configure()
    try:
        service.run(settings, config)
    except (OSError, SpoolInUseError) as error:
        print(f"weir agent: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
