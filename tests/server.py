"""A web server on this machine whose faults a test decides."""

import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REDIRECT_MIB = 64  # the body of a redirect, which a client should not read


class Server(ThreadingHTTPServer):
    """Serves `contents` by name; the next entry of a name's `faults` decides its next request."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.contents, self.faults = {}, {}
        self.redirects = {}  # name to Location
        self.redirect_mib = 0  # sent along with redirects
        self.requests = []  # (name, headers), without redirects

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}/some/where"

    def ranges(self, name):
        return [headers.get("Range") for requested, headers in self.requests if requested == name]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        place, _, name = self.path.rpartition("/")
        if name in self.server.redirects and not place.endswith("/elsewhere"):
            self.redirect(self.server.redirects[name])
            return
        self.server.requests.append((name, dict(self.headers)))
        content = self.server.contents.get(name)
        faults = self.server.faults.get(name)
        fault = faults.pop(0) if faults else None
        if isinstance(fault, bytes):
            self.drip(fault)
            return
        if content is None or isinstance(fault, int):
            self.send_response(fault or 404)
            self.send_header("Retry-After", "9999" if fault == 429 else "0")
            self.end_headers()
            return
        start = 0
        if "Range" in self.headers and fault != "no range":
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
            start -= fault == "other range"
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if fault != "longer":
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        stop = {"break": start + 200_000, "silence": start}.get(fault, len(content))
        try:
            self.wfile.write(content[start:stop])
            if fault == "longer":
                self.wfile.write(bytes(1 << 22))
        except ConnectionError:
            pass  # the client has closed the connection

    def drip(self, start):
        """Answer with these bytes, then a byte now and then, without end."""
        try:
            self.wfile.write(start)
            while True:
                self.wfile.write(b"1")
                time.sleep(0.01)
        except ConnectionError:
            pass  # the client had enough

    def redirect(self, location):
        self.send_response(302)
        self.send_header("Location", location)
        self.send_header("Content-Length", str(REDIRECT_MIB << 20))
        self.end_headers()
        try:
            for _ in range(REDIRECT_MIB):
                self.wfile.write(bytes(1 << 20))
                self.server.redirect_mib += 1
        except ConnectionError:
            pass  # the client does not read what comes with a redirect
        self.close_connection = True

    def log_message(self, *_):
        pass
