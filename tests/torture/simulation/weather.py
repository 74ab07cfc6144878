"""A store whose network is what it is: answers are lost, requests come twice, or take effect late.

What is sent may take effect at once, twice, not at all, or later than requests that were sent after it. Where
no client without conditional writes could come through, the fake keeps to what servers keep to, and says so:

- Whatever a late request changes, it takes effect within a quarter of an hour, also behind a repeat that
  succeeded and behind newer changes of the same key.
- What a process sent that died is no exception: its last requests, too, may take effect later, or never.
- A create comes twice only where its answer is lost, too: of two uploads no answer would tell us the second
  one's id, and no listing would be made.
- Its clock is its own, and is never set.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from msgspec.structs import replace

from syncd.core.errors import AccessRefused, StoreError, StoreUnavailable
from syncd.core.model import Content
from syncd.core.plan import LATE_EFFECT_NS
from tests.support.faults import Call
from tests.support.store import SMALL_LIMITS, FakeStore

CHANGES = frozenset({
    "put_object", "copy_object", "complete_multipart_upload", "delete_object",
    "create_multipart_upload", "upload_part", "upload_part_copy", "abort_multipart_upload",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Weather:
    """Chances, per request."""

    lost_before: float = 0.0
    lost_after: float = 0.0
    late: float = 0.0
    twice: float = 0.0
    busy: float = 0.0
    """The store says that it has too much to do."""


FAIR = Weather()
STORM = Weather(lost_before=0.1, lost_after=0.15, late=0.12, twice=0.1, busy=0.1)


EPOCH_NS = 1_600_000_000 * 10**9
"""The store's clock is far from ours, so that the two cannot be mixed up."""


class Lost(StoreUnavailable):
    """No answer says whether it happened."""

    def __init__(self, call: str) -> None:
        super().__init__(f"the answer to {call} was lost", outcome_unknown=True)


@dataclass(slots=True)
class _Late:
    """A request on its way."""

    verb: str
    key: str
    effect: Callable[[], object] = field(repr=False)
    until: float
    """The latest that it takes effect, by the monotonic clock."""


