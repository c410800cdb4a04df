"""Tensor cores and asynchronous copies to shared memory: instructions that Numba does not know, as inline PTX.

PTX ISA, "mma.sync.aligned.m16n8k8" (.tf32) and "cp.async"; from compute capability 8.0 on. A lane is g = lane / 4 and
t = lane % 4. Of D (16, 8) += A (16, 8) B (8, 8) it holds

- of A: (g, t), (g + 8, t), (g, t + 4), (g + 8, t + 4);
- of B: (t, g), (t + 4, g);
- of D: (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1).

TF32 is float32 with 10 bits of mantissa; sums stay float32. Of 16 bits, "mma.sync.aligned.m16n8k16" (.f16, .bf16) takes
twice the depth: a lane holds the same places, each of which is a word of two neighbours in depth. The simulator gets
the same functions from mma_simulated.py.
"""

from __future__ import annotations

from typing import Any

from nbcnn.kernels.cuda._cuda import SIMULATED, intrinsic, ir, types

__all__ = [
    "commit",
    "copy_1",
    "copy_2",
    "copy_4",
    "load_transposed",
    "multiply",
    "multiply_bfloat16",
    "multiply_exactly",
    "multiply_float16",
    "multiply_pairs",
    "shared_floats",
    "tf32",
    "wait",
    "zeros",
]

FRAGMENT_A, FRAGMENT_B, FRAGMENT_D = 4, 2, 4
"""Elements of A, B and D that a lane holds."""

if SIMULATED:
    from nbcnn.kernels.cuda.mma_simulated import (
        commit,
        copy_1,
        copy_2,
        copy_4,
        load_transposed,
        multiply,
        multiply_bfloat16,
        multiply_exactly,
        multiply_float16,
        multiply_pairs,
        shared_floats,
        tf32,
        wait,
        zeros,
    )
