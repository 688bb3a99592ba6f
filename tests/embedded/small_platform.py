"""An installation whose platform is two small real programs: started by `test_platform.py`.

Each writes what it was told into the data folder and answers its health port.
"""

import asyncio
import sys

from deploy.embedded import folder
from deploy.embedded.installation import Installation
from deploy.embedded.platform_processes import Platform, Program
from deploy.embedded.progress import Progress
from deploy.embedded.refusal import Refused

FIRST = """
import os, pathlib, sys
data = pathlib.Path(os.environ["PORTAL_DATA"])
(data / "steps").open("a").write(sys.argv[1] + "\\n")
sys.exit(4 if (data / "fail").exists() and sys.argv[1] == "migrate" else 0)
"""
LONG = """
import http.server, json, os, pathlib, sys
told = {name: value for name, value in os.environ.items() if name.startswith("PORTAL_")}
data = pathlib.Path(told["PORTAL_DATA"])
(data / "steps").open("a").write(sys.argv[1] + "\\n")
(data / f"{sys.argv[1]}-{os.getpid()}.json").write_text(json.dumps(told))
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
port = int(told["PORTAL_HEALTH_PORT"])
http.server.HTTPServer(("127.0.0.1", port), Answer).serve_forever()
"""


def program(code: str, name: str, copies: int = 1) -> Program:
    return Program(name, (sys.executable, "-c", code, name), copies)


async def main() -> int:
    platform = Platform(
        first=(program(FIRST, "migrate"), program(FIRST, "apply")),
        programs=(program(LONG, "handlers", 2), program(LONG, "edge")),
    )
    outside = {"ollama": "http://127.0.0.1:1", "postgres": "postgresql://a:b@127.0.0.1:1/portal"}
    chosen = folder.chosen()
    try:
        return await Installation(chosen, Progress(), external=outside, platform=platform).run()
    except Refused as refused:
        print(refused, file=sys.stderr)
        return refused.status


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
