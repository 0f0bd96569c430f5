"""Whose job a worker runs next: projects take turns, and so do the models of a project.

A wake-up message names one job, but it only says that there is work. Among all jobs that could run now, the
worker takes one of the project that it has served longest ago, and of this project's model that it has served
longest ago: the oldest. So who queues a thousand jobs delays another project by one job. Each worker
remembers its own turns; a new one begins with the oldest job.
"""

from collections.abc import Iterable
from functools import partial

from service.registry.claims import WaitingJob, find_waiting
from worker.jobs.execution import execute
from worker.jobs.inputs import WorkerContext

MAX_REMEMBERED = 10_000
"""Of how many projects and models a worker remembers the last turn. Then it forgets all of them."""
MAX_TRIED = 20
"""How many jobs a worker tries to claim for one message, if others are faster or only others can run them."""


class Turns:
    """Which projects and models this worker has served, in their order."""

    def __init__(self) -> None:
        self._served: dict[str, int] = {}
        """{id of a project or a model: number of its last turn}."""
        self._turn = 0

    def run_one(self, worker_context: WorkerContext) -> str | None:
        """Run the job whose turn it is to its end. Returns the id of its model's next job, if there is one.

        A job that cannot be claimed has had its turn, too: another worker was faster, or is needed.
        Raises DatabaseUnavailable, see `execute`.
        """
        with worker_context.database.reading() as session:
            waiting = find_waiting(session)
        for job in self.order(waiting)[:MAX_TRIED]:
            claimed: list[WaitingJob] = []
            self.note(job)
            next_job = execute(job.id, worker_context, on_claim=partial(claimed.append, job))
            if claimed:
                return next_job
        return None

    def order(self, waiting: Iterable[WaitingJob]) -> list[WaitingJob]:
        """Return the jobs in the order of their turns."""
        served = self._served
        return sorted(
            waiting,
            key=lambda job: (served.get(job.project_id, 0), served.get(job.model_id, 0), job.sequence),
        )

    def note(self, job: WaitingJob) -> None:
        """Record that a job has its turn."""
        if len(self._served) >= MAX_REMEMBERED:
            self._served.clear()
        self._turn += 1
        self._served[job.project_id] = self._served[job.model_id] = self._turn
