"""A small model server that streams tokens over gRPC, ends as gRPC's own example of a graceful shutdown does, and says what it holds."""

import asyncio
import os
import signal
import time

import grpc
from prometheus_client import Gauge, start_http_server

held = Gauge("model_requests", "Requests not answered to their end", ["kind"])


async def complete(request, context):
    with held.labels("completion").track_inprogress():
        end, n = time.monotonic() + float(request), 0
        while time.monotonic() < end:
            yield b"token %d" % n
            n += 1
            await asyncio.sleep(0.1)


async def main():
    server = grpc.aio.server()
    handlers = {"Complete": grpc.unary_stream_rpc_method_handler(complete)}  # bytes go through as they are
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("model.Model", handlers)])
    server.add_insecure_port("0.0.0.0:8000")
    start_http_server(9100, addr="127.0.0.1")
    await server.start()
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    await told.wait()
    await server.stop(float(os.environ.get("GRACE", "5")))


asyncio.run(main())
