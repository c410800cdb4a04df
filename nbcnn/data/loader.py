"""Batches of a data set, in a new order each epoch, made by threads ahead of their use."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from nbcnn.arguments import check_count
from nbcnn.data.augment import Augment
from nbcnn.data.dataset import Batch, Dataset
from nbcnn.errors import DataError, InputError

__all__ = ["Loader"]

AHEAD = 2  # finished batches that may wait, on top of one in the making for each thread


class Loader:
    """Iterates over (x, t) batches; each pass over it is the next epoch.

    x: float32 (B, C, H, W), t: int64 (B,), as the data set gives them; the last batch may be smaller, or is left out
        with `drop_last`.
    seed: with the epoch's number it decides the order and, with the batch's number, every random change, so that both
        are the same at any number of workers, and after a resume that sets `epoch`.
    workers: threads that make batches, 0 to make each when it is asked for. Their exceptions reach the consumer.
    augment: random changes to each batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        workers: int = 1,
        augment: Augment | None = None,
    ) -> None:
        check_count("batch_size", batch_size)
        if seed < 0 or workers < 0:
            raise InputError(f"seed and workers must not be negative, they are {seed} and {workers}")
        self.dataset, self.batch_size, self.shuffle, self.seed = dataset, batch_size, shuffle, seed
        self.drop_last, self.workers, self.augment = drop_last, workers, augment
        self.epoch = 0
        if not len(self):
            raise DataError(f"{len(dataset)} samples do not make one batch of {batch_size}: lower the batch size")

    def __len__(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __iter__(self) -> Iterator[Batch]:
        epoch, self.epoch = self.epoch, self.epoch + 1
        return self._prefetched(epoch) if self.workers else self._in_turn(epoch)

    def order(self, epoch: int) -> np.ndarray:
        """The samples' order in an epoch, (N,)."""
        count = len(self.dataset)
        return np.random.default_rng((self.seed, epoch)).permutation(count) if self.shuffle else np.arange(count)

    def _in_turn(self, epoch: int) -> Iterator[Batch]:
        order = self.order(epoch)
        for index in range(len(self)):
            yield self._make(epoch, index, order)

    def _prefetched(self, epoch: int) -> Iterator[Batch]:
        order = self.order(epoch)
        waiting: deque[Future[Batch]] = deque()
        pool = ThreadPoolExecutor(self.workers, thread_name_prefix="nbcnn-loader")
        try:
            for index in range(len(self)):
                waiting.append(pool.submit(self._make, epoch, index, order))
                if len(waiting) == self.workers + AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # also when the consumer stops early: nothing is started any more, and no thread stays behind
            pool.shutdown(wait=True, cancel_futures=True)

    def _make(self, epoch: int, index: int, order: np.ndarray) -> Batch:
        x, t = self.dataset.batch(order[index * self.batch_size : (index + 1) * self.batch_size])
        if self.augment is not None:
            # index + 1, because (seed, epoch, 0) would seed the very stream that made the order
            x = self.augment(x, np.random.default_rng((self.seed, epoch, index + 1)))
        return x, t
