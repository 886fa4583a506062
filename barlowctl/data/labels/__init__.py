"""Labels as people write them: words, numbers, tables and small files beside the images."""
