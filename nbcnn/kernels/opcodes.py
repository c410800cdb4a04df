"""The numbers by which one kernel is told which of its operations to compute.

A kernel that knows many operations is compiled once; one kernel for each would cost seconds of compilation each.
"""

from __future__ import annotations

# `elementwise(code, x, y, a, b)`; the comment says what y is.
CLIP = 0  # x held between a and b; b wins where the two cross
LEAKY_RELU = 1  # x where x > 0, else a x
ELU = 2  # b x where x > 0, else a (exp(x) - 1)
SIGMOID = 3
HARD_SIGMOID = 4  # a x + b held between 0 and 1
TANH = 5
SOFTPLUS = 6
SOFTSIGN = 7
SIGN = 8
ABS = 9
NEG = 10
EXP = 11
LOG = 12
SQRT = 13
HARD_SWISH = 14  # x times (x / 6 + 1/2 held between 0 and 1)
CLAMP = 15  # only as a gradient: that of CLIP, told from y, with nothing passing at the bounds themselves

# `arithmetic(code, a, b, y, ...)`: y = a op b. A code and its REVERSED one differ in which operand comes first.
ADD = 0
SUB = 1
MUL = 2
DIV = 3
POW = 4
MAX = 5
MIN = 6
EQUAL = 7  # 1 where a = b, else 0
POW_BASE_GRAD = 8  # the derivative of a ** b by a: b a ** (b - 1), 0 where b is 0
POW_EXPONENT_GRAD = 9  # by b: a ** b log(a), 0 where a is 0 and b is not negative
PRELU = 10  # a where a > 0, else b a
PRELU_GRAD = 11  # its derivative by a: 1 where a > 0, else b
PRELU_SLOPE_GRAD = 12  # its derivative by the slope, times b = dy: 0 where a > 0, else a b
REVERSED = 16  # added to a code: b op a

# `reduce_rows(code, ...)`, beside MAX and MIN above.
SUM = ADD

# `pool(mode, ...)`: what becomes of a window.
MAXIMUM = 0
AVERAGE = 1
NORM = 2
