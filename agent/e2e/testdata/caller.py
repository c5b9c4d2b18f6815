"""Calls the machine's end of the pod's network on one kept-alive connection until SIGTERM: caller.py PORT."""

import http.client
import ipaddress
import os
import signal
import sys
import time

stopping = False


def stop(*_):
    global stopping
    stopping = True


signal.signal(signal.SIGTERM, stop)
other = http.client.HTTPConnection(str(ipaddress.ip_address(os.environ["POD_IP"]) - 1), int(sys.argv[1]), timeout=10)
while other.sock is None:  # beside regular containers nothing makes it wait for Envoy
    try:
        other.connect()
    except ConnectionRefusedError:
        time.sleep(0.05)
while not stopping:
    other.request("GET", "/")
    reply = other.getresponse()
    reply.read()
    if reply.will_close:
        print("told to leave")
    time.sleep(0.1)
print("told to stop")
