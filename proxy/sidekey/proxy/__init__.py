"""The data plane: listener -> request parser -> policy -> route -> grant -> upstream -> response parser -> caller.

Protocol objects carry the bytes, httptools parses both directions, and every head is serialized again from its parsed
parts. A warm request needs no task, no future and no URL object.
"""
