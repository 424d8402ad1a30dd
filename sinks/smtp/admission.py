"""How messages get into the owner's memory: from a lane, from the state of a former owner, and their bodies. Part of
the core.

Decides what is a repeat, and what a message found `sending` means. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime

from schemas.lanes import Inline, MessageQueue
from sinks.smtp.cache import Cache
from sinks.smtp.commands import Bodies, Rules
from sinks.smtp.dispatch import Dispatch
from sinks.smtp.ledger import Ledger
from sinks.smtp.policy import Limits
from sinks.smtp.queue import Entry, LaneRecord, Partition, Site
from sinks.smtp.state import PRIORITIES, Kind, Phase, Result, State, key_of, lane_name, message_id_of, tenant_number
from sinks.smtp.verdicts import Verdicts


class Admission:
    def __init__(self, rules: Rules, ledger: Ledger, cache: Cache, verdicts: Verdicts, dispatch: Dispatch) -> None:
        self._rules = rules
        self._ledger = ledger
        self._cache = cache
        self._verdicts = verdicts
        self._dispatch = dispatch

    def restore(self, partition: Partition, states: Iterable[tuple[bytes, State]], now: float) -> None:
        bodies: list[Entry] = []
        for key, state in states:
            if state.phase >= Phase.DONE:
                partition.marks[key] = state.offset << 2 | state.urgent << 1 | (state.phase is Phase.MOVED)
                partition.windows.add(state.keep_until, key)
                continue
            # What has ended belongs to no site's queue any more, and its record names none.
            site = self._dispatch.site(partition, state.lane) if state.lane else Site("", partition, Limits())
            entry = partition.entries[key] = Entry(key, site, state)
            if state.phase is Phase.QUEUED:
                partition.expiry.add(state.expires_at, entry)
            if state.phase is Phase.SENDING or state.result is not None:
                bodies.append(entry)
            else:
                self._dispatch.schedule(entry, now)
        self._cache.restore(partition, bodies)
        for site in list(partition.sites.values()):
            self._dispatch.pump(site, now)

    def take_in(self, partition: Partition, records: Sequence[LaneRecord], now: float) -> None:
        sites: dict[str, Site] = {}
        fresh: list[Entry] = []
        for record in records:
            if record.offset < partition.positions[record.urgent]:
                continue  # read twice: a seek, or a rebalance under way
            partition.positions[record.urgent] = record.offset + 1
            partition.touched = True
            entry = self._admit(partition, record, now)
            if entry is None:
                continue
            fresh.append(entry)
            if entry.phase is Phase.QUEUED and (site := self._dispatch.schedule(entry, now)) is not None:
                sites[site.lane] = site
        for site in sites.values():
            self._dispatch.pump(site, now)
        if self._cache.full:
            for entry in fresh:
                if entry.phase is Phase.QUEUED and entry.result is None:
                    self._cache.free(entry)

    def _admit(self, partition: Partition, record: LaneRecord, now: float) -> Entry | None:
        """A new entry; None when the message is known."""
        command = record.command
        key = key_of(command.message_id)
        place = record.offset << 1 | record.urgent
        was, moved = None, False
        if (known := partition.entries.get(key)) is not None:
            was, moved = known.offset, known.phase is Phase.MOVED
        elif (mark := partition.marks.get(key)) is not None:
            was, moved = mark >> 1, mark & 1 == 1
        if was is not None:
            if was == place:
                return None  # this very record, read again after a restart
            # It left, and was sent back: later on the same lane. That can be read before the core hears that the
            # transaction with both is committed. An earlier one is a way back that it has been and gone again.
            newer = record.offset > was >> 1 or bool(was & 1) != record.urgent
            if not (command.moved_from and moved and newer):
                self._ledger.repeat(partition, record, now)
                return None
            partition.entries.pop(key, None)
            partition.marks.pop(key, None)
        accepted = command.accepted_at.timestamp()
        window = self._rules.policy(command).duplicate_window_s
        due = command.send_at.timestamp() if command.send_at is not None else 0.0
        state = State(
            Phase.QUEUED, record.urgent, record.offset, lane_name(record.lane), command.attempts, int(accepted * 1000),
            int(max(due, 0.0) * 1000), int(command.expires_at.timestamp()), int(accepted) + window,
            tenant=tenant_number(command.tenant), priority=PRIORITIES.index(command.priority),
        )  # fmt: skip
        entry = Entry(key, self._dispatch.site(partition, state.lane), state)
        partition.entries[key] = entry
        if command.via:
            # Of a domain whose site was this one: not known here, so it goes on to the lane it is for.
            self._verdicts.pass_on(entry, self._rules.onward(command))
            return None
        self._cache.hold(entry, record)
        self._ledger.mark(entry)
        if entry.expires_at <= now:
            self._ledger.settle(entry, Result(Kind.EXPIRED, int(now * 1000)), now)
        else:
            partition.expiry.add(entry.expires_at, entry)
        return entry

    def bodies(self, ticket: int, found: Bodies, now: float) -> None:
        site, answers = self._cache.answered(ticket, found)
        for entry, record in answers:
            gone = record is None
            self._cache.hold(entry, record if record is not None else _stub(entry))
            if entry.phase is Phase.SENDING:
                # RFC 1047: the former owner may have written the dot.
                self._ledger.settle(entry, self.doubt(entry, "owner_lost", now), now)
                if not entry.ended:
                    entry.next_at = int(now * 1000)
                    entry.site.partition.expiry.add(entry.expires_at, entry)
            elif entry.result is not None:
                # Asked for by its site, it came to this result since: that is not committed yet, so not to be told.
                if site is None:
                    self._ledger.publish(entry)
            elif gone:
                self._ledger.settle(entry, Result(Kind.FAILED, int(now * 1000), reason="content_gone"), now)
        if site is not None:
            self._dispatch.pump(site, now)

    def doubt(self, entry: Entry, reason: str, now: float) -> Result:
        """RFC 1047: the dot may have been written, and its reply was not read."""
        # While an entry is sending, `next_at` is when its attempt began.
        started = max(1, entry.next_at)
        return Result(Kind.UNKNOWN, int(now * 1000), started, stage="dot", reason=reason, worker=self._rules.worker)


def _stub(entry: Entry) -> LaneRecord:
    """What stands for a lane record that is gone: enough for facts with the right ids."""
    accepted = datetime.fromtimestamp(entry.accepted_at / 1000, UTC)
    command = MessageQueue.from_cause(
        message_id_of(entry.key),
        occurred_at=accepted,
        message_id=message_id_of(entry.key),
        recipient_id="",
        recipient_domain="",
        recipient="",
        idempotency_key="",
        site="",
        content=Inline(from_="", subject=""),
        accepted_at=accepted,
        expires_at=datetime.fromtimestamp(entry.expires_at, UTC),
    )
    return LaneRecord(entry.urgent, entry.offset >> 1, entry.site.lane, command, b"")
