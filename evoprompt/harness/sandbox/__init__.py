"""The host's side: `pool` starts zygotes by `launch` and forks processes; `process` asks one, within its `limits`."""
