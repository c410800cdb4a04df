"""Four neighbours in memory at once: an access of 16 bytes where the array's start and the elements' size allow it, and
the elements one by one elsewhere, so that any array and any count will do.

`get` reads one element, by the way of memory that stays as it is; so loads need not wait for stores before them.

Of an array that is kept in 16 bits (halves.py), they read and take float32.
"""

from __future__ import annotations

from typing import Any

from nbcnn.kernels.cuda._cuda import SIMULATED, device, intrinsic, ir, types

__all__ = [
    "WIDTH",
    "aligned",
    "gather",
    "get",
    "load",
    "load_pairs",
    "load_row",
    "read",
    "store",
    "store_pair",
    "store_row",
    "write",
]

WIDTH = 4
"""Elements that a thread takes at once where it can."""
BYTES = 16
"""The most that one access can move."""


if SIMULATED:

    @device
    def get(x, at):
        """x[at], which this launch does not write; `at` is not negative."""
        return x[at]

    @device
    def aligned(x, at):
        """Whether x[at : at + 4] can be accessed at once."""
        return at % WIDTH == 0

    @device
    def load(x, at):
        """x[at : at + 4] as a tuple; `aligned` must hold."""
        return x[at], x[at + 1], x[at + 2], x[at + 3]

    @device
    def load_pairs(x, at):
        """(x[at], x[at + 1]), ... (x[at + 6], x[at + 7]) of an array that is kept in 16 bits, on 16 bytes."""
        return tuple([(x[at + k], x[at + k + 1]) for k in range(0, 2 * WIDTH, 2)])

    @device
    def store(y, at, a, b, c, d):
        """y[at : at + 4] = a, b, c, d; `aligned` must hold."""
        y[at], y[at + 1], y[at + 2], y[at + 3] = a, b, c, d

    @device
    def store_pair(y, at, a, b):
        """y[at : at + 2] = a, b; at is a multiple of 2."""
        assert at % 2 == 0
        y[at], y[at + 1] = a, b

    @device
    def _element(x, at):
        return x[at]

    @device
    def _put(y, at, value):
        y[at] = value

