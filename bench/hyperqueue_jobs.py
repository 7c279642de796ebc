"""HyperQueue's side of `bench.jobs_rate`: one local server and worker, as many jobs of one task `true` as asked for.

Run by the interpreter that has it: python bench/hyperqueue_jobs.py JOBS
"""

import sys
import time

from hyperqueue import Job, LocalCluster


def measure(jobs: int) -> float:
    """Jobs per second, from the first handed in to the last one's end, over HyperQueue's own client."""
    with LocalCluster() as cluster:
        cluster.start_worker()
        client = cluster.client()

        def submit() -> object:
            job = Job()
            job.program(["true"])
            return client.submit(job)

        client.wait_for_jobs([submit()])
        start = time.perf_counter()
        client.wait_for_jobs([submit() for _ in range(jobs)])
        return jobs / (time.perf_counter() - start)


if __name__ == "__main__":
    print(measure(int(sys.argv[1])))
