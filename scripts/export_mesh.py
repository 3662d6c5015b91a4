"""`lg-field mesh` as a script: python scripts/export_mesh.py --load-config .../config.yml -o mesh.ply."""

import sys

from lg_field.cli import main

if __name__ == "__main__":
    sys.argv.insert(1, "mesh")
    main()
