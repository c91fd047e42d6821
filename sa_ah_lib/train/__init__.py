"""One run: problems, model, training, evaluation, logs, and how an interrupted run goes on."""
