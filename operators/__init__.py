"""Operators: what a stage is made of. One operator a file; `operator.py` is the protocol, `batch.py` what flows."""
