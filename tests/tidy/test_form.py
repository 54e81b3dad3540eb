"""The form of the code, kept by tests (design: style, rule 12)."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = ("service_hub", "provider_agent", "vmm_simulator")
PACKAGES = (*PROGRAMS, "wire_contract", "certs", "service_shell", "site_recovery_cli", "lab")
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
SHARED_PATHS = (r"/provider/v1", r"/vmm/v1", r"/replica/v1", r"\.well-known/est")
BANNED_FILES = {"utils.py", "helpers.py", "common.py", "manager.py", "util.py", "misc.py"}
PURE = ("service_hub/domain", "provider_agent/domain", "vmm_simulator/vmm")
SQL_FILES = (
    "service_hub/store/",
    "provider_agent/journal",
    "vmm_simulator/journal",
)
LEDGER_FILES = ("lab/",)


def sources() -> list[Path]:
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def every_file() -> list[Path]:
    return [*sources(), *sorted((ROOT / "tests").rglob("*.py"))]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def strings(path: Path) -> Iterator[str]:
    """Give every string literal that is not a docstring."""
    tree = ast.parse(path.read_text())
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and id(node) not in docstrings
        ):
            yield node.value


@pytest.mark.parametrize("path", every_file(), ids=relative)
def test_a_long_file_says_why_at_its_top(path: Path) -> None:
    text = path.read_text()
    lines = text.count("\n")
    if lines > FILE_LINES_MAX:
        docstring = ast.get_docstring(ast.parse(text)) or ""
        assert "Over 400 lines because" in docstring, f"{lines} lines and no reason"


@pytest.mark.parametrize("path", sources(), ids=relative)
def test_functions_are_short(path: Path) -> None:
    long = [
        f"{node.name}: {node.end_lineno - node.lineno + 1} lines"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= FUNCTION_LINES_MAX
    ]
    assert not long


def test_no_file_is_a_drawer_for_everything() -> None:
    assert not [relative(path) for path in sources() if path.name in BANNED_FILES]
    assert not [relative(path) for path in sources() if path.name.startswith("test_")]


@pytest.mark.parametrize("path", sources(), ids=relative)
def test_names_of_the_wire_are_spelt_in_one_place(path: Path) -> None:
    if relative(path).startswith("wire_contract/"):
        return
    for text in strings(path):
        for pattern in SHARED_PATHS:
            assert not re.search(pattern, text), f"the path {text!r} belongs into wire_contract"
        assert not re.match(r"(hub/(ev|all)|prov/)", text), f"the topic {text!r} too"


SQL = re.compile(
    r"^\s*(SELECT\s.+\sFROM|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM"
    r"|CREATE\s+TABLE|PRAGMA)\s",
    re.IGNORECASE | re.DOTALL,
)


@pytest.mark.parametrize("path", sources(), ids=relative)
def test_sql_stays_in_the_stores(path: Path) -> None:
    if relative(path).startswith(SQL_FILES):
        return
    assert not [text for text in strings(path) if SQL.match(text)]


@pytest.mark.parametrize("path", sources(), ids=relative)
def test_the_clock_is_read_in_one_place(path: Path) -> None:
    if relative(path) == "service_shell/clock.py":
        return
    tree = ast.parse(path.read_text())
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not calls & {"datetime.now", "datetime.utcnow", "time.time", "uuid4", "uuid.uuid4"}


@pytest.mark.parametrize(
    "path",
    [path for path in sources() if relative(path).startswith(PURE)],
    ids=relative,
)
def test_decisions_do_not_wait(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert not [
        node.lineno for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)
    ]


@pytest.mark.parametrize("path", sources(), ids=relative)
def test_no_error_is_swallowed(path: Path) -> None:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            bare = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
            silent = all(isinstance(each, ast.Pass | ast.Continue) for each in node.body)
            assert not (bare and silent), f"line {node.lineno} hides every error"


def test_only_the_lab_reads_the_ledger() -> None:
    """Hub, agent and simulator never open the ledger's file: the guest only appends."""
    for path in sources():
        if relative(path).startswith(LEDGER_FILES):
            continue
        text = path.read_text()
        assert "lab.ledger" not in text, relative(path)
        for literal in strings(path):
            assert not re.search(r"ledger[\w.-]*\.(jsonl?|db|log|txt|bin)", literal), relative(path)
    for package in PROGRAMS:
        for path in (ROOT / package).rglob("*.py"):
            assert "read_ledger" not in path.read_text(), relative(path)


def test_the_ledger_is_known_to_programs_as_a_socket_only() -> None:
    for package in PROGRAMS:
        for path in (ROOT / package).rglob("*.py"):
            names = {
                node.id if isinstance(node, ast.Name) else node.attr
                for node in ast.walk(ast.parse(path.read_text()))
                if isinstance(node, ast.Name | ast.Attribute)
            }
            assert not {name for name in names if re.fullmatch(r"ledger_(file|path)", name)}


def test_documented_commands_exist() -> None:
    made = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]
    for page in pages:
        for target in re.findall(r"`make ([a-z][\w-]*)", page.read_text()):
            assert target in made, f"{relative(page)} names make {target}"


def test_links_between_pages_lead_somewhere() -> None:
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / link).exists(), f"{relative(page)} links to {link}"


BAD_IMPORTS = (
    ("service_hub/services/planted.py", "import provider_agent", "three programs"),
    ("certs/planted.py", "import service_hub", "What is shared"),
    ("service_hub/domain/planted.py", "import service_hub.services", "layers of the hub"),
    ("service_hub/engine/planted.py", "import service_hub.store", "composition root"),
    ("service_hub/domain/planted.py", "import asyncio", "Decisions are pure"),
    ("site_recovery_cli/planted.py", "import provider_agent", "a client"),
    ("service_hub/services/planted.py", "import site_recovery_cli", "knows its clients"),
    ("wire_contract/planted.py", "import certs", "neither certs nor shell"),
)


@pytest.mark.parametrize(("file", "line", "contract"), BAD_IMPORTS)
def test_every_import_contract_catches_a_bad_import(
    tmp_path: Path, file: str, line: str, contract: str
) -> None:
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            target = tmp_path / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    (tmp_path / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (tmp_path / file).write_text(f'"""Planted."""\n\n{line}\n')
    linter = Path(__import__("sys").executable).parent / "lint-imports"
    done = subprocess.run(
        [linter, "--no-cache"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin", "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    broken = [each for each in done.stdout.splitlines() if each.endswith("BROKEN")]
    assert any(contract in each for each in broken), done.stdout
