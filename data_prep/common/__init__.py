"""What every converter shares: from an annotation file with anything in it to parquet files, whole or not at all.

command.py        the command line: ROOT, --out, --dry-run, exit codes; never a traceback for bad input
reading.py        JSON Lines, and JSON lists of any size, row by row with their line numbers
fields.py         a row's fields, checked: `BadRow` names the field and the reason
media.py          files under ROOT, and nowhere else
schema.py         verl's parquet schemas, for RL and for SFT
conversion.py     `Conversion`: rows kept, rejected and noticed
sheet.py          parquet and JSON lines, written while rows come in
output_folder.py  all of a conversion is there or nothing
sampling.py       draws that depend on a seed and ids only
"""