else:
    from nbcnn.kernels.cuda.halves import HalfType, bits_pointer, narrow, widen

    WORD, HALF = ir.IntType(32), ir.IntType(16)

    def _bytes(context: Any, x: Any) -> int:
        """What four elements must be a multiple of to be accessed at once."""
        if isinstance(x, HalfType):
            return 2 * WIDTH
        return min(WIDTH * context.get_abi_sizeof(context.get_data_type(x.dtype)), BYTES)

    def _type(x: Any) -> Any:
        """What an element of an array is to device code."""
        return types.float32 if isinstance(x, HalfType) else x.dtype

    def _pointer(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
        """Pointer to array[at]; nothing is checked."""
        if isinstance(kind, HalfType):
            return bits_pointer(context, builder, kind, array, at)
        return builder.gep(context.make_array(kind)(context, builder, array).data, [at])

    def _vector(pointer: Any, count: int = WIDTH) -> Any:
        """Pointer to an element and its neighbours as one value."""
        return ir.VectorType(pointer.type.pointee, count).as_pointer()

    def _store(context: Any, builder: Any, kind: Any, pointer: Any, values: Any, align: int) -> None:
        """Store neighbours as one value."""
        target = _vector(pointer, len(values))
        vector = ir.Constant(target.pointee, ir.Undefined)
        for k, value in enumerate(values):
            vector = builder.insert_element(vector, _as_data(context, builder, kind, value), ir.IntType(32)(k))
        builder.store(vector, builder.bitcast(pointer, target), align=align)

    def _from_data(context: Any, builder: Any, kind: Any, value: Any) -> Any:
        """What is in memory, as device code computes with it."""
        if isinstance(kind, HalfType):
            return widen(builder, kind, value)
        return context.data_model_manager[kind.dtype].from_data(builder, value)

    def _as_data(context: Any, builder: Any, kind: Any, value: Any) -> Any:
        if isinstance(kind, HalfType):
            return narrow(builder, kind, value)
        return context.data_model_manager[kind.dtype].as_data(builder, value)

    def _load_words(context: Any, builder: Any, x: Any, args: Any, count: int) -> list[Any]:
        """What so many words of an array of 16 bits hold, with one access: as a vector of halves, LLVM would read it in
        pieces.
        """
        vector = ir.VectorType(WORD, count)
        pointer = builder.bitcast(_pointer(context, builder, x, *args), vector.as_pointer())
        found = builder.load(pointer, align=4 * count)
        words = [builder.extract_element(found, WORD(k)) for k in range(count)]
        halves = [builder.trunc(builder.lshr(word, WORD(shift)), HALF) for word in words for shift in (0, 16)]
        return [widen(builder, x, half) for half in halves]

    @intrinsic
    def get(typingctx, x, at):
        """x[at], which this launch does not write; `at` is not negative."""

        def codegen(context, builder, signature, args):
            value = builder.load(_pointer(context, builder, x, *args))
            value.set_metadata("invariant.load", builder.module.add_metadata([]))
            return _from_data(context, builder, x, value)

        return _type(x)(x, types.int64), codegen

    @intrinsic
    def aligned(typingctx, x, at):
        """Whether x[at : at + 4] can be accessed at once."""

        def codegen(context, builder, signature, args):
            word = ir.IntType(64)
            place = builder.ptrtoint(_pointer(context, builder, x, *args), word)
            return builder.icmp_unsigned("==", builder.and_(place, word(_bytes(context, x) - 1)), word(0))

        return types.boolean(x, types.int64), codegen

    @intrinsic
    def load(typingctx, x, at):
        """x[at : at + 4] as a tuple; `aligned` must hold."""

        def codegen(context, builder, signature, args):
            if isinstance(x, HalfType):
                return context.make_tuple(
                    builder, signature.return_type, _load_words(context, builder, x, args, WIDTH // 2)
                )
            pointer = _pointer(context, builder, x, *args)
            vector = builder.load(builder.bitcast(pointer, _vector(pointer)), align=_bytes(context, x))
            elements = [builder.extract_element(vector, ir.IntType(32)(k)) for k in range(WIDTH)]
            found = [_from_data(context, builder, x, element) for element in elements]
            return context.make_tuple(builder, signature.return_type, found)

        return types.UniTuple(_type(x), WIDTH)(x, types.int64), codegen

    @intrinsic
    def load_pairs(typingctx, x, at):
        """(x[at], x[at + 1]), ... (x[at + 6], x[at + 7]) of an array that is kept in 16 bits, on 16 bytes."""
        pair = types.UniTuple(types.float32, 2)

        def codegen(context, builder, signature, args):
            found = _load_words(context, builder, x, args, WIDTH)
            pairs = [context.make_tuple(builder, pair, found[k : k + 2]) for k in range(0, 2 * WIDTH, 2)]
            return context.make_tuple(builder, signature.return_type, pairs)

        return types.UniTuple(pair, WIDTH)(x, types.int64), codegen

    @intrinsic
    def store(typingctx, y, at, a, b, c, d):
        """y[at : at + 4] = a, b, c, d; `aligned` must hold."""

        def codegen(context, builder, signature, args):
            array, at, *values = args
            _store(context, builder, y, _pointer(context, builder, y, array, at), values, _bytes(context, y))
            return context.get_dummy_value()

        return types.void(y, types.int64, *[_type(y)] * WIDTH), codegen

    @intrinsic
    def store_pair(typingctx, y, at, a, b):
        """y[at : at + 2] = a, b; at is a multiple of 2."""

        def codegen(context, builder, signature, args):
            array, at, *values = args
            pointer = _pointer(context, builder, y, array, at)
            _store(context, builder, y, pointer, values, _bytes(context, y) // 2)
            return context.get_dummy_value()

        return types.void(y, types.int64, *[_type(y)] * 2), codegen

    @intrinsic
    def _element(typingctx, x, at):
        """x[at], which this launch may write; at is not negative: Numba would look, and keep the array's size for
        that.
        """

        def codegen(context, builder, signature, args):
            return _from_data(context, builder, x, builder.load(_pointer(context, builder, x, *args)))

        return _type(x)(x, types.int64), codegen

    @intrinsic
    def _put(typingctx, y, at, value):
        """y[at] = value; at is not negative."""

        def codegen(context, builder, signature, args):
            value = _as_data(context, builder, y, args[2])
            builder.store(value, _pointer(context, builder, y, *args[:2]))
            return context.get_dummy_value()

        return types.void(y, types.int64, _type(y)), codegen


@device
def load_row(v, row, x, at):
    """v[row] = x[at : at + 4]; `aligned` must hold."""
    v[row, 0], v[row, 1], v[row, 2], v[row, 3] = load(x, at)


@device
def store_row(y, at, v, row):
    """y[at : at + 4] = v[row]; `aligned` must hold."""
    store(y, at, v[row, 0], v[row, 1], v[row, 2], v[row, 3])


@device
def read(x, at, left, v):
    """v, four elements = x[at], ..., of which `left` are there, one at least; the first again for the rest."""
    if left >= WIDTH and aligned(x, at):
        v[0], v[1], v[2], v[3] = load(x, at)
    else:
        for k in range(WIDTH):
            v[k] = _element(x, at + k) if k < left else v[0]


@device
def write(y, at, left, v):
    """y[at], ..., of which `left` are there = v, four elements."""
    if left >= WIDTH and aligned(y, at):
        store(y, at, v[0], v[1], v[2], v[3])
    else:
        for k in range(WIDTH):
            if k < left:
                _put(y, at + k, v[k])


@device
def gather(x, at, step, left, v):
    """v, four elements = x[at], x[at + step], ..., of which `left` are there, one at least; the first again for the
    rest.
    """
    if step == 1:
        read(x, at, left, v)
    elif step == 0:
        for k in range(WIDTH):
            v[k] = _element(x, at)
    else:
        for k in range(WIDTH):
            v[k] = _element(x, at + k * step) if k < left else v[0]
