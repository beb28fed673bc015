"""Brain tumours in MRI: from raw scans to trained, evaluated and explained networks."""

__version__ = "0.1.0"
