"""Show the site on this machine and rebuild it whenever a source changes."""

import subprocess
import sys
from pathlib import Path

from livereload import Server

ROOT = Path(__file__).resolve().parent.parent
SOURCES = ("_config.yml", "_toc.yml", "book/*/*.md", "book/*.bib", "book/_static/*", "book/_ext/executed/*.py")


def build() -> None:
    """Build what changed; a failed build is shown and waited out."""
    subprocess.run([Path(sys.executable).with_name("jupyter-book"), "build", "."], cwd=ROOT, check=False)


if __name__ == "__main__":
    build()
    server = Server()
    for pattern in (*SOURCES, "src/attention_notes/*", "src/attention_notes/*/*"):
        server.watch(str(ROOT / pattern), build)
    server.serve(root=str(ROOT / "_build/html"), host="127.0.0.1", port=8000)
