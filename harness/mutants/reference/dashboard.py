"""A dashboard of a few lines without any library; it compresses like the other subjects here."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from typing_extensions import override

from harness.mutants.reference.compressing import CompressingSubject
from harness.subject import CompressionOutcome

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
    """Shows scorecards and runs as text, with at most one `defect`; "" is right."""

    def __init__(self, defect: str = "") -> None:
        self.defect = defect
        self.known: dict[str, Any] = {}

    @override
    def compress(self, model_folder: Path, out: Path, overrides: Mapping[str, str]) -> CompressionOutcome:
        outcome = super().compress(model_folder, out, overrides)
        assert outcome.report is not None
        (out / "report.json").write_text(json.dumps(asdict(outcome.report)))
        return outcome

    def dashboard_command(self, reports: Path, runs: Path, port: int) -> list[str]:
        """See `harness.subject_dashboard.ShowsDashboard`."""
        if self.defect == "a requirement is missing":
            raise ModuleNotFoundError("no module", name="a_library")
        return [sys.executable, "-c", SERVER, str(port), self.defect]

    def dashboard_texts(self, reports: Path, runs: Path) -> dict[str, str]:
        """See `harness.subject_dashboard.ShowsDashboard`."""
        return {"audit": self.audit(reports), "run": self.run(runs)}

    def audit(self, reports: Path) -> str:
        """The latest scorecard in words."""
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

    def run(self, runs: Path) -> str:
        """The first run in words."""
        found = list(runs.glob("*/report.json"))
        if not found:
            return self.missing_text(runs)
        report = json.loads(found[0].read_text())
        if self.defect == "a run's perplexity is another's":
            report["perplexity_after"] *= 1.01
        names = ("perplexity_before", "perplexity_after", "compression_ratio", "zero_fraction")
        return "\n".join(f"{name} {report[name]:.4g}" for name in names)

    def missing_text(self, path: Path) -> str:
        """What is said where there is nothing."""
        if self.defect == "breaks where nothing is":
            raise FileNotFoundError(path)
        return "" if self.defect == "silent where nothing is" else f"there is nothing at {path}"
