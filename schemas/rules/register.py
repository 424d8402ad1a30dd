"""What is known of the controls: the newest event of each, as far as it is genuine and sound.

Pure. Decides which event counts: one that is signed by the installation, not older than what is known of the same
control (whoever can write to Kafka can also repeat an old record), and that can be carried out. Whoever reads the topic
offers each event; a refusal is a sentence for the log.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from schemas.rules.controls import IN_FORCE_MAX, Control, ControlError, Controls, read
from schemas.signing import is_genuine
from schemas.state import ControlSet
from schemas.tokens import Keyring


class Register:
    def __init__(self, keyring: Keyring, pools: Mapping[str, Collection[str]]) -> None:
        """`pools`: those that are configured, with the names of their sources."""
        self._keyring = keyring
        self._pools = pools
        self._newest: dict[str, datetime] = {}
        self._controls: dict[str, Control] = {}

    def offer(self, event: ControlSet, now: float) -> str:
        """Take the event in, or say why not. An empty text: taken."""
        if not is_genuine(event, self._keyring):
            return "not signed by this installation"
        known = self._newest.get(event.control_id)
        if known is not None and event.occurred_at < known:
            return "older than what is known of the control"
        try:
            control = read(event, self._pools)
        except ControlError as error:
            return str(error)
        if control is not None and control.ends_at > now and event.control_id not in self._controls:
            self.forget(now)
            if len(self._controls) >= IN_FORCE_MAX:
                return f"{IN_FORCE_MAX} controls are in force already"
        self._newest[event.control_id] = event.occurred_at
        if control is None or control.ends_at <= now:
            self._controls.pop(event.control_id, None)
        else:
            self._controls[event.control_id] = control
        return ""

    def forget(self, now: float) -> bool:
        """Drop the controls whose time is over; whether there were any."""
        over = [control_id for control_id, control in self._controls.items() if control.ends_at <= now]
        for control_id in over:
            del self._controls[control_id]
        return bool(over)

    def in_force(self) -> Controls:
        return Controls(self._controls.values())
