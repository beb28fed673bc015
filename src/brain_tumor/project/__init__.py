"""What surrounds a run of Kedro.

Parameters and inputs are checked, errors told, runs locked, nodes skipped, jobs submitted.
"""
