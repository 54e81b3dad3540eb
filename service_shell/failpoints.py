"""Failpoints: named places in the programs where a test may kill, delay, fail or hang them.

Off unless the environment of the process asks for some when it starts; nothing that comes over
the network, and no file, can set one. What is set is said in a warning line and wherever the
program tells its state.

    SITE_RECOVERY_FAILPOINTS="store.in_transaction=kill@3;channel.before_publish=delay:0.5"

`name=action[:argument][@nth]`, separated by semicolons: with `@nth` the point acts when it is
reached for the nth time and never again, without each time.
"""

import asyncio
import os
import re
import signal
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol

import structlog

from service_shell.errors import ProgramError
from service_shell.logs import flush_logs

VARIABLE: Final = "SITE_RECOVERY_FAILPOINTS"

CHARACTERS_MAX: Final = 4096
DELAY_SECONDS_MAX: Final = 600.0
NTH_MAX: Final = 1_000_000

POINTS: Final[Mapping[str, bool]] = {
    "engine.before_commit": True,
    "engine.after_commit": True,
    "engine.before_act": True,
    "store.before_apply": True,
    "store.in_transaction": False,
    "store.after_apply": True,
    "channel.before_sign": True,
    "channel.before_publish": True,
    "channel.after_publish": True,
    "channel.before_answer": True,
    "agent.event_received": True,
    "agent.before_journal": True,
    "agent.journalled": True,
    "agent.before_verb": True,
    "agent.after_verb": True,
    "agent.read_back": True,
    "agent.before_report": True,
    "agent.after_report": True,
    "simulator.before_cut": True,
    "simulator.cut": True,
    "simulator.before_send": True,
    "simulator.sent": True,
    "simulator.acknowledged": True,
    "simulator.opened": True,
    "simulator.received": True,
    "simulator.committed": True,
    "simulator.noted": True,
    "simulator.answered": True,
    "simulator.applied": True,
}
"""Every failpoint of all programs, and whether it can wait there (delay, hang)."""

_SETTING: Final = re.compile(
    r"(?P<name>[a-z_.]+)=(?P<action>[a-z]+)(:(?P<argument>[^@]*))?(@(?P<nth>[0-9]{1,7}))?"
)

log = structlog.get_logger(__name__)


class FaultPoints(Protocol):
    """What a part of a program calls at its named places."""

    async def reach(self, name: str) -> None:
        """Do what was asked for at this place."""

    def reach_now(self, name: str) -> None:
        """Do it where nothing can be awaited: kill and error alone."""


class FailpointError(Exception):
    """The error of a failpoint that was set to `error`."""


class Action(StrEnum):
    """What a failpoint does."""

    KILL = "kill"
    DELAY = "delay"
    ERROR = "error"
    HANG = "hang"


_WAITING: Final = frozenset({Action.DELAY, Action.HANG})


@dataclass(frozen=True, slots=True)
class Setting:
    """One failpoint that is set; `nth` None = each time it is reached."""

    name: str
    action: Action
    seconds: float = 0.0
    nth: int | None = None

    def __str__(self) -> str:
        argument = f":{self.seconds:g}" if self.action is Action.DELAY else ""
        return f"{self.name}={self.action}{argument}{f'@{self.nth}' if self.nth else ''}"


class Failpoints:
    """What is set in this process; reached by its parts, also from threads."""

    def __init__(self, settings: Sequence[Setting] = ()) -> None:
        self._settings = tuple(settings)
        self._reached: Counter[str] = Counter()
        self._counting = threading.Lock()

    def described(self) -> list[str]:
        """Return what is set, as it would be written; nothing when all are off."""
        return [str(each) for each in self._settings]

    async def reach(self, name: str) -> None:
        """Do what was asked for at this place."""
        for setting in self._due(name):
            if setting.action is Action.DELAY:
                await asyncio.sleep(setting.seconds)
            elif setting.action is Action.HANG:
                await asyncio.get_running_loop().create_future()
            else:
                _strike(setting)

    def reach_now(self, name: str) -> None:
        """Do it where nothing can be awaited: kill and error alone."""
        for setting in self._due(name):
            _strike(setting)

    def _due(self, name: str) -> list[Setting]:
        if not self._settings:
            return []
        assert name in POINTS, f"the failpoint {name} is missing in the table"
        with self._counting:
            self._reached[name] += 1
            times = self._reached[name]
        due = [each for each in self._settings if each.name == name and each.nth in {None, times}]
        for each in due:
            log.warning("failpoint_reached", failpoint=str(each), times=times)
        return due


NONE: Final = Failpoints()
"""All off."""


def from_environment(environment: Mapping[str, str]) -> Failpoints:
    """Return what the environment sets, said in a warning line; ProgramError for a wrong one."""
    text = environment.get(VARIABLE, "").strip()
    if not text:
        return NONE
    if len(text) > CHARACTERS_MAX:
        raise ProgramError(f"{VARIABLE} is longer than {CHARACTERS_MAX} characters; set fewer")
    parts = [part.strip() for part in text.split(";")]
    failpoints = Failpoints([_setting(part) for part in parts if part])
    log.warning("failpoints_on", failpoints=failpoints.described())
    return failpoints


def _setting(text: str) -> Setting:
    match = _SETTING.fullmatch(text)
    if match is None:
        raise _wrong(text, "it is not name=action[:argument][@nth]")
    name, action = match["name"], match["action"]
    if name not in POINTS:
        raise _wrong(text, f"there is no failpoint {name}; there are {', '.join(POINTS)}")
    if action not in set(Action):
        raise _wrong(text, f"there is no action {action}; there are {', '.join(Action)}")
    chosen = Action(action)
    if chosen in _WAITING and not POINTS[name]:
        raise _wrong(text, f"at {name} nothing can wait: use kill or error")
    nth = int(match["nth"]) if match["nth"] is not None else None
    if nth is not None and not 1 <= nth <= NTH_MAX:
        raise _wrong(text, f"@ is followed by a number from 1 to {NTH_MAX}")
    if chosen is not Action.DELAY:
        if match["argument"] is not None:
            raise _wrong(text, f"{action} takes no argument")
        return Setting(name, chosen, nth=nth)
    return Setting(name, chosen, _seconds(text, match["argument"] or ""), nth)


def _seconds(text: str, argument: str) -> float:
    limit = f"delay needs seconds, more than 0 and at most {DELAY_SECONDS_MAX:g}"
    if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3})?", argument):
        raise _wrong(text, limit)
    seconds = float(argument)
    if not 0 < seconds <= DELAY_SECONDS_MAX:
        raise _wrong(text, limit)
    return seconds


def _wrong(text: str, cause: str) -> ProgramError:
    return ProgramError(f"{VARIABLE}: {text!r}: {cause}; correct the environment or unset it")


def _strike(setting: Setting) -> None:
    """End this process as kill -9 does, or raise."""
    if setting.action is Action.KILL:
        flush_logs()
        os.kill(os.getpid(), signal.SIGKILL)
    raise FailpointError(f"the failpoint {setting} was set for this process")
