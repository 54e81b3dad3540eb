"""The kill matrix on all cores: two processes take story after story until all have been told.

python -m tests.support.kill_workers FOLDER SEED BYSTANDERS REPEATS STORY...    is one of them
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import IO

from tests.support.kill_matrix import Chosen, KillMatrix, Tally, matrix_folder, quiet_logs
from tests.support.kill_plans import every_story
from tests.support.kill_stories import Story
from tests.support.kill_world import Kill
from tests.support.played_network import played_network

WORKERS = 2
PARTS = 2
"""Each story's trials are divided between so many, so that nobody waits long for the last one."""

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Shares:
    """How much is tried, from 0 to 1, beside what always is.

    That is every boundary of every operation with who reaches it, and with everybody at once.
    `bystanders`: of those who have nothing to do with a boundary. `repeats`: of the boundaries of
    plans, in which operations run as they do alone, and of operations whose tasks have been killed
    in from another state. Chance is of the seed.
    """

    bystanders: float = 1.0
    repeats: float = 1.0

    def chosen(self, seed: int, story: Story, part: int) -> Chosen:
        """Return which trials of a story are made, of one part of them."""

        def chosen(number: int, kill: Kill) -> bool:
            if number % PARTS != part:
                return False
            share = self.repeats if story.is_repeat else 1.0
            if kill.boundary.program not in kill.victims:
                share *= self.bystanders
            chance = Random(f"{seed} {story.name} {kill}")  # noqa: S311 -- can be repeated
            return chance.random() < share

        return chosen


def all_told(seed: int, shares: Shares, names: Sequence[str], seconds_max: float) -> Tally:
    """Kill in all of these stories, and return what became of it; AssertionError when it cannot."""
    with matrix_folder() as folder, ExitStack() as stack:
        given = [str(seed), str(shares.bystanders), str(shares.repeats), *names]
        workers = [stack.enter_context(_worker(folder, given)) for _ in range(WORKERS)]
        total = Tally()
        for process, output in workers:
            code = process.wait(seconds_max)
            output.seek(0)
            lines = output.read().splitlines()
            assert code == 0, "\n".join(lines[-40:])
            for line in lines:
                total += _read(line)
    return total


@contextmanager
def _worker(folder: Path, given: Sequence[str]) -> Iterator[tuple[subprocess.Popen[str], IO[str]]]:
    with (folder / f"said-{os.urandom(4).hex()}").open("w+") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(folder), *given],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": "0"},
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process, output
        finally:
            process.kill()
            process.wait()


def _read(line: str) -> Tally:
    said = json.loads(line)
    return Tally(**{**said, "points": set(said["points"])})


def _work(folder: Path, seed: int, shares: Shares, names: Sequence[str]) -> None:
    matrix = KillMatrix(folder)
    for name in names:
        for part in range(PARTS):
            if not _is_mine(folder / f"{name} {part}"):
                continue
            story = matrix.stories[name]
            tally = matrix.trials(story, shares.chosen(seed, story, part))
            if part:
                # What a story consists of is told once.
                tally.boundaries = tally.alike = 0
            said = asdict(tally) | {"points": sorted(tally.points)}
            sys.stdout.write(f"{json.dumps(said)}\n")
            sys.stdout.flush()


def _is_mine(place: Path) -> bool:
    """Whether nobody else has taken it; a folder can be made by one only."""
    try:
        place.with_name(f"taken {place.name}").mkdir()
    except FileExistsError:
        return False
    return True


def names_to_kill_in() -> list[str]:
    """Return the stories in which somebody is killed, the long ones of plans first."""
    return [name for name, story in reversed(every_story().items()) if not story.is_ground]


if __name__ == "__main__":
    with quiet_logs(), played_network():
        wanted = Shares(bystanders=float(sys.argv[3]), repeats=float(sys.argv[4]))
        _work(Path(sys.argv[1]), int(sys.argv[2]), wanted, sys.argv[5:])
