"""What include/peerbus.h declares: functions with their argument names and types, and the codes."""

import re
from dataclasses import dataclass

from harness import ROOT
from pycparser import c_ast, c_generator, c_parser

HEADER = ROOT / "include" / "peerbus.h"
STANDARD_TYPES = "typedef unsigned long size_t; typedef unsigned char uint8_t; typedef unsigned long uint64_t;\n"


@dataclass(frozen=True)
class Argument:
    type: str
    name: str


@dataclass(frozen=True)
class Function:
    name: str
    returns: str
    arguments: tuple


def parse(text):
    """Parses a header of this style: lines that start with # are dropped first, as cffi users do."""
    kept = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    return c_parser.CParser().parse(STANDARD_TYPES + re.sub(r"/\*.*?\*/", "", kept, flags=re.DOTALL))


def type_text(node):
    """The C type of a declaration, without the declared name."""
    if isinstance(node, c_ast.TypeDecl):
        return " ".join([*node.quals, *node.type.names])
    if isinstance(node, c_ast.PtrDecl):
        inner = type_text(node.type)
        return inner + ("*" if inner.endswith("*") else " *")
    raise ValueError(f"a type of the header is not understood: {c_generator.CGenerator().visit(node)}")


def functions(text):
    found = {}
    for declaration in parse(text).ext:
        if isinstance(declaration, c_ast.Decl) and isinstance(declaration.type, c_ast.FuncDecl):
            declared = declaration.type.args.params if declaration.type.args else []
            arguments = tuple(Argument(type_text(p.type), p.name) for p in declared if p.name)
            found[declaration.name] = Function(declaration.name, type_text(declaration.type.type), arguments)
    return found


def codes(text):
    """Names without PEERBUS_, by number."""
    for declaration in parse(text).ext:
        if isinstance(declaration, c_ast.Typedef) and declaration.name == "peerbus_code":
            constants = declaration.type.type.values.enumerators
            write = c_generator.CGenerator().visit
            return {int(write(c.value).replace(" ", "")): c.name.removeprefix("PEERBUS_") for c in constants}
    raise ValueError("the header has no peerbus_code")
