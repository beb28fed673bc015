"""What surrounds a run of Kedro: parameters and inputs are checked, errors told, runs locked, nodes skipped, jobs submitted."""
