"""Generators of the files that follow from the code. Sidekey does not need them at run time: no wheel contains them."""
