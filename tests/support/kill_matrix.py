"""The kill matrix: operation by failpoint by who is killed, compared with no kill at all.

A story is told once, undisturbed. At each failpoint on its way the process is copied (kill_forks),
once for each set of victims; the copy cuts them off there, goes on to the end and answers how it
ended. Time is played (played_loop), so that nothing depends on the machine.

python -m tests.support.kill_matrix STORY BOUNDARY VICTIM+VICTIM    repeats one trial, told aloud
python -m tests.support.kill_matrix STORY                           all trials of one story
"""

import asyncio
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import unified_diff
from pathlib import Path
from typing import Self

import structlog
from xxhash import xxh3_128_hexdigest

from tests.support.kill_forks import Forks
from tests.support.kill_plans import every_story
from tests.support.kill_stories import WATCH_SECONDS, Story
from tests.support.kill_world import (
    HUB,
    PROGRAMS,
    SITES,
    Boundary,
    Kill,
    KillWorld,
    VictimsAt,
    kill_world,
    light_world,
    restore,
    settle_files,
)
from tests.support.played_loop import PlayedLoop
from tests.support.played_network import NetworkLoop, played_network

MEMORY_DISK = Path("/dev/shm")  # noqa: S108 -- a kill forgets no pages, so that memory will do
WORLD = Path("world")
"""Where a story's files lie, below the working directory: a copy of the process has its own."""

BEGUN = "begun"
VICTIMS = ((HUB,), *((site,) for site in SITES), PROGRAMS)


@dataclass(frozen=True)
class Reference:
    """A story that nobody disturbs: its end, and the failpoints on its way."""

    picture: str
    trace: tuple[Boundary, ...]


@dataclass
class Tally:
    """What was tried of a story, and what became of it.

    `alike`: boundaries of which another is the same kill: since it was reached, the victims have
    made nothing durable and reached nobody, nobody else has done a step, and no time has passed.
    """

    boundaries: int = 0
    alike: int = 0
    tried: int = 0
    converged: int = 0
    points: set[str] = field(default_factory=set)
    failures: list[str] = field(default_factory=list)

    def __iadd__(self, other: "Tally") -> Self:
        """Take in another."""
        self.boundaries += other.boundaries
        self.alike += other.alike
        self.tried += other.tried
        self.converged += other.converged
        self.points |= other.points
        self.failures += other.failures
        return self

    def __str__(self) -> str:
        return (
            f"boundaries tried / converged: {self.tried} / {self.converged}"
            f" ({self.boundaries} with everybody who can be killed there, of which {self.alike} are"
            " the same kill as the one before: nothing stored, nobody reached, nobody else's step)"
        )


Chosen = Callable[[int, Kill], bool]
"""Whether a trial is made: its number among those that differ, and what it is."""


def every_one(number: int, kill: Kill) -> bool:
    """Choose all."""
    del number, kill
    return True


class Trials:
    """Asked at each boundary who is to be cut off: in copies of the process, one after another."""

    def __init__(self, forks: Forks, chosen: Chosen) -> None:
        self.world: KillWorld | None = None
        self.answers: list[tuple[Kill, str, str]] = []
        self.alike = self.distinct = 0
        self._forks = forks
        self._chosen = chosen
        self._before: dict[tuple[str, ...], object] = {}

    def __call__(self, boundary: Boundary) -> tuple[str, ...]:
        """Return the victims in a copy; nobody, in the first process."""
        stored = {name: self._stored(name) for name in PROGRAMS}
        for victims in VICTIMS:
            moment = self._moment(victims, stored)
            if self._before.get(victims) == moment:
                self.alike += 1
                continue
            self._before[victims] = moment
            self.distinct += 1
            kill = Kill(boundary, victims)
            if not self._chosen(self.distinct - 1, kill):
                continue
            answer = self._forks.fork()
            if answer is None:
                return victims
            self.answers.append((kill, answer.picture, answer.failure))
        return ()

    def answer(self, picture: str) -> None:
        """End this copy of the process: its story has been told."""
        self._forks.answer(picture)

    def _stored(self, name: str) -> str:
        """Return a digest of what a program's next life would begin on."""
        assert self.world is not None
        folder = self.world.switch.programs[name].folder
        files = sorted(each for each in folder.iterdir() if not each.name.endswith("-shm"))
        return "".join(f"{each.name} {xxh3_128_hexdigest(each.read_bytes())} " for each in files)

    def _moment(self, victims: tuple[str, ...], stored: dict[str, str]) -> object:
        """Return all that a kill's outcome depends on, but for what the victims only remember."""
        loop = asyncio.get_running_loop()
        assert isinstance(loop, PlayedLoop)
        own = {*victims, *(f"{name}-provider" for name in victims)}
        steps = {name: count for name, count in loop.steps.items() if name not in own}
        return loop.time(), steps, [stored[name] for name in victims]


