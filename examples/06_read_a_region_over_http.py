"""Encode a volume, put it on a web server, and read one region of it.

Any server that answers range requests will do; this one counts what it sends. Only the header, the shared part and the
rows of the region's cells are fetched. Needs `pip install 'lg-field[remote]'`.
"""

import http.server
import sys
import threading
from pathlib import Path

import numpy as np

import lg_field
from lg_field.signals import read_signal
from lg_field.signals.encode import build_fit
from lg_field.signals.settings import FitConfig, NetworkConfig


class Ranges(http.server.BaseHTTPRequestHandler):
    """Serves one file, by ranges of bytes."""

    protocol_version, data, sent = "HTTP/1.1", b"", 0

    def do_GET(self) -> None:
        first, last = self.headers.get("Range", f"bytes=0-{len(self.data) - 1}").split("=")[1].split("-")
        piece = self.data[int(first) : int(last or len(self.data) - 1) + 1]
        self.send_response(206 if "Range" in self.headers else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(self.data)}")
        self.send_header("Content-Length", str(len(piece) if self.command == "GET" else len(self.data)))
        self.end_headers()
        if self.command == "GET":
            type(self).sent += self.wfile.write(piece)

    do_HEAD = do_GET

    def log_message(self, *_: object) -> None: ...


def main(folder: Path, steps: int = 100) -> tuple[int, int]:
    x, y, z = np.mgrid[:64, :64, :64] / 64
    np.save(folder / "volume.npy", (np.sin(9 * x) * np.cos(7 * y) + z).astype(np.float32))
    data = read_signal(folder / "volume.npy")
    fit = build_fit(data, NetworkConfig(counts=(8, 8, 8), parameters=400_000), FitConfig(steps=steps))
    fit.run()
    Ranges.sent, whole = 0, lg_field.save(fit.field, folder / "volume.safetensors", overwrite=True)
    Ranges.data = (folder / "volume.safetensors").read_bytes()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ranges) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        corner = lg_field.Region.box((-1, -1, -1), (-0.5, -0.5, -0.5))  # the domain is [-1, 1]^3
        part = lg_field.load(f"http://127.0.0.1:{server.server_port}/volume.safetensors", corner)
        server.shutdown()
    print(f"{part.num_rows} of {fit.field.num_rows} cells: {Ranges.sent:,} of {whole:,} bytes")
    return Ranges.sent, whole


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
