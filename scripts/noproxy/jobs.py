"""A queue's jobs for Celery and for RQ: each writes down that it began and that it ended."""

import os
import pathlib
import socket
import struct
import time

from celery import Celery
from redis import Redis

broker = os.environ["BROKER"]  # the socket of a Redis, or its URL
local = "://" not in broker


def gateway():
    """The machine outside of the pod, where RabbitMQ listens: it has no Unix socket."""
    for line in open("/proc/net/route").readlines()[1:]:
        if line.split()[1] == "00000000":
            return socket.inet_ntoa(struct.pack("<L", int(line.split()[2], 16)))


queue = pathlib.Path(broker).with_name("queue")
if local and queue.exists():  # another broker gives the jobs out
    url = os.environ.get("QUEUE") or queue.read_text().replace("GATEWAY", gateway())
else:
    url = "redis+socket://" + broker if local else broker
app = Celery("jobs", broker=url)
app.conf.worker_prefetch_multiplier = 1
app.conf.broker_connection_retry_on_startup = True
store = Redis.from_url("unix://" + broker if local else broker)


def work(job, seconds):
    store.rpush("began", job)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.05)
    store.rpush("ended", job)


task = app.task(work, name="work")


def fill(server, jobs, seconds):
    """Puts jobs into the queue of "celery" or "rq"."""
    if server == "rq":
        from rq import Queue

        queue = Queue(connection=store)
        for job in range(jobs):
            queue.enqueue("jobs.work", job, seconds, job_timeout=3600)
    else:
        for job in range(jobs):
            task.delay(job, seconds)


if __name__ == "__main__":
    import sys

    fill(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
