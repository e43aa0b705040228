"""Adapters that make an implementation auditable."""
