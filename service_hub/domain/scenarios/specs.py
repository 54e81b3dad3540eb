"""The parts of a scenario: tasks with ends, verbs, undo and retries, as immutable values.

Ends are named as in the forward direction; `Direction.place` gives the real one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from pydantic import JsonValue

from service_hub.domain.protection import Operation, ProtectionState
from wire_contract.vocabulary import Side, Verb
from wire_contract.vocabulary.task_names import task_names

TASK_SECONDS_MAX: Final = 900
"""Longest a fabric may take for a task before it counts as failed."""


class Target(StrEnum):
    """What a task acts on."""

    MACHINE = "machine"
    TEST_MACHINE = "test_machine"
    KEPT_COPY = "kept_copy"
    SITE = "site"
    CLOUD = "cloud"
    SERVER = "server"
    PLAN = "plan"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often a task is tried before it has failed, where the provider's error is one of these.

    A fabric that is busy or unreachable is insisted on by the provider itself until the deadline:
    this is for attempts that have ended.
    """

    attempts_max: int = 1
    pause_seconds: int = 0
    codes: frozenset[int] = frozenset()


TRANSIENT_CODES: Final = frozenset({32771, 32772, 32774, 32777, 32778})
"""WMI return codes that may be gone at the next attempt: state unknown, timed out, system in use,
system not available, out of memory (Msvm_ReplicationService). The others stay what they are."""

SETTLING_CODES: Final = TRANSIENT_CODES | {32775, 91006}
"""Also: a state that does not allow it, and resynchronization required (docs/vmm-simulator.md).

Both pass by themselves once a source that was failed over from compares with its replica again."""

NO_RETRY: Final = RetryPolicy()
TRANSIENT_RETRY: Final = RetryPolicy(attempts_max=3, pause_seconds=20, codes=TRANSIENT_CODES)
SETTLING_RETRY: Final = RetryPolicy(attempts_max=10, pause_seconds=30, codes=SETTLING_CODES)


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """Child jobs side by side: one of this operation for each member, an item id.

    `go_on_past_errors`: the next tasks run although some failed; the job then fails at its end.
    """

    operation: Operation
    members: tuple[str, ...]
    arguments: Mapping[str, JsonValue] = field(default_factory=dict)
    go_on_past_errors: bool = False


@dataclass(frozen=True, slots=True)
class ScriptSpec:
    """A script of a recovery plan, at the server of this end, whatever the direction.

    `action`, `group` and `when` say why it runs; `group_task` names the task with the machines that
    it is about, None: all of the plan.
    """

    path: str
    seconds: int
    side: Side
    action: str = ""
    group: str = ""
    when: str = ""
    group_task: str | None = None


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """One repeatable step.

    No `sides`: the hub's own check. `skipped_if` / `done_at_once_if` name a flag of the job.
    `undo` takes its effect back on the same ends: when the job is cancelled, and by itself when a
    task with `undo_on_failure` fails; the newest task first. `undo_must_hold`: when that fails,
    nothing older is taken back. `no_way_back`: once it may have been done, nothing older is either.
    `go_on_after_failure`: the failure is noted and the job continues. `leaves`: the item's state
    once it is done, if the job ends later without success and it is not taken back;
    `leaves_once_begun`: already once it may have had an effect.
    `asks_inventory`: the ends are asked for their inventory, and the task succeeds when it has
    come. `undone_alone`: after it was taken back a restart repeats it, and nothing that was done
    since. `group`: runs child jobs. `manual_action`: what a person has to do; the job is suspended
    until it is resumed. `script`: what a provider runs for it (verb `run_script`).
    """

    task_id: str
    name: str
    friendly_name: str
    sides: tuple[Side, ...] = ()
    verb: Verb | None = None
    target: Target = Target.MACHINE
    seconds: int = TASK_SECONDS_MAX
    undo: Verb | None = None
    undo_on_failure: bool = False
    go_on_after_failure: bool = False
    raises_epoch: bool = False
    skipped_if: str | None = None
    done_at_once_if: str | None = None
    undo_must_hold: bool = False
    no_way_back: bool = False
    leaves: ProtectionState | None = None
    leaves_once_begun: bool = False
    asks_inventory: bool = False
    undone_alone: bool = False
    retry: RetryPolicy = TRANSIENT_RETRY
    group: GroupSpec | None = None
    manual_action: str | None = None
    script: ScriptSpec | None = None

    @property
    def is_check(self) -> bool:
        """Whether the hub itself does it, at once."""
        return (
            not self.sides
            and self.verb is None
            and self.group is None
            and self.manual_action is None
        )


@dataclass(frozen=True, slots=True)
class Scenario:
    """A job's plan: `name` is the ARM scenarioName."""

    name: str
    friendly_name: str
    target_type: str
    details_type: str
    tasks: tuple[TaskSpec, ...]
    _by_id: Mapping[str, TaskSpec] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_by_id", {spec.task_id: spec for spec in self.tasks})

    def task(self, task_id: str) -> TaskSpec:
        """Return the spec of a task of this scenario."""
        return self._by_id[task_id]


PRIMARY: Final = (Side.PRIMARY,)
"""A task at the primary end alone."""

RECOVERY: Final = (Side.RECOVERY,)
"""A task at the recovery end alone."""

BOTH: Final = (Side.PRIMARY, Side.RECOVERY)
"""A task at both ends, side by side."""


def update_states(*, skipped_if: str | None = None, undo: Verb | None = None) -> TaskSpec:
    """Return the task that ends most changes of an item: both ends keep what holds now."""
    return TaskSpec(
        *task_names("UpdateDraStateTask"),
        BOTH,
        Verb.UPDATE_PROTECTION,
        skipped_if=skipped_if,
        undo=undo,
    )
