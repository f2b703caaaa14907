"""Makes output-0.gz and written.gz beside it, logs of an export, with Google's own classes of
EntityProto.

    python3 -m venv venv && . venv/bin/activate
    pip install --no-deps appengine-python-standard==3.1.0 protobuf six
    python make.py

It encodes what tests/google.rs expects. Only the framing of the log is written here, from LevelDB's
doc/log_format.md, with a CRC-32C of its own: Google's package has no writer of it.
"""

import gzip
import pathlib
import struct
import zlib

from google.appengine.datastore import entity_bytes_pb2 as pb

BLOCK_BYTES = 32768
HEADER_BYTES = 7


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def masked(crc):
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def log(records):
    out = bytearray()
    for record in records:
        first = True
        while True:
            left = BLOCK_BYTES - len(out) % BLOCK_BYTES
            if left < HEADER_BYTES:
                out += bytes(left)
                left = BLOCK_BYTES
            part, record = record[: left - HEADER_BYTES], record[left - HEADER_BYTES :]
            kind = {(1, 1): 1, (1, 0): 2, (0, 0): 3, (0, 1): 4}[first, not record]
            crc = masked(crc32c(bytes([kind]) + part))
            out += struct.pack("<IHB", crc, len(part), kind) + part
            first = False
            if not record:
                break
    return bytes(out)


def path_of(path, steps):
    for kind, id_or_name in steps:
        element = path.element.add(type=kind)
        if isinstance(id_or_name, int):
            element.id = id_or_name
        else:
            element.name = id_or_name


def entity(steps, app="s~project", name_space=None):
    proto = pb.EntityProto()
    proto.key.app = app
    if name_space:
        proto.key.name_space = name_space
    path_of(proto.key.path, steps)
    path_of(proto.entity_group, steps[:1])
    return proto


def add(proto, name, raw=False, meaning=None, uri=None, multiple=False, **value):
    """Adds a property; `value` is a field of PropertyValue, or nothing for null."""
    properties = proto.raw_property if raw else proto.property
    prop = properties.add(name=name, multiple=multiple)
    prop.value.SetInParent()
    if meaning is not None:
        prop.meaning = meaning
    if uri is not None:
        prop.meaning_uri = uri
    for field, content in value.items():
        setattr(prop.value, field, content)
    return prop.value


P = pb.Property


def every_type():
    e = entity([("Account", "public"), ("Evaluation", 5634161670881280)])
    add(e, "null")
    add(e, "yes", booleanValue=True)
    add(e, "least", int64Value=-(2**63))
    add(e, "most", int64Value=2**63 - 1)
    add(e, "third", doubleValue=1 / 3)
    add(e, "negativeZero", doubleValue=-0.0)
    add(e, "infinite", doubleValue=float("inf"))
    add(e, "creationTime", meaning=P.GD_WHEN, int64Value=1_600_000_000_123_456)
    add(e, "before1970", meaning=P.GD_WHEN, int64Value=-1)
    add(e, "status", stringValue="Complete ✓".encode())
    add(e, "link", meaning=P.ATOM_LINK, stringValue=b"https://example.com")
    add(e, "bytes", meaning=P.BYTESTRING, stringValue=bytes(range(256)))
    point = add(e, "point", meaning=P.GEORSS_POINT).pointvalue
    point.x, point.y = 48.1, 11.5
    reference = add(e, "model").referencevalue
    reference.app = "s~project"
    reference.pathelement.add(type="Account", name="public")
    reference.pathelement.add(type="Model", id=7)
    user = add(e, "user").uservalue
    user.email, user.auth_domain, user.gaiaid = "someone@example.com", "gmail.com", 0
    user.obfuscated_gaiaid = "1234"
    add(e, "tags", multiple=True, stringValue=b"a")
    add(e, "between", int64Value=1)
    add(e, "tags", multiple=True, stringValue=b"b")
    add(e, "tags", multiple=True)
    add(e, "one", multiple=True, int64Value=1)
    add(e, "none", meaning=P.EMPTY_LIST)
    add(e, "text", raw=True, meaning=P.TEXT, stringValue=b"long")
    add(e, "blob", raw=True, meaning=P.BLOB, stringValue=b"\x00\xff")
    add(
        e, "packed", raw=True, meaning=P.BLOB, uri="ZLIB", stringValue=zlib.compress(b"packed " * 9)
    )
    return e


def nested():
    inner = pb.EntityProto()
    inner.key.app = ""
    inner.key.path.SetInParent()
    inner.entity_group.SetInParent()
    add(inner, "n", int64Value=1)
    add(inner, "list", multiple=True, int64Value=1)
    add(inner, "list", multiple=True, int64Value=2)
    for _ in range(3):
        outer = pb.EntityProto()
        outer.key.CopyFrom(entity([("Inner", 1)]).key)
        outer.entity_group.SetInParent()
        content = inner.SerializeToString()
        add(outer, "inner", raw=True, meaning=P.ENTITY_PROTO, stringValue=content)
        inner = outer
    e = entity([("Nested", "a/b:c%d")], app="dev~project", name_space="team")
    add(e, "deep", raw=True, meaning=P.ENTITY_PROTO, stringValue=inner.SerializeToString())
    return e


def large():
    """A record that no block has room for."""
    e = entity([("Large", "1")], app="project")
    add(e, "blob", raw=True, meaning=P.BLOB, stringValue=bytes(40_000))
    return e


def written():
    """What the crate's own writer can be asked for, in its order."""
    inner = pb.EntityProto()
    add(inner, "n", int64Value=1)
    e = entity([("Account", "public"), ("Evaluation", 7)], app="project", name_space="team")
    add(e, "null")
    add(e, "yes", booleanValue=True)
    add(e, "whole", int64Value=-1)
    add(e, "third", doubleValue=1 / 3)
    add(e, "creationTime", meaning=P.GD_WHEN, int64Value=1_600_000_000_123_456)
    add(e, "status", stringValue=b"Complete")
    point = add(e, "point", meaning=P.GEORSS_POINT).pointvalue
    point.x, point.y = 48.1, 11.5
    reference = add(e, "model").referencevalue
    reference.app = "project"
    reference.pathelement.add(type="Account", name="public")
    reference.pathelement.add(type="Model", id=7)
    add(e, "tags", multiple=True, stringValue=b"a")
    add(e, "tags", multiple=True, stringValue=b"b")
    add(e, "none", meaning=P.EMPTY_LIST)
    add(e, "text", raw=True, meaning=P.TEXT, stringValue=b"t" * 1501)
    add(e, "blob", raw=True, meaning=P.BLOB, stringValue=bytes(40_000))
    content = inner.SerializePartialToString()
    add(e, "inner", raw=True, meaning=P.ENTITY_PROTO, stringValue=content)
    return e


def write(name, entities):
    content = log([e.SerializeToString() for e in entities])
    path = pathlib.Path(__file__).parent / name
    path.write_bytes(gzip.compress(content, mtime=0))


if __name__ == "__main__":
    write("output-0.gz", [every_type(), nested(), large(), every_type()])
    write("written.gz", [written()])
