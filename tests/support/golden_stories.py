"""Golden stories: each operation as prose, when all goes well and when it fails at each task.

    python -m tests.support.golden_stories [NAME ...]

writes tests/model/stories/operations/NAME.txt from what the hub decides now. Read what has changed
before it is committed: that these texts say what is right is known by their readers alone.

A line is what somebody was asked and how it ended, an indented one what follows for the job. A
section that tells of a failure begins where it parts from the story in which all goes well.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from service_hub.domain.decide import decide, next_deadline
from service_hub.domain.item_life import begin_on_item, reflect_on_item
from service_hub.domain.jobs import (
    UNDO_SUFFIX,
    AskInventory,
    Begun,
    CancelChildren,
    CancelRequested,
    CheckFailed,
    CheckPassed,
    ChildrenEnded,
    Command,
    Dispatch,
    Event,
    Job,
    JobError,
    JobState,
    PartFailed,
    PartSucceeded,
    Resumed,
    RunCheck,
    StartChildren,
    TaskState,
    Tick,
    Withdraw,
)
from service_hub.domain.protection import allowed_operations
from service_hub.domain.records import ProtectedItem
from tests.support.golden_commands import Beginning, beginnings
from tests.support.item_walk import NOW, RESULT
from wire_contract.vocabulary import Side

FOLDER: Final = Path(__file__).resolve().parents[1] / "model/stories/operations"
REFUSED: Final = 32768
BUSY: Final = 32774
EVENTS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Mishap:
    """What goes wrong at a task: it is refused, silent, busy once, or given up by a person.

    `stuck`: it is refused, and so is whatever is then to be taken back.
    """

    kind: str = ""
    task_id: str = ""
    side: Side | None = None

    def hits(self, command: Command) -> bool:
        """Whether this command meets it."""
        side = getattr(command, "side", None)
        if self.kind == "stuck" and command.task_id.endswith(UNDO_SUFFIX):
            return True
        return command.task_id == self.task_id and (self.side is None or side is self.side)


@dataclass(slots=True)
class Telling:
    """A job that is told from its beginning to its end."""

    job: Job
    item: ProtectedItem | None
    mishap: Mishap
    now: datetime = NOW
    lines: list[str] = field(default_factory=list)
    waiting: list[Command] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)

    def to_its_end(self) -> None:
        """Answer what is asked, let time pass where nobody answers, and tell all of it."""
        if self.item is not None:
            self.item = begin_on_item(self.item, self.job, NOW)
        self._feed(Begun(NOW))
        for _ in range(EVENTS_MAX):
            if self.job.finished:
                self._tell_the_end()
                return
            if self.waiting:
                self._answer(self.waiting.pop(0))
            elif self.job.state is JobState.SUSPENDED:
                self._person()
            else:
                self._time_passes()
        raise AssertionError("the job does not end")

    def _feed(self, event: Event) -> None:
        self.job, commands = decide(self.job, event)
        if self.item is not None:
            self.item = reflect_on_item(self.item, self.job)
        asked = [each for each in commands if not isinstance(each, Withdraw | CancelChildren)]
        self.waiting += asked
        for each in commands:
            if isinstance(each, Withdraw):
                self.lines.append(f"{each.side.value} is told to let go of {self._named(each)}")
        self._tell_what_changed()

    def _tell_what_changed(self) -> None:
        facts = {"epoch": str(self.job.epoch)}
        if self.item is not None:
            facts["authority"] = self.item.authority.value
        for word, value in facts.items():
            if self.seen.setdefault(word, value) != value:
                self.lines.append(f"    from here on: {word} {value}")
            self.seen[word] = value

    def _answer(self, command: Command) -> None:
        wrong = self.mishap.kind if self.mishap.hits(command) else ""
        at = (self.now, command.task_id)
        if wrong == "busy" and command.attempt > 1:
            wrong = ""
        match command:
            case RunCheck():
                self._told(f"hub: {self._named(command)}", "refused" if wrong else "passed")
                if wrong:
                    self._feed(CheckFailed(*at, command.attempt, self._error(0)))
                else:
                    self._feed(CheckPassed(*at, command.attempt))
            case StartChildren():
                self._children(command, failing=bool(wrong))
            case Dispatch() | AskInventory():
                self._part(command, wrong)
            case _:
                raise AssertionError(f"nobody answers {command}")

    def _children(self, command: StartChildren, *, failing: bool) -> None:
        group = self.job.spec(command.task_id).group
        assert group is not None, "only a group has children"
        members = group.members
        failed = members[:1] if failing else ()
        words = f"{failed[0]} fails" if failed else "all of them succeed"
        what = f"jobs of {', '.join(members)} ({group.operation.value})"
        self._told(f"{what}: {self._named(command)}", words)
        counts = (len(members) - len(failed), failed, len(failed))
        self._feed(ChildrenEnded(self.now, command.task_id, command.attempt, *counts))

    def _part(self, command: Dispatch | AskInventory, wrong: str) -> None:
        verb = command.verb.value if isinstance(command, Dispatch) else "inventory"
        again = f", attempt {command.attempt}" if command.attempt > 1 else ""
        line = f"{command.side.value}: {self._named(command)} ({verb}{again})"
        if wrong == "silent":
            self._told(line, "no answer")
            return
        done = (self.now, command.task_id, command.side, command.attempt)
        if wrong:
            code = BUSY if wrong == "busy" else REFUSED
            self._told(line, f"refused with {code}")
            self._feed(PartFailed(*done, self._error(code)))
            return
        self._told(line, "done")
        self._feed(PartSucceeded(*done, {"result": dict(RESULT)}, self.now))

    def _person(self) -> None:
        (task,) = [each for each in self.job.tasks if each.state is TaskState.IN_PROGRESS]
        action = self.job.spec(task.task_id).manual_action
        if self.mishap.task_id == task.task_id and self.job.cancel is None:
            self._told(f"a person: {action}", "the job is cancelled instead")
            self._feed(CancelRequested(self.now, "anna"))
            return
        self._told(f"a person: {action}", "done, and the job is resumed")
        self._feed(Resumed(self.now, "anna", "done"))

    def _time_passes(self) -> None:
        due = next_deadline(self.job)
        assert due is not None, "nobody is asked, and no time is waited for"
        seconds, self.now = (due - self.now).total_seconds(), due
        self.lines.append(f"    {seconds:.0f} seconds pass")
        self._feed(Tick(due, self._error(0)))

    def _named(self, command: Command) -> str:
        task_id = command.task_id.removesuffix(UNDO_SUFFIX)
        name = f"'{self.job.spec(task_id).friendly_name}'"
        return name if task_id == command.task_id else f"taking back {name}"

    def _told(self, what: str, end: str) -> None:
        self.lines.append(f"{what}: {end}")

    def _error(self, code: int) -> JobError:
        return JobError(code="28020", message="no", created_at=self.now, provider_code=code)

    def _tell_the_end(self) -> None:
        job = self.job
        skipped = [
            f"'{job.spec(task.task_id).friendly_name}'"
            for task in job.tasks
            if task.state is TaskState.SKIPPED
        ]
        if skipped:
            self.lines.append(f"skipped: {', '.join(skipped)}")
        offered = " and ".join(job.allowed_actions)
        words = [f"The job ends as {job.state.value}"]
        words += [f"{len(job.errors)} error" + "s" * (len(job.errors) > 1)] * bool(job.errors)
        words += ["not all could be taken back"] * job.undo_incomplete
        words += [f"open to a person: {offered}"] * bool(offered)
        self.lines.append(f"{'; '.join(words)}.")
        if self.item is not None:
            item = self.item
            allowed = ", ".join(each.value for each in allowed_operations(item.state))
            self.lines.append(
                f"{item.friendly_name} is {item.state.value}, at {item.active_location.value};"
                f" allowed: {allowed or 'nothing'}."
            )


def told(beginning: Beginning) -> str:
    """Return the whole text of an operation."""
    job, item = beginning.job, beginning.item
    head = f"{job.scenario.name}: {job.scenario.friendly_name}"
    place = (
        "" if item is None else f"\nweb01 is {item.state.value}, at {item.active_location.value}."
    )
    well = _lines(beginning, Mishap())
    parts = [f"{head}\n\n> {beginning.command}{place}\n\n# All goes well\n{_text(well)}"]
    for mishap, title in _mishaps(job):
        lines = _lines(beginning, mishap)
        same = next(
            (
                place
                for place, pair in enumerate(zip(lines, well, strict=False))
                if pair[0] != pair[1]
            ),
            min(len(lines), len(well)),
        )
        before = [f"(as when all goes well, up to: {well[same - 1].strip()})"] if same else []
        parts.append(f"# {title}\n{_text([*before, *lines[same:]])}")
    return "\n".join(parts)


def _lines(beginning: Beginning, mishap: Mishap) -> list[str]:
    telling = Telling(beginning.job, beginning.item, mishap)
    telling.to_its_end()
    return telling.lines


def _text(lines: list[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _mishaps(job: Job) -> Iterator[tuple[Mishap, str]]:
    """Yield each failure at each task that a job can come to, with what it is called."""
    shown_busy = False
    for task in job.tasks:
        spec = job.spec(task.task_id)
        name = f"'{spec.friendly_name}'"
        if spec.manual_action is not None:
            yield Mishap("given up", task.task_id), f"{name} is not done by anybody"
            continue
        if spec.group is not None:
            yield Mishap("refused", task.task_id), f"{name}: a machine fails"
            continue
        if spec.is_check:
            yield Mishap("refused", task.task_id), f"{name} is refused by the hub"
            continue
        for side in job.real_sides(spec):
            yield Mishap("refused", task.task_id, side), f"{name} is refused at {side.value}"
            yield Mishap("silent", task.task_id, side), f"{name}: {side.value} does not answer"
            if spec.undo_on_failure:
                title = f"{name} is refused at {side.value}, and nothing can be taken back"
                yield Mishap("stuck", task.task_id, side), title
            if BUSY in spec.retry.codes and not shown_busy:
                shown_busy = True
                yield Mishap("busy", task.task_id, side), f"{name}: {side.value} is busy for once"


def file_of(key: str) -> Path:
    """Return where a story is kept."""
    return FOLDER / f"{key.replace(' ', '_')}.txt"


def _main(names: list[str]) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    known = beginnings()
    for key in names or known:
        file_of(key).write_text(told(known[key]))


if __name__ == "__main__":
    _main(sys.argv[1:])
