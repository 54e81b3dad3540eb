"""Recovery plans: groups of protected items in the order of their start, with actions; pure.

A plan lies between two servers (arm-api.md, 2.9; behaviour.md, 2.7). Groups: one Shutdown and one
Failover group in front, which have no machines but may have actions, then the Boot groups.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, Final

from service_hub.domain.errors import InvalidRequestError
from service_hub.domain.immutable import Immutable
from service_hub.domain.jobs import Job, JobState
from service_hub.domain.plans import MEMBERS_MAX
from service_hub.domain.protection import Operation, allowed_operations
from service_hub.domain.records import CurrentScenario, ProtectedItem, Record
from wire_contract.scripts import PATH_CHARACTERS_MAX, SECONDS_DEFAULT, SECONDS_MAX
from wire_contract.vocabulary import Direction, Side

GROUPS_MAX_DEFAULT: Final = 7
"""Boot groups of a plan (behaviour.md, 2.7); the hub's configuration may allow more."""

ACTIONS_MAX: Final = 50
NAME_CHARACTERS_MAX: Final = 128
WORDS_CHARACTERS_MAX: Final = 4_096

PLAN_OPERATIONS: Final = (
    Operation.PLANNED_FAILOVER,
    Operation.UNPLANNED_FAILOVER,
    Operation.TEST_FAILOVER,
    Operation.TEST_FAILOVER_CLEANUP,
    Operation.COMMIT,
    Operation.CANCEL_FAILOVER,
    Operation.REVERSE_REPLICATE,
)
"""What a plan does to all its machines, and so what an action may be for."""


class GroupType(StrEnum):
    """ARM `groupType`; the first two have no machines."""

    SHUTDOWN = "Shutdown"
    FAILOVER = "Failover"
    BOOT = "Boot"


class PlanScript(Immutable):
    """A script of a server's library; `side` is the end whose server runs it, for good.

    `undo_path` runs when what the script was for is taken back: at the clean-up of a test, and when
    a failover is cancelled.
    """

    path: str
    side: Side
    seconds: int = SECONDS_DEFAULT
    undo_path: str = ""


class PlanAction(Immutable):
    """What is done before or after a group: by a person (`manual`) or by a script.

    Only in these operations, and in these directions; no direction stands for both.
    """

    name: str
    kinds: tuple[Operation, ...]
    directions: tuple[Direction, ...] = ()
    manual: str = ""
    script: PlanScript | None = None


class RecoveryGroup(Immutable):
    """Machines that are worked on side by side, item ids; actions in their order."""

    group_type: GroupType
    members: tuple[str, ...] = ()
    before: tuple[PlanAction, ...] = ()
    after: tuple[PlanAction, ...] = ()


class RecoveryPlan(Record):
    """A plan between two servers; `current` is its job from beginning to end.

    `last_run` is the job that ended last, in `last_run_state`.
    """

    kind: ClassVar[str] = "recovery_plan"

    name: str
    primary_provider_id: str
    recovery_provider_id: str
    groups: tuple[RecoveryGroup, ...]
    current: CurrentScenario | None = None
    last_run: CurrentScenario | None = None
    last_run_state: JobState = JobState.NOT_STARTED
    last_planned_failover_at: datetime | None = None
    last_unplanned_failover_at: datetime | None = None
    last_test_failover_at: datetime | None = None

    @property
    def members(self) -> tuple[str, ...]:
        """The items of all groups, in the order of their start."""
        return tuple(member for group in self.groups for member in group.members)

    @property
    def boot_groups(self) -> tuple[RecoveryGroup, ...]:
        """The groups that have machines."""
        return tuple(each for each in self.groups if each.group_type is GroupType.BOOT)

    def lead(self, group_type: GroupType) -> RecoveryGroup:
        """Return the Shutdown or the Failover group."""
        return next(each for each in self.groups if each.group_type is group_type)


def arranged(groups: Sequence[RecoveryGroup]) -> tuple[RecoveryGroup, ...]:
    """Return the groups as a plan keeps them: Shutdown and Failover in front, made where absent."""
    leads = []
    for group_type in (GroupType.SHUTDOWN, GroupType.FAILOVER):
        named = [each for each in groups if each.group_type is group_type]
        if len(named) > 1:
            raise InvalidRequestError(
                f"The plan has {len(named)} groups of the type {group_type}: it has one.", "groups"
            )
        leads += named or [RecoveryGroup(group_type=group_type)]
    boots = [each for each in groups if each.group_type is GroupType.BOOT]
    return (*leads, *boots)


def check_plan(plan: RecoveryPlan, items: Mapping[str, ProtectedItem], *, groups_max: int) -> None:
    """Raise InvalidRequestError where a plan could not be run as it is written.

    `items` are those of the vault, by id.
    """
    count = len(plan.boot_groups)
    if count > groups_max:
        raise InvalidRequestError(
            f"The plan has {count} Boot groups: at most {groups_max} are allowed here"
            " (plans.groups_max in the hub's configuration).",
            "groups",
        )
    if len(plan.members) > MEMBERS_MAX:
        raise InvalidRequestError(
            f"The plan has {len(plan.members)} machines: make several plans of at most"
            f" {MEMBERS_MAX}.",
            "groups",
        )
    twice = next((each for each, times in Counter(plan.members).items() if times > 1), None)
    if twice is not None:
        raise InvalidRequestError(
            f"The machine '{twice}' stands in the plan twice: it belongs to one group.", "groups"
        )
    for number, group in enumerate(plan.groups):
        _check_group(plan, group, items, f"groups[{number}]")


