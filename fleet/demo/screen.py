"""What the demo shows: a live table while it runs (without a terminal a line now and then), the figures after."""

import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from fleet.demo.figures import Figures
from fleet.demo.traffic import NEWSLETTER, VICTIM, Ledger

LINE_SECONDS = 5.0
REFRESH_SECONDS = 0.25


class Screen:
    """Shows the ledger until its `with` block ends."""

    def __init__(self, console: Console, ledger: Ledger, hosts: Sequence[str]) -> None:
        self._console = console
        self._ledger = ledger
        self._hosts = hosts
        self._over = threading.Event()
        self._live = Live(self._table(), console=console, auto_refresh=False, transient=True)
        self._thread = threading.Thread(target=self._refresh)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._console.is_terminal:
            self._live.stop()
        self._console.print(self._table())

    def phase(self, text: str) -> None:
        self._console.print(f"[bold]{time.strftime('%H:%M:%S')}[/bold] {text}")

    def show_for(self, seconds: float) -> None:
        """Let the senders go on for so long."""
        self._over.wait(seconds)

    def _refresh(self) -> None:
        terminal = self._console.is_terminal
        while not self._over.wait(REFRESH_SECONDS if terminal else LINE_SECONDS):
            if terminal:
                self._live.update(self._table(), refresh=True)
            else:
                accepted, refused = self._ledger.accepted.total(), self._ledger.refused.total()
                self._console.print(f"  {accepted} messages accepted, {refused} refused")

    def _table(self) -> Table:
        table = Table(title="messages accepted / refused")
        table.add_column("host")
        groups = ("usual mail", NEWSLETTER, VICTIM)
        for group in groups:
            table.add_column(group, justify="right")
        for host in self._hosts:
            table.add_row(host, *(self._cell(group, host) for group in groups))
        return table

    def _cell(self, group: str, host: str) -> str:
        def count(counter: dict[tuple[str, str], int]) -> int:
            return sum(
                number
                for (account, name), number in list(counter.items())
                if name == host
                and (account == group or (group == "usual mail" and account not in (NEWSLETTER, VICTIM)))
            )

        refused = count(self._ledger.refused)
        return f"{count(self._ledger.accepted)} / {f'[red]{refused}[/red]' if refused else '0'}"


def show_figures(console: Console, figures: Figures, seconds: float) -> None:
    """The figures, and each statement with whether it holds."""
    table = Table(title=f"{VICTIM}, whose login was stolen")
    for heading in (
        "host",
        "messages accepted before the block",
        "decision applied after",
        "last message accepted after",
    ):
        table.add_column(heading, justify="left" if heading == "host" else "right")
    for host, accepted in figures.accepted_by_host.items():
        applied = figures.applied_after_ms.get(host)
        table.add_row(
            host,
            str(accepted),
            "never" if applied is None else f"{applied:.1f} ms",
            f"{figures.last_accepted_after_ms[host]:.1f} ms",
        )
    console.print(table)
    console.print("“after” counts from the request that crossed the threshold, on whichever host that was.")
    evidence = figures.decision["evidence"]
    console.print(
        f"decision {figures.decision['id']}: {evidence['count']} {evidence['counter']} in {evidence['seconds']} s, "
        f"threshold {evidence['threshold']}, through {', '.join(evidence['hosts'])}, "
        f"from {len(evidence['beside'])} addresses\n"
    )
    for check in figures.checks:
        mark = "[green]holds[/green]" if check.holds else "[red]DOES NOT HOLD[/red]"
        console.print(f"{mark}  {check.statement}" + (f" ({check.found})" if check.found else ""))
    console.print(f"\n{figures.messages} messages in all; {seconds:.0f} s")