class WeatherStore(FakeStore):
    """`FakeStore` under a sky. `breathe` is called before and after every effect; it may raise.

    `watch` hears of every request as it is made, `settled` of every effect on objects.
    """

    def __init__(
        self,
        chance: random.Random,
        *,
        monotonic: Callable[[], float],
        page_size: int = 1000,
        random_etags: bool = False,
        completes_again: bool = False,
        completes_with_meta: bool = False,
        breathe: Callable[[str, bool], None],
        watch: Callable[[Call], None],
        settled: Callable[[str], None],
    ) -> None:
        super().__init__(
            replace(SMALL_LIMITS, completes_with_meta=completes_with_meta),
            page_size=page_size,
            random_etags=random_etags,
            completes_again=completes_again,
            now_ns=lambda: (
                EPOCH_NS + round((self._monotonic() if self._moment is None else self._moment) * 1e9)
            ),
            seed=chance.randrange(1 << 32),
        )
        self.weather = FAIR
        self.down: StoreError | None = None
        """Why nothing works at all."""
        self._sky = chance
        self._breathe = breathe
        self._watch = watch
        self._settled = settled
        self._late: list[_Late] = []
        self._moment: float | None = None
        """When the effect takes place that is carried out now, by the monotonic clock; None: now."""
        self._monotonic = monotonic

    def _date(self) -> int:
        return EPOCH_NS + round((self._monotonic() if self._moment is None else self._moment) * 1e9)

    def get_object(self, key: str, *range_and_condition: Any) -> Content:
        """The neutral question fails, too, while nothing works."""
        if self.down is not None:
            self._watch(Call("get_object", 0, key))
            raise self.down.with_traceback(None)
        return super().get_object(key, *range_and_condition)

    # ---- the stations of a request ----------------------------------------------------------------------

    @contextmanager
    def _call(
        self, verb: str, key: str, upload_id: str = "", number: int = 0, size: int = 0
    ) -> Iterator[None]:
        with super()._call(verb, key, upload_id, number, size):
            yield
            self._settled(verb)

    def _send(self, verb: str, key: str, effect: Callable[[], object]) -> object:
        """One request and what becomes of it. `effect` may be called never, once, twice, now or later."""
        self._watch(Call(verb, 0, key))
        try:
            self._breathe(verb, False)
        except BaseException:  # the sender died, and what became of it is unknown
            if verb in CHANGES and self._sky.random() < 0.5:
                self._delay(verb, key, effect)
            raise
        if self.down is not None:
            raise self.down.with_traceback(None)
        sky, chance = self.weather, self._sky.random
        if chance() < sky.busy:
            raise StoreUnavailable("slow down", status=503, code="SlowDown")
        if chance() < sky.lost_before:
            raise Lost(verb)
        if verb in CHANGES and chance() < sky.late:
            self._delay(verb, key, effect)
            raise Lost(verb)
        lost = chance() < sky.lost_after
        again = verb in CHANGES and chance() < sky.twice
        self._land()
        answer = effect()
        if again and (verb != "create_multipart_upload" or lost):
            answer = self._again(effect, answer)
        self._breathe(verb, True)
        if lost:
            raise Lost(verb)
        return answer

    def _delay(self, verb: str, key: str, effect: Callable[[], object]) -> None:
        longest = LATE_EFFECT_NS / 1e9 - 1.0
        self._late.append(_Late(verb, key, effect, self._monotonic() + longest * self._sky.random()))

    def _again(self, effect: Callable[[], object], first: object) -> object:
        """The same once more; whose answer comes is chance."""
        try:
            second = effect()
        except StoreError:
            if self._sky.random() < 0.5:
                raise
            return first
        return second if self._sky.random() < 0.5 else first

    def _land(self) -> None:
        """Late requests that take effect before this one: those that must, and any other by chance."""
        for late in list(self._late):
            if late.until <= self._monotonic() or self._sky.random() < 0.1:
                self._arrive(late)

    def _arrive(self, late: _Late) -> None:
        """It may be looked at later than it took place, but dates are those of then."""
        self._late.remove(late)
        self._moment = min(late.until, self._monotonic())
        try:
            late.effect()
        except StoreError:
            return  # the answer is not waited for any more
        finally:
            self._moment = None

    def arrive_all(self) -> None:
        """Whatever was on its way arrives, in any order; its sender is gone, or the calm begins."""
        while self._late:
            self._arrive(self._sky.choice(self._late))

    def clear_up(self) -> None:
        """The sky is blue."""
        self.weather, self.down = FAIR, None
        self.arrive_all()


def _under_the_sky(verb: str) -> Callable[..., object]:
    plain = getattr(FakeStore, verb)

    def weathered(self: WeatherStore, key: str, *args: object) -> object:
        return self._send(verb, key, lambda: plain(self, key, *args))

    return weathered


def _copy_under_the_sky(self: WeatherStore, source_key: str, key: str, *args: object) -> object:
    return self._send(
        "copy_object",
        key,
        lambda: FakeStore.copy_object(self, source_key, key, *args),  # type: ignore[arg-type]
    )


for _verb in CHANGES | {"head_object", "list_parts"}:
    setattr(WeatherStore, _verb, _under_the_sky(_verb))
WeatherStore.copy_object = _copy_under_the_sky  # type: ignore[method-assign,assignment]


def _listed_under_the_sky(verb: str) -> Callable[..., object]:
    plain = getattr(FakeStore, verb)

    def weathered(self: WeatherStore, prefix: str, *after: str) -> Iterator[object]:
        found = self._send(verb, prefix, lambda: list(plain(self, prefix, *after)))
        assert isinstance(found, list)
        return iter(found)

    return weathered


for _verb in ("list_objects", "list_multipart_uploads"):
    setattr(WeatherStore, _verb, _listed_under_the_sky(_verb))

REFUSED = AccessRefused("the key is not known", status=403, code="InvalidAccessKeyId")
UNREACHABLE = StoreUnavailable("the network is unreachable")
HANGING = StoreUnavailable("no answer came", outcome_unknown=True)
OVERLOADED = StoreUnavailable("come back later", status=503, code="SlowDown", retry_after_seconds=120.0)
OUTAGES = {"refused": REFUSED, "unreachable": UNREACHABLE, "hanging": HANGING, "overloaded": OVERLOADED}
