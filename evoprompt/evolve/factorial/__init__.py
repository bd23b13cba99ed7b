"""The `factorial` search: sentences of the prompt are factors of an experiment, measured all at once."""
