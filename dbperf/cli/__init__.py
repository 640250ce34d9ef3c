"""One small module per command. The only room that prints and exits."""
