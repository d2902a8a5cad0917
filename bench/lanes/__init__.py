"""What is measured beyond CPU time in turns: latency, memory, scaling."""
