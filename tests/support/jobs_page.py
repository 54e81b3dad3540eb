"""docs/jobs-and-tasks.md from the tables: `python -m tests.support.jobs_page` writes it."""

from pathlib import Path
from typing import Final

from service_hub.domain.scenarios import PLANS, SCENARIOS, Scenario, TaskSpec
from wire_contract.vocabulary.job_names import JOBS
from wire_contract.vocabulary.task_names import TASKS

PAGE: Final = Path(__file__).resolve().parents[2] / "docs/jobs-and-tasks.md"

_HEAD: Final = """# Jobs and their tasks

Written from `wire_contract/vocabulary` (names, texts, sources) and `service_hub/domain/scenarios`
(order, ends, verbs, undo) by `python -m tests.support.jobs_page`; `tests/tidy/test_jobs_page.py`
keeps it true. A source is a section of the recordings of the original service (recorded), one of
older recordings and documents (behaviour), or ours where nothing public was found.

*Ends* are those of a failover to the recovery end. *Undone by* is what takes a task back when the
job is cancelled; with "also on failure", by itself when the task fails. *Goes on*: the job
continues although the task failed.
"""

_PATTERNS: Final = """
## Tasks of recovery plans
A plan's job has the tasks that its groups need; fields in braces are filled in.

| taskId | name | text | source |
|---|---|---|---|
"""


def page() -> str:
    """Return the page as it has to be now."""
    parts = [_HEAD, "\n## Jobs\n"]
    parts += [_job(key, scenario) for key, scenario in SCENARIOS.items()]
    parts.append("\n## Jobs of recovery plans\n")
    parts += [_job(key, scenario) for key, scenario in PLANS.items()]
    parts.append(_PATTERNS)
    listed = {spec.task_id for scenario in SCENARIOS.values() for spec in scenario.tasks}
    for task_id, row in TASKS.items():
        if task_id not in listed and ("Plan" in task_id or "Group" in task_id):
            parts.append(f"| {task_id} | {row.name} | {row.text} | {row.source} |\n")
    return "".join(parts)


def _job(key: str, scenario: Scenario) -> str:
    row = JOBS[key]
    lines = [
        f"\n### {scenario.name}: {scenario.friendly_name} (`{key}`)",
        f"Target {scenario.target_type}, details {scenario.details_type}; source: {row.source}.",
    ]
    if scenario.tasks:
        lines += [
            "",
            "| # | taskId / name | text | ends, verb | undone by | source |",
            "|---|---|---|---|---|---|",
        ]
        lines += [_task(number, spec) for number, spec in enumerate(scenario.tasks, start=1)]
    return "\n".join(lines) + "\n"


def _task(number: int, spec: TaskSpec) -> str:
    ends = " and ".join(side.value for side in spec.sides) or "hub"
    work = f"{ends}: {spec.verb.value}" if spec.verb is not None else ends
    if spec.go_on_after_failure:
        work += "; goes on"
    undo = "" if spec.undo is None else spec.undo.value
    if spec.undo_on_failure:
        undo += ", also on failure" if undo else "what was done, on failure"
    names = f"{spec.task_id} / {spec.name}"
    cells = (str(number), names, spec.friendly_name, work, undo, TASKS[spec.task_id].source)
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    PAGE.write_text(page())
