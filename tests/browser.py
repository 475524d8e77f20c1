"""Headless Chromium: a page as a reader's browser has it, and what is wrong with the pages of a site."""

import json
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote

OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
    " --disable-sync --enable-logging=stderr"
)
# Opens every page in a frame, then asks the browser, not the source, what its images and links are.
VISITOR = """<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,"><img src="/-until-told"><script>
const faults = [], known = {};
function reached(url) { return known[url] ??= fetch(url, {method: "HEAD"}).then(answer => answer.ok, () => false); }
async function visit(page) {
  const frame = document.createElement("iframe");
  frame.src = page;
  const loaded = new Promise(done => { frame.onload = done; });
  document.body.append(frame);
  await loaded;
  const inside = frame.contentDocument;
  for (const image of inside.images) {
    image.loading = "eager";
    await image.decode().catch(() => faults.push(`${page}: no image ${image.src.slice(0, 200)}`));
  }
  for (const part of inside.querySelectorAll("a[href], link[href]")) {
    const url = new URL(part.href);
    if (url.origin !== location.origin) {
      if (part.tagName === "LINK" && url.protocol !== "data:") faults.push(`${page}: loads ${url}`);
    } else if (url.hash && url.pathname === inside.location.pathname) {
      const name = decodeURIComponent(url.hash.slice(1));
      if (!inside.getElementById(name)) faults.push(`${page}: no place #${name}`);
    } else if (!await reached(url.origin + url.pathname)) faults.push(`${page}: broken link ${url.pathname}`);
  }
  frame.remove();
}
(async () => {
  for (const page of PAGES) await visit(page);
  await fetch("/-faults", {method: "POST", body: JSON.stringify(faults)});
})();
</script>"""


def browser(page: Path | str, profile: Path, *more: str) -> subprocess.CompletedProcess:
    """Headless Chromium on a page from disk or an address. It is a requirement of these tests: where it is missing they fail."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    assert program, "these tests need Chromium: install it, such as by `apt-get install chromium`"
    address = page.as_uri() if isinstance(page, Path) else page
    words = [program, *OPTIONS.split(), f"--user-data-dir={profile}", *more, address]
    return subprocess.run(words, capture_output=True, encoding="utf-8", timeout=240, check=True)


class Visit(ThreadingHTTPServer):
    """Serves a folder, and at /-visitor a page that visits its pages and tells what is wrong with them."""

    def __init__(self, site: Path, pages: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), partial(Handler, directory=str(site)))
        self.visitor = VISITOR.replace("PAGES", json.dumps(pages).replace("<", "\\u003c")).encode()
        self.faults: list[str] | None = None
        self.told = threading.Event()


class Handler(SimpleHTTPRequestHandler):
    server: Visit

    def do_GET(self):
        if self.path == "/-until-told":  # an image that keeps the browser from taking the visitor for loaded
            self.server.told.wait(200)
            self.answer(b"")
        elif self.path == "/-visitor":
            self.answer(self.server.visitor)
        else:
            super().do_GET()

    def do_POST(self):
        self.server.faults = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.answer(b"")
        self.server.told.set()

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def faults(site: Path, profile: Path) -> list[str]:
    """What a browser misses on the pages of a site: images that do not show, links that lead nowhere, errors on its console."""
    pages = [f"/{quote(file.relative_to(site).as_posix())}" for file in sorted(site.rglob("*.html"))]
    assert pages, f"no page in {site}"
    with Visit(site, pages) as visit:
        threading.Thread(target=visit.serve_forever, daemon=True).start()
        done = browser(f"http://127.0.0.1:{visit.server_port}/-visitor", profile, "--dump-dom")
        visit.shutdown()
    assert visit.faults is not None, f"the visit did not end: {done.stderr[-2000:]}"
    return [*visit.faults, *(line for line in done.stderr.splitlines() if "CONSOLE" in line)]
