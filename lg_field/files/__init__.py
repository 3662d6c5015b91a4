"""Files: the field file (safetensors, versioned, read by region), and writes that happen whole or not at all."""

from lg_field.files.atomic import atomic_write as atomic_write
from lg_field.files.atomic import file_to_write as file_to_write
from lg_field.files.atomic import refuse_existing as refuse_existing
from lg_field.files.container import FileError as FileError
from lg_field.files.field_file import FieldFile as FieldFile
from lg_field.files.field_file import load as load
from lg_field.files.writing import crop_file as crop_file
from lg_field.files.writing import merge_files as merge_files
from lg_field.files.writing import save as save
