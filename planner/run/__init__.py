"""The bundled runtime: executes a plan with torch workers that talk over TCP."""
