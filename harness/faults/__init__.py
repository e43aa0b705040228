"""Faults on demand: a command is killed within a write, signalled, starved of disk or memory, at a chosen moment."""
