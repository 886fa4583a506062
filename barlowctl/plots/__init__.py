"""Pictures, curves, charts and maps in one style: its colours and numbers in `style`, its axes in `axis`.

panels   curves side by side in one picture (Pillow)
svg      a line chart for a page
matrix   a matrix as squares; a confusion matrix
scatter  a 2-D map of points
images   rows of images with captions
"""
