"""What every protocol's two sides share: five phases, signed keys, and everybody's word on who survived.

    keys    clients send fresh public keys, signed by their identity
    shares  clients send each neighbour, sealed, what it will need should they vanish
    masked  clients send their masked words
    check   clients sign the list of those whose words are in the sum
    unmask  clients who see enough of such signatures send what takes the masks of that list off

Each side is a machine: a message in, a message out; no clock, no sockets, no randomness but what `fresh` gives. The
server closes a phase when it likes, and goes on with those who answered. A message that comes twice has one answer.
Whatever is not as it must be ends that machine, with the reason: the sum is exact, or there is none. A server that
cheats cannot show different clients different lists (`check`), nor swap keys of identities they know (`roster`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import ClassVar, TypeVar

import msgspec
import numpy as np

from nexus.federate.core.secure import primitives
from nexus.federate.core.secure.primitives import Words
from nexus.kernel.errors import JobError, UsageError

PHASES = ("keys", "shares", "masked", "check", "unmask")
LEAST = 3  # members: of a sum of two, each knows the other's part
T = TypeVar("T")


@dataclass(frozen=True)
class Group:
    """Who takes part in one attempt at a round, and on what terms. Both sides derive everything else from it."""

    run: str
    number: int
    attempt: int
    members: tuple[int, ...]
    degree: int  # how many neighbours each has
    threshold: int  # how many of a client's neighbourhood (itself included) must be there for its part to be unmasked
    size: int  # words

    def check(self) -> None:
        """What a client demands, whatever a server says. Raises JobError."""
        whole = len(set(self.members)) == len(self.members) >= LEAST
        if not whole or not 2 * self.threshold > self.degree + 1 >= self.threshold > 1:
            raise JobError(
                f"the terms of this sum protect nobody: {len(self.members)} members, {self.threshold} of "
                f"{self.degree + 1} unmask it",
                hint=f"There must be {LEAST} members or more, and the threshold above half of a neighbourhood.",
            )

    @cached_property
    def name(self) -> bytes:
        """What every signature and every key is bound to."""
        return sha256(msgspec.msgpack.encode(self)).digest()

    def order(self) -> list[int]:
        """The members in an order that follows from the group's name alone."""
        return sorted(self.members, key=lambda member: sha256(self.name + member.to_bytes(8, "big")).digest())

    def neighbourhoods(self) -> dict[int, tuple[int, ...]]:
        """Each member's neighbours and itself, ascending: the ring of `order`, each with those nearest to it."""
        order, size = self.order(), len(self.members)
        if self.degree >= size - 1:
            return dict.fromkeys(order, tuple(sorted(order)))
        reach = range(-(self.degree // 2), self.degree // 2 + 1)
        return {one: tuple(sorted(order[(at + step) % size] for step in reach)) for at, one in enumerate(order)}


class Advert(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A client's keys for one attempt, and its identity's signature over them."""

    keys: list[bytes]
    signature: bytes


def decode(data: bytes, kind: type[T]) -> T:
    """Raises UsageError for what is no such message."""
    try:
        return msgspec.msgpack.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise UsageError(
            f"not a message of this phase: {error}", hint="Both sides must run the same version."
        ) from error


encode = msgspec.msgpack.encode


class Client(ABC):
    """One client in one attempt. `roster`: the identities that it knows; `words` gives its coded update, when asked."""

    keys: ClassVar[int]  # how many public keys it advertises: the first one is for sealing

    def __init__(
        self,
        group: Group,
        me: int,
        identity: bytes,
        roster: Mapping[int, bytes],
        words: Callable[[], Words],
        fresh: Callable[[], bytes],
    ) -> None:
        """Raises JobError for terms that protect nobody."""
        group.check()
        if me not in group.members:
            raise JobError(f"client {me} is no member of this sum", hint="The server mixes up its clients.")
        self.group, self.me = group, me
        self.neighbours = group.neighbourhoods()[me]
        self.survivors: tuple[int, ...] = ()
        self._identity, self._roster, self._words, self._fresh = identity, roster, words, fresh
        self._private = [fresh() for _ in range(self.keys)]
        self._adverts: dict[int, Advert] = {}
        self._answers: list[tuple[bytes, bytes]] = []  # by phase: the digest of what was asked, and what was said

    def answer(self, phase: str, message: bytes) -> bytes:
        """Phases come in order; the same question gets the same answer. Raises JobError: this client is out."""
        at, asked = PHASES.index(phase), sha256(message).digest()
        if at < len(self._answers):
            if self._answers[at][0] != asked:
                raise JobError(f"the server asked twice in phase {phase}, and not the same", hint="Do not trust it.")
            return self._answers[at][1]
        if at != len(self._answers):
            raise JobError(f"the server asked for phase {phase} too early", hint="Do not trust it.")
        try:
            said: bytes = getattr(self, f"_{phase}")(message)
        except UsageError as error:
            raise JobError(error.message, hint=error.hint) from error
        self._answers.append((asked, said))
        return said

    def _keys(self, message: bytes) -> bytes:
        keys = [primitives.public(private) for private in self._private]
        text = self.group.name + b"keys" + self.me.to_bytes(8, "big") + b"".join(keys)
        return encode(Advert(keys, primitives.sign(self._identity, text)))

    def _know(self, message: bytes) -> list[int]:
        """Check the neighbours' keys; who they are, without this one."""
        self._adverts = decode(message, dict[int, Advert])
        others = [one for one in self._adverts if one != self.me]
        self._enough({*others, self.me}, "sent keys")
        for one in others:
            advert = self._adverts[one]
            text = self.group.name + b"keys" + one.to_bytes(8, "big") + b"".join(advert.keys)
            known = self._roster.get(one)
            if known is None or len(advert.keys) != self.keys or not primitives.signed(known, text, advert.signature):
                raise JobError(f"the keys of client {one} are not signed by it", hint="Do not trust this server.")
        seen = [key for one in others for key in self._adverts[one].keys]
        if len(set(seen)) != len(seen):
            raise JobError("two clients have the same key", hint="Do not trust this server.")
        return others

    def _enough(self, present: set[int], what: str) -> None:
        if not present <= set(self.neighbours) or self.me not in present:
            raise JobError("the server names clients that are no neighbours", hint="Do not trust this server.")
        if len(present) < self.group.threshold:
            raise JobError(
                f"only {len(present)} of {len(self.neighbours)} neighbours {what}, {self.group.threshold} are needed",
                hint="Too many clients dropped out: there is no sum.",
            )

    def _pair(self, key: int, sender: int, receiver: int, other: int, purpose: bytes) -> bytes:
        info = self.group.name + purpose + sender.to_bytes(8, "big") + receiver.to_bytes(8, "big")
        return primitives.agree(self._private[key], self._adverts[other].keys[key], info)

    def _seal(self, to: int, message: bytes) -> bytes:
        return primitives.seal(self._pair(0, self.me, to, to, b"seal"), message)

    def _unseal(self, sender: int, sealed: bytes) -> bytes:
        if sender not in self._adverts:
            raise JobError(f"client {sender} has sent no keys", hint="Do not trust this server.")
        return primitives.unseal(self._pair(0, sender, self.me, sender, b"seal"), sealed)

    def _check(self, message: bytes) -> bytes:
        survivors = decode(message, list[int])
        if survivors != sorted(set(survivors)) or not set(survivors) <= set(self.group.members):
            raise JobError("the list of survivors is none", hint="Do not trust this server.")
        if len(survivors) < LEAST:
            raise JobError(f"{len(survivors)} clients are too few for a sum", hint="Too many clients dropped out.")
        self._enough(set(survivors) & set(self.neighbours), "sent their part")
        self._survive(survivors)
        self.survivors = tuple(survivors)
        return primitives.sign(self._identity, _survivors_text(self.group, survivors))

    def _vouched(self, message: bytes) -> None:
        """Raises JobError unless enough neighbours signed the list that this client signed."""
        signatures = decode(message, dict[int, bytes])
        text = _survivors_text(self.group, list(self.survivors))
        agreed = {self.me} | {
            one
            for one, signature in signatures.items()
            if one in self.neighbours and one in self.survivors and one in self._roster
            if primitives.signed(self._roster[one], text, signature)
        }
        self._enough(agreed, "agree on who survived")

    @abstractmethod
    def _survive(self, survivors: list[int]) -> None:
        """Raises JobError if this client has to object to the list."""

    @abstractmethod
    def _shares(self, message: bytes) -> bytes: ...

    @abstractmethod
    def _masked(self, message: bytes) -> bytes: ...

    @abstractmethod
    def _unmask(self, message: bytes) -> bytes: ...


class Server(ABC):
    """The middle of one attempt. It sees keys, sealed boxes, masked words and the shares of `unmask`, and no update."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.phase = PHASES[0]
        self.hoods = group.neighbourhoods()
        self.present: dict[str, list[int]] = {}  # who answered, by phase
        self.sum: Words = np.zeros(0, np.uint32)  # at the end
        self._adverts: dict[int, Advert] = {}
        self._boxes: dict[int, dict[int, bytes]] = {}  # by receiver, then sender
        self._signatures: dict[int, bytes] = {}
        self._said: dict[int, bytes] = {}  # digests of this phase's messages
        self._asked: dict[int, bytes] = dict.fromkeys(group.members, b"")

    @property
    def survivors(self) -> list[int]:
        """Whose words are in the sum."""
        return self.present.get("masked", [])

    @property
    def missing(self) -> list[int]:
        """Who has not answered in this phase."""
        return [one for one in self._asked if one not in self._said]

    @property
    def answered(self) -> int:
        """How many have answered in this phase."""
        return len(self._said)

    def question(self, client: int) -> bytes:
        """What this phase asks a client. Raises UsageError for one who is not, or no longer, asked."""
        if client not in self._asked:
            raise UsageError(f"client {client} takes no part in phase {self.phase}", hint="It dropped out before.")
        return self._asked[client]

    def take(self, client: int, phase: str, message: bytes) -> bool:
        """A client's answer; False: it had answered already, and that counts. Raises UsageError."""
        if phase != self.phase:
            raise UsageError(f"phase {phase} is not open; {self.phase} is", hint="Ask for work again.")
        self.question(client)
        if client in self._said:
            return False
        getattr(self, f"_take_{phase}")(client, message)
        self._said[client] = sha256(message).digest()
        return True

    def close(self) -> None:
        """End the phase and open the next; after the last, there is a `sum`. Raises JobError: there will be none."""
        present = sorted(self._said)
        self.present[self.phase] = present
        if len(present) < max(LEAST, self.group.threshold):
            raise JobError(
                f"{len(present)} of {len(self.group.members)} clients answered in phase {self.phase} of secure "
                f"aggregation, {max(LEAST, self.group.threshold)} are needed",
                hint="Too many dropped out. A lower secure_aggregation.threshold or a larger cohort bears more.",
            )
        at = PHASES.index(self.phase)
        self._asked = dict(sorted(getattr(self, f"_after_{self.phase}")(present).items()))
        self._said = {}
        self.phase = PHASES[at + 1] if at + 1 < len(PHASES) else "done"

    def _take_keys(self, client: int, message: bytes) -> None:
        advert = decode(message, Advert)
        if not all(len(key) == primitives.KEY_B for key in advert.keys):
            raise UsageError("a key has 32 bytes", hint="Both sides must run the same version.")
        self._adverts[client] = advert

    def _after_keys(self, present: list[int]) -> dict[int, bytes]:
        here = set(present)
        return {
            one: encode({other: self._adverts[other] for other in self.hoods[one] if other in here}) for one in present
        }

    def _take_boxes(self, client: int, boxes: Mapping[int, bytes]) -> None:
        wanted = {one for one in self.hoods[client] if one in self.present["keys"]} - {client}
        if set(boxes) != wanted:
            raise UsageError("there must be one box for each neighbour", hint="Both sides must run the same version.")
        for receiver, box in boxes.items():
            self._boxes.setdefault(receiver, {})[client] = box

    def _after_shares(self, present: list[int]) -> dict[int, bytes]:
        here = set(present)
        asked = {}
        for one in present:
            boxes = self._boxes.get(one, {})
            asked[one] = encode({sender: box for sender, box in boxes.items() if sender in here})
        self._boxes = {}
        return asked

    def _after_masked(self, present: list[int]) -> dict[int, bytes]:
        return dict.fromkeys(present, encode(present))

    def _take_check(self, client: int, message: bytes) -> None:
        if len(message) != 64:
            raise UsageError("a signature has 64 bytes", hint="Both sides must run the same version.")
        self._signatures[client] = message

    def _after_check(self, present: list[int]) -> dict[int, bytes]:
        here = set(present)
        return {
            one: encode({other: self._signatures[other] for other in self.hoods[one] if other in here})
            for one in present
        }

    def _after_unmask(self, present: list[int]) -> dict[int, bytes]:
        self.sum = self._unmasked(present)
        return {}

    @abstractmethod
    def _unmasked(self, present: list[int]) -> Words: ...


def _survivors_text(group: Group, survivors: list[int]) -> bytes:
    return group.name + b"survivors" + encode(survivors)
