"""A hub on this machine: it answers as the real one does, and can be told to fail in its ways."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

COMMIT = "c0ffee" + "0" * 34


class Hub:
    """Serves ``files[repository][name]``; ``fault`` says what goes wrong: see ``FAULTS``."""

    FAULTS = ("down", "truncated", "hangs", "tampered")

    def __init__(self):
        self.files = {}
        self.fault = None
        self.requests = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_HEAD(self):
                hub.answer(self, body=False)

            def do_GET(self):
                hub.answer(self, body=True)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.stopping = threading.Event()
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.stopping.set()
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request, *, body):
        self.requests.append((request.command, request.path, request.headers.get("Authorization")))
        if self.fault == "down":
            return self.say(request, 503)
        organisation, name, _, revision, *rest = [*request.path.lstrip("/").split("/"), *[""] * 4]
        files = self.files.get(f"{organisation}/{name}")
        if files is None:
            return self.say(request, 404, {"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", COMMIT):
            return self.say(request, 404, {"X-Error-Code": "RevisionNotFound"})
        content = files.get("/".join(rest).strip("/"))
        if content is None:
            return self.say(request, 404, {"X-Error-Code": "EntryNotFound"})
        return self.send(request, content, body=body)

    def send(self, request, content, *, body):
        checksum = hashlib.sha256(content).hexdigest()
        start = int(request.headers.get("Range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        request.send_response(206 if start else 200)
        request.send_header("X-Repo-Commit", COMMIT)
        request.send_header("ETag", f'"{checksum}"')
        request.send_header("X-Linked-Etag", f'"{checksum}"')
        request.send_header("X-Linked-Size", str(len(content)))
        request.send_header("Accept-Ranges", "bytes")
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        request.send_header("Content-Length", str(len(content) - start))
        request.end_headers()
        if not body:
            return
        if self.fault == "tampered":
            content = content[:-1] + bytes([content[-1] ^ 1])
        if self.fault in ("truncated", "hangs"):
            request.wfile.write(content[start : len(content) // 2])
            request.wfile.flush()
            if self.fault == "hangs":
                self.stopping.wait(30)
            request.close_connection = True
            return
        request.wfile.write(content[start:])

    def say(self, request, status, headers=None):
        request.send_response(status)
        for name, value in (headers or {}).items():
            request.send_header(name, value)
        request.send_header("Content-Length", "0")
        request.end_headers()
