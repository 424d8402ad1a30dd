"""The broker's side of a consumer group: members, epochs, who owns what, committed and pending offsets.

As KIP-848 does it: a partition goes to its next owner only after the last one said that it let go of it, or was
expelled for silence; a member's epoch moves when it has let go of everything it must. An offset commit is checked for
member and epoch, not for the ownership of the partition.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Name = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a consumer shows with its offsets: `consumer_group_metadata()`."""

    member: str
    epoch: int


@dataclass(slots=True)
class Member:
    epoch: int
    heard: float
    owned: frozenset[int] = frozenset()  # lane partitions, as the broker sees them
    target: frozenset[int] = frozenset()
    leaving: frozenset[int] = frozenset()  # of those owned, what it was told to let go of
    previous: int = -1  # accepted in a heartbeat: the answer that raised the epoch may have been lost


@dataclass(slots=True)
class Group:
    """`partitions` is how many lane partitions there are; each stands for the lane and its urgent twin."""

    partitions: int
    session: float = 15.0
    epoch: int = 1
    members: dict[str, Member] = field(default_factory=dict)
    committed: dict[Name, int] = field(default_factory=dict)
    pending: dict[Name, set[int]] = field(default_factory=dict)

    def admits(self, metadata: Metadata, now: float) -> bool:
        self.expire(now)
        if metadata.epoch <= 0:
            return not self.members  # the real one lets a caller without an epoch commit to some empty groups
        member = self.members.get(metadata.member)
        return member is not None and member.epoch == metadata.epoch

    def heartbeat(self, name: str, epoch: int, owned: frozenset[int], now: float) -> tuple[int, frozenset[int]] | None:
        """The member's epoch and the partitions it should hold now; None: unknown, so it has lost what it had."""
        self.expire(now)
        member = self.members.get(name)
        if epoch == 0:
            if member is not None:
                del self.members[name]  # a member that joins again gave up what it had
            member = self.members[name] = Member(0, now)
            self._deal()
        elif member is None or epoch not in (member.epoch, member.previous):
            return None
        member.heard = now
        # Told once, it must, even if the partition is to be its own again: until then its epoch stays.
        member.leaving = owned & (member.leaving | owned - member.target)
        if not member.leaving:
            # Nothing left to let go of: the member may see the newest epoch, and what others have released.
            if member.epoch != self.epoch:
                member.previous, member.epoch = epoch, self.epoch
            taken = frozenset().union(*(other.owned for other in self.members.values() if other is not member))
            member.owned = owned | (member.target - taken)
        else:
            member.owned = owned
        return member.epoch, member.owned & member.target - member.leaving

    def leave(self, name: str) -> None:
        if self.members.pop(name, None) is not None:
            self._deal()

    def expire(self, now: float) -> None:
        silent = [name for name, member in self.members.items() if now - member.heard > self.session]
        for name in silent:
            del self.members[name]
        if silent:
            self._deal()

    def stable(self, names: list[Name]) -> bool:
        return not any(self.pending.get(name) for name in names)

    def _deal(self) -> None:
        """The range assignor, for members in the order of their names."""
        self.epoch += 1
        names = sorted(self.members)
        for at, name in enumerate(names):
            share, extra = divmod(self.partitions, len(names))
            first = at * share + min(at, extra)
            self.members[name].target = frozenset(range(first, first + share + (at < extra)))
