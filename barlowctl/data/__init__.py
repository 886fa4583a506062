"""Images: from files as people keep them to batches of views.

sources/  a folder, archive, array or list  -> pictures with their names and labels; tree/ says what a folder's
          files are and mean, labels/ how a class is written
images/   the bytes of one picture          -> upright 8-bit pixels
beton/    pictures                          -> one packed file, read back by position
views/    (seed, epoch, sample, view)       -> what a view is, and the kernels that make its pixels
loaders/  a packed file or a folder         -> batches of views

`home` finds a packed data set by its name, `fetch` brings the well-known ones, `preview` shows what a loader makes.
"""
