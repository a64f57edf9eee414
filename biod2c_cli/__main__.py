"""``python -m biod2c_cli``: the same as the ``biod2c`` command."""

from biod2c_cli.app import main

main()
