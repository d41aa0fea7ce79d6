"""``python -m mmsearch`` and the ``mmsearch`` command."""

from mmsearch.cli.app import main

if __name__ == "__main__":
    main()
