"""Every failpoint that stands in the programs is in the table of names, and the other way round."""

import ast
from functools import cache
from pathlib import Path

import pytest

from service_shell.failpoints import POINTS, VARIABLE

ROOT = Path(__file__).parents[2]
PROGRAMS = ("service_hub", "provider_agent", "vmm_simulator")
PROGRAM_OF = {"agent": "provider_agent", "simulator": "vmm_simulator"}
CALLS = {"reach": True, "reach_now": False}


@cache
def placed() -> list[tuple[str, str, bool]]:
    """Return file, name and whether it may wait, of every failpoint in the programs."""
    found = []
    for package in PROGRAMS:
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr in CALLS
                    and "faults" in ast.unparse(node.func.value)
                ):
                    (argument,) = node.args
                    assert isinstance(argument, ast.Constant), f"{path.name}:{node.lineno}"
                    name = str(argument.value)
                    found.append((str(path.relative_to(ROOT)), name, CALLS[node.func.attr]))
    return found


def test_every_placed_failpoint_is_in_the_table_with_what_it_can_do() -> None:
    for file, name, waits in placed():
        assert name in POINTS, f"{file}: {name}"
        assert POINTS[name] is waits, f"{file}: {name}"


@pytest.mark.parametrize("name", POINTS)
def test_every_failpoint_of_the_table_stands_in_its_program(name: str) -> None:
    files = {file for file, each, _ in placed() if each == name}
    assert files, f"{name} stands nowhere"
    program = PROGRAM_OF.get(name.partition(".")[0], "service_hub")
    assert all(file.startswith(program) for file in files)


def test_only_the_command_lines_read_the_environment_for_failpoints() -> None:
    """Nothing that comes over the network, and no configuration, can set one."""
    readers = {
        str(path.relative_to(ROOT))
        for package in (*PROGRAMS, "service_shell", "lab")
        for path in (ROOT / package).rglob("*.py")
        if "from_environment" in path.read_text() or VARIABLE in path.read_text()
    }
    assert readers == {
        "service_shell/failpoints.py",
        "service_hub/cli.py",
        "provider_agent/cli.py",
        "vmm_simulator/cli.py",
    }


def test_the_page_names_every_failpoint() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert not [name for name in POINTS if f"`{name}`" not in page]
