"""`python -m bitnet.ablation`: what each choice in compression and recovery is worth, measured on `tiny`."""
