"""Jobs on an item over two ends that answer by the simulator's own replication table.

What an end would refuse, it refuses here; what a verb would leave, is left. So a job that the hub
offers can be asked whether the sites would really carry it out, from wherever earlier ones, gone
wrong on the way, have left them.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pydantic import JsonValue

from service_hub.domain.checks import SideFacts, check_item_job, job_error
from service_hub.domain.decide import decide, next_deadline
from service_hub.domain.item_life import begin_on_item, reflect_on_item
from service_hub.domain.jobs import (
    UNDO_SUFFIX,
    Begun,
    CancelRequested,
    CheckFailed,
    CheckPassed,
    Command,
    Dispatch,
    Event,
    Job,
    JobError,
    PartFailed,
    PartSucceeded,
    RunCheck,
    Tick,
)
from service_hub.domain.planning import ItemPlan, JobIdentity, plan_item_job
from service_hub.domain.protection import Operation
from service_hub.domain.records import ProtectedItem, ReplicationPolicy
from service_hub.domain.scenarios import Target
from tests.support.item_walk import NOW, RESULT, provider
from vmm_simulator.hyperv import replication as table
from vmm_simulator.hyperv.starting import (
    Claim,
    ends_fence,
    start_blocked_by,
    thinks_itself_active,
)
from vmm_simulator.problems import Code, RefusedError
from wire_contract.vocabulary import ReplicationMode, ReplicationState, Side, Verb

EVENTS_MAX: Final = 400
REFUSED_CODE: Final = 32768
"""What an end refuses with that has a reason of its own: nothing makes it pass by itself."""

M, S, O = ReplicationMode, ReplicationState, table.Operation  # noqa: E741 -- as in the table


@dataclass(frozen=True, slots=True)
class End:
    """One copy; `has_written`: it ran while it was failed over.

    `fenced_at`: the epoch at which it was fenced; None where it is not. `points_gone`: a commit has
    begun, and nothing leads back any more.
    """

    position: table.Position
    runs: bool
    has_written: bool = False
    fenced_at: int | None = None
    points_gone: bool = False


@dataclass(frozen=True, slots=True)
class Ends:
    """Both copies, by the item's sides; `diverged`: the replica must be compared with first."""

    primary: End = End(table.Position(M.PRIMARY, S.REPLICATING), runs=True)
    recovery: End = End(table.Position(M.REPLICA, S.REPLICATING), runs=False)
    diverged: bool = False

    def at(self, side: Side) -> End:
        """Return the copy at one end."""
        return self.primary if side is Side.PRIMARY else self.recovery

    def with_end(self, side: Side, end: End) -> "Ends":
        """Return both, one of them changed."""
        if side is Side.PRIMARY:
            return replace(self, primary=end)
        return replace(self, recovery=end)

    def told(self, item: ProtectedItem) -> "Ends":
        """Return them once both sites have asked the hub anew which copies may run."""
        active, other = self.at(item.authority), self.at(item.authority.other)
        if active.fenced_at is not None:
            assert item.epoch > active.fenced_at, "a fence was set in the epoch of this copy"
            active = replace(active, fenced_at=None)
        claims = thinks_itself_active(other.position)
        if claims and other.fenced_at is None:
            other = replace(other, fenced_at=item.epoch)
        other = replace(other, runs=False)
        return self.with_end(item.authority, active).with_end(item.authority.other, other)

    def since(self, epoch: int, now: int) -> "Ends":
        """Return them as seen from another item, whose epoch is `now` instead of `epoch`.

        What counts of a fence is whether it was set in the present epoch or before.
        """
        ends = self
        for side in Side:
            at = self.at(side).fenced_at
            if at is not None:
                then = now if at == epoch else now - 1
                ends = ends.with_end(side, replace(ends.at(side), fenced_at=then))
        return ends

    def after_a_while(self) -> "Ends":
        """Return them once replication has had its time: what differs is compared and equal."""
        for side in Side:
            sender, taker = self.at(side).position, self.at(side.other).position
            comparing = sender.state in {S.WAITING_TO_START_RESYNCHRONIZE, S.RESYNCHRONIZING}
            takes = O.RECEIVE_WHOLE in table.allowed(taker)
            differs = comparing or self.diverged
            sends = comparing or sender == table.Position(M.PRIMARY, S.REPLICATING)
            if sends and takes and differs:
                equal = replace(self.at(side), position=table.Position(M.PRIMARY, S.REPLICATING))
                return replace(self.with_end(side, equal), diverged=False)
        return self


@dataclass(frozen=True, slots=True)
class Mishap:
    """What goes wrong: `failing` at a task, `cancelled` at one, `stuck` while taking back.

    `with_effect`: what is said to have failed was done all the same; `half`: a part of it (of a
    commit, that the points go). `told`: both providers are
    killed before each command, so that their sites hear from the hub which copies may run.
    """

    failing: str | None = None
    cancelled: str | None = None
    stuck: frozenset[str] = frozenset()
    with_effect: bool = False
    half: bool = False
    told: bool = False


