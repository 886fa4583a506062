"""What the files of a folder or an archive are: which are images, of which split and class, what is skipped."""
