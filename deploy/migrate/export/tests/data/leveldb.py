"""Makes leveldb.gz beside it: a log that LevelDB itself wrote, compressed.

    pip install plyvel==1.5.1
    python leveldb.py

Each record is one batch with one pair of key and value, as tests/google.rs puts them together.
"""

import gzip
import pathlib
import tempfile

import plyvel

# The second ends three bytes before its block's end and the third seven, so that the fourth begins
# there with no data; the fifth goes over several blocks.
VALUE_BYTES = [10, 32_701, 32_733, 20, 100_000, 0]

with tempfile.TemporaryDirectory() as folder:
    database = plyvel.DB(folder, create_if_missing=True, write_buffer_size=64 << 20)
    for number, length in enumerate(VALUE_BYTES):
        database.put(b"key%d" % number, bytes([number]) * length)
    database.close()
    (log,) = pathlib.Path(folder).glob("*.log")
    path = pathlib.Path(__file__).parent / "leveldb.gz"
    path.write_bytes(gzip.compress(log.read_bytes(), mtime=0))
