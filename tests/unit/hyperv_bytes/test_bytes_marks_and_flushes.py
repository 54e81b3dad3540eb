"""A guest's flush runs in a thread while the event loop acknowledges cuts: neither disturbs."""

import threading
from pathlib import Path

from vmm_simulator.hyperv.change_map import TrackedChanges

ROUNDS = 300


def test_a_flush_in_a_thread_survives_the_acknowledgement_of_a_cut(tmp_path: Path) -> None:
    changes = TrackedChanges.start(tmp_path, [8 << 20, 4 << 20])
    failures: list[BaseException] = []
    done = threading.Event()

    def flush_on_and_on() -> None:
        try:
            while not done.is_set():
                changes.flush()
        except BaseException as error:  # noqa: BLE001 -- handed to the test's own thread
            failures.append(error)

    thread = threading.Thread(target=flush_on_and_on)
    thread.start()
    try:
        for round_number in range(ROUNDS):
            changes.mark(0, round_number * 4096, 4096)
            changes.swap()
            changes.acknowledge()
    finally:
        done.set()
        thread.join()
    assert not failures
    assert changes.pending_bytes(None) == 0
