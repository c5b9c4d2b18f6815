"""A small model server: it streams tokens over SSE, says on /metrics what it holds by kind, and ends its subscriptions on POST /drain."""

import asyncio
import time

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse, StreamingResponse
from prometheus_client import Gauge, generate_latest

app = FastAPI()
held = Gauge("model_requests", "Requests not answered to their end", ["kind"])
draining = asyncio.Event()


def stream(kind, lines):
    async def counted():
        with held.labels(kind).track_inprogress():
            async for line in lines:
                yield f"data: {line}\n\n"

    return StreamingResponse(counted(), media_type="text/event-stream")


@app.get("/v1/completions")
async def completions(seconds: float = 1):
    async def tokens():
        end, n = time.monotonic() + seconds, 0
        while time.monotonic() < end:
            yield f"token {n}"
            n += 1
            await asyncio.sleep(0.1)
        yield "[DONE]"

    return stream("completion", tokens())


@app.get("/v1/events")  # never ends by itself: its client comes back elsewhere
async def events():
    async def ticks():
        while not draining.is_set():
            yield "tick"
            await asyncio.sleep(0.2)
        yield "[DONE]"

    return stream("subscription", ticks())


@app.post("/drain")
async def drain():
    draining.set()
    return "ok"


@app.get("/health")
async def health():
    return "ok"


@app.get("/metrics")
async def metrics():
    return PlainTextResponse(generate_latest())
