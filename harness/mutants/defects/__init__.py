"""Subjects with one defect each."""
