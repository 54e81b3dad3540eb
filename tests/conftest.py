"""What all tests share: needed system tools, free ports, an address of their own."""

import os
import shutil
import socket
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.kerberos_centre import KerberosCentre, kerberos_centre, missing
from tests.support.postgres_server import PostgresServer, binaries, running_server

# A busy machine is slow, not wrong: no deadline, and slow generation is no failure. A failing
# example is printed with the blob that reproduces it.
settings.register_profile(
    "project", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("project")

FIGURES = pytest.StashKey[list[str]]()
"""What tests have found out by counting: states explored, boundaries tried."""

SYSTEM_FOLDERS = "/usr/sbin:/sbin"  # mkfs.ext4 lives there; Debian keeps it from ordinary users


def pytest_configure(config: pytest.Config) -> None:
    """Let tests and the programs that they start find system tools."""
    config.stash[FIGURES] = []
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:{SYSTEM_FOLDERS}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, by name, what needs a tool that is not here; with CI=true that is a failure."""
    missing = [
        str(tool)
        for marker in item.iter_markers("needs")
        for tool in marker.args
        if not _is_here(str(tool))
    ]
    if not missing:
        return
    text = f"needs {', '.join(missing)}, which is not installed"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{text}; with CI=true nothing may be skipped")
    pytest.skip(text)


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Return a function that puts a figure into the summary of the run, also of `make test`."""
    return request.config.stash[FIGURES].append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests told; tests/suites.py shows these lines of a suite that held."""
    for figure in terminalreporter.config.stash[FIGURES]:
        terminalreporter.write_line(f"FIGURES {figure}")


def _is_here(tool: str) -> bool:
    # Debian keeps the programs of PostgreSQL's versions side by side, outside of PATH.
    return (binaries() if tool == "postgresql" else shutil.which(tool)) is not None


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A real PostgreSQL for all tests that are marked with needs("postgresql")."""
    with running_server() as server:
        yield server


@pytest.fixture
def postgres_database(postgres_server: PostgresServer) -> Iterator[str]:
    """The name of an empty database of this test alone."""
    name = postgres_server.create_database()
    yield name
    postgres_server.drop_database(name)


@pytest.fixture(scope="module")
def kerberos_realm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KerberosCentre]:
    """A real Kerberos realm, to which libkrb5 of this process belongs meanwhile."""
    if lacking := missing():
        text = f"needs {', '.join(lacking)}, which is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(f"{text}; with CI=true nothing may be skipped")
        pytest.skip(text)
    folder = tmp_path_factory.mktemp("realm")
    with pytest.MonkeyPatch.context() as patch, kerberos_centre(folder) as centre:
        patch.setenv("KRB5_CONFIG", str(centre.configuration_file))
        yield centre


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Return a function that gives a port that is free on 127.0.0.1, another one each time."""
    return free_ports()


@pytest.fixture(scope="module")
def ports() -> Callable[[], int]:
    """Return the same for what lives as long as a module."""
    return free_ports()


def free_ports() -> Callable[[], int]:
    """Return a function that gives a free port, another one each time."""
    given: set[int] = set()

    def find() -> int:
        while True:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = int(probe.getsockname()[1])
            if port not in given:
                given.add(port)
                return port

    return find
