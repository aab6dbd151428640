"""Generates the conformance cases from include/peerbus.h and expectations.py: C code, and what each case must answer."""

from dataclasses import dataclass

import declarations
import expectations

EMITTERS = {"char *": "emit_text", "const char *": "emit_constant", "int": "emit_data_int", "void": None}
TIMEOUTS = {"timeoutMs", "timeout_ms"}


class UnknownDeclaration(Exception):
    """The header declares what expectations.py has no entry for, or the other way round."""


@dataclass(frozen=True)
class Case:
    """world: "live", "bare" (InitializeLibrary never called), or a process of its own: "own" (live) or "first" (bare)."""

    name: str
    world: str
    body: str
    expected: dict  # tag of the emitted line: labels
    helper: str = ""  # a C function `step` that the body hands over


def check(functions):
    """Every declared function and argument has an expectation, and the other way round."""
    declared, expected = set(functions), set(expectations.FUNCTIONS)
    if declared != expected:
        raise UnknownDeclaration(f"without expectation: {declared - expected}; no longer declared: {expected - declared}")
    for function in functions.values():
        expectation = expectations.FUNCTIONS[function.name]
        names = {argument.name for argument in function.arguments}
        if names != set(expectation.valid):
            raise UnknownDeclaration(f"{function.name}: valid call names {set(expectation.valid)}, declared are {names}")
        for argument in function.arguments:
            if (argument.type, argument.name) not in expectations.ARGUMENTS:
                raise UnknownDeclaration(f"{function.name}: no abuse known for argument {argument.type} {argument.name}")
        if names & TIMEOUTS and not (expectation.waits or function.name in expectations.WAITS_FOR_NOTHING):
            raise UnknownDeclaration(f"{function.name} has a timeout and no Wait")


def call(function, tag="call", changed=()):
    """C statement that makes the valid call, with some arguments changed, and emits its answer."""
    expectation = expectations.FUNCTIONS[function.name]
    values = {**expectation.valid, **dict(changed)}
    given = ", ".join(values[a.name] for a in function.arguments)
    made = f"{function.name}({given})"
    emitter = expectation.emit or EMITTERS[function.returns]
    if emitter is None:
        return f'{made}; emit_nothing("{tag}");'
    if emitter == "emit_batch":
        return f'{{ peerbus_batch *batch = NULL; int count = {made}; emit_batch("{tag}", count, batch); }}'
    return f'{emitter}("{tag}", {made});'


def plain(function, name, expected, *, world="live", changed=()):
    expectation = expectations.FUNCTIONS[function.name]
    body = call(function, changed=changed)
    if world not in ("bare", "first"):
        body = f"{expectation.before} {body} {expectation.after}"
    return Case(f"{function.name}-{name}", world, body, {"call": expected})


def abused_arguments(function):
    expectation = expectations.FUNCTIONS[function.name]
    world = "own" if function.name == "InitializeLibrary" else "live"
    for argument in function.arguments:
        for abuse, (expression, expected) in expectations.ARGUMENTS[argument.type, argument.name].items():
            expected = expectation.abuse.get((argument.name, abuse), expected)
            changed = {argument.name: expression}
            yield plain(function, f"{argument.name}-{abuse}", expected, world=world, changed=changed)


def slots(function):
    expectation = expectations.FUNCTIONS[function.name]
    for argument, never, closed in (("instance", "NEVER", "CLOSED"), ("pools", "closed_pools + 100000", "closed_pools")):
        if argument in expectation.valid:
            yield from slots_of(function, argument, {never: expectation.never, closed: expectation.closed})


def slots_of(function, argument, numbers):
    for (slot, expected), name in zip(numbers.items(), ("never", "closed")):
        on_slot = {argument: slot}
        yield Case(
            f"{function.name}-on_{name}_slot",
            "own" if function.name == "CreateNode" else "live",
            f'{call(function, changed=on_slot)} {call(function, tag="again", changed=on_slot)}',
            {"call": expected, "again": again(function, expected)},
        )


def again(function, expected):
    """The second call on the same slot: only CreateNode finds something else."""
    return expectations.labels("IN_USE") if function.name == "CreateNode" else expected


def situations(function):
    expectation = expectations.FUNCTIONS[function.name]
    name, step = function.name, f"static void step(void) {{ {call(function)} }}"
    before, after = expectation.before, expectation.after
    yield plain(function, "valid", expectation.answers)
    bare = "first" if name == "InitializeLibrary" else "bare"
    yield plain(function, "before_init", expectation.before_init, world=bare)
    body = f"{before} in_forked_child(step); {after}"
    yield Case(f"{name}-in_forked_child", "live", body, {"call": expectation.forked}, step)
    yield Case(
        f"{name}-from_16_threads",
        "live",
        f"{before} in_threads(step); {after}",
        {"call": expectation.answers | expectation.threads},
        step,
    )
    for wait in expectation.waits:
        yield Case(
            f"{name}-closed_while_waiting_{wait.name}",
            "live",
            f"{wait.setup} while_closing(step); close_spare();",
            {"call": wait.ended, "close": expectations.SUCCESS},
            f"static void step(void) {{ {wait.body} }}",
        )


def cases(functions):
    check(functions)
    makers = (situations, slots, abused_arguments)
    return [case for function in functions.values() for make in makers for case in make(function)]


def source(all_cases):
    """The C file of the cases, in the order of their numbers."""
    parts = ['#include "driver.h"\n']
    for number, case in enumerate(all_cases):
        helper = case.helper.replace("step(void)", f"step_{number}(void)")
        body = case.body.replace("(step)", f"(step_{number})")
        parts.append(f"/* {case.name} */\n{helper}\nstatic void case_{number}(void) {{ {body} }}\n")
    table = "".join(f'    {{"{case.name}", case_{number}}},\n' for number, case in enumerate(all_cases))
    parts.append(f"const struct test_case cases[] = {{\n{table}}};\nconst size_t case_count = {len(all_cases)};\n")
    return "\n".join(parts)


def from_header():
    return cases(declarations.functions(declarations.HEADER.read_text()))
