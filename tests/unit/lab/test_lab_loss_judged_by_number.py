from types import SimpleNamespace
from typing import Any

import pytest

from lab import story_disaster


@pytest.mark.parametrize(
    ("kept", "applied", "findings"),
    [(353, 353, 0), (352, 353, 1), (354, 353, 1), (None, 353, 0)],
)
def test_a_copy_must_end_exactly_at_the_last_applied_cut(
    kept: int | None, applied: int, findings: int
) -> None:
    found: list[str] = []
    situation: Any = SimpleNamespace(find=lambda _operation, _name, text: found.append(text))
    inspection: Any = SimpleNamespace(result=SimpleNamespace(kept_record=kept))
    story_disaster._judge_cut(situation, "web01", applied, inspection)
    assert len(found) == findings
    assert all(str(applied) in text for text in found)
