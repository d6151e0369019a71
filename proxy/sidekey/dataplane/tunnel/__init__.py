"""CONNECT: from the request that asks for a tunnel to its end. What is asked for inside are exchanges."""
