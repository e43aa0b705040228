"""Which suite each defect is shown to, which checks turn RED, and the criterion that must."""
