"""Rows of floats in vector registers, for numba kernels.

Kernels here process one short row of channels for each pixel or lattice vertex, and are fast if
the row stays in vector registers. The compiler does not achieve this for plain loops over the
channels: it cannot prove that arrays do not overlap, and calls a scalar ``exp``. A :class:`Row`
is a value like a float: it is loaded, added, multiplied and stored as a whole, with one machine
instruction per register.

The size of a row must be known when a kernel is compiled. numba specialises on types, not on
values, so a size is passed as a *shape*: a tuple of tuples, of which only the lengths matter, see
:func:`row_shape`. A row can be passed instead of a shape everywhere.
"""

# ruff: noqa: ARG001  numba prescribes the arguments of code generators
from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import (
    intrinsic,
    lower_builtin,
    models,
    register_model,
    type_callable,
)

_FLOAT = ir.FloatType()
_INTEGER = ir.IntType(32)
_BYTE = ir.IntType(8)


class Row(types.Type):
    """The numba type of ``registers`` vector registers of ``lanes`` float32 each."""

    def __init__(self, lanes: int, registers: int) -> None:
        self.lanes = lanes
        self.registers = registers
        super().__init__(name=f"Row({lanes} x {registers})")


@register_model(Row)
class _RowModel(models.PrimitiveModel):
    def __init__(self, manager: Any, row: Row) -> None:
        super().__init__(manager, row, ir.ArrayType(_vector(row.lanes), row.registers))


