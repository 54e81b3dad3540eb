import json
from datetime import UTC, datetime

from service_hub.domain.audit import AskedRequest, AuditEvent, entry_of
from wire_contract.audit_chain import broken_at, hash_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def rows(*texts: str) -> list[dict[str, str]]:
    previous, made = "", []
    for number, text in enumerate(texts):
        previous = hash_of(previous, text)
        made.append({"number": f"{number}.0", "hash": previous, "line": text})
    return made


def test_a_line_says_who_what_when_from_where_and_what_came_of_it() -> None:
    asked = AskedRequest("POST", "/x/plannedFailover", "10.0.0.1", "c1", "r1", "anna", "Owner", "V")
    entry = entry_of(AuditEvent.REQUEST_ANSWERED, asked, NOW, status=202, job_id="j")
    assert entry.vault_id == "v"
    assert json.loads(entry.text) == {
        "at": "2026-01-01T00:00:00+00:00",
        "event": "request_answered",
        "principal": "anna",
        "roles": "Owner",
        "address": "10.0.0.1",
        "method": "POST",
        "target": "/x/plannedFailover",
        "status": 202,
        "error": None,
        "job_id": "j",
        "correlation_id": "c1",
        "client_request_id": "r1",
    }


def test_whatever_a_stranger_sends_can_be_stored_and_is_bounded() -> None:
    asked = AskedRequest("GET", "/\0\ud800" + "x" * 100_000, "", "c")
    text = entry_of(AuditEvent.REQUEST_ANSWERED, asked, NOW, status=401, unrecorded=3).text
    assert text.isascii()
    assert "\0" not in text
    assert len(text) < 2_000
    assert json.loads(text)["refusals_not_recorded"] == 3


def test_a_changed_a_missing_and_an_added_line_show() -> None:
    whole = rows("a", "b", "c", "d")
    assert broken_at(whole) is None
    assert broken_at(whole[2:]) is None, "an export may begin later"
    assert broken_at([whole[0], {**whole[1], "line": "B"}, *whole[2:]]) == "1.0"
    assert broken_at([whole[0], *whole[2:]]) == "2.0"
    added = {"number": "9.0", "hash": hash_of("x", "y"), "line": "y"}
    assert broken_at([*whole[:2], added, *whole[2:]]) == "9.0"
