"""What `import barlowctl` offers."""
