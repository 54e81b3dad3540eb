"""Pairs of clouds: their jobs, what those leave of the mapping, who may begin the next one; pure.

Sources: seed, step 4; recorded.md, section 9; behaviour.md, sections 2.2 and 6.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from pydantic import JsonValue

from service_hub.domain import errors
from service_hub.domain.checks import job_error
from service_hub.domain.jobs import Job, JobError, JobState, TaskRun
from service_hub.domain.planning import JobIdentity, plan_policy_job
from service_hub.domain.policies import (
    authentication_of,
    is_offline,
    relationship_settings,
)
from service_hub.domain.records import ContainerMapping, ProtectedItem, ReplicationPolicy
from service_hub.domain.scenarios import NO_CERTIFICATES, NOT_PAIRED, SCENARIOS, STILL_PAIRED
from wire_contract.cluster_names import ClusterNodes
from wire_contract.vmm_interface import CloudView
from wire_contract.vocabulary import Side

PAIR: Final = "pair_clouds"
UNPAIR: Final = "unpair_clouds"
CONFIGURE: Final = "configure_hosts"
UPDATE_POLICY: Final = "update_policy"
DELETE_POLICY: Final = "delete_policy"

PREPARING: Final = frozenset({PAIR, CONFIGURE, UPDATE_POLICY})
"""Jobs that prepare both clouds, so that what speaks against that is looked at first."""

NAMES_SHOWN_MAX: Final = 10

_State = Literal[
    "PairingInProgress", "Paired", "PairingFailed", "UnpairingInProgress", "UnpairingFailed"
]


@dataclass(frozen=True, slots=True)
class PairFacts:
    """What a job on a pair is made from; `affected` is what the job shows of both ends.

    `clusters` are those whose nodes the clouds' hosts are.
    """

    mapping: ContainerMapping
    policy: ReplicationPolicy
    clouds: Mapping[Side, CloudView]
    affected: Mapping[str, str]
    clusters: Mapping[Side, Sequence[ClusterNodes]] = field(default_factory=dict)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts of both clouds, as both sites tell of them now."""
        return tuple(sorted({host for each in self.clouds.values() for host in each.host_fqdns}))


def plan_pair_job(
    key: str, facts: PairFacts, identity: JobIdentity, flags: Sequence[str] = ()
) -> Job:
    """Return a job on a pair of clouds, not begun; its target is the policy, as recorded."""
    mapping, policy = facts.mapping, facts.policy
    target = (policy.id, policy.name)
    if key == CONFIGURE:
        target = (mapping.primary_cloud_id, facts.clouds[Side.PRIMARY].friendly_name)
    context: dict[str, JsonValue] = {
        "mapping_id": mapping.id,
        "replica_port": policy.replication_port,
        "authentication": authentication_of(policy),
        "clouds": {
            Side.PRIMARY.value: mapping.primary_cloud_id,
            Side.RECOVERY.value: mapping.recovery_cloud_id,
        },
        **_offline_folders(policy),
        "cloud_hosts": {side.value: list(facts.clouds[side].host_fqdns) for side in Side},
    }
    if any(facts.clusters.values()):
        context["clusters"] = {
            side.value: [each.model_dump(mode="json") for each in facts.clusters.get(side, ())]
            for side in Side
        }
    return Job(
        id=identity.job_id,
        vault_id=mapping.vault_id,
        scenario_key=key,
        operation=None,
        target_object_id=target[0],
        target_object_name=target[1],
        activity_id=identity.activity_id,
        tasks=tuple(TaskRun(task_id=spec.task_id) for spec in SCENARIOS[key].tasks),
        flags=(*flags, *((NO_CERTIFICATES,) if authentication_of(policy) == "kerberos" else ())),
        context=context,
        providers={
            Side.PRIMARY: mapping.primary_provider_id,
            Side.RECOVERY: mapping.recovery_provider_id,
        },
        affected=dict(facts.affected),
        created_at=identity.now,
    )


def _offline_folders(policy: ReplicationPolicy) -> dict[str, JsonValue]:
    """Return the folders that first copies travel by, which both sites look at beforehand."""
    if not is_offline(policy):
        return {}
    folders: dict[str, JsonValue] = {
        Side.PRIMARY.value: policy.offline_export_path,
        Side.RECOVERY.value: policy.offline_import_path,
    }
    return {"offline_folders": folders}


