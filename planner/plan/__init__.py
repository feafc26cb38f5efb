"""Problem -> Plan: analytic prediction, exact search, explanations."""
