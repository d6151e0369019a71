"""Client certificates and leaves at run time: read, fetch and reload them; never use one that expired."""
