"""A job's text, and what is sent of it, are what the models would write: over all kept job logs."""

import json
from collections.abc import Iterator
from functools import cache

from pydantic import JsonValue

from service_hub.domain.decide import decide
from service_hub.domain.job_document import JobDocument, job_document
from service_hub.domain.job_log import decode, decode_first
from service_hub.domain.jobs import Dispatch, Job
from service_hub.engine.consequences import assignment_body
from tests.support.job_log_stories import FOLDER
from wire_contract.events import Assignment


@cache
def decided() -> tuple[tuple[Job, Job, tuple[Dispatch, ...]], ...]:
    """Return each decision of all kept logs: job before and after, and what was sent."""
    return tuple(_decided())


def _decided() -> Iterator[tuple[Job, Job, tuple[Dispatch, ...]]]:
    for file in sorted(FOLDER.glob("*/*.json")):
        for each in json.loads(file.read_text()):
            first, *events = [json.dumps(entry) for entry in each["log"]]
            job = decode_first(first)
            for event in map(decode, events):
                after, commands = decide(job, event)
                yield job, after, tuple(one for one in commands if isinstance(one, Dispatch))
                job = after


def test_a_text_written_in_parts_reads_as_the_job() -> None:
    document, last = JobDocument(), None
    for before, after, _ in decided():
        if before is not last:
            document = JobDocument()
            assert json.loads(document.of(before)) == json.loads(job_document(before))
        text = document.of(after)
        assert Job.model_validate_json(text) == after
        assert json.loads(text) == json.loads(job_document(after))
        last = after


def test_a_text_follows_whatever_of_the_job_is_another() -> None:
    _, job, _ = max(decided(), key=lambda each: len(job_document(each[1])))
    document = JobDocument()
    document.of(job)
    for name, value in (
        ("target_object_name", "another"),
        ("affected", {}),
        ("tasks", job.tasks[:1]),
        ("tasks", ()),
        ("state", "NotStarted"),
    ):
        other = job.model_copy(update={name: value})
        assert json.loads(document.of(other)) == json.loads(job_document(other)), name
        assert json.loads(document.of(job)) == json.loads(job_document(job)), name


def test_facts_are_written_as_they_are_whatever_becomes_of_them() -> None:
    _, job, _ = max(decided(), key=lambda each: len(each[1].context))
    odd: JsonValue = ['"\\\x00\u00fc', 1e300, -0.0, None, {"": []}]
    facts: dict[str, JsonValue] = {**job.context, "odd": odd}
    first = next(iter(facts))
    changed: tuple[dict[str, JsonValue], ...] = (
        facts,
        {**facts, "result:Another": {"cut": 1}},
        {**facts, "result:Another": {"cut": 1}, "result:Third": True},
        {**facts, "result:Another": {"cut": 2}, "result:Third": True},
        {**facts, first: "another"},
        dict(reversed([*facts.items()])),
        {name: fact for name, fact in facts.items() if name != first},
        {},
        {first: None},
    )
    document = JobDocument()
    for context in (*changed, *reversed(changed)):
        other = job.model_copy(update={"context": context})
        assert json.loads(document.of(other)) == json.loads(job_document(other)), context


def test_nothing_is_stored_that_has_its_default_value() -> None:
    shorter = [len(job_document(job)) / len(job.model_dump_json()) for _, job, _ in decided()]
    assert max(shorter) < 1


def test_a_command_is_told_as_its_model_would_tell_it() -> None:
    count = 0
    for _, job, sent in decided():
        for dispatch in sent:
            body = assignment_body(job, dispatch)
            assert Assignment.model_validate(body).model_dump(mode="json") == body
            count += 1
    assert count > len(list(FOLDER.glob("*/*.json")))
