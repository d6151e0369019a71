"""CONNECT tunnels, with TLS terminated by Sidekey or passed through."""
