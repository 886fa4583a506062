"""The packed file: FFCV's `.beton` format, its reader and writer, and how a picture is stored in it."""
