"""How far one installation goes: a simulation of many nodes, and a table from measured figures."""
