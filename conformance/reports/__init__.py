"""Reports of a conformance run: terminal, HTML, JUnit XML."""
