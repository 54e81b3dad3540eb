"""What the doctor prints: a line per step, or JSON."""

import json
from collections.abc import Sequence

from provider_agent.doctor.walk import HopResult, State
from provider_agent.domain.diagnosis import Hop

_WIDTH = max(len(hop.value) for hop in Hop)


def line_of(result: HopResult) -> str:
    """Return the line of a step; of a failed one with cause and remedy below."""
    time = f"{result.seconds * 1000:8.1f} ms" if result.seconds else " " * 11
    text = f"{result.hop.value:{_WIDTH}}  {result.state.value:11}  {time}"
    if result.diagnosis is None:
        return f"{text}  {result.detail}".rstrip()
    indent = " " * (_WIDTH + 2)
    return (
        f"{text.rstrip()}\n{indent}cause:  {result.diagnosis.cause}"
        f"\n{indent}remedy: {result.diagnosis.remedy}"
    )


def as_json(results: Sequence[HopResult]) -> str:
    """Return the whole report as one JSON object."""
    return json.dumps(
        {
            "healthy": is_healthy(results),
            "hops": [
                {
                    "hop": each.hop.value,
                    "state": each.state.value,
                    "seconds": round(each.seconds, 6),
                    "detail": each.detail,
                    "fault": each.diagnosis.fault.value if each.diagnosis else None,
                    "cause": each.diagnosis.cause if each.diagnosis else None,
                    "remedy": each.diagnosis.remedy if each.diagnosis else None,
                }
                for each in results
            ],
        },
        indent=2,
        ensure_ascii=False,
    )


def is_healthy(results: Sequence[HopResult]) -> bool:
    """Return whether nothing failed."""
    return all(each.state in {State.PASSED, State.SKIPPED} for each in results)
