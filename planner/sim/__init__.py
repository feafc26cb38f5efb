"""Plan, requests, seed -> records: a discrete-event simulation of the serving rules."""
