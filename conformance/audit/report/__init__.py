"""Reports of the audit: terminal, plots, HTML page."""
