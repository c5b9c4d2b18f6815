"""Sends unary gRPC calls at a rate, none of them twice: goaway_client.py TARGET CALLS RATE CHANNELS. Prints what became of them as JSON.

gRPC's C core, which clients in Python, C++, C#, PHP and Ruby share, with its retries (transparent ones too) switched off.
"""

import collections
import itertools
import json
import sys
import threading
import time

import grpc

METHOD = "/demo.v1.DemoService/ProcessRequest"
THREADS = 32
OPTIONS = [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)]


def work(ms):
    """ProcessRequestRequest{work_ms: ms} on the wire: field 2, a varint."""
    out = bytearray(b"\x10")
    while ms > 0x7F:
        out.append(ms & 0x7F | 0x80)
        ms >>= 7
    return bytes(out + bytes([ms]))


def main(target, calls, rate, channels):
    channels = [grpc.insecure_channel(target, options=OPTIONS) for _ in range(channels)]
    methods = [channel.unary_unary(METHOD) for channel in channels]
    began, numbers, failed, lock = time.monotonic(), itertools.count(), collections.Counter(), threading.Lock()

    def send():
        while (n := next(numbers)) < calls:
            time.sleep(max(0, began + n / rate - time.monotonic()))
            try:
                methods[n % len(methods)](work(500 if n % 50 == 0 else 5), timeout=30)
            except grpc.RpcError as error:
                with lock:
                    failed[f"{error.code().name}: {error.details()}"] += 1

    threads = [threading.Thread(target=send) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    json.dump({"requests": calls, "failed": sum(failed.values()), "failed_by_kind": failed}, sys.stdout)


main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
