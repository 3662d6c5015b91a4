"""`crop-scene` as a script: python scripts/crop_scene.py --load-config .../config.yml --box ... -o NEW_RUN."""

from lg_field.cli.crop_scene import main

if __name__ == "__main__":
    main()
