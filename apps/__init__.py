"""Apps to learn from and to run: each is the tutorial for one thing."""
