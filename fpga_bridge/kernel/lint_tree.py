"""The walk over one source's syntax tree that checks the rules.

Bodies of templates are read as written; what hangs on a template's argument gets the benefit of the doubt.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from fpga_bridge.kernel.lint_calls import Calls
from fpga_bridge.kernel.lint_rules import ALLOWED_STD, RULES, Finding
from fpga_bridge.kernel.lint_types import CASTS, cast_pointer, declared_type, is_integer, points_at_function

_BY_KIND = {
    "CXX_NEW_EXPR": ("heap", "new"),
    "CXX_DELETE_EXPR": ("heap", "delete"),
    "CXX_THROW_EXPR": ("exception", "throw"),
    "CXX_TRY_STMT": ("exception", "try"),
    "CXX_DYNAMIC_CAST_EXPR": ("rtti", "dynamic_cast"),
    "CXX_TYPEID_EXPR": ("rtti", "typeid"),
    "WHILE_STMT": ("loop", "while"),
    "DO_STMT": ("loop", "do"),
    "CXX_FOR_RANGE_STMT": ("loop", "range-based for"),
    "GOTO_STMT": ("loop", "goto"),
    "INDIRECT_GOTO_STMT": ("loop", "goto through a pointer"),
    "ASM_STMT": ("asm", "asm"),
    "ASM_LABEL_ATTR": ("asm", "asm"),
}
_ALLOCATORS = {"malloc", "calloc", "realloc", "free", "aligned_alloc", "posix_memalign", "alloca"}
_METHODS = {"CXX_METHOD", "CONSTRUCTOR", "DESTRUCTOR", "CONVERSION_FUNCTION"}
_FUNCTIONS = {"FUNCTION_DECL", "FUNCTION_TEMPLATE"} | _METHODS
_REFERENCES = {"DECL_REF_EXPR", "MEMBER_REF_EXPR", "OVERLOADED_DECL_REF"}
_PIPELINED = {"FOR_STMT"} | _FUNCTIONS
_DIVISIONS = {"BINARY_OPERATOR", "COMPOUND_ASSIGNMENT_OPERATOR"}
_DIVIDING = {4, 5, 24, 25}  # of libclang's CXBinaryOperatorKind, which its Python lacks: / % /= %=
_VALUES = {"VAR_DECL", "PARM_DECL", "FIELD_DECL", "TYPEDEF_DECL", "TYPE_ALIAS_DECL"}


@dataclass(frozen=True)
class _Around:
    """What stands around a cursor: its parent's kind, its function, and the call whose callee it names."""

    parent: str = ""
    function: Any = None
    # C++14 has no labels in constexpr functions, and their loops and calls make constants, not hardware.
    hardware: bool = True
    call: Any = None
    # Whether a pipelined loop encloses it in this function, or the function is pipelined.
    pipelined: bool = False


