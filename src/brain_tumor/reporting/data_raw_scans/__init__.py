"""Report on raw scans."""
