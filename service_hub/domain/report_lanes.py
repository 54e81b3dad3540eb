"""Which reports of a batch may be taken in beside each other; pure.

A plan of a thousand machines has its provider send hundreds of reports at a time. Each becomes
durable by itself; one after the other they would wait for as many transactions.
"""

from collections.abc import Sequence

from wire_contract.reports import MachineObserved, Receipt, Report, TaskOutcome, TaskProgress
from wire_contract.vocabulary import ReceiptKind


def lanes_of(reports: Sequence[Report]) -> list[list[Report]]:
    """Return the reports in groups, each in its order: what is of one job or machine is together.

    An outcome is of its job and of the machine that it read back. What names neither is a group of
    its own.
    """
    lane_of: dict[str, tuple[int, ...]] = {}
    for place, report in enumerate(reports):
        keys = _keys(report)
        joined = sorted({each for key in keys for each in lane_of.get(key, ())})
        # Every lane that this report belongs to goes on as one, under all their keys.
        moved = [key for key, former in lane_of.items() if former[0] in joined]
        lane_of |= dict.fromkeys((*keys, *moved), (*joined, place))
    lanes = {lane[0]: lane for lane in lane_of.values()}
    return [[reports[place] for place in lane] for lane in lanes.values()]


def is_plain(report: Report) -> bool:
    """Return whether a report only says that an event has been received: nothing follows from it.

    Any number of these is taken in at once.
    """
    return (
        isinstance(report, Receipt)
        and report.receipt is not ReceiptKind.REFUSED
        and report.command_id is not None
    )


def _keys(report: Report) -> tuple[str, ...]:
    """Return what a report is about."""
    match report:
        case TaskOutcome():
            machine = report.observed.get("machine")
            if isinstance(machine, dict):
                return (f"job {report.job}", f"machine {machine.get('machine_id')}")
            return (f"job {report.job}",)
        case TaskProgress():
            return (f"job {report.job}",)
        case MachineObserved():
            return (f"machine {report.machine.machine_id}",)
        case _:
            return ("others",)
