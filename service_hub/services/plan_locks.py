"""What a plan's job holds again when it is restarted."""

from datetime import datetime

from service_hub.domain.job_requests import gone, refused_by
from service_hub.domain.jobs import Job
from service_hub.domain.plans import held_by_plan, members_of, refusal_when_any_busy
from service_hub.domain.records import ProtectedItem
from service_hub.domain.recovery_plans import RecoveryPlan, begun_on_plan
from service_hub.ports.changes import Change, Save
from service_hub.ports.stores import Reader


async def held_again_by_plan(reader: Reader, job: Job, now: datetime) -> Change:
    """Return the locks on all items of a plan; JobRequestRefusedError where one is held."""
    found = {member: await reader.get(ProtectedItem, member) for member in members_of(job)}
    present = [each for each in found.values() if each is not None]
    if len(present) < len(found):
        raise gone(job, "protected item")
    busy = refusal_when_any_busy([each.record for each in present], now, for_plan=job.id)
    if busy is not None:
        raise refused_by(busy)
    saves = [Save(held_by_plan(each.record, job, now), each.version) for each in present]
    plan = await reader.get(RecoveryPlan, job.target_object_id)
    if plan is not None:
        saves.append(Save(begun_on_plan(plan.record, job, now), plan.version))
    return Change(saves=saves)
