"""Side-by-side measurements of Tollgate, nginx and other gateways on one machine in one run."""
