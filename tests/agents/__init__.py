"""The real agent CLIs, with no network but loopback, against models that follow a script: `./dev agents`."""
