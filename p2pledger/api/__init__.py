"""How the world outside talks to a node: client and HTTP."""