def row_shape(channels: int) -> tuple[tuple[int, ...], ...]:
    """The shape of the smallest row with ``channels`` floats: 4 floats, or a multiple of 8.

    Example:
        >>> shape = row_shape(21)
        >>> len(shape), len(shape[0])
        (3, 8)
    """
    lanes = 4 if channels <= 4 else 8
    return ((0,) * lanes,) * -(-channels // lanes)


def _row_of(shape: types.Type) -> Row:
    return shape if isinstance(shape, Row) else Row(shape.dtype.count, shape.count)


def _vector(lanes: int) -> ir.VectorType:
    return ir.VectorType(_FLOAT, lanes)


def _each(builder: Any, emit: Callable[..., Any], *rows: Any) -> Any:
    """A row: ``emit`` applied to each register of ``rows`` in turn."""
    result = ir.Constant(rows[0].type, ir.Undefined)
    for register in range(rows[0].type.count):
        parts = [builder.extract_value(row, register) for row in rows]
        result = builder.insert_value(result, emit(*parts), register)
    return result


def _define_operator(operation: Callable[..., Any], instruction: str) -> None:
    """Implement ``operation`` on two rows of one type as ``instruction`` on each register."""

    @type_callable(operation)
    def infer(context: Any) -> Callable[..., Any]:
        return lambda x, y: x if isinstance(x, Row) and x == y else None

    @lower_builtin(operation, Row, Row)
    def lower(context: Any, builder: Any, signature: Any, rows: Any) -> Any:
        return _each(builder, getattr(builder, instruction), *rows)


for _operation, _instruction in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _define_operator(_operation, _instruction)


def _pointer(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


@intrinsic
def load(typing: Any, array: Any, at: Any, shape: Any) -> Any:
    """The row that begins at element ``at`` of a contiguous float32 array. Bounds are unchecked."""
    row = _row_of(shape)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = _pointer(context, builder, array, args[0], args[1])
        whole = builder.bitcast(start, context.get_value_type(row).as_pointer())
        result = builder.load(whole)
        result.align = 4
        return result

    return row(array, types.intp, shape), generate


@intrinsic
def store(typing: Any, array: Any, at: Any, row: Any) -> Any:
    """Write ``row`` into a contiguous float32 array at element ``at``. Bounds are unchecked."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        start = _pointer(context, builder, array, args[0], args[1])
        whole = builder.bitcast(start, context.get_value_type(row).as_pointer())
        builder.store(args[2], whole).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, row), generate


@intrinsic
def spread(typing: Any, value: Any, shape: Any) -> Any:
    """A row with ``value`` in every lane."""
    row = _row_of(shape)

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        vector = _vector(row.lanes)
        undefined = ir.Constant(vector, ir.Undefined)
        one = builder.insert_element(undefined, args[0], _INTEGER(0))
        every = builder.shuffle_vector(one, undefined, _lanes([0] * row.lanes))
        result = ir.Constant(ir.ArrayType(vector, row.registers), ir.Undefined)
        for register in range(row.registers):
            result = builder.insert_value(result, every, register)
        return result

    return row(types.float32, shape), generate


def _lanes(order: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(_INTEGER, len(order)), order)


def _larger(builder: Any, x: Any, y: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", x, y), x, y)


@intrinsic
def maximum(typing: Any, x: Any, y: Any) -> Any:
    """The larger of two rows, lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _each(builder, lambda a, b: _larger(builder, a, b), *args)

    return x(x, x), generate


@intrinsic
def minimum(typing: Any, x: Any, y: Any) -> Any:
    """The smaller of two rows, lane by lane."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        def smaller(a: Any, b: Any) -> Any:
            return builder.select(builder.fcmp_ordered("<", a, b), a, b)

        return _each(builder, smaller, *args)

    return x(x, x), generate


def _reduction(combine: Callable[[Any, Any, Any], Any]) -> Any:
    """An intrinsic that combines all lanes of a row; every lane of the result is equal."""

    def typer(typing: Any, row: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            total = builder.extract_value(args[0], 0)
            for register in range(1, row.registers):
                total = combine(builder, total, builder.extract_value(args[0], register))
            distance = row.lanes // 2
            while distance:  # combine lanes 4, 2 and 1 apart
                order = [lane ^ distance for lane in range(row.lanes)]
                total = combine(builder, total, builder.shuffle_vector(total, total, _lanes(order)))
                distance //= 2
            return _each(builder, lambda _: total, args[0])

        return row(row), generate

    return typer


all_max = intrinsic(_reduction(_larger))
all_sum = intrinsic(_reduction(lambda builder, x, y: builder.fadd(x, y)))


@intrinsic
def rint(typing: Any, x: Any) -> Any:
    """Each lane rounded to the nearest integer."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = ir.FunctionType(_vector(x.lanes), [_vector(x.lanes)])
        name = f"llvm.rint.v{x.lanes}f32"
        function = cgutils.get_or_insert_function(builder.module, kind, name)
        return _each(builder, lambda part: builder.call(function, [part]), *args)

    return x(x), generate


@intrinsic
def _power_of_two(typing: Any, x: Any) -> Any:
    """2 to the power of each lane, an integer in [-126, 127], by setting the exponent bits."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        whole = ir.VectorType(_INTEGER, x.lanes)

        def power(part: Any) -> Any:
            biased = builder.add(builder.fptosi(part, whole), ir.Constant(whole, [127] * x.lanes))
            bits = builder.shl(biased, ir.Constant(whole, [23] * x.lanes))
            return builder.bitcast(bits, _vector(x.lanes))

        return _each(builder, power, *args)

    return x(x), generate


def _selection(comparison: str) -> Any:
    """An intrinsic that keeps the third row where a comparison of the first two holds."""

    def typer(typing: Any, x: Any, y: Any, value: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            zero = ir.Constant(_vector(x.lanes), [0.0] * x.lanes)

            def select(a: Any, b: Any, c: Any) -> Any:
                return builder.select(builder.fcmp_ordered(comparison, a, b), c, zero)

            return _each(builder, select, *args)

        return x(x, x, x), generate

    return typer


# Arguments (x, y, value): value in lanes where x > y, or where x == y; 0 elsewhere.
where_greater = intrinsic(_selection(">"))
where_equal = intrinsic(_selection("=="))


_LOG2_E = np.float32(1.44269504)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOWEST = np.float32(-64)


@njit(inline="always")
def exp(x: Any) -> Any:
    """Exponential of each lane, x <= 88, within 2 units in the last place; 0 below e^-64.

    ``x = n ln 2 + r`` with ``|r| <= ln 2 / 2``; ``e^r`` is a polynomial of degree 7 (Cephes,
    ``expf``), ``2^n`` is set in the exponent bits. The lower limit avoids slow denormal numbers.
    """
    limit = spread(_LOWEST, x)
    inside = maximum(x, limit)
    n = rint(inside * spread(_LOG2_E, x))
    r = inside - n * spread(_LN2_HIGH, x) - n * spread(_LN2_LOW, x)
    p = spread(np.float32(1.9875691500e-4), x)
    p = p * r + spread(np.float32(1.3981999507e-3), x)
    p = p * r + spread(np.float32(8.3334519073e-3), x)
    p = p * r + spread(np.float32(4.1665795894e-2), x)
    p = p * r + spread(np.float32(1.6666665459e-1), x)
    p = p * r + spread(np.float32(5.0000001201e-1), x)
    p = p * r * r + r
    scale = _power_of_two(n)
    return where_greater(x, limit, p * scale + scale)


@intrinsic
def prefetch(typing: Any, array: Any, at: Any) -> Any:
    """Prefetch element ``at`` of an array into the cache."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        address = _pointer(context, builder, array, args[0], args[1])
        kind = ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), _INTEGER, _INTEGER, _INTEGER])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_read, keep_near, data = _INTEGER(0), _INTEGER(3), _INTEGER(1)
        pointer = builder.bitcast(address, _BYTE.as_pointer())
        builder.call(function, [pointer, to_read, keep_near, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate
