"""The index of machines says what going through all of them says, after any changes."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tests.support.vmm_inventories import ALONE, inventory, machine
from vmm_simulator.vmm.inventory import Edit, Inventory
from vmm_simulator.vmm.machine_index import MachineIndex
from vmm_simulator.vmm.relationship_records import RelationshipRecord
from wire_contract.vocabulary import ReplicationMode, ReplicationState

IDS = ("m1", "m2", "m3")
RELATIONSHIPS = (None, "r1", "r2")
CHANGES = st.lists(
    st.tuples(
        st.sampled_from(IDS),
        st.sampled_from((*RELATIONSHIPS, "removed")),
        st.sampled_from((None, "m1", "m9")),
    ),
    max_size=12,
)


def relationship(name: str) -> RelationshipRecord:
    return RelationshipRecord(
        relationship_id=name,
        mode=ReplicationMode.PRIMARY,
        state=ReplicationState.READY,
        peer_host="elsewhere.example",
        peer_port=8084,
        peer_machine_id="peer",
        interval_seconds=30,
        established_at=datetime(2026, 1, 1, tzinfo=UTC),
    )


def edited(before: Inventory, machine_id: str, related: str | None, test_of: str | None) -> Edit:
    if related == "removed":
        present = before.machines.get(machine_id)
        return Edit() if present is None else Edit(removed=(present,))
    changed = machine(machine_id, on=ALONE, test_machine_of=test_of)
    if related is not None:
        changed = changed.model_copy(update={"relationship": relationship(related)})
    return Edit(put=(changed,))


@given(CHANGES)
def test_it_says_what_all_machines_say(changes: list[tuple[str, str | None, str | None]]) -> None:
    now = inventory()
    for change in changes:
        now = now.after(edited(now, *change))
        anew = MachineIndex.of(now.machines)
        assert now.machine_index.tested == anew.tested
        for name in RELATIONSHIPS[1:]:
            copies = {
                each.machine_id
                for each in now.machines.values()
                if each.relationship is not None and each.relationship.relationship_id == name
            }
            assert {each.machine_id for each in now.copies_of(str(name))} == copies


def test_an_index_of_other_machines_is_not_believed() -> None:
    tested = inventory(machine("m2", on=ALONE, test_machine_of="m1"))
    other = inventory(machine("m1", on=ALONE), index=tested.after(Edit()).machine_index)
    assert other.machine_index.tested == frozenset()
