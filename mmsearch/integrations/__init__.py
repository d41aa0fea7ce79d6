"""mmsearch as a part of other frameworks, each of which is an extra."""