class Tree:
    """Walks the tree of one source and yields what breaks a rule; ``calls`` is told who calls whom."""

    def __init__(self, clang: ModuleType, source: Path, own: set[Path], calls: Calls) -> None:
        self._lib: Any = clang.conf.lib
        self._source = source
        self._text = source.read_bytes()
        self._own = own
        self._calls = calls
        # Where the counters of fully unrolled loops are declared: inside such a loop they are constants.
        self._unrolled: list[tuple[int, int]] = []
        # Their whole headers: these say how often the body is laid out, and are no hardware themselves.
        self._layouts: list[tuple[int, int]] = []

    def findings(self, unit: Any) -> Iterator[Finding]:
        """What breaks a rule; of a unit that doesn't compile only the errors, as its tree has holes."""
        errors = [found for found in unit.diagnostics if found.severity >= found.Error]
        for error in errors:
            place = error.location
            where = "" if self._is_here(place) else f" ({place.file or 'command line'}:{place.line})"
            line = place.line if self._is_here(place) else 1
            yield Finding(self._source, line, "parse", error.spelling + where)
        if not errors:
            for cursor in unit.cursor.get_children():
                if self._is_here(cursor.location):
                    yield from self._walk(cursor, _Around())

    def _walk(self, cursor: Any, around: _Around) -> Iterator[Finding]:
        kind = cursor.kind.name
        if kind == "INTEGER_LITERAL":  # breaks no rule, and the program is a table of tens of thousands
            return
        if kind in _FUNCTIONS:
            around = replace(around, function=cursor, hardware=not _is_constexpr(cursor), pipelined=False)
        for rule, message in self._breaches(cursor, kind, around):
            yield Finding(self._source, cursor.location.line, rule, message)
        if around.function is not None and around.hardware and kind in _REFERENCES:
            for callee in self._callees(cursor, around.call):
                self._calls.add(around.function, callee, self._source, cursor.location.line, around.pipelined)
        pipelined = around.pipelined or (kind in _PIPELINED and self._is_pipelined(cursor))
        inside = replace(around, parent=kind, call=None, pipelined=pipelined)
        call = cursor if kind == "CALL_EXPR" else around.call if kind in _REFERENCES else None
        for n, child in enumerate(cursor.get_children()):
            yield from self._walk(child, inside if n or call is None else replace(inside, call=call))

    def _breaches(self, cursor: Any, kind: str, around: _Around) -> Iterator[tuple[str, str]]:
        if kind in _BY_KIND:
            rule, found = _BY_KIND[kind]
            yield rule, f"{found}: {RULES[rule]}"
        if kind == "NAMESPACE_REF" and cursor.spelling == "std":
            yield from self._std(cursor)
        if kind == "CXX_METHOD" and cursor.is_virtual_method():
            yield "virtual", f"{cursor.spelling} is virtual"
        if kind == "CXX_BASE_SPECIFIER" and self._lib.clang_isVirtualBase(cursor):
            yield "virtual", f"{cursor.spelling} is a virtual base"
        if kind == "FOR_STMT" and around.hardware:
            if around.parent != "LABEL_STMT":
                yield "loop-label", "for without a label in front"
            yield from self._loop_bound(cursor, around)
        if kind in _DIVISIONS and around.hardware:
            yield from self._division(cursor, around)
        if kind in _VALUES or kind in _FUNCTIONS:
            yield from declared_type(cursor, kind in _FUNCTIONS)
        if kind == "CALL_EXPR":
            for argument in cursor.get_arguments():
                if argument is not None and points_at_function(argument.type):
                    yield "function-pointer", f"a function is handed to {cursor.spelling}"
        if kind in CASTS:
            yield from cast_pointer(cursor)
        if kind == "UNEXPOSED_DECL" and re.match(rb"(__)?asm\b", self._text[cursor.extent.start.offset :]):
            yield "asm", f"asm: {RULES['asm']}"
        if kind in _REFERENCES:
            yield from self._library(cursor)
        if kind in _VALUES or kind in _FUNCTIONS or cursor.kind.is_expression():
            spelling = cursor.type.get_canonical().spelling
            if re.search(r"\bdouble\b", spelling):
                name = f"{cursor.spelling} is" if cursor.spelling else "an expression is"
                yield "double", f"{name} of type {spelling}: single precision only (write 0.5f, not 0.5)"

    def _std(self, cursor: Any) -> Iterator[tuple[str, str]]:
        """A name after ``std::``, or ``std`` alone, as in ``using namespace std``."""
        match = re.match(rb"std\s*::\s*(\w+)", self._text[cursor.location.offset :])
        name = match[1].decode() if match else ""
        if not ALLOWED_STD.fullmatch(name):
            yield "std", f"std{'::' + name if name else ''}: {RULES['std']}"

    def _library(self, cursor: Any) -> Iterator[tuple[str, str]]:
        for target in self._targets(cursor):
            builtin = target.spelling.startswith("__builtin_")  # these are located at their first use
            if target.kind.name not in _FUNCTIONS or (self._is_own(target.location) and not builtin):
                continue
            if target.spelling in _ALLOCATORS:
                yield "heap", f"{target.spelling}: {RULES['heap']}"
            elif not ALLOWED_STD.fullmatch(target.spelling):
                yield "library", f"{target.spelling} is a library's: {RULES['library']}"
            return

    def _callees(self, cursor: Any, call: Any) -> Iterator[str]:
        """Names of the functions a reference may mean; a specialisation counts as its template."""
        overloaded = cursor.kind.name == "OVERLOADED_DECL_REF"
        if overloaded:
            # f<N / 2> inside f<N> is another function and ends at compile time; f<N> inside f<N> is not, and
            # f<N + 0> counts nothing down.
            arguments = re.match(rb"\w+\s*<([^;(]*)>\s*\(", self._text[cursor.location.offset :])
            if arguments and not re.fullmatch(rb"[\w\s,+*]*", arguments[1]):
                return
        if cursor.kind.name == "MEMBER_REF_EXPR" and cursor.referenced is None:
            name = re.search(rb"\w+$", self._text[: cursor.extent.end.offset])
            yield "." + (name[0].decode() if name else "")
        for target in self._targets(cursor):
            if target.kind.name not in _FUNCTIONS or not self._is_own(target.location):
                continue
            if overloaded and call is not None and not _takes(target, len(list(call.get_arguments()))):
                continue
            template = self._lib.clang_getSpecializedCursorTemplate(target)
            yield (template or target).get_usr()

    def _targets(self, cursor: Any) -> list[Any]:
        if cursor.kind.name == "OVERLOADED_DECL_REF":
            count = self._lib.clang_getNumOverloadedDecls(cursor)
            return [self._lib.clang_getOverloadedDecl(cursor, i) for i in range(count)]
        return [cursor.referenced] if cursor.referenced is not None else []

    def _loop_bound(self, loop: Any, around: _Around) -> Iterator[tuple[str, str]]:
        """The condition may read constants and the loop's own counter, or state its trip count.

        One that reads more stands in no pipelined loop. If it is to be unrolled whole it gets the benefit of
        the doubt: its bound may be constant once functions are inlined.
        """
        semicolons = _header_semicolons(loop)
        if semicolons is None:  # the header comes out of a macro: nothing of it stands in the source
            yield "loop-bound", "the loop's header can't be read: write it out"
            return
        opening, first, second = semicolons
        condition = self._text[first + 1 : second].strip().decode()
        if not condition:
            yield "loop-bound", "for without a condition never ends"
            return
        pragmas = self._opening_pragmas(loop, second)
        unrolled = any(re.match(rb"unroll\s*$", pragma) for pragma in pragmas)
        if unrolled:
            self._unrolled.append((opening, first))
            self._layouts.append((opening, _body(loop).extent.start.offset))
        in_condition = (node for node in loop.walk_preorder() if first < node.location.offset < second)
        variable = self._variable(in_condition, [(opening, first), *self._unrolled])
        if variable is None:
            return
        if not any(pragma.startswith(b"loop_tripcount") for pragma in pragmas):
            yield (
                "loop-bound",
                f"{condition}: {variable} is not a constant, and the loop states no loop_tripcount",
            )
        if not unrolled:
            message = f"{condition}: {variable} is not a constant, and a pipelined loop is around this one"
            yield from self._if_pipelined(loop, "pipelined-loop", message, around)

    def _division(self, cursor: Any, around: _Around) -> Iterator[tuple[str, str]]:
        """A division of integers; one by a counter of an unrolled loop is by a constant in every copy."""
        dividend, divisor = cursor.get_children()
        divides = self._lib.clang_getCursorBinaryOperatorKind(cursor) in _DIVIDING
        if not divides or not (is_integer(dividend.type) and is_integer(divisor.type)):
            return
        if any(start < cursor.location.offset < end for start, end in self._layouts):
            return
        variable = self._variable(divisor.walk_preorder(), self._unrolled)
        if variable is not None:
            message = f"an integer is divided by {variable}, which is not a constant, under a pipelined loop"
            yield from self._if_pipelined(cursor, "pipelined-division", message, around)

    def _if_pipelined(
        self, cursor: Any, rule: str, message: str, around: _Around
    ) -> Iterator[tuple[str, str]]:
        """A breach if a pipelined loop is around it: here, or, as ``calls`` finds out, around a call."""
        if around.pipelined:
            yield rule, message
        elif around.function is not None:
            finding = Finding(self._source, cursor.location.line, rule, message)
            self._calls.if_pipelined(around.function, finding)

    def _variable(self, nodes: Iterable[Any], counters: list[tuple[int, int]]) -> str | None:
        """The first name in an expression that is neither constant nor declared in ``counters``."""
        for node in nodes:
            if node.kind.name not in {"DECL_REF_EXPR", "MEMBER_REF_EXPR"} or node.referenced is None:
                continue
            place = node.referenced.location
            counter = self._is_here(place) and any(start < place.offset < end for start, end in counters)
            if not counter and not _is_constant(node.referenced):
                return node.spelling
        return None

    def _is_pipelined(self, cursor: Any) -> bool:
        """Whether the body of a loop or a function opens with the pragma."""
        header = cursor.location.offset
        return any(
            re.match(rb"pipeline(?!.*\boff\b)", pragma) for pragma in self._opening_pragmas(cursor, header)
        )

    def _opening_pragmas(self, loop: Any, header: int) -> list[bytes]:
        """The HLS pragmas between a header, a loop's or function's, and the first statement, in lower case.

        ``#pragma HLS`` itself is left out.
        """
        body = _body(loop)
        statements = list(body.get_children()) if body.kind.name == "COMPOUND_STMT" else [body]
        end = statements[0].extent.start.offset if statements else body.extent.end.offset
        return [pragma.lower() for pragma in hls_pragmas(self._text[header:end])]

    def _is_here(self, location: Any) -> bool:
        return location.file is not None and location.file.name == str(self._source)

    def _is_own(self, location: Any) -> bool:
        if location.file is None:
            return False
        parents = Path(location.file.name).resolve().parents
        return any(folder in self._own for folder in parents)


