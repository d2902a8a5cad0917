"""`/v1/responses` and `/v1/conversations`: the endpoints that remember what was said."""
