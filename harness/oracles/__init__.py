"""Independent references for the suites: float64, brute force and autograd; they share no code with any subject."""
