"""The runner blames the right case, and only that one."""

import pytest
import runner
from generate import Case

CASE_SECONDS = 12
ANSWERS = 'emit_int("call", LibraryABI());'
BODIES = {
    "first": ANSWERS,
    "crashes": "abort();",
    "after_the_crash": ANSWERS,
    "hangs": "for (;;) fflush(stdout);",
    "after_the_hang": ANSWERS,
    "overflows": "volatile char *text = big; text[BIG_BYTES + 1] = 0; emit_nothing(\"call\");",
    "writes_to_stdout": 'puts("hello");',
    "hangs_in_the_child": "in_forked_child(hang);",
    "leaks": "char *volatile lost = CloseNode(NEVER); lost = NULL; emit_int(\"call\", lost == NULL);",
    "last": ANSWERS,
}
HELPERS = {"hangs_in_the_child": "static void hang(void) { for (;;) fflush(stdout); }"}
TROUBLE = {
    "crashes": "ended with status -6",
    "hangs": "hangs",
    "overflows": "heap-buffer-overflow",
    "writes_to_stdout": "wrote to stdout: hello",
    "hangs_in_the_child": "child: hangs",
    "leaks": "memory leaked",
}


@pytest.fixture(scope="module")
def outcomes(library_path, tmp_path_factory):
    cases = [Case(name, "live", body, {}, HELPERS.get(name, "")) for name, body in BODIES.items()]
    directory = tmp_path_factory.mktemp("runner")
    found = runner.run(cases, runner.compiled(cases, directory, library_path), directory, CASE_SECONDS)
    return {case.name: found[number] for number, case in enumerate(cases)}


@pytest.mark.parametrize("name", TROUBLE)
def test_a_bad_case_is_blamed(outcomes, name):
    assert TROUBLE[name] in outcomes[name].trouble


@pytest.mark.parametrize("name", [name for name in BODIES if name not in TROUBLE])
def test_the_others_still_run(outcomes, name):
    assert (outcomes[name].trouble, outcomes[name].answers) == ("", {"call": [("I", 1, None)]})
