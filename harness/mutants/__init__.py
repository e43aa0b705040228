"""Seeded defects: each mutant is a subject with one thing wrong, and names the criterion that has to catch it.

`reference/` holds small implementations by definition that share nothing with `bitnet`; `defects/` breaks them in one
place each; `families/` says which suite each defect is shown to and what must turn RED; `campaign` runs them all.
"""
