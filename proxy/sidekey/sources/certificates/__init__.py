"""The life of client certificates: watched, fetched anew, taken up in place, and never used past their end."""
