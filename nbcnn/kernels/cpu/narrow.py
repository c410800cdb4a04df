"""The product of a register tile that is narrower than a panel of weights, as a loop written in LLVM.

Such a tile has few multiplications for each row of x, so what else its loop does counts. Compiled from Python, it keeps
an address for each row, more than there are registers for, and is unrolled, which spills the tile. Here, three rows
share an address, and the third one's is two steps further on: processors add that up while they load.
"""

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbcnn.kernels.cpu.simd import emit_fma, emit_load, emit_prefetch, pointer_to, splat

__all__ = ["multiply"]

BYTE, WORD = ir.IntType(8), ir.IntType(64)
SHARE = 3
"""Rows to an address."""


def _opaque(builder, pointer):
    """The same address, of which the optimizer does not know how it came about."""
    kind = ir.FunctionType(pointer.type, [pointer.type])
    return builder.asm(kind, "", "=r,0", [pointer], side_effect=False)


def _keep_rolled(builder) -> None:
    """Nothing, in a way that keeps the loop around it as it is."""
    call = builder.call(ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), "", "", side_effect=True), [])
    call.attributes.add("convergent")


@intrinsic
def multiply(typingctx, acc, row, x, start, pitch, w, at, width, depth, ahead):
    """multiply(acc, row, x, start, pitch, w, at, width, depth, ahead): acc[r, v] += the sum over c < depth of
    x[start + r * pitch + c] * w[at + c * width...][v]; asks for x from `ahead` elements further on, in steps of a row
    of acc.
    """
    vec, rows, vecs = acc.dtype, acc.count // row.count, row.count
    itemsize = vec.element.bitwidth // 8

    def codegen(context, builder, signature, args):
        sums, _row, _x, start, pitch, _w, at, width, depth, ahead = args
        pointer = BYTE.as_pointer()

        def address(index: int, place):
            found = pointer_to(context, builder, signature.args[index], args[index], place, vector=False)
            return builder.bitcast(found, pointer)

        step = builder.mul(pitch, WORD(itemsize))
        firsts = [
            _opaque(builder, address(2, builder.add(start, builder.mul(pitch, WORD(r))))) for r in range(0, rows, SHARE)
        ]
        firsts += [address(5, at), address(2, builder.add(start, ahead))]
        steps = [WORD(itemsize)] * (len(firsts) - 2) + [builder.mul(width, WORD(itemsize)), WORD(rows * itemsize)]
        begin = cgutils.unpack_tuple(builder, sums, acc.count)

        before, loop = builder.block, builder.append_basic_block("product")
        after = builder.append_basic_block("product.end")
        builder.cbranch(builder.icmp_signed(">", depth, WORD(0)), loop, after)
        builder.position_at_end(loop)
        count = builder.phi(WORD)
        places = [builder.phi(pointer) for _ in firsts]
        old = [builder.phi(value.type) for value in begin]

        vector = context.get_value_type(vec).as_pointer()
        panel = places[-2]
        factors = [
            emit_load(builder, builder.bitcast(builder.gep(panel, [WORD(v * vec.count * itemsize)]), vector), itemsize)
            for v in range(vecs)
        ]
        emit_prefetch(builder, places[-1])
        new = []
        for r in range(rows):
            place = builder.gep(places[r // SHARE], [builder.mul(step, WORD(r % SHARE))])
            element = builder.bitcast(place, context.get_value_type(vec.element).as_pointer())
            value = splat(builder, emit_load(builder, element, itemsize), vec.count)
            new += [emit_fma(builder, vec, value, factors[v], old[r * vecs + v]) for v in range(vecs)]
        _keep_rolled(builder)
        left = builder.sub(count, WORD(1))
        for phi, first, last in zip(
            [count, *places, *old],
            [depth, *firsts, *begin],
            [left, *(builder.gep(p, [s]) for p, s in zip(places, steps, strict=True)), *new],
            strict=True,
        ):
            phi.add_incoming(first, before)
            phi.add_incoming(last, loop)
        builder.cbranch(builder.icmp_signed(">", left, WORD(0)), loop, after)

        builder.position_at_end(after)
        found = [builder.phi(value.type) for value in begin]
        for phi, first, last in zip(found, begin, new, strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(last, loop)
        return context.make_tuple(builder, acc, found)

    integer = types.int64
    return acc(acc, row, x, integer, integer, w, integer, integer, integer, integer), codegen
