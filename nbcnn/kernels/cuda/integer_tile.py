"""Tensor cores for bytes: what a warp does with a tile of words in shared memory, and how words come there.

A word holds four bytes of one pixel's run, or four weights of one output channel. The products are PTX's
`mma.sync.m16n8k32` (Parallel Thread Execution ISA, "Matrix Fragments for mma.m16n8k32"): 16 pixels by 8 channels by 8
words. Thread `lane` of a warp holds, with g = lane / 4 and t = lane % 4, the sums of pixels g and g + 8 and of channels
2 t and 2 t + 1. In the simulator each thread computes just these sums.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.core.errors import TypingError

from nbcnn.kernels.cuda._cuda import SIMULATED, device, intrinsic, ir, types
from nbcnn.kernels.cuda.bytes import QUAD

__all__ = ["any_word", "blank", "commit", "copy_async", "multiply", "spill", "wait"]

MMA_ROWS, MMA_COLUMNS, MMA_WORDS = 16, 8, 8
SUMS = 4
"""Sums of a thread in one product."""


def _place(i: int, columns: int, lane: int) -> tuple[int, int]:
    """Row and column in a warp's tile, `columns` products wide, of a thread's sum number i."""
    product, r = divmod(i, SUMS)
    row = product // columns * MMA_ROWS + r // 2 * 8 + lane // 4
    return row, product % columns * MMA_COLUMNS + lane % 4 * 2 + r % 2


if SIMULATED:

    def _signed(words: Any, kind: Any) -> np.ndarray:
        return np.ascontiguousarray(words).view(kind).astype(np.int64)

    @device
    def blank(count):
        """So many sums, zeros; count is a literal."""
        return (np.int32(0),) * count

    @device
    def multiply(sums, x, words, at, pitch, w_at, w_pitch, lane, columns):
        """A warp's sums + the products of the rows of words from `at` on, which are unsigned bytes or signed ones as
        those of x, and of weights from `w_at` on. sums: of a tile that is `columns` (a literal) products wide. pitch:
        words from pixel to pixel; w_pitch: from word to word of a channel.
        """
        found = list(sums)
        for i in range(len(sums)):
            row, column = _place(i, columns, lane)
            start = at + row * pitch
            quads = _signed(words[start : start + MMA_WORDS], x.dtype)
            start = w_at + column
            weights = _signed(words[start : start + MMA_WORDS * w_pitch : w_pitch], np.int8)
            found[i] = np.int32(found[i] + quads @ weights)
        return tuple(found)

    @device
    def spill(sums, words, at, pitch, lane, columns):
        """Write a warp's sums to words[at ...], a row of the tile every `pitch`."""
        for i in range(len(sums)):
            row, column = _place(i, columns, lane)
            words[at + row * pitch + column] = sums[i]

    @device
    def copy_async(words, at, x, start, full):
        """words[at], ... four of them = 16 bytes from x[start] on, a multiple of 16, or zeros if not `full`; they have
        come when `wait` says so.
        """
        for k in range(4):
            place = start + QUAD * k
            words[at + k] = x[place : place + QUAD].view(np.int32)[0] if full else 0

    @device
    def commit():
        """What was copied since the last commit is a group."""

    @device
    def wait(pending):
        """Wait until all groups of this thread but the last `pending` (a literal) have come."""

    @device
    def any_word(x, i):
        """The four bytes x[i], ... x[i + 3], as int32, wherever they lie."""
        return np.array([x[i + k] for k in range(QUAD)], x.dtype).view(np.int32)[0]

