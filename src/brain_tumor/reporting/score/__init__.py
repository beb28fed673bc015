"""The report on masks that somebody else predicted."""
