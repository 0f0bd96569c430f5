"""Whose job a worker runs next: of the largest priority, projects take turns, and the models of a project.

A wake-up message names one job, but it only says that there is work. Among all jobs of its queues that could
run now, the worker looks at those with the largest priority. Of these it takes one of the project that it has
served longest ago, and of this project's model that it has served longest ago: the oldest. So who queues a
thousand jobs delays another project by one job. One job in four is chosen without regard to priorities, so
that jobs with small ones run, too, however many others come. Each worker remembers its own turns; a new one
begins with the oldest job.

A part of an export has its turn when no other job waits. It takes seconds, so that a learn or a forget that
comes meanwhile waits for no more than one.
"""

from collections.abc import Iterable
from functools import partial

from service.registry.claims import WaitingJob, find_waiting
from service.registry.sweeping import NextJob
from worker.jobs.execution import execute
from worker.jobs.inputs import WorkerContext

MAX_REMEMBERED = 10_000
"""Of how many projects and models a worker remembers the last turn. Then it forgets all of them."""
MAX_TRIED = 20
"""How many jobs a worker tries to claim for one message, if others are faster or only others can run them."""
WITHOUT_PRIORITY = 4
"""One of so many jobs is chosen by the turns of projects and models alone."""
PASSED_OVER_TURNS = 200
"""For how many turns a job that could not be claimed comes after all others: it needs another worker."""


class Turns:
    """Which projects and models this worker has served, in their order."""

    def __init__(self) -> None:
        self._served: dict[str, int] = {}
        """{id of a project or a model: number of its last turn}."""
        self._passed_over: dict[str, int] = {}
        """{id of a job: number of the turn in which it could not be claimed}."""
        self._turn = 0
        self._jobs = 0

    def run_one(self, worker_context: WorkerContext) -> NextJob | None:
        """Run the job whose turn it is to its end. Returns its model's next job, if there is one.

        A job that cannot be claimed has had its turn, too: another worker was faster, or is needed.
        Raises DatabaseUnavailable, see `execute`.
        """
        with worker_context.database.reading() as session:
            waiting = find_waiting(session, worker_context.queues)
        for job in self.order(waiting)[:MAX_TRIED]:
            claimed: list[WaitingJob] = []
            self.note(job)
            next_job = execute(job.id, worker_context, on_claim=partial(claimed.append, job))
            if claimed:
                self.note_claimed()
                return next_job
            self._pass_over(job)
        return None

    def order(self, waiting: Iterable[WaitingJob]) -> list[WaitingJob]:
        """Return the jobs in the order of their turns."""
        served = self._served
        counts = self._jobs % WITHOUT_PRIORITY != WITHOUT_PRIORITY - 1
        return sorted(
            waiting,
            key=lambda job: (
                self._turn - self._passed_over.get(job.id, -PASSED_OVER_TURNS) < PASSED_OVER_TURNS,
                job.is_export,
                -job.priority if counts else 0,
                served.get(job.project_id, 0),
                served.get(job.model_id, 0),
                job.sequence,
            ),
        )

    def note(self, job: WaitingJob) -> None:
        """Record that a job has its turn."""
        if len(self._served) >= MAX_REMEMBERED:
            self._served.clear()
        self._turn += 1
        self._served[job.project_id] = self._served[job.model_id] = self._turn

    def note_claimed(self) -> None:
        """Record that this worker claimed the job that had its turn."""
        self._jobs += 1

    def _pass_over(self, job: WaitingJob) -> None:
        if len(self._passed_over) >= MAX_REMEMBERED:
            self._passed_over.clear()
        self._passed_over[job.id] = self._turn
