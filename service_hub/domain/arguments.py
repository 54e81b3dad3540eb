"""From a dispatched task to the arguments of its verb (docs/wire-contract.md, verbs).

A verb that is absent from the table takes none.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from pydantic import JsonValue

from service_hub.domain.drill_networks import (
    TEST_ENVIRONMENT,
    is_made_by_plan,
    network_of_each_nic,
    networks_to_make,
)
from service_hub.domain.item_life import REMOVALS
from service_hub.domain.jobs import UNDO_SUFFIX, Dispatch, Job
from service_hub.domain.policies import server_of
from service_hub.domain.protection import Operation
from service_hub.domain.scenarios import Target
from service_hub.domain.script_arguments import script_arguments
from wire_contract.vocabulary import Side, Verb

GUEST_SHUTDOWN_SECONDS: Final = 120
"""Longest a guest may take to shut down before the task fails."""

Arguments = dict[str, JsonValue]


def target_of(job: Job, dispatch: Dispatch) -> str:
    """Return the machine or cloud that a dispatched task acts on, on the addressed fabric."""
    spec = job.spec(dispatch.task_id.removesuffix(UNDO_SUFFIX))
    if spec.target is Target.CLOUD:
        return str(_look(job, "clouds", dispatch.side))
    if spec.target in {Target.SERVER, Target.PLAN}:
        return job.target_object_id
    if spec.target is Target.SITE:
        return str(_look(job, "servers", dispatch.side))
    if spec.target is Target.KEPT_COPY:
        return str(job.context["kept_machine_id"])
    if spec.target is Target.TEST_MACHINE:
        return str(job.context["test_machine_id"])
    return str(_look(job, "machines", dispatch.side))


def arguments_of(job: Job, dispatch: Dispatch) -> Arguments:
    """Return the arguments of a dispatched verb."""
    if dispatch.verb is Verb.RUN_SCRIPT:
        return script_arguments(job, dispatch.task_id, dispatch.side)
    table = _ARGUMENTS
    if dispatch.task_id.endswith(UNDO_SUFFIX) and dispatch.verb in _TAKING_BACK:
        table = _TAKING_BACK
    build = table.get(dispatch.verb)
    return {} if build is None else build(job, dispatch.side)


def _look(job: Job, group: str, side: Side) -> Any:
    by_side: Any = job.context[group]
    return by_side[side.value]


_OF_REPLICA: Final = ("replica_host", "replica_port", "replica_broker")
"""What enabling and reversing are told of where the replica is; the broker of a cluster alone."""


def _replica(job: Job, task_id: str) -> Arguments:
    result: Any = job.context[f"result:{task_id}"]
    return {name: result[name] for name in _OF_REPLICA if name in result}


def _settings(job: Job) -> Arguments:
    settings: Any = job.context["settings"]
    return dict(settings)


def _place_replica(job: Job, side: Side) -> Arguments:
    machine: Any = job.context["machine"]
    return {
        **machine,
        "cloud_id": _look(job, "clouds", side),
        "name": job.context["name"],
        "primary_host": _look(job, "hosts", side.other),
        "item": job.context["item"],
    }


def _enable_replication(job: Job, side: Side) -> Arguments:
    return {
        **_settings(job),
        **_replica(job, "CreateProtectionTargetTask"),
        "relationship_id": job.context["relationship_id"],
        "replica_machine_id": _look(job, "machines", side.other),
        "item": job.context["item"],
    }


def _start_initial_replication(job: Job, side: Side) -> Arguments:
    del side
    arguments: Arguments = {"resynchronize": job.operation is Operation.REVERSE_REPLICATE}
    if "start_at" in job.context:
        arguments["start_at"] = job.context["start_at"]
    return arguments


def _export(job: Job, side: Side) -> Arguments:
    servers = job.context.get("further_servers")
    further: Arguments = {} if servers is None else {"further_servers": servers}
    return {**_import(job, side), **further}


def _import(job: Job, side: Side) -> Arguments:
    del side
    return {"folder": job.context["offline_folder"]}


def _update_protection(job: Job, side: Side) -> Arguments:
    if job.operation in REMOVALS:
        return _clear_protection(job, side)
    active = side is job.direction.place(Side.PRIMARY)
    return {"item": job.context["item"], "role": side.value, "active": active}


def _clear_protection(job: Job, side: Side) -> Arguments:
    del job
    return {"item": None, "role": side.value, "active": False}


def _disable_replication(job: Job, side: Side) -> Arguments:
    replica = side is job.direction.place(Side.RECOVERY)
    return {"delete_replica": replica and bool(job.context["delete_replica"])}


def _take_replica_back(job: Job, side: Side) -> Arguments:
    """What enabling made goes: the relationship, and with it the replica."""
    return {"delete_replica": side is job.direction.place(Side.RECOVERY)}


def _resynchronize(job: Job, side: Side) -> Arguments:
    del job, side
    return {"start_at": None}


def _shut_down(job: Job, side: Side) -> Arguments:
    del job, side
    return {"seconds": GUEST_SHUTDOWN_SECONDS}


def _fail_over(job: Job, side: Side) -> Arguments:
    del side
    prepared = job.context.get("result:PrepareForFailoverTask")
    cut = prepared.get("last_cut") if isinstance(prepared, dict) else None
    planned = job.operation is Operation.PLANNED_FAILOVER
    point = None if planned else _point(job)
    wanted: Arguments = {"planned": planned, "expected_cut": cut, "recovery_point": point}
    if adapters := job.context.get("adapters"):
        wanted["adapters"] = adapters
    return wanted


def _connect_adapters(job: Job, side: Side) -> Arguments:
    del side
    return {"adapters": job.context.get("adapters", [])}


def _change_recovery_point(job: Job, side: Side) -> Arguments:
    del side
    return {"recovery_point": _point(job)}


def _point(job: Job) -> JsonValue:
    """Return the recovery point that was asked for; None: the newest."""
    arguments = job.context.get("arguments")
    return arguments.get("recovery_point") if isinstance(arguments, dict) else None


def _prepare_reverse(job: Job, side: Side) -> Arguments:
    return {
        "relationship_id": job.context["relationship_id"],
        "primary_host": _look(job, "hosts", side.other),
        "primary_machine_id": _look(job, "machines", side.other),
        "resynchronize": job.context["unplanned"],
        "interval_seconds": _settings(job)["interval_seconds"],
    }


def _reverse_replicate(job: Job, side: Side) -> Arguments:
    return {
        **_settings(job),
        **_replica(job, "VmPrepareForReverseReplicationTask"),
        "relationship_id": job.context["relationship_id"],
        "replica_machine_id": _look(job, "machines", side.other),
        "resynchronize": job.context["unplanned"],
    }


def _keep_copy(job: Job, side: Side) -> Arguments:
    return {"machine_id": _look(job, "machines", side), "name": f"{job.context['name']} - Kept"}


def _create_test_machine(job: Job, side: Side) -> Arguments:
    return {
        "replica_machine_id": _look(job, "machines", side),
        "name": job.context["test_name"],
        "recovery_point": _point(job),
    }


def _prepare_test_machine(job: Job, side: Side) -> Arguments:
    del side
    drill = _drill(job)
    if drill is not None:
        test_machine_id = str(job.context["test_machine_id"])
        connected: Arguments = {"network_ids": network_of_each_nic(drill, test_machine_id)}
        if is_made_by_plan(drill):
            connected["environment"] = drill["environment"]
        return connected
    return {"network_id": job.context.get("network_id")}


def _create_test_networks(job: Job, side: Side) -> Arguments:
    if TEST_ENVIRONMENT in job.context:
        return _plan_networks(job)
    drill, test_machine_id = _drill(job), str(job.context["test_machine_id"])
    assert drill is not None, "networks are made for a test that was asked for with some"
    arguments: Arguments = {
        "logical_network_id": drill["logical_network_id"],
        "cloud_id": _look(job, "clouds", side),
        "test_machine_id": test_machine_id,
        "networks": networks_to_make(drill, test_machine_id),
    }
    if "environment" in drill:
        arguments["environment"] = drill["environment"]
    return arguments


def _plan_networks(job: Job) -> Arguments:
    """What a plan's run makes for all its machines is known by, and kept for, the run itself."""
    shared: Any = job.context[TEST_ENVIRONMENT]
    first, *further = shared["cloud_ids"]
    return {
        "logical_network_id": shared["logical_network_id"],
        "cloud_id": first,
        "further_cloud_ids": further,
        "test_machine_id": job.id,
        "networks": networks_to_make(shared, job.id),
    }


