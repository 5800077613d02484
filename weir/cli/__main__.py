"""`python -m weir.cli`: the `weir` command from a checkout."""

from weir.cli import main

main()