def perform(ends: Ends, verb: Verb, side: Side, target: Target, epoch: int) -> Ends:
    """Return both ends after a verb at one of them, or raise RefusedError as that end would."""
    if target is Target.TEST_MACHINE:
        if verb is Verb.CREATE_TEST_MACHINE:
            table.advance(ends.at(side).position, O.TEST_REPLICA)
        return ends
    return _PERFORM[verb](ends, side, epoch)


def _shut_down(ends: Ends, side: Side, _epoch: int) -> Ends:
    return ends.with_end(side, replace(ends.at(side), runs=False))


def _synchronize(ends: Ends, side: Side, _epoch: int) -> Ends:
    table.advance(ends.at(side).position, O.SEND_CHANGES)
    return _send(ends, side)


def _fail_over(ends: Ends, side: Side, epoch: int) -> Ends:
    ends = _moved(ends, side, O.INITIATE_FAILOVER, epoch)
    held = ends.at(side).position.state is S.RECOVERED
    return ends if held else _moved(ends, side, O.COMPLETE_FAILOVER, epoch)


def _start(ends: Ends, side: Side, _epoch: int) -> Ends:
    end = ends.at(side)
    claim = Claim(
        end.position,
        epoch=1,
        fenced=end.fenced_at is not None,
        reserved=False,
        protected=True,
        epoch_confirmed=True,
    )
    block = start_blocked_by(claim)
    if block is not None:
        raise RefusedError(block.code, block.reason)
    wrote = end.has_written or end.position.mode is M.REPLICA
    return ends.with_end(side, replace(end, runs=True, has_written=wrote))


def _prepare(ends: Ends, side: Side, epoch: int) -> Ends:
    end = ends.at(side)
    prepared = table.advance(end.position, O.PREPARE_FAILOVER)
    if end.runs:
        raise RefusedError(Code.INVALID_STATE, "the machine runs")
    if end.position == prepared:
        return ends
    return _moved(_send(ends, side), side, O.PREPARE_FAILOVER, epoch)


def _send(ends: Ends, side: Side) -> Ends:
    table.advance(ends.at(side.other).position, O.RECEIVE_CHANGES)
    if ends.diverged:
        required = table.advance(ends.at(side).position, O.REQUIRE_RESYNCHRONIZATION)
        unequal = replace(ends.at(side), position=required)
        raise ResynchronizationRequiredError(ends.with_end(side, unequal))
    return ends


def _refuse_without_points(end: End) -> None:
    if end.points_gone:
        raise RefusedError(Code.NOT_AVAILABLE, "the recovery points are gone")


def _cancel(ends: Ends, side: Side, epoch: int) -> Ends:
    end = ends.at(side)
    _refuse_without_points(end)
    ends = _moved(ends, side, O.REVERT_FAILOVER, epoch)
    if end.position.mode is not M.REPLICA:
        return ends
    off = replace(ends.at(side), runs=False, has_written=False)
    return replace(ends.with_end(side, off), diverged=ends.diverged or end.has_written)


def _change_point(ends: Ends, side: Side, epoch: int) -> Ends:
    _refuse_without_points(ends.at(side))
    ends = _moved(ends, side, O.CHANGE_RECOVERY_POINT, epoch)
    off = replace(ends.at(side), runs=False, has_written=False)
    return _moved(ends.with_end(side, off), side, O.COMPLETE_FAILOVER, epoch)


def _commit(ends: Ends, side: Side, epoch: int) -> Ends:
    return _moved(_without_points(ends, side), side, O.COMMIT_FAILOVER, epoch)


def _without_points(ends: Ends, side: Side) -> Ends:
    table.advance(ends.at(side).position, O.COMMIT_FAILOVER)
    return ends.with_end(side, replace(ends.at(side), points_gone=True))


def _moved(ends: Ends, side: Side, operation: table.Operation, epoch: int) -> Ends:
    end = ends.at(side)
    at = end.fenced_at
    still = at if at is not None and not ends_fence(operation, epoch, at) else None
    moved = replace(end, position=table.advance(end.position, operation), fenced_at=still)
    return ends.with_end(side, moved)


_PERFORM: Final[Mapping[Verb, Callable[[Ends, Side, int], Ends]]] = {
    Verb.SHUT_DOWN: _shut_down,
    Verb.START: _start,
    Verb.PREPARE_FAILOVER: _prepare,
    Verb.SYNCHRONIZE: _synchronize,
    Verb.FAIL_OVER: _fail_over,
    Verb.CANCEL_FAILOVER: _cancel,
    Verb.CHANGE_RECOVERY_POINT: _change_point,
    Verb.COMMIT: _commit,
    Verb.CONNECT_ADAPTERS: lambda ends, *_: ends,
}
"""The verbs of the operations that are walked here, on a machine."""


class ResynchronizationRequiredError(RefusedError):
    """The replica refuses what it is sent, and the source knows from then on; `ends` say so."""

    def __init__(self, ends: Ends) -> None:
        super().__init__(Code.RESYNCHRONIZATION_REQUIRED, "the replica has diverged")
        self.ends = ends


