"""Reports of a conformance run: terminal, HTML, JSON, JUnit XML."""
