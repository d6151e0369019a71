"""The local CA: create, store, rotate and distribute it, and issue leaves for the hosts it may sign for."""
