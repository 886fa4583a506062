"""What `import barlowctl` offers: the commands as functions, which print nothing and leave the process as it was."""