def _remove_test_networks(job: Job, side: Side) -> Arguments:
    del side
    of_plan = TEST_ENVIRONMENT in job.context
    return {"test_machine_id": job.id if of_plan else str(job.context["test_machine_id"])}


def _drill(job: Job) -> dict[str, Any] | None:
    arguments = job.context.get("arguments")
    drill = arguments.get("drill") if isinstance(arguments, dict) else None
    return drill if isinstance(drill, dict) else None


def _prepare_cloud(job: Job, side: Side) -> Arguments:
    arguments: Arguments = {
        "replica_port": job.context["replica_port"],
        "authentication": job.context.get("authentication", "certificate"),
        "allowed_primaries": _look(job, "cloud_hosts", side.other),
        **_offline_copies(job, side),
    }
    if "clusters" in job.context:
        # A ticket names a node alone: which broker it stands for, each end knows from here.
        arguments["partner_clusters"] = _look(job, "clusters", side.other)
    return arguments


def _offline_copies(job: Job, side: Side) -> Arguments:
    """Return by which folder of this site first copies travel, if they do.

    Hosts that export are to trust the computer that is imported from, too (seed, step 4).
    """
    if "offline_folders" not in job.context:
        return {}
    wanted: Arguments = {"offline_folder": _look(job, "offline_folders", side)}
    if side is Side.PRIMARY:
        other = _look(job, "offline_folders", side.other)
        wanted["further_servers"] = [server_of(str(other))]
    return wanted


