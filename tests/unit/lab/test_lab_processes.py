import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lab import bound_process
from lab.layout import Layout
from lab.process_table import (
    MARK,
    family,
    marked_processes,
    process_facts,
)
from lab.processes import Launcher, ProcessPlan, exclusive, last_lines, run_to_end
from service_shell.errors import ProgramError

SECONDS_MAX = 20.0

READY = """
import json, os, sys, time
from pathlib import Path
Path(sys.argv[1]).write_text(json.dumps({"pid": os.getpid()}))
time.sleep(60)
"""
GUEST = """
import subprocess, sys, time, json, os
from pathlib import Path
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"],
                         start_new_session=sys.argv[2] == "own")
Path(sys.argv[1]).write_text(json.dumps({"pid": os.getpid(), "child": child.pid}))
time.sleep(60)
"""
DEAF = """
import json, os, signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
Path(sys.argv[1]).write_text(json.dumps({"pid": os.getpid()}))
time.sleep(60)
"""


@pytest.fixture
def layout(tmp_path: Path) -> Iterator[Layout]:
    found = Layout.at(tmp_path / ".lab")
    found.root.mkdir()
    yield found
    for pid in marked_processes(found.root):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def plan(layout: Layout, code: str, *arguments: str, name: str = "hub") -> ProcessPlan:
    ready = layout.root / f"{name.replace('/', '-')}.ready"
    command = (sys.executable, "-c", code, str(ready), *arguments)
    return ProcessPlan(name, command, layout.root / "config", ready)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS_MAX
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def gone(pid: int) -> bool:
    facts = process_facts(pid)
    return facts is None or facts.state in ("Z", "X")


async def test_a_process_is_ready_when_its_own_file_says_so(layout: Layout) -> None:
    launcher = Launcher(layout, bound=False)
    wanted = plan(layout, READY)
    wanted.ready_file.write_text('{"pid": 1}')
    record = launcher.start(wanted)
    facts = await launcher.wait_ready(record)
    assert facts["pid"] == record.pid
    assert record.alive
    await launcher.end([record])
    assert not record.alive


async def test_a_process_that_ends_early_is_named_with_its_last_words(
    layout: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    launcher = Launcher(layout, bound=True)
    record = launcher.start(plan(layout, "import sys; sys.exit('the certificate is missing')"))
    with pytest.raises(ProgramError, match=r"hub ended before it was ready.*certificate is mis"):
        await launcher.wait_ready(record)
    assert "last lines of hub" in capsys.readouterr().err


async def test_a_process_that_never_gets_ready_is_named(layout: Layout) -> None:
    launcher = Launcher(layout, bound=True)
    record = launcher.start(plan(layout, "import time; time.sleep(60)"))
    with pytest.raises(ProgramError, match=r"hub was not ready in 0\.2 s"):
        await launcher.wait_ready(record, seconds=0.2)
    await launcher.kill(record.pid)


async def test_what_ignores_the_request_to_end_is_killed(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lab.processes.STOP_SECONDS_MAX", 0.3)
    launcher = Launcher(layout, bound=False)
    record = launcher.start(plan(layout, DEAF))
    await launcher.wait_ready(record)
    await launcher.end([record])
    assert gone(record.pid)


@pytest.mark.parametrize("session", ["same", "own"])
async def test_a_kill_takes_the_whole_family(layout: Layout, session: str) -> None:
    launcher = Launcher(layout, bound=False)
    record = launcher.start(plan(layout, GUEST, session, name="tokyo/vmm"))
    child = int(str((await launcher.wait_ready(record))["child"]))
    assert {facts.pid for facts in family(record.pid)} == {record.pid, child}
    await launcher.kill(record.pid)
    assert gone(child)
    assert family(record.pid) == []


async def test_what_a_killed_lab_left_is_found_by_its_mark_and_ended(layout: Layout) -> None:
    launcher = Launcher(layout, bound=False)
    record = launcher.start(plan(layout, GUEST, "own", name="tokyo/vmm"))
    child = int(str((await launcher.wait_ready(record))["child"]))
    os.kill(record.pid, signal.SIGKILL)
    until(lambda: gone(record.pid))
    launcher.reap()
    assert marked_processes(layout.root) == [child]
    # A later lab knows nothing but its folder.
    assert await Launcher(layout, bound=True).end_leftovers() == [child]
    assert gone(child)


async def test_processes_of_another_lab_are_strangers(layout: Layout, tmp_path: Path) -> None:
    other = Layout.at(tmp_path / ".lab2")
    launcher = Launcher(other, bound=False)
    record = launcher.start(plan(other, READY))
    await launcher.wait_ready(record)
    assert await Launcher(layout, bound=True).end_leftovers() == []
    assert record.alive
    await launcher.kill(record.pid)


async def test_a_pid_that_went_to_a_stranger_is_not_ours(layout: Layout) -> None:
    launcher = Launcher(layout, bound=False)
    record = launcher.start(plan(layout, READY))
    stranger = record.model_copy(update={"start_ticks": record.start_ticks - 1})
    assert not stranger.alive
    rebooted = record.model_copy(update={"boot_id": "another"})
    assert not rebooted.alive
    await launcher.end([stranger, rebooted])
    assert record.alive
    await launcher.kill(record.pid)


def test_a_bound_process_dies_with_its_parent(tmp_path: Path) -> None:
    code = f"""
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-I", "-S", {bound_process.__file__!r},
                          str(os.getpid()), sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""
    parent = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=tmp_path
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())

    def bound() -> bool:
        # Python's own start is over when the kernel shows the program's command line.
        return b"time.sleep(60)" in Path(f"/proc/{child}/cmdline").read_bytes()[-40:]

    until(bound)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until(lambda: gone(child))


def test_a_bound_process_does_not_begin_without_its_parent() -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-S", bound_process.__file__, "1", "/bin/echo", "begun"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "begun" not in done.stdout


async def test_a_short_program_shows_why_it_failed(layout: Layout) -> None:
    with pytest.raises(ProgramError, match=r"failed \(3\): no such vault"):
        await run_to_end(
            layout, (sys.executable, "-c", "print('no such vault'); exit(3)"), SECONDS_MAX
        )
    with pytest.raises(ProgramError, match=r"longer than 0\.3 s"):
        await run_to_end(layout, (sys.executable, "-c", "import time; time.sleep(60)"), 0.3)
    assert marked_processes(layout.root) == []


async def test_children_carry_the_mark_of_their_lab(layout: Layout) -> None:
    code = f"import os; print(os.environ[{MARK!r}])"
    assert await run_to_end(layout, (sys.executable, "-c", code), SECONDS_MAX) == str(layout.root)


def test_two_commands_in_one_lab_do_not_mix(layout: Layout) -> None:
    held = pytest.raises(ProgramError, match=f"pid {os.getpid()}")
    with exclusive(layout), held, exclusive(layout):
        pass
    with exclusive(layout):
        pass


def test_last_lines_of_a_long_file_are_its_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("\n".join(str(number) for number in range(100_000)))
    assert last_lines(path, 3) == ["99997", "99998", "99999"]
    assert last_lines(tmp_path / "missing") == []


async def test_a_stopped_process_is_ended_too(layout: Layout) -> None:
    launcher = Launcher(layout, bound=False)
    record = launcher.start(plan(layout, READY))
    await launcher.wait_ready(record)
    os.kill(record.pid, signal.SIGSTOP)
    await launcher.end([record])
    assert not record.alive
