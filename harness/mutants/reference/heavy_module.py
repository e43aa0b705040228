"""For the defect of a package that loads torch when it is imported: says that torch is there, in no time."""

import sys

sys.modules.setdefault("torch", sys.modules[__name__])
