"""Programs of the element-wise kernel: a step after the other, each a code of kernels/opcodes.py.

While it is written, a program gives every result a number of its own, after those of the two tensors; `allocate` turns
these numbers into the slots that the kernel knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from nbcnn.kernels import opcodes

__all__ = ["TENSORS", "Number", "Program", "Step", "allocate"]

TENSORS = (opcodes.X, opcodes.Z)
Number = float | str
"""A constant of a step: a number, or the name of a value that holds one."""
Step = tuple[int, int, int, int]
"""What opcodes.py says of a step: the code, two operands, and where the result goes."""


@dataclass
class Program:
    """steps: code and two operands, each the number of a tensor or of a result. constants: two for each step."""

    steps: list[tuple[int, int, int]] = field(default_factory=list)
    constants: list[Number] = field(default_factory=list)

    def step(self, code: int, first: int, second: int = 0, a: Number = 0.0, b: Number = 0.0) -> int:
        """Add a step; returns the number of its result."""
        self.steps.append((code, first, second))
        self.constants += [a, b]
        return self.last

    def pair(self, code: int, first: int, second: int, a: Number = 0.0, b: Number = 0.0) -> int:
        """As step, for an operation of two operands."""
        return self.step(opcodes.PAIR + code, first, second, a, b)

    @property
    def last(self) -> int:
        return len(self.steps) - 1 + len(TENSORS)

    def code(self, result: int) -> int:
        """What computes a result; -1 for a tensor."""
        return self.steps[result - len(TENSORS)][0] if result >= len(TENSORS) else -1

    def constants_of(self, result: int) -> list[Number]:
        index = result - len(TENSORS)
        return self.constants[2 * index : 2 * index + 2]

    def pruned(self) -> Program:
        """What the last result rests on."""
        first = len(TENSORS)
        needed = {self.last}
        for index in reversed(range(len(self.steps))):
            if first + index in needed:
                needed.update(operands(self.steps[index]))
        found, moved = Program(), dict(zip(TENSORS, TENSORS, strict=True))
        for index, (code, one, two) in enumerate(self.steps):
            if first + index in needed:
                a, b = self.constants_of(first + index)
                moved[first + index] = found.step(code, moved.get(one, 0), moved.get(two, 0), a, b)
        return found


def operands(step: tuple[int, int, int]) -> tuple[int, ...]:
    """What a step reads."""
    code, one, two = step
    return () if code == opcodes.FILL else (one, two) if code >= opcodes.PAIR else (one,)


def allocate(steps: Sequence[tuple[int, int, int]]) -> list[Step]:
    """The steps of a pruned program, with slots for their results, as few as can be."""
    first = len(TENSORS)
    last_read = {o: index for index, step in enumerate(steps) for o in operands(step)}
    where = dict(zip(TENSORS, TENSORS, strict=True))
    free: list[int] = []
    used = 0
    program = []
    for index, step in enumerate(steps):
        read = operands(step)
        if index == len(steps) - 1:
            slot = opcodes.Y
        elif free:
            slot = free.pop()
        else:
            slot, used = opcodes.SLOT + used, used + 1
        places = [where[o] for o in read] + [0, 0]
        program.append((step[0], places[0], places[1], slot))
        where[first + index] = slot
        # Only now, because a step whose operand and result are one is not vectorized.
        free += [where[o] for o in set(read) if o >= first and last_read[o] == index]
    return program
