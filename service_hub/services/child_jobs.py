"""The ids of a group's child jobs, and of what they make: they follow from parent and member."""

from uuid import UUID, uuid5


def child_id(parent_id: str, task_id: str, member: str) -> str:
    """Return the id of a group's child job for one of its members."""
    return str(uuid5(UUID(parent_id), f"{task_id}/{member}"))


def machine_id_of_test(child_job_id: str) -> str:
    """Return the id of the machine that a child job's test failover makes.

    The same whenever it is asked for: planning it again must not make another machine.
    """
    return str(uuid5(UUID(child_job_id), "test machine"))
