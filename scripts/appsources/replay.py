"""Serves a page of metrics in which BUSY stands for the number of requests that /work holds."""

import http.server
import sys
import threading
import time
from urllib.parse import parse_qs, urlsplit

page = open(sys.argv[2], encoding="utf-8").read()
busy, lock = 0, threading.Lock()


def add(n):
    global busy
    with lock:
        busy += n


class Server(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        url = urlsplit(self.path)
        body, kind = b"ok", "text/plain"
        if url.path == "/work":
            add(1)
            time.sleep(float(parse_qs(url.query).get("seconds", ["0"])[0]))
            add(-1)
        else:
            body, kind = page.replace("BUSY", str(busy)).encode(), "text/plain; version=0.0.4; charset=utf-8"
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Server).serve_forever()