else:
    WORD, LONG = ir.IntType(32), ir.IntType(64)

    def _literal(kind: Any) -> int:
        """The value of a literal. Numba tries an intrinsic with other types first, and goes on when that fails."""
        if not isinstance(kind, types.IntegerLiteral):
            raise TypingError(f"{kind} is no literal")
        return int(kind.literal_value)

    def _pointer(context: Any, builder: Any, kind: Any, array: Any, i: Any) -> Any:
        return builder.gep(context.make_array(kind)(context, builder, array).data, [i])

    def _steps(builder: Any, start: Any, *terms: tuple[Any, int]) -> Any:
        """start + the sum of value * factor."""
        for value, factor in terms:
            start = builder.add(start, builder.mul(value, LONG(factor)))
        return start

    def _lane(builder: Any, lane: Any) -> tuple[Any, Any]:
        """g and t of the layout."""
        return builder.lshr(lane, LONG(2)), builder.and_(lane, LONG(3))

    def _emit_mma(builder: Any, signed: bool, sums: list[Any], a: list[Any], b: list[Any]) -> list[Any]:
        kind = ir.LiteralStructType([WORD] * SUMS)
        code = (
            f"mma.sync.aligned.m16n8k32.row.col.s32.{'s8' if signed else 'u8'}.s8.s32 "
            "{$0, $1, $2, $3}, {$4, $5, $6, $7}, {$8, $9}, {$10, $11, $12, $13};"
        )
        asm = ir.InlineAsm(ir.FunctionType(kind, [WORD] * 10), code, ",".join(["=r"] * 4 + ["r"] * 10))
        found = builder.call(asm, [*a, *b, *sums], attrs=("convergent",))  # by all lanes of a warp: not to be moved
        return [builder.extract_value(found, i) for i in range(SUMS)]

    @intrinsic
    def blank(typingctx, count):
        """So many sums, zeros; count is a literal."""
        kind = types.UniTuple(types.int32, _literal(count))

        def codegen(context, builder, signature, args):
            return context.make_tuple(builder, kind, [WORD(0)] * kind.count)

        return kind(count), codegen

    @intrinsic
    def multiply(typingctx, sums, x, words, at, pitch, w_at, w_pitch, lane, columns):
        """A warp's sums + the products of the rows of words from `at` on, which are unsigned bytes or signed ones as
        those of x, and of weights from `w_at` on. sums: of a tile that is `columns` (a literal) products wide. pitch:
        words from pixel to pixel; w_pitch: from word to word of a channel; literals.
        """
        wide, pitch_, w_pitch_ = _literal(columns), _literal(pitch), _literal(w_pitch)
        tall = sums.count // SUMS // wide

        def codegen(context, builder, signature, args):
            def load(place: Any) -> Any:
                return builder.load(_pointer(context, builder, words, args[2], place), align=QUAD)

            g, t = _lane(builder, args[7])
            start = _steps(builder, args[3], (g, pitch_), (t, 1))
            w_start = _steps(builder, args[5], (t, w_pitch_), (g, 1))
            found = [builder.extract_value(args[0], i) for i in range(sums.count)]
            b = [
                [load(builder.add(w_start, LONG(MMA_COLUMNS * j + 4 * k * w_pitch_))) for k in (0, 1)]
                for j in range(wide)
            ]
            for i in range(tall):
                rows = MMA_ROWS * pitch_ * i
                a = [load(builder.add(start, LONG(rows + step))) for step in (0, 8 * pitch_, 4, 8 * pitch_ + 4)]
                for j in range(wide):
                    own = slice(SUMS * (i * wide + j), SUMS * (i * wide + j + 1))
                    found[own] = _emit_mma(builder, x.dtype.signed, found[own], a, b[j])
            return context.make_tuple(builder, sums, found)

        places = (types.int64, pitch, types.int64, w_pitch, types.int64, columns)
        return sums(sums, x, words, *places), codegen

    @intrinsic
    def spill(typingctx, sums, words, at, pitch, lane, columns):
        """Write a warp's sums to words[at ...], a row of the tile every `pitch` (a literal)."""
        wide, pitch_ = _literal(columns), _literal(pitch)

        def codegen(context, builder, signature, args):
            g, t = _lane(builder, args[4])
            start = _steps(builder, args[2], (g, pitch_), (t, 2))
            for i in range(sums.count):
                row, column = _place(i, wide, 0)
                place = builder.add(start, LONG(row * pitch_ + column))
                pointer = _pointer(context, builder, words, args[1], place)
                builder.store(builder.extract_value(args[0], i), pointer, align=QUAD)
            return context.get_dummy_value()

        return types.void(sums, words, types.int64, pitch, types.int64, columns), codegen

    @intrinsic
    def copy_async(typingctx, words, at, x, start, full):
        """words[at], ... four of them = 16 bytes from x[start] on, a multiple of 16, or zeros if not `full`; they have
        come when `wait` says so.
        """

        def codegen(context, builder, signature, args):
            target = _pointer(context, builder, words, args[0], args[1])
            near = builder.addrspacecast(target, target.type.pointee.as_pointer(3))
            size = builder.select(args[4], WORD(16), WORD(0))
            code = "cp.async.cg.shared.global [$0], [$1], 16, $2;"
            kind = ir.FunctionType(ir.VoidType(), [WORD, LONG, WORD])
            asm = ir.InlineAsm(kind, code, "r,l,r,~{memory}", side_effect=True)
            source = _pointer(context, builder, x, args[2], args[3])
            builder.call(asm, [builder.ptrtoint(near, WORD), builder.ptrtoint(source, LONG), size])
            return context.get_dummy_value()

        return types.void(words, types.int64, x, types.int64, types.boolean), codegen

    def _emit_plain(builder: Any, code: str) -> None:
        kind = ir.FunctionType(ir.VoidType(), [])
        builder.call(ir.InlineAsm(kind, code, "~{memory}", side_effect=True), [])

    @intrinsic
    def commit(typingctx):
        """What was copied since the last commit is a group."""

        def codegen(context, builder, signature, args):
            _emit_plain(builder, "cp.async.commit_group;")
            return context.get_dummy_value()

        return types.void(), codegen

    @intrinsic
    def wait(typingctx, pending):
        """Wait until all groups of this thread but the last `pending` (a literal) have come."""
        count = _literal(pending)

        def codegen(context, builder, signature, args):
            _emit_plain(builder, f"cp.async.wait_group {count};")
            return context.get_dummy_value()

        return types.void(pending), codegen

    @intrinsic
    def any_word(typingctx, x, i):
        """The four bytes x[i], ... x[i + 3], as int32, wherever they lie."""

        def codegen(context, builder, signature, args):
            def load(place: Any) -> Any:
                pointer = builder.bitcast(_pointer(context, builder, x, args[0], place), WORD.as_pointer())
                return builder.zext(builder.load(pointer, align=QUAD), LONG)

            odd = builder.and_(args[1], LONG(QUAD - 1))
            whole = builder.icmp_unsigned("==", odd, LONG(0))
            start = builder.sub(args[1], odd)
            # Where the bytes are one word, the next one may lie beyond the array.
            following = builder.select(whole, start, builder.add(start, LONG(QUAD)))
            both = builder.or_(load(start), builder.shl(load(following), LONG(32)))
            return builder.trunc(builder.lshr(both, builder.mul(odd, LONG(8))), WORD)

        return types.int32(x, types.int64), codegen
