"""Events of copies and servers: what a new view of a copy tells, and who fell silent; pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

from service_hub.domain.machine_health import HealthEntry, health_entries
from service_hub.domain.records import MachineObservation, ProtectedItem, Provider
from service_hub.domain.replication_events import (
    COPY_FENCED,
    HEALTH_CHANGED,
    PROVIDER_LOST,
    PROVIDER_RETURNED,
    SOURCE_RETURNED,
    SPLIT_BRAIN_FOUND,
    STARTED_WITHOUT_HUB,
    EventHealth,
    EventPlace,
    ReplicationEvent,
    Severity,
    event_id,
)
from service_hub.domain.servers import title_of
from service_hub.domain.split_brain import FAILED_OVER_UNPLANNED, left_behind
from wire_contract.vmm_interface import MachineView
from wire_contract.vocabulary import ReplicationMode, RunState, Side

# ------------------------------------------------------------------------------ of observations


def tells_something(before: MachineView | None, after: MachineView, at: datetime) -> bool:
    """Whether a new view of a copy may tell an event: only then its item is looked up.

    A copy that claims to be the source may be a former one, which its item alone says.
    """
    replication = after.replication
    if after.protected_item is None or replication is None:
        return False
    if after.fenced or replication.mode is ReplicationMode.PRIMARY:
        return True
    if _started_alone(before, after):
        return True
    return before is not None and _codes(before, at) != _codes(after, at)


def may_tell(
    item: ProtectedItem,
    side: Side,
    before: MachineObservation | None,
    after: MachineObservation,
) -> bool:
    """Whether the view of one copy of this item may tell something: the other is read then."""
    if item.state in FAILED_OVER_UNPLANNED and item.authority is not side:
        return True
    if _started_alone(None if before is None else before.machine, after.machine):
        return True
    return before is not None and _codes(before.machine, before.observed_at) != _codes(
        after.machine, after.observed_at
    )


def events_of_observation(
    item: ProtectedItem,
    side: Side,
    before: MachineObservation | None,
    after: MachineObservation,
    holder: MachineView | None,
) -> list[ReplicationEvent]:
    """Return what the newest view of one copy tells beside the one before; without place names.

    `holder` is the newest view of the other copy.
    """
    events: list[ReplicationEvent] = []
    former = item.state in FAILED_OVER_UNPLANNED and item.authority is not side
    if former:
        events += _of_former_source(item, before, after, holder)
    if before is not None:
        events += _of_health(item, before, after)
    if _started_alone(None if before is None else before.machine, after.machine):
        events.append(_started_event(item, after))
    return [
        each.model_copy(
            update={
                "provider_id": after.provider_id,
                "affected_id": item.id,
                "affected_name": item.friendly_name,
            }
        )
        for each in events
    ]


def _started_alone(before: MachineView | None, after: MachineView) -> bool:
    """Whether somebody at the site has let this copy start without the hub since it was seen."""
    word = after.started_without_hub
    return word is not None and (before is None or before.started_without_hub != word)


def _started_event(item: ProtectedItem, after: MachineObservation) -> ReplicationEvent:
    word = after.machine.started_without_hub
    assert word is not None, "asked for such views alone"
    words = (
        f"'{item.friendly_name}' was started without the hub by {word.by} at"
        f" {word.at:%Y-%m-%dT%H:%M:%SZ}, under epoch {after.machine.epoch}: {word.reason}"
    )
    action = "Look whether a copy ran at the other site meanwhile."
    return ReplicationEvent(
        id=event_id(STARTED_WITHOUT_HUB, after.id, word.at.isoformat()),
        vault_id=item.vault_id,
        code=STARTED_WITHOUT_HUB,
        event_type="VmHealth",
        severity="Warning",
        description=words,
        occurred_at=after.observed_at,
        health=(EventHealth(code="90119", level="Warning", message=words, action=action),),
        principal=word.by,
    )


def _of_former_source(
    item: ProtectedItem,
    before: MachineObservation | None,
    after: MachineObservation,
    holder: MachineView | None,
) -> Iterable[ReplicationEvent]:
    failed_over = item.last_failover_at
    unseen = before is None or (failed_over is not None and before.observed_at < failed_over)
    view, name = after.machine, item.friendly_name
    if failed_over is not None and after.observed_at < failed_over:
        return
    left = left_behind(view, holder, after.observed_at, failed_over)
    runs = view.run_state is RunState.RUNNING
    ran = not unseen and before is not None and before.machine.run_state is RunState.RUNNING
    if (runs and not ran) or (unseen and left.may_be_lost):
        words = f"'{name}' had two copies after the failover: {left.words}"
        words += ", and it runs." if runs else "."
        yield _health_event(SPLIT_BRAIN_FOUND, "Critical", words, item, after, "90042")
    elif unseen:
        words = f"The former source of '{name}' has shown itself after the failover: {left.words}."
        yield _health_event(SOURCE_RETURNED, "OK", words, item, after, "")
    if view.fenced and (unseen or before is None or not before.machine.fenced):
        words = f"The former source of '{name}' is stopped and fenced: {left.words}."
        yield _health_event(COPY_FENCED, "Warning", words, item, after, "90042")


def _health_event(  # noqa: PLR0917 -- the columns of one event
    code: str,
    severity: Severity,
    words: str,
    item: ProtectedItem,
    after: MachineObservation,
    health_code: str,
) -> ReplicationEvent:
    remedy = "Reverse the replication, with sourceChanges Keep or Discard."
    health = EventHealth(code=health_code, level="Warning", message=words, action=remedy)
    return ReplicationEvent(
        id=event_id(code, after.id, item.epoch, after.machine.run_state.value),
        vault_id=item.vault_id,
        code=code,
        event_type="VmHealth",
        severity=severity,
        description=words,
        occurred_at=after.observed_at,
        health=(health,) if health_code else (),
    )


def _of_health(
    item: ProtectedItem, before: MachineObservation, after: MachineObservation
) -> Iterable[ReplicationEvent]:
    at = after.observed_at
    was, entries = _codes(before.machine, before.observed_at), _entries(after.machine, at)
    if was == [each.code for each in entries]:
        return
    worst: Severity = "OK"
    if entries:
        worst = "Critical" if any(each.level == "Error" for each in entries) else "Warning"
    said = {"OK": "OK", "Warning": "in warning state", "Critical": "critical"}[worst]
    replication = after.machine.replication
    end = "recovery" if replication and replication.mode is ReplicationMode.REPLICA else "primary"
    detail = (replication.last_error if replication else None) or "no more is known"
    yield ReplicationEvent(
        id=event_id(HEALTH_CHANGED, after.id, at.isoformat(), *(each.code for each in entries)),
        vault_id=item.vault_id,
        code=HEALTH_CHANGED,
        event_type="VmHealth",
        severity=worst,
        description=f"Virtual machine health is {said} ({end} copy)",
        occurred_at=at,
        health=tuple(
            EventHealth(
                code=each.code,
                level="Error" if each.level == "Error" else "Warning",
                message=each.message.format(machine=f"'{after.machine.name}'"),
                causes=each.causes.format(detail=detail),
                action=each.action,
            )
            for each in entries
        ),
    )


def _entries(machine: MachineView, at: datetime) -> list[HealthEntry]:
    return [] if machine.replication is None else list(health_entries(machine.replication, at))


def _codes(machine: MachineView, at: datetime) -> list[str]:
    return [each.code for each in _entries(machine, at)]


# --------------------------------------------------------------------------------- of providers


def lost_event_id(provider_id: str, last_contact_at: datetime) -> str:
    """Return the id of the event that a provider fell silent after that contact."""
    return event_id(PROVIDER_LOST, provider_id, last_contact_at.isoformat())


def provider_lost(provider: Provider, last_contact_at: datetime, at: datetime) -> ReplicationEvent:
    """Return the event that a server has not been heard of for longer than its lease."""
    words = f"{title_of(provider)} has not been heard of since {last_contact_at:%Y-%m-%dT%H:%M:%SZ}"
    health = EventHealth(
        code="90044",
        level="Error",
        message=f"{words}.",
        causes="The server, its provider or the line to the hub is down.",
        action="Look at the provider's service there ('provider-agent doctor'), then at the line.",
    )
    return _of_provider(
        provider,
        ReplicationEvent(
            id=lost_event_id(provider.id, last_contact_at),
            vault_id=provider.vault_id,
            code=PROVIDER_LOST,
            event_type="AgentHealth",
            severity="Critical",
            description=f"{words}.",
            occurred_at=at,
            health=(health,),
        ),
    )


def provider_returned(
    provider: Provider, last_contact_at: datetime, at: datetime
) -> ReplicationEvent:
    """Return the event that a server that was lost is in contact again."""
    away = timedelta(seconds=int((at - last_contact_at).total_seconds()))
    return _of_provider(
        provider,
        ReplicationEvent(
            id=event_id(PROVIDER_RETURNED, provider.id, last_contact_at.isoformat()),
            vault_id=provider.vault_id,
            code=PROVIDER_RETURNED,
            event_type="AgentHealth",
            severity="OK",
            description=f"{title_of(provider)} is in contact again after {away}.",
            occurred_at=at,
        ),
    )


def _of_provider(provider: Provider, event: ReplicationEvent) -> ReplicationEvent:
    name = title_of(provider)
    return event.model_copy(
        update={
            "provider_id": provider.id,
            "affected_id": provider.id,
            "affected_name": name,
            "place": EventPlace(fabric=name),
        }
    )


def placed(
    event: ReplicationEvent,
    item: ProtectedItem,
    side: Side,
    servers: Mapping[str, str],
    clouds: Mapping[str, str],
) -> ReplicationEvent:
    """Return an event of a copy with the names of where it is; both mappings are by id."""
    here, there = side, side.other
    ids = {Side.PRIMARY: item.primary_cloud_id, Side.RECOVERY: item.recovery_cloud_id}
    return event.model_copy(
        update={
            "place": EventPlace(
                container=clouds.get(ids[here], ids[here]),
                fabric=servers.get(item.provider_at(here), ""),
                remote_container=clouds.get(ids[there], ids[there]),
                remote_fabric=servers.get(item.provider_at(there), ""),
            )
        }
    )
