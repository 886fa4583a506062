"""The command line: one thin module per command; `app` puts them together, `console` shows."""
