"""The local CA: which hosts it may sign for, how it is made, kept, rotated and shown to those who must trust it."""
