"""The lint's rules on types: of what is declared, and of what is cast."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fpga_bridge.kernel.lint_rules import RULES

CASTS = {
    "CSTYLE_CAST_EXPR",
    "CXX_FUNCTIONAL_CAST_EXPR",
    "CXX_STATIC_CAST_EXPR",
    "CXX_CONST_CAST_EXPR",
    "CXX_REINTERPRET_CAST_EXPR",
}
_INTEGERS = {
    *("BOOL", "ENUM", "CHAR_U", "UCHAR", "USHORT", "UINT", "ULONG", "ULONGLONG"),
    *("CHAR_S", "SCHAR", "SHORT", "INT", "LONG", "LONGLONG"),
}
_ARRAYS = {"CONSTANTARRAY", "INCOMPLETEARRAY", "DEPENDENTSIZEDARRAY"}


def declared_type(cursor: Any, is_function: bool) -> Iterator[tuple[str, str]]:
    """Breaches in the type of a declared value, or in a function's type and that of its result."""
    declared = cursor.result_type if is_function else cursor.type
    if points_at_function(declared):
        yield "function-pointer", f"{cursor.spelling} has type {declared.spelling}"
    pointer = _without_arrays(declared)
    if pointer.kind.name == "POINTER" and _holds_pointer(pointer.get_pointee()):
        yield "pointer-to-pointer", f"{cursor.spelling} has type {declared.spelling}"
    if is_function and cursor.type.kind.name == "FUNCTIONPROTO" and cursor.type.is_function_variadic():
        yield "varargs", f"{cursor.spelling}: {RULES['varargs']}"
    if cursor.tls_kind.name in {"STATIC", "DYNAMIC"}:
        yield "thread-local", f"{cursor.spelling} is thread_local"
    if cursor.kind.name in {"VAR_DECL", "FIELD_DECL"} and declared.kind.name in {
        "INCOMPLETEARRAY",
        "VARIABLEARRAY",
    }:
        yield "array-size", f"{cursor.spelling} has type {declared.spelling}: {RULES['array-size']}"


def is_integer(declared: Any) -> bool:
    """Whether a type is one of whole numbers; of a template's argument that isn't known."""
    return declared.get_canonical().kind.name in _INTEGERS


def points_at_function(declared: Any) -> bool:
    """Whether a type is a pointer or reference to a function, or to a member, or an array of such."""
    inner = declared.get_canonical()
    pointed = False
    while True:
        kind = inner.kind.name
        if kind in {"POINTER", "LVALUEREFERENCE", "RVALUEREFERENCE"}:
            inner, pointed = inner.get_pointee(), True
        elif kind in _ARRAYS:
            inner = inner.get_array_element_type()
        else:
            return kind == "MEMBERPOINTER" or (pointed and kind in {"FUNCTIONPROTO", "FUNCTIONNOPROTO"})


def cast_pointer(cast: Any) -> Iterator[tuple[str, str]]:
    """A cast of ``CASTS`` to a pointer, or of one; reinterpret_cast is one of its own or of a reference's."""
    *_, operand = cast.get_children()
    kinds = [one.type.get_canonical().kind.name for one in (cast, operand)]
    if cast.kind.name == "CXX_REINTERPRET_CAST_EXPR" or ("POINTER" in kinds and kinds[0] != "VOID"):
        yield "pointer-cast", f"{operand.type.spelling} to {cast.type.spelling}: {RULES['pointer-cast']}"


def _holds_pointer(declared: Any) -> bool:
    inner = _without_arrays(declared)
    if inner.kind.name == "RECORD":
        return any(_holds_pointer(field.type) for field in inner.get_fields())
    return inner.kind.name == "POINTER"


def _without_arrays(declared: Any) -> Any:
    inner = declared.get_canonical()
    while inner.kind.name in _ARRAYS | {"LVALUEREFERENCE", "RVALUEREFERENCE"}:
        array = inner.kind.name in _ARRAYS
        inner = (inner.get_array_element_type() if array else inner.get_pointee()).get_canonical()
    return inner
