"""Small subjects by definition, which share nothing with `bitnet`; some are made with a defect, in words."""