else:
    WORD, FLOAT = ir.IntType(32), ir.FloatType()
    SHARED = 3
    """Number of the address space of shared memory."""

    @intrinsic
    def shared_floats(typingctx, count):
        """An array of so many float32, a literal, in shared memory, on 16 bytes. A kernel may have one."""
        if not hasattr(count, "literal_value"):
            return None  # Numba asks again, with the literal
        kind = types.Array(types.float32, 1, "C")

        def codegen(context, builder, signature, args):
            store = ir.ArrayType(FLOAT, count.literal_value)
            name = builder.module.get_unique_name("nbcnn_shared")
            place = ir.GlobalVariable(builder.module, store, name, SHARED)
            place.align, place.initializer = 16, ir.Constant(store, ir.Undefined)
            array = context.make_array(kind)(context, builder)
            data = builder.addrspacecast(place, store.as_pointer())
            size, itemsize = (context.get_constant(types.intp, v) for v in (count.literal_value, 4))
            context.populate_array(
                array,
                data=builder.bitcast(data, array.data.type),
                shape=[size],
                strides=[itemsize],
                itemsize=itemsize,
                meminfo=None,
            )
            return array._getvalue()

        return kind(count), codegen

    @intrinsic
    def zeros(typingctx, rows, columns):
        """Fragments of as many D's, one row after the other, as the two tuples have elements. (Tuples stand for numbers
        that the compiler must know: only their lengths count.)
        """
        fragment = types.UniTuple(types.float32, FRAGMENT_D)
        kind = types.UniTuple(fragment, rows.count * columns.count)

        def codegen(context, builder, signature, args):
            return ir.Constant(context.get_value_type(kind), None)

        return kind(rows, columns), codegen

    @intrinsic
    def tf32(typingctx, value):
        """A float32 rounded to TF32, to the nearest, in the form that `multiply` takes."""

        def codegen(context, builder, signature, args):
            asm = ir.InlineAsm(ir.FunctionType(WORD, [FLOAT]), "cvt.rna.tf32.f32 $0, $1;", "=r,f")
            return builder.call(asm, args)

        return types.int32(types.float32), codegen

    def _emit_multiply(shape: str, kinds: str) -> Any:
        """The code generator of the products of all fragments."""
        text = f"mma.sync.aligned.{shape}.row.col.{kinds} {{$0,$1,$2,$3}}, {{$4,$5,$6,$7}}, {{$8,$9}}, {{$0,$1,$2,$3}};"

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            sums, a, b = signature.args
            kind = ir.LiteralStructType([FLOAT] * FRAGMENT_D)
            function = ir.FunctionType(kind, [WORD] * (FRAGMENT_A + FRAGMENT_B) + [FLOAT] * FRAGMENT_D)
            asm = ir.InlineAsm(function, text, "=f,=f,=f,=f,r,r,r,r,r,r,0,1,2,3")
            found = []
            for i in range(a.count):
                for j in range(b.count):
                    place = i * b.count + j
                    left = [builder.extract_value(args[1], (i, k)) for k in range(FRAGMENT_A)]
                    right = [builder.extract_value(args[2], (j, k)) for k in range(FRAGMENT_B)]
                    words = [builder.bitcast(value, WORD) for value in left + right]
                    have = [builder.extract_value(args[0], (place, k)) for k in range(FRAGMENT_D)]
                    d = builder.call(asm, words + have, attrs=("convergent",))  # by all lanes: not to be moved
                    values = [builder.extract_value(d, k) for k in range(FRAGMENT_D)]
                    found.append(context.make_tuple(builder, sums.dtype, values))
            return context.make_tuple(builder, sums, found)

        return codegen

    @intrinsic
    def multiply(typingctx, sums, a, b):
        """sums + a b. sums: fragments of D's as `zeros` makes them; a: a fragment of A for each row of D's, b: one of B
        for each column, made by `tf32`. All lanes of a warp must come here together.
        """
        return sums(sums, a, b), _emit_multiply("m16n8k8", "f32.tf32.tf32.f32")

    @intrinsic
    def multiply_float16(typingctx, sums, a, b):
        """As `multiply`, of fragments of words (of 32 bits, whatever their type) that are pairs of float16."""
        return sums(sums, a, b), _emit_multiply("m16n8k16", "f32.f16.f16.f32")

    @intrinsic
    def multiply_bfloat16(typingctx, sums, a, b):
        """As `multiply_float16`, of bfloat16."""
        return sums(sums, a, b), _emit_multiply("m16n8k16", "f32.bf16.bf16.f32")

    @intrinsic
    def load_transposed(typingctx, shared, at, offsets):
        """For each offset of a tuple, four squares of 8 by 8 halves, transposed ("ldmatrix" .trans in the PTX ISA).

        shared: words, each of two halves that are neighbours; lines of four words, the first of which is a multiple of
        four, make the squares. at: of lane 8 q + i, where line i of square q starts, for an offset of 0. Found, by
        squares: words of lines 2 t and 2 t + 1 at column g. Four squares are a fragment of A or two of B, whose depth
        are the lines. All lanes of a warp must come here together.
        """
        fragment = types.UniTuple(types.int32, FRAGMENT_A)

        def codegen(context, builder, signature, args):
            data = context.make_array(shared)(context, builder, args[0]).data
            text = "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {$0,$1,$2,$3}, [$4];"
            function = ir.FunctionType(ir.LiteralStructType([WORD] * FRAGMENT_A), [WORD])
            asm = ir.InlineAsm(function, text, "=r,=r,=r,=r,r,~{memory}", side_effect=True)
            found = []
            for i in range(offsets.count):
                place = builder.gep(data, [builder.add(args[1], builder.extract_value(args[2], i))])
                place = builder.addrspacecast(place, place.type.pointee.as_pointer(SHARED))
                words = builder.call(asm, [builder.ptrtoint(place, WORD)], attrs=("convergent",))
                values = [builder.extract_value(words, k) for k in range(FRAGMENT_A)]
                found.append(context.make_tuple(builder, fragment, values))
            return context.make_tuple(builder, signature.return_type, found)

        return types.UniTuple(fragment, offsets.count)(shared, types.int64, offsets), codegen

    @intrinsic
    def multiply_exactly(typingctx, sums, left, right):
        """sums + left right in float32, without tensor cores, for four elements of the depth.

        sums: a lane's as of `multiply`. left: four neighbours in depth of row g, g + 8, g + 16, ... each. right: for
        each of the four depths, columns 4 t to 4 t + 3, 16 + 4 t to 16 + 4 t + 3, ...; fragment i of a row of D's has
        of each 32 columns the (i mod 4)th of these fours.
        """
        across = 2 * right.dtype.count

        def codegen(context, builder, signature, args):
            found = []
            for place in range(sums.count):
                m, n = divmod(place, across)
                values = []
                for i in range(FRAGMENT_D):
                    value = builder.extract_value(args[0], (place, i))
                    for k in range(right.count):
                        a = builder.extract_value(args[1], (2 * m + i // 2, k))
                        b = builder.extract_value(args[2], (k, n // 4 * 2 + i % 2, n % 4))
                        value = builder.fma(a, b, value)
                    values.append(value)
                found.append(context.make_tuple(builder, sums.dtype, values))
            return context.make_tuple(builder, sums, found)

        return sums(sums, left, right), codegen

    @intrinsic
    def multiply_pairs(typingctx, sums, left, right):
        """sums + left right in float32, without tensor cores, for four elements of the depth, where rows are in pairs.

        sums: fragments (rows of D's, columns of D's), of which a lane has two rows by two columns. left: for each two
        elements of the depth, for each row of D's, both elements of both rows: (first depth, both rows), (second
        depth, both rows). right: for each column of a lane, its four elements.
        """
        across = right.count // 2

        def codegen(context, builder, signature, args):
            found = []
            for place in range(sums.count):
                m, n = divmod(place, across)
                values = []
                for i in range(FRAGMENT_D):
                    value = builder.extract_value(args[0], (place, i))
                    for k in range(4):
                        a = builder.extract_value(args[1], (k // 2, m, k % 2 * 2 + i // 2))
                        b = builder.extract_value(args[2], (2 * n + i % 2, k))
                        value = builder.fma(a, b, value)
                    values.append(value)
                found.append(context.make_tuple(builder, sums.dtype, values))
            return context.make_tuple(builder, sums, found)

        return sums(sums, left, right), codegen

    def _emit_copy(size: int, cache: str) -> Any:
        """The code generator of a copy of `size` bytes."""
        text = f"cp.async.{cache} [$0], [$1], {size}, $2;"

        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            shared, at, source, start, inside = args
            target = builder.gep(context.make_array(signature.args[0])(context, builder, shared).data, [at])
            target = builder.addrspacecast(target, target.type.pointee.as_pointer(SHARED))
            origin = builder.gep(context.make_array(signature.args[2])(context, builder, source).data, [start])
            asm = ir.InlineAsm(
                ir.FunctionType(ir.VoidType(), [WORD, ir.IntType(64), WORD]), text, "r,l,r,~{memory}", side_effect=True
            )
            count = builder.select(inside, WORD(size), WORD(0))
            builder.call(asm, [builder.ptrtoint(target, WORD), builder.ptrtoint(origin, ir.IntType(64)), count])
            return context.get_dummy_value()

        return codegen

    def _copy_type(shared: Any, source: Any) -> Any:
        return types.void(shared, types.int64, source, types.int64, types.boolean)

    @intrinsic
    def copy_4(typingctx, shared, at, source, start, inside):
        """Start to copy four neighbours of float32 from source[start] on to shared[at]; zeros if not `inside`, and then
        nothing is read. Both places must be multiples of 16 bytes.
        """
        return _copy_type(shared, source), _emit_copy(16, "cg.shared.global.L2::128B")

    @intrinsic
    def copy_2(typingctx, shared, at, source, start, inside):
        """As copy_4, for two neighbours, on 8 bytes."""
        return _copy_type(shared, source), _emit_copy(8, "ca.shared.global")

    @intrinsic
    def copy_1(typingctx, shared, at, source, start, inside):
        """As copy_4, for one float32."""
        return _copy_type(shared, source), _emit_copy(4, "ca.shared.global")

    @intrinsic
    def commit(typingctx):
        """Close a group: this thread's copies since the last one."""

        def codegen(context, builder, signature, args):
            asm = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), "cp.async.commit_group;", "~{memory}", True)
            builder.call(asm, [])
            return context.get_dummy_value()

        return types.void(), codegen

    @intrinsic
    def wait(typingctx, groups):
        """Wait until no more of this thread's groups are under way than the tuple `groups` has elements.

        Other threads see what was copied after the next barrier.
        """

        def codegen(context, builder, signature, args):
            text = f"cp.async.wait_group {groups.count};"
            asm = ir.InlineAsm(ir.FunctionType(ir.VoidType(), []), text, "~{memory}", True)
            builder.call(asm, [])
            return context.get_dummy_value()

        return types.void(groups), codegen
