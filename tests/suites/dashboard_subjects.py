"""A dashboard of a few lines without any library, for the meta-tests; it compresses like any other subject there."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from tests.suites.compressing_subject import CompressingSubject

SERVER = """
import http.server, sys
port, defect = int(sys.argv[1]), sys.argv[2]
if defect == "does not start":
    sys.exit(3)
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(500 if defect == "an error for a page" else 200)
        self.send_header("Content-Type", "text/plain" if defect == "no page" else "text/html")
        self.end_headers()
    def log_message(self, *words):
        pass
host = "" if defect == "listens everywhere" else "127.0.0.1"
http.server.HTTPServer((host, port), Page).serve_forever()
"""


class DashboardSubject(CompressingSubject):
    def __init__(self, defect=""):
        self.defect, self.known = defect, {}

    def compress(self, model_folder, out, overrides):
        outcome = super().compress(model_folder, out, overrides)
        (out / "report.json").write_text(json.dumps(asdict(outcome.report)))
        return outcome

    def dashboard_command(self, reports, runs, port):
        if self.defect == "a requirement is missing":
            raise ModuleNotFoundError("no module", name="a_library")
        return [sys.executable, "-c", SERVER, str(port), self.defect]

    def dashboard_texts(self, reports, runs):
        return {"audit": self.audit(Path(reports)), "run": self.run(Path(runs))}

    def audit(self, reports):
        path = reports / "latest" / "scorecard.json"
        if not path.is_file():
            return self.missing_text(path)
        card = json.loads(path.read_text())
        if self.defect == "figures by heart":
            card = self.known.setdefault("card", card)
        lines = [f"overall {100 * card['overall']['score']:.1f} %"]
        for row in card["criteria"]:
            status = "" if self.defect == "colours without words" else row["status"]
            values = [each["value"] for each in row["figures"]]
            lines.append(f"{status} {row['id']} {'' if self.defect == 'figures left out' else values}")
        return "\n".join(lines)

    def run(self, runs):
        found = list(runs.glob("*/report.json"))
        if not found:
            return self.missing_text(runs)
        report = json.loads(found[0].read_text())
        if self.defect == "a run's perplexity is another's":
            report["perplexity_after"] *= 1.01
        names = ("perplexity_before", "perplexity_after", "compression_ratio", "zero_fraction")
        return "\n".join(f"{name} {report[name]:.4g}" for name in names)

    def missing_text(self, path):
        if self.defect == "breaks where nothing is":
            raise FileNotFoundError(path)
        return "" if self.defect == "silent where nothing is" else f"there is nothing at {path}"
