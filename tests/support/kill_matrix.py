"""The kill matrix: operation by failpoint by who is killed, compared with no kill at all.

python -m tests.support.kill_matrix STORY BOUNDARY VICTIM+VICTIM    repeats one trial, told aloud
python -m tests.support.kill_matrix STORY                           all trials of one story
"""

import asyncio
import logging
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from difflib import unified_diff
from pathlib import Path
from random import Random

import structlog

from tests.support.kill_stories import Story, stories
from tests.support.kill_world import (
    HUB,
    PROGRAMS,
    SITES,
    Boundary,
    Kill,
    kill_world,
    light_world,
    restore,
    settle_files,
)

MEMORY_DISK = Path("/dev/shm")  # noqa: S108 -- a kill forgets no pages, so that memory will do
REFERENCES = 2
TRIES_MAX = 3
"""How often a boundary is tried that was not reached: what is sent together differs by chance."""

VICTIMS = ((HUB,), *((site,) for site in SITES), PROGRAMS)


@dataclass(frozen=True)
class Reference:
    """A story that nobody disturbs: its end, and the failpoints on its way."""

    picture: str
    trace: tuple[Boundary, ...]


@dataclass
class Tally:
    """How many kills were tried, and what became of them."""

    tried: int = 0
    converged: int = 0
    earlier: int = 0
    unreached: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        words = f"boundaries tried / converged: {self.tried} / {self.converged}"
        if self.earlier:
            words += f", {self.earlier} taken one time earlier: the last one came by chance"
        return words + (f", not reached: {'; '.join(self.unreached)}" if self.unreached else "")


