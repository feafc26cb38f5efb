"""Values as text: what each command prints, without printing it."""
