"""Failpoints: how they are set, what each does, and that nothing happens while they are off."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from service_shell.errors import ProgramError
from service_shell.failpoints import (
    CHARACTERS_MAX,
    NONE,
    POINTS,
    VARIABLE,
    FailpointError,
    Failpoints,
    from_environment,
)

POINT = "engine.before_commit"
ROOT = Path(__file__).parents[3]


def on(text: str) -> Failpoints:
    return from_environment({VARIABLE: text})


async def test_without_the_variable_nothing_happens_anywhere() -> None:
    assert from_environment({}) is NONE
    assert from_environment({VARIABLE: "  "}) is NONE
    for name in POINTS:
        await NONE.reach(name)
        NONE.reach_now(name)
    assert NONE.described() == []


def test_what_is_set_is_said_in_a_warning_line() -> None:
    with structlog.testing.capture_logs() as entries:
        failpoints = on(f"{POINT}=error@2; agent.journalled=delay:0.25;;store.after_apply=hang")
    said = [f"{POINT}=error@2", "agent.journalled=delay:0.25", "store.after_apply=hang"]
    assert failpoints.described() == said
    (entry,) = entries
    assert entry == {"event": "failpoints_on", "log_level": "warning", "failpoints": said}


async def test_an_error_comes_each_time_or_at_its_time_alone() -> None:
    always, third = on(f"{POINT}=error"), on(f"{POINT}=error@3")
    errors: Counter[str] = Counter()
    for time in range(1, 6):
        for name, failpoints in (("always", always), ("third", third)):
            try:
                await failpoints.reach(POINT)
            except FailpointError:
                errors[f"{name} {time}" if name == "third" else name] += 1
    assert errors == {"always": 5, "third 3": 1}
    await always.reach("engine.after_commit")
    with pytest.raises(FailpointError):
        on("store.in_transaction=error").reach_now("store.in_transaction")


async def test_a_delay_waits_and_goes_on_and_a_hang_does_not() -> None:
    loop = asyncio.get_running_loop()
    started = loop.time()
    await on(f"{POINT}=delay:0.05").reach(POINT)
    assert loop.time() - started >= 0.045
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await on(f"{POINT}=hang").reach(POINT)


@pytest.mark.parametrize(("name", "now"), [(POINT, False), ("store.in_transaction", True)])
def test_kill_ends_the_process_at_once_as_minus_nine_does(*, name: str, now: bool) -> None:
    reach = f"points.reach_now({name!r})" if now else f"asyncio.run(points.reach({name!r}))"
    program = (
        "import asyncio, os\n"
        "from service_shell.failpoints import from_environment\n"
        "points = from_environment(os.environ)\n"
        "try:\n"
        f"    {reach}; print('first', flush=True); {reach}; print('second', flush=True)\n"
        "finally:\n"
        "    print('finally', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={**os.environ, VARIABLE: f"{name}=kill@2", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    said = [line for line in done.stdout.splitlines() if "fail" not in line]
    assert said == ["first"]


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("engine.before_comit=kill", "there is no failpoint engine.before_comit; there are eng"),
        (f"{POINT}=explode", "there is no action explode; there are kill, delay, error, hang"),
        (POINT, "it is not name=action"),
        (f"{POINT}=kill:9", "kill takes no argument"),
        (f"{POINT}=hang:", "hang takes no argument"),
        (f"{POINT}=delay", "delay needs seconds"),
        (f"{POINT}=delay:0", "delay needs seconds"),
        (f"{POINT}=delay:-1", "delay needs seconds"),
        (f"{POINT}=delay:601", "delay needs seconds"),
        (f"{POINT}=delay:nan", "delay needs seconds"),
        (f"{POINT}=kill@0", "@ is followed by a number from 1"),
        (f"{POINT}=kill@", "it is not name=action"),
        (f"{POINT}=kill@1@2", "it is not name=action"),
        ("store.in_transaction=hang", "at store.in_transaction nothing can wait"),
        ("store.in_transaction=delay:1", "at store.in_transaction nothing can wait"),
        (f"{POINT}=kill;" * 400, f"longer than {CHARACTERS_MAX} characters"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(text: str, cause: str) -> None:
    with pytest.raises(ProgramError) as caught:
        on(text)
    line = str(caught.value)
    assert cause in line
    assert line.startswith(VARIABLE)
    assert "\n" not in line


@given(st.text(max_size=60))
def test_whatever_the_variable_holds_it_is_taken_or_refused(text: str) -> None:
    try:
        failpoints = on(text)
    except ProgramError:
        return
    again = on(";".join(failpoints.described()))
    assert again.described() == failpoints.described()


@pytest.mark.parametrize("name", POINTS)
def test_every_failpoint_of_the_table_can_be_set(name: str) -> None:
    assert on(f"{name}=kill@7").described() == [f"{name}=kill@7"]
