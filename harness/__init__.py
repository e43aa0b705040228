"""The auditor: subjects, evidence, scorecard, gate and reports."""