def hls_pragmas(text: bytes) -> list[bytes]:
    """The HLS pragmas of a text in its order, without ``#pragma HLS`` itself."""
    found = re.findall(rb"^\s*#\s*pragma\s+(?i:hls)\s+(.*)$", text, re.MULTILINE)
    return [pragma.strip() for pragma in found]


def _body(cursor: Any) -> Any:
    """The body of a loop or a function: the last of its children, or itself if it has none."""
    *_, body = [*cursor.get_children()] or [cursor]
    return body


def _is_constant(declared: Any) -> bool:
    return declared.kind.name in {"ENUM_CONSTANT_DECL", "TEMPLATE_NON_TYPE_PARAMETER"} or _is_constexpr(
        declared
    )


def _is_constexpr(declared: Any) -> bool:
    start = declared.extent.start.offset
    for token in declared.get_tokens():
        if token.extent.start.offset < start:  # of a macro's definition, when it begins with a macro
            continue
        if token.extent.start.offset >= declared.location.offset:
            break
        if token.spelling == "constexpr":
            return True
    return False


def _takes(function: Any, count: int) -> bool:
    """Whether a function can be called with so many arguments: tells overloads apart in a template's body."""
    parameters = [child for child in function.get_children() if child.kind.name == "PARM_DECL"]
    required = [p for p in parameters if "=" not in {token.spelling for token in p.get_tokens()}]
    pack = any(parameter.type.spelling.endswith("...") for parameter in parameters)
    return len(required) - pack <= count and (pack or count <= len(parameters))


def _header_semicolons(loop: Any) -> tuple[int, int, int] | None:
    """Byte offsets of a for header's parenthesis and its two semicolons."""
    depth, found = 0, []
    for token in loop.get_tokens():
        depth += {"(": 1, "{": 1, ")": -1, "}": -1}.get(token.spelling, 0)
        if depth == 1 and token.spelling in {"(", ";"} and (token.spelling == ";" or not found):
            found.append(token.extent.start.offset)
        if len(found) == 3:
            return found[0], found[1], found[2]
        if depth == 0 and found:
            break
    return None
