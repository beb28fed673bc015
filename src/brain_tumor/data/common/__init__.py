"""Files, archives, stores and what else every task reads and writes with."""
