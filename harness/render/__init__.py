"""Renderers of a scorecard: each turns the same data into one format."""
