"""The order and the arithmetic of timings, with a clock that only moves when it is told to."""

import pytest

from nbcnn.report.timing import Comparison, Plan, Side, Timing, compare


class FakeClock:
    """Seconds that pass only in sleeps and in the calls of sides made by `side`; `log` keeps what happened."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float, /) -> None:
        self.now += seconds
        self.log.append("pause")

    def side(self, name: str, *seconds: float) -> Side:
        """A side whose calls take these seconds in turn, and the last of them for ever after."""
        waiting = list(seconds)

        def call() -> None:
            self.now += waiting.pop(0) if len(waiting) > 1 else waiting[0]
            self.log.append(name)

        return Side(name, call)


def test_sides_alternate_in_blocks_after_a_pause_and_an_untimed_call() -> None:
    clock = FakeClock()
    compare([clock.side("a", 1.0), clock.side("b", 1.0)], Plan(blocks=2, calls=2), clock)
    assert clock.log == ["pause", "a", "a", "a", "pause", "b", "b", "b"] * 2


def test_the_first_call_of_a_block_is_not_timed() -> None:
    clock = FakeClock()
    found = compare([clock.side("a", 9.0, 1.0, 3.0, 9.0, 5.0)], Plan(blocks=2, calls=2, pause=0.0), clock)
    assert found["a"].blocks == [[1.0, 3.0], [5.0, 5.0]]


def test_calls_follow_from_the_time_of_a_block() -> None:
    clock = FakeClock()
    found = compare([clock.side("a", 0.25), clock.side("b", 0.5)], Plan(blocks=3, seconds=2.0), clock)
    assert [len(block) for block in found["a"].blocks] == [8, 8, 8]
    assert [len(block) for block in found["b"].blocks] == [4, 4, 4]


@pytest.mark.parametrize(("once", "calls"), [(100.0, 3), (0.5, 4), (1e-6, 1000), (0.0, 1000)])
def test_calls_are_held_between_three_and_a_thousand(once: float, calls: int) -> None:
    assert Plan(seconds=2.0).calls_for(once) == calls


def test_statistics() -> None:
    timing = Timing("a", [[0.005, 0.001], [0.003, 0.002, 0.004]])
    assert timing.median == 0.003
    assert timing.minimum == 0.001
    assert timing.quartiles == pytest.approx((0.002, 0.004))
    found = timing.as_dict()
    assert found["median_ms"] == pytest.approx(3)
    assert found["quartiles_ms"] == pytest.approx([2, 4])
    assert found["calls"] == 5


def test_quartiles_of_one_call() -> None:
    assert Timing("a", [[2.0]]).quartiles == (2.0, 2.0)


def test_ratios_are_theirs_over_ours() -> None:
    found = Comparison({"ours": Timing("ours", [[1.0], [2.0]]), "theirs": Timing("theirs", [[3.0], [3.0]])})
    assert found.ratio("theirs", "ours") == 2.0
    assert found.ratio_range("theirs", "ours") == (1.5, 3.0)
    assert found.fastest(["theirs", "ours"]) == "ours"


def test_two_sides_of_one_name_are_refused() -> None:
    clock = FakeClock()
    with pytest.raises(ValueError, match="one name"):
        compare([clock.side("a", 1.0), clock.side("a", 1.0)], clock=clock)
