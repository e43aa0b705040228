"""Mutation of the source: one small change at a time to a file of ours, shown to the tests of that file.

The changes are mutmut's. mutmut itself leaves decorated functions out, among them `quantize_weight` and every step of
the optimizer, so the files are changed and shown here: `mutations` makes the changes, `trial` shows one to its tests in
a process that the libraries have been imported into beforehand, `campaign` runs them all, `report` says what became of
them and `explanations` why some of them cannot be told from the original.
"""
