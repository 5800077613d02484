"""What the on-call engineer finds in the log: one line when something begins, one when it is over."""

import structlog

log = structlog.get_logger()


class Alarms:
    def __init__(self, worker: str) -> None:
        self._worker = worker
        self.brake = False
        """The brake is on."""
        self._hosts: set[str] = set()

    def look(self, brake: bool, alternating_hosts: set[str]) -> None:
        """Tell what has changed."""
        if brake and not self.brake:
            log.error(
                "the brake is on: too many accounts were blocked, further blocks are shadows", worker=self._worker
            )
        elif self.brake and not brake:
            log.info("the brake is off", worker=self._worker)
        self.brake = brake
        for host in alternating_hosts - self._hosts:
            log.warning("two machines send under one host's name: their epochs advance in turn", host=host)
            self._hosts.add(host)
