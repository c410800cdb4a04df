"""The numbers by which one kernel is told which of its operations to compute.

A kernel that knows many operations is compiled once; one kernel for each would cost seconds of compilation each.
"""

from __future__ import annotations

# `elementwise(program, constants, x, z, y, tiles)`: a step of a program is four numbers, the code, two operands and
# where the result goes; it has two constants, a and b. An operand is X or Z (tensors), or SLOT and more (what a step
# left); a result goes to Y, in the last step alone, or to a slot. Codes of one operand x, and what the result is:
X, Z, Y, SLOT = 0, 1, 2, 3
TILE = 512  # elements that a program is run on at once, which is the size of a slot
CLIP = 0  # x held between a and b; b wins where the two cross
LEAKY_RELU = 1  # x where x > 0, else a x
ELU = 2  # b x where x > 0, else a (exp(x) - 1)
SIGMOID = 3
HARD_SIGMOID = 4  # a x + b held between 0 and 1
TANH = 5
SOFTPLUS = 6
SIGN = 7
ABS = 8
NEG = 9
EXP = 10
LOG = 11
SQRT = 12
HARD_SWISH = 13  # x times (x / 6 + 1/2 held between 0 and 1)
ERF = 14
GATE = 16  # tanh(softplus(x)), by which Mish multiplies x
AFFINE = 17  # a x + b
FILL = 18  # a
COPY = 19  # x
GELU = 20  # x times the share of the normal distribution that lies below x
GELU_TANH = 21  # the same, where the share is taken for (1 + tanh(sqrt(2 / pi) (x + 0.044715 x ** 3))) / 2
FLOOR = 22
CEIL = 23
ROUND = 24  # halves to the even neighbour
SWISH = 25  # x / (1 + exp(-a x))
MISH = 26  # x tanh(softplus(x))
PAIR = 32  # of two operands: PAIR + ADD, SUB, MUL, DIV, MAX, MIN, which see below, or
WITHIN = 31  # PAIR + this: the second operand where the first lies between a and b or is one of them, else 0
SWISH_SLOPE = 30  # PAIR + this: the second operand times the derivative of SWISH at the first
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
FMOD = 13  # what is left of a when b was taken from it as often as can be; the sign of a
MOD = 14  # the same, plus b where the signs of that and of b differ
REVERSED = 16  # added to a code: b op a

# `compare(code, a, b, y, ...)`, beside EQUAL above: booleans.
GREATER = 8
GREATER_EQUAL = 9

# `reduce_rows(code, ...)`, beside MAX and MIN above.
SUM = ADD

# `scatter_rows(code, ...)`, beside ADD, MUL, MAX and MIN.
PUT = 34
CLEAR = 35

# `reduce_mapped(code, ...)`.
PRODUCT = MUL
SUM_OF_SIZES = 32
SUM_OF_SQUARES = 33

# `pool(mode, ...)`: what becomes of a window.
MAXIMUM = 0
AVERAGE = 1
NORM = 2

# `sampling_taps(...)`: how many pixels a sample reads along an axis, as a power of two, and what lies outside.
NEAREST = 0
LINEAR = 1
CUBIC = 2
ZEROS = 0
BORDER = 1
REFLECTION = 2
# `norm_lines(kind, ...)` and the other normalizations: what elements are divided by.
DEVIATION = 0  # the root of the mean squared distance from the mean, which is taken off first
LENGTH = 1  # the root of the mean, or sum, of squares
SIZE = 2  # the sum of absolute values

# `training_step(kind, ...)`.
ADAM = 0
ADAGRAD = 1
MOMENTUM = 2
NESTEROV = 3

# `log_likelihood(reduction, ...)`.
EACH = 0
TOTAL = 1
MEAN = 2

# `trigonometry(code, x, dy, y)`: y = f(x), or with SLOPE added y = dy f'(x).
SIN = 0
COS = 1
TAN = 2
ASIN = 3
ACOS = 4
ATAN = 5
SINH = 6
COSH = 7
ASINH = 8
ACOSH = 9
ATANH = 10
SLOPE = 16
