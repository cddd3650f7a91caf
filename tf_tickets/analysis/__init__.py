"""Tables, figures and summaries, made from a run's results alone."""
