"""Matrices to be judged and drawn."""

from harness.mutants.matrix import FalseAlarm, Matrix, Trial

ONE, OTHER, IDLE = (f"test_a.py::test_{name}" for name in ("one", "other", "idle"))
ALARM = FalseAlarm(suite="test_a.py", area="area", check=f"suites/{ONE}", seed=3, message="AssertionError: <no>")


def trial(name="first", fate="killed", red=None, **changes):
    values = {
        "id": f"area/{name}",
        "title": f"What is broken in the {name}",
        "area": "area",
        "suite": "test_a.py",
        "criterion": "A.packing-exact",
        "fate": fate,
        "red": {ONE: "assertion"} if red is None else red,
        "witness": "pack(int8[1, 1], '2bit')",
        "seconds": 0.5,
    }
    return Trial(**(values | changes))


def matrix(*trials, **changes):
    values = {
        "complete": True,
        "seeds": 20,
        "available": 2,
        "trials": trials or (trial(), trial("second", red={OTHER: "figure"})),
        "checks": (ONE, OTHER),
        "false_alarms": (),
        "seconds": 1.5,
    }
    return Matrix(**(values | changes))
