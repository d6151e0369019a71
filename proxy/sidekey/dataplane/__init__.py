"""The hot path: listener -> route -> lookup -> policy -> grant -> request head -> upstream -> response head -> caller.

Protocol objects carry the bytes, httptools parses both directions, and every head is serialised again from its parsed
parts. On the warm path there is no task, future or URL object; tasks exist only to connect and to fetch a grant.
"""