class KillMatrix:
    """Tells stories from start states, which are made once; those lie in `base`, for others too."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._home = base / f"home-{os.getpid()}"
        self._home.mkdir(exist_ok=True)
        self.stories = every_story()

    def prepare(self) -> dict[str, int]:
        """Make all start states; return how many boundaries each story has."""
        return {name: len(self.reference(story).trace) for name, story in self.stories.items()}

    def reference(self, story: Story) -> Reference:
        """Return what happens undisturbed."""
        return self._tell(story)

    def trial(self, story: Story, kill: Kill, expected: Reference) -> str:
        """Kill once, in this process; return what differs in the end."""
        struck = []

        def victims_at(boundary: Boundary) -> tuple[str, ...]:
            if boundary != kill.boundary:
                return ()
            struck.append(boundary)
            return kill.victims

        found = self._tell(story, victims_at)
        return difference(expected.picture, found.picture) if struck else "it was not reached"

    def trials(self, story: Story, chosen: Chosen = every_one) -> Tally:
        """Try every boundary that differs, as far as it is chosen."""
        forks = Forks(self._home / WORLD)
        trials = Trials(forks, chosen)
        try:
            reference = self._tell(story, trials)
        except BaseException as error:
            if forks.is_copy:
                forks.answer("", _cause(error))
            raise
        tally = Tally(
            boundaries=len(VICTIMS) * len(reference.trace),
            alike=trials.alike,
            tried=len(trials.answers),
            points={boundary.name for boundary in reference.trace},
        )
        for kill, picture, failure in trials.answers:
            words = failure or difference(reference.picture, picture)
            if words:
                tally.failures.append(f"{_again(story, kill)}\n{words}")
            else:
                tally.converged += 1
        return tally

    def _tell(self, story: Story, victims_at: "VictimsAt | None" = None) -> Reference:
        start = self._start(story)
        begin = datetime.fromisoformat((start / BEGUN).read_text()) + story.later
        with chdir(self._home):
            restore(start, WORLD)
            with asyncio.Runner(loop_factory=lambda: NetworkLoop(begin, story.name)) as runner:
                told = runner.run(_told(story, victims_at))
            self._keep(story.name)
        return told

    def _start(self, story: Story) -> Path:
        """Return the files that a story begins with: those that another has ended with."""
        folder = self._base / (story.after or " and ".join(("start", *story.further)))
        if folder.exists():
            return folder
        if story.after is not None:
            self._tell(self.stories[story.after])
            return folder
        begin = datetime.now(UTC)
        with chdir(self._home):
            shutil.rmtree(WORLD, ignore_errors=True)
            with asyncio.Runner(loop_factory=lambda: NetworkLoop(begin, "start")) as runner:
                runner.run(_nothing_told(begin, story.further))
            self._keep(folder.name)
        return folder

    def _keep(self, name: str) -> None:
        folder = self._base / name
        if not folder.exists():
            settle_files(WORLD)
            try:
                WORLD.rename(folder)
            except OSError:
                # Another process may have made the same meanwhile: then its is taken.
                if not folder.exists():
                    raise


async def _told(story: Story, victims_at: "VictimsAt | None") -> Reference:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, PlayedLoop)
    opening = kill_world(
        WORLD, watch_seconds=WATCH_SECONDS, further=story.further, absent=story.absent
    )
    async with opening as world:
        await loop.quiet()
        if isinstance(victims_at, Trials):
            victims_at.world = world
        world.switch.arm(victims_at)
        await story.ask(world)
        await world.settled(story.over)
        told = Reference(await world.picture(), tuple(world.switch.trace))
        if isinstance(victims_at, Trials) and world.switch.struck:
            victims_at.answer(told.picture)
    (WORLD / BEGUN).write_text(loop.now().isoformat())
    return told


async def _nothing_told(begin: datetime, further: Sequence[str]) -> None:
    async with kill_world(WORLD, watch_seconds=WATCH_SECONDS, further=further):
        (WORLD / BEGUN).write_text(begin.isoformat())


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


def _main(arguments: Sequence[str]) -> int:
    with matrix_folder() as base, quiet_logs(), played_network():
        matrix = KillMatrix(base)
        story = matrix.stories[arguments[0]]
        if len(arguments) > 2:
            reference = matrix.reference(story)
            with quiet_logs(logging.INFO):
                words = matrix.trial(story, parsed_kill(*arguments[1:3]), reference)
            sys.stdout.write(f"{words or 'as if nothing had happened'}\n")
            return bool(words)
        tally = matrix.trials(story)
    sys.stdout.write("\n".join([*tally.failures, f"{story.name}: {tally}", ""]))
    return bool(tally.failures)


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
