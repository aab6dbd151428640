"""Every function of peerbus.h against every abuse of its arguments and its life, under AddressSanitizer and LeakSanitizer.

The cases are generated from the header; expectations.py says what each must answer, driver.c is what they run in.
"""

import json

import declarations
import expectations
import generate
import pytest
import runner

CASES = generate.from_header()
CODES = declarations.codes(declarations.HEADER.read_text())
ENVELOPES = {"Success": {"state", "message"}, "Empty": {"state"}, "Error": {"state", "message", "code"}}


def label(kind, number, content):
    """What an answer comes down to, after checking that it is well-formed."""
    if kind == "N":
        return "Nothing"
    if kind == "C":
        return "NULL" if content is None else "Success"
    if kind == "I":
        return "Success" if number >= 0 else "Minus one" if number == -1 else f"number {number}"
    if kind == "D":
        assert number >= 0 or content.decode("utf-8"), "a failed data function leaves no text"
        return "Success" if number >= 0 else CODES[number]
    return envelope_label(content)


def envelope_label(content):
    if content is None:
        return "NULL"
    answer = json.loads(content.decode("utf-8"))
    if isinstance(answer, list):
        assert all(set(item) == {"from", "data"} for item in answer)
        return "Success"
    assert set(answer) == ENVELOPES[answer["state"]]
    if answer["state"] != "Error":
        return answer["state"]
    assert isinstance(answer["message"], str) and answer["message"].strip()
    assert answer["code"] in CODES.values() and answer["code"] != "OK"
    return answer["code"]


@pytest.fixture(scope="session")
def outcomes(library_path, tmp_path_factory):
    directory = tmp_path_factory.mktemp("matrix")
    return runner.run(CASES, runner.compiled(CASES, directory, library_path), directory)


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
def test_case(outcomes, number):
    case, outcome = CASES[number], outcomes[number]
    assert not outcome.trouble, outcome.trouble
    assert set(outcome.answers) == set(case.expected), "a call of this case did not answer"
    for tag, answers in outcome.answers.items():
        for answer in answers:
            assert label(*answer) in case.expected[tag], f"{case.body}\n{tag}: {answer}"


def test_a_new_function_without_expectation_stops_the_generator():
    text = declarations.HEADER.read_text().replace("int LibraryABI", "int Added(int instance);\nint LibraryABI")
    with pytest.raises(generate.UnknownDeclaration, match="Added"):
        generate.cases(declarations.functions(text))


def test_a_new_argument_without_abuse_stops_the_generator():
    before, after = "*GetReachability(int instance)", "*GetReachability(int instance, int depth)"
    text = declarations.HEADER.read_text().replace(before, after)
    with pytest.raises(generate.UnknownDeclaration, match="depth"):
        generate.cases(declarations.functions(text))


def test_every_abuse_in_the_tables_is_used():
    functions = declarations.functions(declarations.HEADER.read_text())
    used = {(argument.type, argument.name) for function in functions.values() for argument in function.arguments}
    assert set(expectations.ARGUMENTS) == used
