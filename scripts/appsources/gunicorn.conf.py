import os

from prometheus_client import CollectorRegistry, Gauge, multiprocess, start_http_server

busy = Gauge("gunicorn_requests_in_flight", "Requests not answered yet", multiprocess_mode="livesum")


def pre_request(worker, req):
    busy.inc()


def post_request(worker, req, environ, resp):
    busy.dec()


def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)


def when_ready(server):  # the master answers, also while all workers are busy
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    start_http_server(int(os.environ.get("METRICS_PORT", "9100")), addr="127.0.0.1", registry=registry)
