"""One app with the in-flight gauge of a named library: MODE says which."""

import asyncio
import os

from fastapi import FastAPI

app = FastAPI()
mode = os.environ["MODE"]
if mode == "uvicorn":
    from prometheus_fastapi_instrumentator import Instrumentator

    Instrumentator(should_instrument_requests_inprogress=True).instrument(app).expose(app)
elif mode == "starlette-exporter":
    from starlette_exporter import PrometheusMiddleware, handle_metrics

    app.add_middleware(PrometheusMiddleware)
    app.add_route("/metrics", handle_metrics)
elif mode == "starlette-prometheus":
    from starlette_prometheus import PrometheusMiddleware, metrics

    app.add_middleware(PrometheusMiddleware)
    app.add_route("/metrics", metrics)


@app.get("/work")
async def work(seconds: float = 0):
    await asyncio.sleep(seconds)
    return "ok"