def plan_policy_change(
    facts: PairFacts,
    before: ReplicationPolicy,
    relationship_ids: Sequence[str] | None,
    identity: JobIdentity,
) -> Job:
    """Return the job that gives a pair, and what replicates in it, the settings of its policy.

    Certificates are put on the hosts only where they are new there. `relationship_ids` are named
    where the same clouds are paired under another policy too.
    """
    had = authentication_of(before) == authentication_of(facts.policy)
    job = plan_pair_job(UPDATE_POLICY, facts, identity, (NO_CERTIFICATES,) if had else ())
    settings: dict[str, JsonValue] = {"settings": relationship_settings(facts.policy, None)}
    if relationship_ids is not None:
        settings["relationship_ids"] = list(relationship_ids)
    return job.model_copy(update={"context": {**job.context, **settings}})


def plan_stored_change(policy: ReplicationPolicy, identity: JobIdentity) -> Job:
    """Return the job of a changed policy that no clouds are paired under."""
    job = plan_policy_job(policy, identity, UPDATE_POLICY)
    return job.model_copy(update={"flags": (NOT_PAIRED, NO_CERTIFICATES)})


_WHILE_IT_RUNS: Final[Mapping[str, _State]] = {
    PAIR: "PairingInProgress",
    UNPAIR: "UnpairingInProgress",
}
_FAILED: Final[Mapping[str, _State]] = {PAIR: "PairingFailed", UNPAIR: "UnpairingFailed"}
_SUCCEEDED: Final[Mapping[str, _State]] = {PAIR: "Paired", UNPAIR: "UnpairingInProgress"}
"""A mapping whose removal has succeeded is gone. Jobs that are not named leave it Paired."""


def held_by(mapping: ContainerMapping, job: Job) -> ContainerMapping:
    """Return the mapping as a job that begins, or goes on, holds it."""
    state = _WHILE_IT_RUNS.get(job.scenario_key, "Paired")
    return mapping.model_copy(update={"mapping_state": state, "job_id": job.id})


def reflect_on_mapping(mapping: ContainerMapping, job: Job) -> ContainerMapping:
    """Return the mapping as its job leaves it, or is making it again after a restart."""
    if mapping.job_id != job.id:
        return mapping
    states = _WHILE_IT_RUNS
    if job.finished:
        states = _SUCCEEDED if job.state is JobState.SUCCEEDED else _FAILED
    return mapping.model_copy(update={"mapping_state": states.get(job.scenario_key, "Paired")})


def refusal_when_held(
    mapping: ContainerMapping, holder: Job | None, now: datetime
) -> JobError | None:
    """Return 532 while another job works on the pair; `holder` is the one that it names."""
    if holder is None or holder.finished:
        return None
    since = holder.started_at or holder.created_at
    detail = f"{holder.scenario.name} since {since:%Y-%m-%dT%H:%M:%SZ}"
    return job_error(errors.BUSY, now, name=mapping.name, detail=detail)


def refusal_while_used(
    mapping: ContainerMapping, items: Sequence[ProtectedItem], now: datetime
) -> JobError | None:
    """Return why a pair cannot be removed: machines are protected under it (behaviour.md, 2.2)."""
    names = sorted(item.friendly_name for item in items if item.mapping_id == mapping.id)
    if not names:
        return None
    more = f" and {len(names) - NAMES_SHOWN_MAX} more" if len(names) > NAMES_SHOWN_MAX else ""
    detail = f"{len(names)} protected: {', '.join(names[:NAMES_SHOWN_MAX])}{more}"
    return job_error(errors.PAIR_IN_USE, now, name=mapping.name, detail=detail)


def refusal_of_policy_removal(
    policy: ReplicationPolicy, mappings: Sequence[ContainerMapping], now: datetime
) -> JobError | None:
    """Return why a policy cannot be deleted: clouds are paired under it."""
    names = sorted(each.name for each in mappings if each.policy_id == policy.id)
    if not names:
        return None
    detail = f"used by the container mapping{'s' * (len(names) > 1)} {', '.join(names)}"
    return job_error(errors.POLICY_IN_USE, now, name=policy.name, detail=detail)


def flags_of_removal(
    mapping: ContainerMapping, present: Sequence[ContainerMapping]
) -> tuple[str, ...]:
    """Return whether the clouds stay paired when a mapping goes: under another kind of policy."""
    clouds = (mapping.primary_cloud_id, mapping.recovery_cloud_id)
    stays = any(
        each.id != mapping.id
        and (each.primary_cloud_id, each.recovery_cloud_id) == clouds
        and each.mapping_state == "Paired"
        for each in present
    )
    return (STILL_PAIRED,) if stays else ()


def added_hosts(facts: PairFacts) -> tuple[str, ...]:
    """Return the hosts that a pair was not prepared for; none where nobody noted for which."""
    known = facts.mapping.configured_hosts
    if facts.mapping.mapping_state != "Paired" or known is None:
        return ()
    return tuple(host for host in facts.hosts if host not in known)
