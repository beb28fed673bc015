"""MRI scans of patients: found, read, checked, prepared as slices, split by patient."""
