"""Programs that use raydub, each complete in one file. None is imported by the product."""
