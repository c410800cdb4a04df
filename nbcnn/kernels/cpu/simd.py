"""Explicit SIMD for Numba: a vector type, and the few operations that the kernels are written with.

`Vec` is a Numba value that lives in one SIMD register (LLVM ``<lanes x float>``). Kernels load, multiply and store
vectors in plain Python syntax; LLVM turns each operation into one instruction. A *tile* is a tuple of vectors that
stays in registers across a loop, which is what a matrix product needs.

Nothing here checks bounds: a caller proves its indices, and the tests run every kernel between poisoned guard bands.
Indices count elements of the array they are given, from its first element.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

from nbcnn.kernels.cpu.width import WIDTH_BYTES

__all__ = [
    "add",
    "broadcast",
    "clamp",
    "distance",
    "fma",
    "get",
    "lanes",
    "load",
    "load_first",
    "mul",
    "prefetch",
    "put",
    "store",
    "store_first",
    "sub",
    "sum_lanes",
    "zeros",
]


class VecType(types.Type):
    """The Numba type of a SIMD register: `count` lanes of `element`."""

    def __init__(self, element: types.Type, count: int) -> None:
        self.element = element
        self.count = count
        super().__init__(name=f"Vec({element} x {count})")

    @property
    def key(self):
        return (self.element, self.count)


@register_model(VecType)
class VecModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        element = dmm.lookup(fe_type.element).get_value_type()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.count))


def lanes_of(element: types.Type) -> int:
    """How many elements of this type one register holds."""
    return WIDTH_BYTES // (element.bitwidth // 8)


def vec_of(array: types.Array) -> VecType:
    return VecType(array.dtype, lanes_of(array.dtype))


def pointer_to(context, builder, array_type, array, index, vector: bool = True, kind: VecType | None = None):
    """The address of array[index], of a register of `kind` (default: a whole one) or of an element."""
    data = cgutils.create_struct_proxy(array_type)(context, builder, value=array).data
    element = builder.gep(data, [index])
    if not vector:
        return element
    return builder.bitcast(element, context.get_value_type(kind or vec_of(array_type)).as_pointer())


def emit_call(builder, name: str, result, args):
    """Call an LLVM intrinsic by its mangled name (llvmlite's own helper refuses vector types)."""
    kind = ir.FunctionType(result, [a.type for a in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)


def _suffix(kind: VecType) -> str:
    return f"v{kind.count}f{kind.element.bitwidth}"


def splat(builder, value, count: int):
    kind = ir.VectorType(value.type, count)
    i32 = ir.IntType(32)
    one = builder.insert_element(ir.Constant(kind, ir.Undefined), value, i32(0))
    zeros = ir.Constant(ir.VectorType(i32, count), [0] * count)
    return builder.shuffle_vector(one, ir.Constant(kind, ir.Undefined), zeros)


def emit_first_mask(builder, length, count: int):
    """A mask whose lane i is set where i < length (any length, also negative or beyond the lanes)."""
    i64 = ir.IntType(64)
    lane = ir.Constant(ir.VectorType(i64, count), list(range(count)))
    return builder.icmp_signed("<", lane, splat(builder, length, count))


def emit_fma(builder, kind: VecType, a, b, c):
    return emit_call(builder, f"llvm.fma.{_suffix(kind)}", c.type, [a, b, c])


def emit_load(builder, pointer, itemsize: int):
    value = builder.load(pointer)
    value.align = itemsize
    return value


def emit_clamp(builder, value, low, high):
    """Hold every lane between those of two registers; NaN stays NaN."""
    floor = builder.select(builder.fcmp_ordered("<", value, low), low, value)
    return builder.select(builder.fcmp_ordered(">", floor, high), high, floor)


def emit_prefetch(builder, pointer) -> None:
    """Ask for the cache line at an address of bytes."""
    i32 = ir.IntType(32)
    emit_call(builder, "llvm.prefetch.p0", ir.VoidType(), [pointer, i32(0), i32(3), i32(1)])


@intrinsic
def lanes(typingctx, array):
    """lanes(array): the number of elements of its type in one register, a compile-time constant."""
    count = lanes_of(array.dtype)

    def codegen(context, builder, signature, args):
        return ir.IntType(64)(count)

    return types.int64(array), codegen


@intrinsic
def load(typingctx, array, index):
    """load(array, index): a whole register, unaligned."""

    def codegen(context, builder, signature, args):
        pointer = pointer_to(context, builder, signature.args[0], args[0], args[1])
        return emit_load(builder, pointer, array.dtype.bitwidth // 8)

    return vec_of(array)(array, types.int64), codegen


@intrinsic
def get(typingctx, array, index):
    """get(array, index): array[index] without Numba's test for negative indices, which hinders vectorization."""

    def codegen(context, builder, signature, args):
        return builder.load(pointer_to(context, builder, signature.args[0], args[0], args[1], vector=False))

    return array.dtype(array, types.int64), codegen


@intrinsic
def put(typingctx, array, index, value):
    """put(array, index, value): array[index] = value, likewise."""

    def codegen(context, builder, signature, args):
        builder.store(args[2], pointer_to(context, builder, signature.args[0], args[0], args[1], vector=False))
        return context.get_dummy_value()

    return types.void(array, types.int64, array.dtype), codegen


@intrinsic
def store(typingctx, array, index, vec):
    """store(array, index, vec): a whole register, unaligned."""

    def codegen(context, builder, signature, args):
        pointer = pointer_to(context, builder, signature.args[0], args[0], args[1])
        builder.store(args[2], pointer).align = array.dtype.bitwidth // 8
        return context.get_dummy_value()

    return types.void(array, types.int64, vec), codegen


def emit_masked_load(context, builder, array_type, array, index, length, kind: VecType | None = None):
    kind = kind or vec_of(array_type)
    vector = context.get_value_type(kind)
    pointer = pointer_to(context, builder, array_type, array, index, kind=kind)
    mask = emit_first_mask(builder, length, kind.count)
    align = ir.IntType(32)(kind.element.bitwidth // 8)
    passthru = ir.Constant(vector, [0.0] * kind.count)
    name = f"llvm.masked.load.{_suffix(kind)}.p0"
    return emit_call(builder, name, vector, [pointer, align, mask, passthru])


@intrinsic
def load_first(typingctx, array, index, length):
    """load_first(array, index, length): lanes below `length`, zero in the others, which are not read."""

    def codegen(context, builder, signature, args):
        return emit_masked_load(context, builder, signature.args[0], *args)

    return vec_of(array)(array, types.int64, types.int64), codegen


def emit_masked_store(context, builder, array_type, array, index, vec, length):
    kind = vec_of(array_type)
    pointer = pointer_to(context, builder, array_type, array, index)
    mask = emit_first_mask(builder, length, kind.count)
    align = ir.IntType(32)(kind.element.bitwidth // 8)
    emit_call(builder, f"llvm.masked.store.{_suffix(kind)}.p0", ir.VoidType(), [vec, pointer, align, mask])


@intrinsic
def store_first(typingctx, array, index, vec, length):
    """store_first(array, index, vec, length): only lanes below `length` are written."""

    def codegen(context, builder, signature, args):
        emit_masked_store(context, builder, signature.args[0], *args)
        return context.get_dummy_value()

    return types.void(array, types.int64, vec, types.int64), codegen


@intrinsic
def zeros(typingctx, array):
    """zeros(array): a register of array's type with zero in every lane."""
    kind = vec_of(array)

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(kind), [0.0] * kind.count)

    return kind(array), codegen


@intrinsic
def broadcast(typingctx, array, value):
    """broadcast(array, value): a register of array's type with `value` in every lane."""
    kind = vec_of(array)

    def codegen(context, builder, signature, args):
        return splat(builder, args[1], kind.count)

    return kind(array, array.dtype), codegen


def _arithmetic(method: str):
    def typing(typingctx, a, b):
        def codegen(context, builder, signature, args):
            return getattr(builder, method)(args[0], args[1])

        return a(a, a), codegen

    typing.__name__ = typing.__qualname__ = method
    return intrinsic(typing)


add = _arithmetic("fadd")
sub = _arithmetic("fsub")
mul = _arithmetic("fmul")


@intrinsic
def fma(typingctx, a, b, c):
    """fma(a, b, c): a * b + c with one rounding."""

    def codegen(context, builder, signature, args):
        return emit_fma(builder, a, *args)

    return a(a, a, a), codegen


@intrinsic
def clamp(typingctx, vec, low, high):
    """clamp(vec, low, high): each lane held between two scalars; NaN stays NaN."""

    def codegen(context, builder, signature, args):
        return emit_clamp(builder, args[0], splat(builder, args[1], vec.count), splat(builder, args[2], vec.count))

    return vec(vec, vec.element, vec.element), codegen


@intrinsic
def sum_lanes(typingctx, vec):
    """sum_lanes(vec): the lanes added up pairwise, always in the same order."""

    def codegen(context, builder, signature, args):
        i32 = ir.IntType(32)
        parts = [builder.extract_element(args[0], i32(i)) for i in range(vec.count)]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [builder.fadd(parts[i], parts[i + half]) for i in range(half)]
        return parts[0]

    return vec.element(vec), codegen


@intrinsic
def distance(typingctx, origin, target):
    """distance(origin, target): the index at which `target`'s first element lies, counted from `origin`'s."""
    size = origin.dtype.bitwidth // 8

    def codegen(context, builder, signature, args):
        i64 = ir.IntType(64)
        first, second = (
            builder.ptrtoint(cgutils.create_struct_proxy(t)(context, builder, value=a).data, i64)
            for t, a in zip(signature.args, args, strict=True)
        )
        return builder.sdiv(builder.sub(second, first), i64(size))

    return types.int64(origin, target), codegen


@intrinsic
def prefetch(typingctx, array, index):
    """prefetch(array, index): ask for the cache line of this element; any index is harmless."""

    def codegen(context, builder, signature, args):
        pointer = pointer_to(context, builder, signature.args[0], args[0], args[1], vector=False)
        emit_prefetch(builder, builder.bitcast(pointer, ir.IntType(8).as_pointer()))
        return context.get_dummy_value()

    return types.void(array, types.int64), codegen
