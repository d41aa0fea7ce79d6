"""What mmsearch is worth, measured."""