class KillMatrix:
    """Makes start states once, and trials from copies of them."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._root = base / "world"
        self._stories = stories()
        self._references: dict[str, Reference] = {}
        self._undisturbed: dict[str, list[tuple[str, list[Boundary]]]] = {}

    @property
    def stories(self) -> dict[str, Story]:
        """Return all stories by name."""
        return self._stories

    async def reference(self, story: Story) -> Reference:
        """Return what happens undisturbed; told twice, it must end the same."""
        if story.name not in self._references:
            told = self._undisturbed.setdefault(story.name, [])
            while len(told) < REFERENCES:
                told.append((await self._told(story, None))[:2])
            pictures = {picture for picture, _ in told}
            assert len(pictures) == 1, difference(*sorted(pictures))
            # What came only once came by chance: no trial can be expected to come by it.
            always = set(told[0][1]).intersection(*(trace for _, trace in told))
            trace = tuple(boundary for boundary in told[0][1] if boundary in always)
            self._references[story.name] = Reference(pictures.pop(), trace)
        return self._references[story.name]

    async def trial(self, story: Story, kill: Kill, tally: Tally) -> None:
        """Kill, let everything begin again, and compare the end with the undisturbed one."""
        reference = await self.reference(story)
        for _ in range(TRIES_MAX):
            try:
                picture, _, struck = await self._told(story, kill)
            except Exception as error:  # noqa: BLE001 -- of every trial the tally is told
                tally.tried += 1
                tally.failures.append(f"{_again(story, kill)}\n{_cause(error)}")
                return
            if struck:
                tally.tried += 1
                if picture == reference.picture:
                    tally.converged += 1
                else:
                    words = difference(reference.picture, picture)
                    tally.failures.append(f"{_again(story, kill)}\n{words}")
                return
        # What is sent together differs: the last time of a failpoint may be one too many.
        boundary = kill.boundary
        if boundary.nth == 1:
            tally.unreached.append(f"{story.name}: {kill}")
            return
        tally.earlier += 1
        earlier = replace(boundary, nth=boundary.nth - 1)
        await self.trial(story, replace(kill, boundary=earlier), tally)

    async def _told(self, story: Story, kill: Kill | None) -> tuple[str, list[Boundary], bool]:
        start = await self._start(story)
        restore(start, self._root)
        async with kill_world(self._root, watch_seconds=story.watch_seconds) as world:
            world.switch.arm(kill)
            await story.ask(world)
            await world.settled(story.over)
            picture = await world.picture()
        return picture, world.switch.trace, world.switch.struck

    async def _start(self, story: Story) -> Path:
        """Return the files that a story begins with: those that another has ended with."""
        folder = self._base / (story.after or "start")
        if folder.exists():
            return folder
        if story.after is None:
            async with kill_world(self._root, watch_seconds=story.watch_seconds):
                pass
        else:
            told = await self._told(self._stories[story.after], None)
            self._undisturbed.setdefault(story.after, []).append(told[:2])
        settle_files(self._root)
        shutil.copytree(self._root, folder)
        return folder


def all_kills(trace: Iterable[Boundary]) -> Iterator[Kill]:
    """Return every boundary with everybody who can be killed there."""
    for boundary in trace:
        for victims in VICTIMS:
            yield Kill(boundary, victims)


def own_kills(trace: Iterable[Boundary]) -> Iterator[Kill]:
    """Return every boundary with the program that reaches it."""
    for boundary in trace:
        yield Kill(boundary, (boundary.program,))


def covering_kills(trace: Sequence[Boundary], random: Random) -> list[Kill]:
    """Return kills that cover each failpoint of each program, and each set of victims at it."""
    places: dict[tuple[str, str], list[Boundary]] = {}
    for boundary in trace:
        places.setdefault((boundary.program, boundary.name), []).append(boundary)
    chosen = []
    for (program, _), boundaries in places.items():
        chosen.append(Kill(random.choice(boundaries), (program,)))
        others = [victims for victims in VICTIMS if victims != (program,)]
        chosen.append(Kill(random.choice(boundaries), random.choice(others)))
    return chosen


def difference(expected: str, found: str) -> str:
    """Return the lines that only one of two pictures has."""
    before, after = expected.splitlines(), found.splitlines()
    lines = []
    for line in unified_diff(before, after, lineterm="", n=0):
        if line.startswith(("---", "+++", "@@")):
            continue
        # What both have of a record is of no interest: a record is one line of many fields.
        common = set(",".join(after if line[0] == "-" else before).split(","))
        fields = [each for each in line[1:].split(",") if each not in common]
        lines.append(f"  {line[0]} {line[1:41]}… {', '.join(fields)}")
    return "\n".join(lines)


def _again(story: Story, kill: Kill) -> str:
    words = f"'{story.name}' '{kill.boundary}' {'+'.join(kill.victims)}"
    return f"repeat it alone: python -m tests.support.kill_matrix {words}"


def _cause(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"  {type(error).__name__}: {error}"


@contextmanager
def quiet_logs(level: int = logging.CRITICAL) -> Iterator[None]:
    """Keep what programs that are killed complain of out of the way."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(level))
    try:
        with light_world():
            yield
    finally:
        structlog.reset_defaults()


@contextmanager
def matrix_folder() -> Iterator[Path]:
    """Give a folder, in memory where there is such a place; it is gone afterwards."""
    place = MEMORY_DISK if MEMORY_DISK.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="kill-matrix-", dir=place) as folder:
        yield Path(folder)


def parsed_kill(boundary: str, victims: str) -> Kill:
    """Return the kill that `_again` has written."""
    place, _, nth = boundary.rpartition("@")
    program, _, name = place.partition("/")
    return Kill(Boundary(program, name, int(nth)), tuple(victims.split("+")))


async def _main(arguments: Sequence[str]) -> int:
    tally = Tally()
    with matrix_folder() as base:
        matrix = KillMatrix(base)
        story = matrix.stories[arguments[0]]
        if len(arguments) > 2:
            with quiet_logs():
                await matrix.reference(story)
            with quiet_logs(logging.INFO):
                await matrix.trial(story, parsed_kill(*arguments[1:3]), tally)
        else:
            with quiet_logs():
                reference = await matrix.reference(story)
                own = "own" in arguments[1:]
                for kill in (own_kills if own else all_kills)(reference.trace):
                    before = len(tally.failures)
                    await matrix.trial(story, kill, tally)
                    for failure in tally.failures[before:]:
                        sys.stdout.write(f"{failure}\n")
                        sys.stdout.flush()
    sys.stdout.write("\n".join([*tally.failures, story.name, str(tally), ""]))
    return len(tally.failures)


if __name__ == "__main__":
    sys.exit(min(asyncio.run(_main(sys.argv[1:])), 1))
