"""Every metric of a run, with its goal."""

from typing import Final

from benchmarks.channel.figures import Metric

DATABASES: Final = ("SQLite", "PostgreSQL")


def plan_row(database: str, what: str) -> str:
    """Return the name of a metric of the plan."""
    return f"plan, {database}: {what}"


def _of(database: str) -> list[Metric]:
    large = f"10 times as many items, {database}"
    return [
        Metric(plan_row(database, "makespan"), None, "s", None, "lower"),
        Metric(plan_row(database, "makespan / ideal"), None, "x", 1.15, "lower"),
        Metric(plan_row(database, "hub CPU"), None, "s", 2.5, "lower"),
        Metric(plan_row(database, "played providers' CPU"), None, "s", None, "lower"),
        Metric(f"dbos, {database}: makespan", None, "s", None, "lower"),
        Metric(f"dbos, {database}: makespan / ours", None, "x", 20.0, "higher"),
        Metric(f"{large}: time per item / plan's", None, "x", 1.3, "lower"),
        Metric(f"{large}: hub CPU per item / plan's", None, "x", 1.3, "lower"),
        Metric(f"{large}: memory per item", None, "KB", None, "lower"),
        Metric(f"{large}: memory per item / plan's", None, "x", 1.3, "lower"),
        Metric(f"waiting jobs, {database}: of one core", None, "%", 3.0, "lower"),
        Metric(f"start on unfinished tasks, {database}: to first command", None, "s", 2.0, "lower"),
        Metric(f"start on unfinished tasks, {database}: from exec", None, "s", None, "lower"),
    ]


CATALOGUE: Final = {each.metric: each for database in DATABASES for each in _of(database)}
"""A run gives each of them its value."""
