"""Model Monitor: definitions, schedules and executions, and the analysis that their jobs run."""
