"""The web console on the admin listener: pages made on the server, which ask for what the API gives."""