def _update_replication(job: Job, side: Side) -> Arguments:
    del side
    arguments = {**_settings(job), "replica_port": job.context["replica_port"]}
    if "relationship_ids" in job.context:
        arguments["relationship_ids"] = job.context["relationship_ids"]
    return arguments


def _pair_cloud(job: Job, side: Side) -> Arguments:
    return {"role": side.value, "partner_cloud_id": _look(job, "clouds", side.other)}


def _unpair_cloud(job: Job, side: Side) -> Arguments:
    return {"partner_cloud_id": _look(job, "clouds", side.other)}


def _confirm_epoch(job: Job, side: Side) -> Arguments:
    """Who gets the authority is what the override leads to."""
    authoritative = side is job.direction.place(Side.RECOVERY)
    return {"authoritative": authoritative, "item": job.context["item"]}


_ARGUMENTS: Final[Mapping[Verb, Callable[[Job, Side], Arguments]]] = {
    Verb.PLACE_REPLICA: _place_replica,
    Verb.ENABLE_REPLICATION: _enable_replication,
    Verb.START_INITIAL_REPLICATION: _start_initial_replication,
    Verb.EXPORT_INITIAL_REPLICATION: _export,
    Verb.IMPORT_INITIAL_REPLICATION: _import,
    Verb.UPDATE_PROTECTION: _update_protection,
    Verb.DISABLE_REPLICATION: _disable_replication,
    Verb.RESYNCHRONIZE: _resynchronize,
    Verb.SHUT_DOWN: _shut_down,
    Verb.FAIL_OVER: _fail_over,
    Verb.CHANGE_RECOVERY_POINT: _change_recovery_point,
    Verb.CONNECT_ADAPTERS: _connect_adapters,
    Verb.PREPARE_REVERSE: _prepare_reverse,
    Verb.REVERSE_REPLICATE: _reverse_replicate,
    Verb.KEEP_COPY: _keep_copy,
    Verb.CREATE_TEST_MACHINE: _create_test_machine,
    Verb.CREATE_TEST_NETWORKS: _create_test_networks,
    Verb.REMOVE_TEST_NETWORKS: _remove_test_networks,
    Verb.PREPARE_TEST_MACHINE: _prepare_test_machine,
    Verb.PREPARE_CLOUD: _prepare_cloud,
    Verb.UPDATE_REPLICATION: _update_replication,
    Verb.PAIR_CLOUD: _pair_cloud,
    Verb.UNPAIR_CLOUD: _unpair_cloud,
    Verb.CONFIRM_EPOCH: _confirm_epoch,
}

_TAKING_BACK: Final[Mapping[Verb, Callable[[Job, Side], Arguments]]] = {
    Verb.DISABLE_REPLICATION: _take_replica_back,
    Verb.UPDATE_PROTECTION: _clear_protection,
}
"""Verbs that take back what enabling did; elsewhere the same verbs are tasks of their own."""
