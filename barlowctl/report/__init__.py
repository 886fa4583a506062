"""Pages that need no network: a run in one HTML file, and a 2-D map that shows its images."""
