"""The gateways that are compared, each started and stopped in the same way."""