def _check_group(
    plan: RecoveryPlan, group: RecoveryGroup, items: Mapping[str, ProtectedItem], place: str
) -> None:
    is_boot = group.group_type is GroupType.BOOT
    if group.members and not is_boot:
        raise InvalidRequestError(
            f"A group of the type {group.group_type} has no machines of its own: put them into"
            " Boot groups.",
            f"{place}.replicationProtectedItems",
        )
    if group.after and not is_boot:
        # Each group is failed over whole: there is no moment at which all are shut down, or all
        # failed over and none started.
        raise InvalidRequestError(
            f"Actions after the {group.group_type} group can't be run: this hub fails over one"
            " group after the other. Put the action before the first Boot group, or after one.",
            f"{place}.endGroupActions",
        )
    for member in group.members:
        item = items.get(member)
        if item is None:
            raise InvalidRequestError(
                f"There is no protected item '{member}' in this vault.",
                f"{place}.replicationProtectedItems",
            )
        ends = (item.primary_provider_id, item.recovery_provider_id)
        if ends != (plan.primary_provider_id, plan.recovery_provider_id):
            raise InvalidRequestError(
                f"The machine '{item.friendly_name}' is not protected between the two servers of"
                " the plan.",
                f"{place}.replicationProtectedItems",
            )
    for actions, name in ((group.before, "startGroupActions"), (group.after, "endGroupActions")):
        if len(actions) > ACTIONS_MAX:
            raise InvalidRequestError(
                f"A group has at most {ACTIONS_MAX} actions before and after it.",
                f"{place}.{name}",
            )
        for index, action in enumerate(actions):
            _check_action(action, f"{place}.{name}[{index}]")


def _check_action(action: PlanAction, place: str) -> None:
    if not 0 < len(action.name) <= NAME_CHARACTERS_MAX or not action.name.isprintable():
        raise InvalidRequestError(
            f"An action needs a name of at most {NAME_CHARACTERS_MAX} characters.",
            f"{place}.actionName",
        )
    if not action.kinds:
        raise InvalidRequestError(
            "An action needs the kinds of failover that it is for.", f"{place}.failoverTypes"
        )
    others = [each for each in action.kinds if each not in PLAN_OPERATIONS]
    if others:
        known = ", ".join(PLAN_OPERATIONS)
        raise InvalidRequestError(
            f"No plan does {others[0]}: an action is for one or more of {known}.",
            f"{place}.failoverTypes",
        )
    if (action.script is None) == (not action.manual):
        raise InvalidRequestError(
            "An action is either something for a person to do, described in words, or a script.",
            f"{place}.customDetails",
        )
    if len(action.manual) > WORDS_CHARACTERS_MAX:
        raise InvalidRequestError(
            f"The description of an action has at most {WORDS_CHARACTERS_MAX} characters.",
            f"{place}.customDetails.description",
        )
    if action.script is not None:
        _check_script(action.script, f"{place}.customDetails")


def _check_script(script: PlanScript, place: str) -> None:
    if not 1 <= script.seconds <= SECONDS_MAX:
        raise InvalidRequestError(
            f"A script's time limit is 1 to {SECONDS_MAX} seconds.", f"{place}.timeout"
        )
    paths = (script.path, script.undo_path) if script.undo_path else (script.path,)
    for path in paths:
        parts = [part for part in path.replace("\\", "/").split("/") if part]
        usable = parts and path.isprintable() and len(path) <= PATH_CHARACTERS_MAX
        if not usable or {".", ".."} & set(parts):
            raise InvalidRequestError(
                "A script is named by its path below the server's library share, such as"
                " '\\RPScripts\\check.py', or beginning with the share's name.",
                f"{place}.path",
            )


def allowed_on(plan: RecoveryPlan, items: Sequence[ProtectedItem]) -> tuple[Operation, ...]:
    """Return what all machines of the plan allow now; nothing while its job runs."""
    if plan.current is not None or not items:
        return ()
    sets = [
        allowed_operations(each.state) if each.current is None and each.plan is None else ()
        for each in items
    ]
    return tuple(each for each in PLAN_OPERATIONS if all(each in allowed for allowed in sets))


def begun_on_plan(plan: RecoveryPlan, job: Job, now: datetime) -> RecoveryPlan:
    """Return the plan as its job holds it."""
    current = CurrentScenario(scenario_name=job.scenario.name, job_id=job.id, started_at=now)
    return plan.model_copy(update={"current": current})


_ENDED: Final[Mapping[str, str]] = {
    "plan_planned_failover": "last_planned_failover_at",
    "plan_unplanned_failover": "last_unplanned_failover_at",
    "plan_test_failover": "last_test_failover_at",
}


def ended_on_plan(plan: RecoveryPlan, job: Job) -> RecoveryPlan:
    """Return the plan as its job leaves it; as it is where another job holds it.

    A successful failover is noted with the moment its job began (recorded.md, section 0).
    """
    if plan.current is None or plan.current.job_id != job.id:
        return plan
    update: dict[str, object] = {
        "current": None,
        "last_run": plan.current,
        "last_run_state": job.state,
    }
    noted = _ENDED.get(job.scenario_key)
    if noted is not None and job.state is JobState.SUCCEEDED:
        update[noted] = job.started_at
    return plan.model_copy(update=update)
