"""Event time: durations, window kinds, aggregates and their results."""
