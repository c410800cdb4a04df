"""Batches: order, epochs, threads, exceptions, early exits, augmentation."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from nbcnn.data import ArrayDataset, Augment, Loader
from nbcnn.data.dataset import Batch
from nbcnn.errors import DataError, InputError


class Counting(ArrayDataset):
    """Ten samples whose value is their index; counts the batches asked for and fails at one of them on demand."""

    def __init__(self, count: int = 10, bad: int | None = None, pause: float = 0.0) -> None:
        super().__init__(np.arange(float(count))[:, None], np.arange(count))
        self.asked, self.bad, self.pause = 0, bad, pause

    def batch(self, indices: np.ndarray) -> Batch:
        self.asked += 1
        time.sleep(self.pause)
        if self.bad in indices:
            raise DataError(f"sample {self.bad} is bad")
        return super().batch(indices)


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("nbcnn-loader")]


def labels(loader: Loader) -> list[int]:
    return [int(label) for _, t in loader for label in t]


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_epoch_has_every_sample_once(workers: int) -> None:
    loader = Loader(Counting(), 4, seed=5, workers=workers)
    first, second = labels(loader), labels(loader)
    assert len(loader) == 3 and loader.epoch == 2
    assert sorted(first) == sorted(second) == list(range(10))
    assert first != second
    assert not threads()


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    orders = [labels(Loader(Counting(), 4, seed=5, workers=workers)) for workers in (0, 1, 4)]
    assert orders[0] == orders[1] == orders[2] != labels(Loader(Counting(), 4, seed=6))
    resumed = Loader(Counting(), 3, seed=5)
    resumed.epoch = 1
    running = Loader(Counting(), 4, seed=5)
    list(running)
    assert labels(resumed) == labels(running)
    assert labels(Loader(Counting(), 4, shuffle=False)) == list(range(10))


def test_drop_last() -> None:
    loader = Loader(Counting(), 4, drop_last=True)
    assert len(loader) == 2 and [len(t) for _, t in loader] == [4, 4]
    with pytest.raises(DataError, match="10 samples do not make one batch of 11"):
        Loader(Counting(), 11, drop_last=True)


def test_arguments_that_make_no_sense() -> None:
    with pytest.raises(InputError, match="batch_size must be a whole number of at least 1, not 0"):
        Loader(Counting(), 0)
    for seed, workers in ((-1, 1), (0, -1)):
        with pytest.raises(InputError, match="must not be negative"):
            Loader(Counting(), 1, seed=seed, workers=workers)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_an_exception_in_a_thread_reaches_the_consumer(workers: int) -> None:
    seen = 0
    with pytest.raises(DataError, match="sample 5 is bad"):
        for _ in Loader(Counting(bad=5), 2, shuffle=False, workers=workers):
            seen += 1
    assert seen == 2  # the batches before the bad one arrive in order
    assert not threads()


@pytest.mark.parametrize("workers", [1, 3])
def test_leaving_early_stops_the_threads(workers: int) -> None:
    data = Counting(1000, pause=0.001)
    for _ in Loader(data, 1, workers=workers):
        break
    assert not threads()
    assert data.asked <= workers + 3
    with pytest.raises(ZeroDivisionError):
        for _ in Loader(data, 1, workers=workers):
            1 / 0  # noqa: B018
    assert not threads()


def test_few_batches_are_made_ahead() -> None:
    data = Counting(1000)
    batches = iter(Loader(data, 1, workers=2))
    next(batches)
    time.sleep(0.05)
    assert data.asked <= 4
    batches.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
def test_augmented_pictures_are_shifted_or_mirrored_originals(layout: str) -> None:
    x = np.random.default_rng(0).random((64, 2, 5, 6), dtype=np.float32) + 1
    given = x if layout == "NCHW" else x.transpose(0, 2, 3, 1)
    got = Augment(flip=True, crop=1, layout=layout)(given, np.random.default_rng(3))
    got = got if layout == "NCHW" else got.transpose(0, 3, 1, 2)
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    seen = set()
    for original, changed in zip(padded, got, strict=True):
        options = {
            (top, left, step): original[:, top : top + 5, left : left + 6][..., ::step]
            for top in range(3)
            for left in range(3)
            for step in (1, -1)
        }
        found = [key for key, picture in options.items() if np.array_equal(picture, changed)]
        assert len(found) == 1
        seen.add(found[0])
    assert len(seen) == 18  # of 3 x 3 shifts, each mirrored or not


def test_augmentation_is_the_same_at_any_number_of_workers() -> None:
    x = np.random.default_rng(0).random((20, 1, 4, 4), dtype=np.float32)
    data = ArrayDataset(x, np.arange(20))

    def epochs(workers: int) -> np.ndarray:
        loader = Loader(data, 6, seed=1, workers=workers, augment=Augment(flip=True, crop=2))
        return np.concatenate([batch for _ in range(2) for batch, _ in loader])

    one = epochs(0)
    np.testing.assert_array_equal(one, epochs(1))
    np.testing.assert_array_equal(one, epochs(4))
    assert not np.array_equal(one[:20], one[20:])


def test_augmentation_leaves_the_data_set_alone() -> None:
    x = np.ones((4, 1, 4, 4), np.float32)
    list(Loader(ArrayDataset(x, np.arange(4)), 2, augment=Augment(flip=True, crop=2)))
    assert (x == 1).all()
    with pytest.raises(InputError, match="need pictures"):
        Augment(flip=True)(np.zeros((2, 3), np.float32), np.random.default_rng(0))
    with pytest.raises(InputError, match="must not be negative"):
        Augment(crop=-1)
    with pytest.raises(InputError, match="NCHW or NHWC"):
        Augment(layout="CHW")