@dataclass(slots=True)
class Walk:
    """One job between two ends."""

    item: ProtectedItem
    ends: Ends
    mishap: Mishap
    job: Job
    waiting: list[Command] = field(default_factory=list)
    events: int = 0

    def to_its_end(self) -> None:
        """Answer whatever is asked until the job has ended; then let replication have its time."""
        self.item = begin_on_item(self.item, self.job, NOW)
        self._feed(Begun(NOW))
        while not self.job.finished:
            assert self.events < EVENTS_MAX, "the job does not end"
            if self.waiting:
                self._step(self.waiting.pop(0))
                continue
            due = next_deadline(self.job)
            assert due is not None, "nobody is asked, and no time is waited for"
            self.ends = self.ends.after_a_while()
            self._feed(Tick(due, _error(REFUSED_CODE, "no final report")))
        self.ends = self.ends.after_a_while()
        if self.mishap.told:
            self.ends = self.ends.told(self.item)

    def _feed(self, event: Event) -> None:
        self.job, commands = decide(self.job, event)
        self.item = reflect_on_item(self.item, self.job)
        self.waiting += [each for each in commands if isinstance(each, Dispatch | RunCheck)]
        self.events += 1

    def _step(self, command: Command) -> None:
        if isinstance(command, RunCheck):
            error = check_item_job(self.job, self._facts(), NOW)
            at = (NOW, command.task_id, command.attempt)
            self._feed(CheckPassed(*at) if error is None else CheckFailed(*at, error))
            return
        assert isinstance(command, Dispatch), "checks and commands are all that is asked"
        task = command.task_id.removesuffix(UNDO_SUFFIX)
        if command.task_id == self.mishap.cancelled and self.job.cancel is None:
            self._feed(CancelRequested(NOW, "p"))
        undoing = command.task_id.endswith(UNDO_SUFFIX)
        goes_wrong = (
            task in self.mishap.stuck if undoing else command.task_id == self.mishap.failing
        )
        if goes_wrong and not self.mishap.with_effect:
            if self.mishap.half and command.verb is Verb.COMMIT:
                self.ends = _without_points(self.ends, command.side)
            self._failed(command, REFUSED_CODE, "refused by a mishap")
            return
        if self.mishap.told:
            self.ends = self.ends.told(self.item)
        self._perform(command, goes_wrong=goes_wrong)

    def _perform(self, command: Dispatch, *, goes_wrong: bool) -> None:
        task = command.task_id.removesuffix(UNDO_SUFFIX)
        target, epoch = self.job.spec(task).target, self.item.epoch
        try:
            self.ends = perform(self.ends, command.verb, command.side, target, epoch)
        except ResynchronizationRequiredError as refusal:
            self.ends = refusal.ends
            self._failed(command, refusal.code, refusal.message)
        except RefusedError as refusal:
            self._failed(command, refusal.code, refusal.message)
        else:
            if goes_wrong:
                self._failed(command, REFUSED_CODE, "done, and not reported")
                return
            result: dict[str, JsonValue] = {"result": dict(RESULT)}
            done = (NOW, command.task_id, command.side, command.attempt)
            self._feed(PartSucceeded(*done, result, NOW))

    def _failed(self, command: Dispatch, code: int, words: str) -> None:
        at = (NOW, command.task_id, command.side, command.attempt)
        self._feed(PartFailed(*at, _error(code, words)))

    def _facts(self) -> dict[Side, SideFacts]:
        return {
            side: SideFacts(
                side.value,
                connected=True,
                last_contact="now",
                replication_state=self.ends.at(side).position.state,
            )
            for side in Side
        }


def walk(
    item: ProtectedItem, ends: Ends, operation: Operation, mishap: Mishap, *, with_source: bool
) -> Walk:
    """Run an operation from where item and ends are."""
    made = Walk(item, ends, mishap, planned(item, operation, with_source=with_source))
    made.to_its_end()
    return made


def planned(item: ProtectedItem, operation: Operation, *, with_source: bool) -> Job:
    """Return the job of an operation on an item."""
    policy = ReplicationPolicy(id="p", vault_id="v", name="p", provider_type="HyperVReplica2012R2")
    plan = ItemPlan(item, policy, provider("a"), provider("b"), {}, None)
    arguments: dict[str, JsonValue] = {"test_machine_id": "t"}
    arguments["source_operations_required"] = with_source
    return plan_item_job(plan, operation, arguments, JobIdentity("j", "activity", NOW))


def mishaps(job: Job) -> Iterator[Mishap]:
    """Return every way in which a job can fail, be cancelled, and be stuck while taking back."""
    tasks = [task.task_id for task in job.tasks if job.spec(task.task_id).verb is not None]
    undone = [each for each in tasks if job.spec(each).undo is not None]
    stuck = [frozenset[str](), *(frozenset({each}) for each in undone), frozenset(undone)]
    for left in stuck:
        for with_effect in (False, True):
            for task in tasks:
                yield Mishap(failing=task, stuck=left, with_effect=with_effect)
                yield Mishap(cancelled=task, stuck=left, with_effect=with_effect)


def _error(code: int, words: str) -> JobError:
    error = job_error("28020", NOW, name="web01", detail=words)
    return error.model_copy(update={"provider_code": int(code)})
