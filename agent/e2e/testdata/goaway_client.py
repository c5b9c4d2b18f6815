"""Sends unary gRPC calls at a rate: goaway_client.py TARGET CALLS RATE CHANNELS. Prints what became of them as JSON.

No retry policy is set. What is left is gRPC's transparent retry of a call that never reached a server: whoever counts
the streams on the wire sees whether one was sent twice.
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
OPTIONS = [("grpc.use_local_subchannel_pool", 1)]  # a connection for every channel


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
