"""A web server on this machine whose faults a test decides."""

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REDIRECT_MIB = 64  # what a redirect carries: a client that reads it could be made to read more


class Server(ThreadingHTTPServer):
    """Serves `contents`; a name's next fault in `faults` decides how the next request goes."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.contents, self.faults = {}, {}
        self.redirect_mib = 0  # sent along with redirects
        self.requests = []  # (name, headers), without those that were sent elsewhere

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}/records/{{record}}/files/{{name}}?download=1"

    def ranges(self, name):
        return [headers.get("Range") for asked, headers in self.requests if asked == name]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        place, _, name = self.path.removesuffix("?download=1").rpartition("/")
        if place == "/records/7/files":  # as Zenodo may
            self.send_response(302)
            self.send_header("Location", f"/elsewhere/{name}")
            self.send_header("Content-Length", str(REDIRECT_MIB << 20))
            self.end_headers()
            try:
                for _ in range(REDIRECT_MIB):
                    self.wfile.write(bytes(1 << 20))
                    self.server.redirect_mib += 1
            except ConnectionError:
                pass  # nobody reads what comes with a redirect
            self.close_connection = True
            return
        self.server.requests.append((name, dict(self.headers)))
        content = self.server.contents.get(name)
        faults = self.server.faults.get(name)
        fault = faults.pop(0) if faults else None
        if content is None or isinstance(fault, int):
            self.send_error(fault or 404)
            return
        start = 0
        if "Range" in self.headers and fault != "no range":
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                self.send_error(416)
                return
        self.send_response(206 if start else 200)
        if start:
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
            pass  # the client has had enough

    def log_message(self, *_):
        pass
