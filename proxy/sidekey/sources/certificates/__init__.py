"""Client certificates at run time: read again, fetched again, replaced in place, never used after they expire."""
