"""Caps by hash from a capstore daemon, verified: libcapstore through ctypes. One file, no other dependency.

    import capstore
    with capstore.Store("unix:/run/capstore/capstore.sock") as store:
        cap = store.get("fbe59d0a...")      # its bytes have that hash, or capstore.Error
        print(cap.kind, len(cap.body))

The library is libcapstore.so.0 as the system finds it, or what the environment's CAPSTORE_LIBRARY names. A Store
belongs to one thread at a time. For scripts; a runtime uses the library itself.
"""

import ctypes
import os
from collections import namedtuple

KINDS = {1: "image", 2: "data"}
TABLES = ("pinned", "initial")

_lib = ctypes.CDLL(os.environ.get("CAPSTORE_LIBRARY", "libcapstore.so.0"))


class Error(Exception):
    """A failed call: .name is the error's word, as in C and on the wire; .message says more."""

    def __init__(self, value, message=""):
        self.value = value
        self.name = _lib.capstore_error_name(value).decode()
        self.message = message or _lib.capstore_error_text(value).decode()
        super().__init__(f"{self.name}: {self.message}")


class _Hash(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint8 * 32)]


class _Bytes(ctypes.Structure):
    _fields_ = [("data", ctypes.POINTER(ctypes.c_uint8)), ("len", ctypes.c_size_t)]

    def get(self):
        return ctypes.string_at(self.data, self.len) if self.len else b""


class _Source(ctypes.Structure):
    _fields_ = [("read", ctypes.c_void_p), ("ctx", ctypes.c_void_p), ("len", ctypes.c_uint64),
                ("next_data", ctypes.c_void_p)]


class _Options(ctypes.Structure):  # struct_size tells the library how far this goes
    _fields_ = [("struct_size", ctypes.c_size_t), ("timeout_ms", ctypes.c_uint32), ("no_verify", ctypes.c_bool),
                ("agent", ctypes.c_char_p), ("max_body", ctypes.c_uint64), ("max_caps", ctypes.c_uint64),
                ("progress", ctypes.c_void_p), ("progress_ctx", ctypes.c_void_p), ("max_bodies", ctypes.c_uint64),
                ("hash_thread", ctypes.c_bool), ("leases", ctypes.c_bool), ("keep_s", ctypes.c_uint32)]


class _Kept(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_uint8), ("kept_s", ctypes.c_uint32)]


class _Stat(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int)] + [(name, ctypes.c_uint64) for name in (
        "body_len", "size", "page_count", "ref_count", "published_us")] + [("content_hash", _Hash)]


class _Entry(ctypes.Structure):
    _fields_ = [("hash", _Hash), ("kind", ctypes.c_int), ("body_len", ctypes.c_uint64), ("cap", ctypes.c_void_p)]


class _Put(ctypes.Structure):
    _fields_ = [("cap_hash", _Hash), ("size", ctypes.c_uint64), ("body_len", ctypes.c_uint64),
                ("is_new", ctypes.c_bool), ("kept_s", ctypes.c_uint32)]


class _Publish(ctypes.Structure):
    _fields_ = [("cap_hash", _Hash), ("content_hash", _Hash), ("body_len", ctypes.c_uint64), ("is_new", ctypes.c_bool),
                ("data_new", ctypes.c_uint32), ("data_present", ctypes.c_uint32), ("kept_s", ctypes.c_uint32)]


class _Counts(ctypes.Structure):
    _fields_ = [("endpoints", ctypes.c_size_t), ("mappings", ctypes.c_size_t), ("slots", ctypes.c_size_t * 2),
                ("gas_slots", ctypes.c_size_t), ("quota_slots", ctypes.c_size_t)]


class _Endpoint(ctypes.Structure):
    _fields_ = [("key", _Bytes), ("entry_pc", ctypes.c_uint64), ("stack_top", ctypes.c_uint64),
                ("arg_cnode_slot", _Bytes), ("arg_cnode_size", ctypes.c_uint8), ("initial_regs", ctypes.c_uint64 * 13)]


class _Mapping(ctypes.Structure):
    _fields_ = [("start", ctypes.c_uint64), ("size", ctypes.c_uint64), ("steps", ctypes.c_size_t)]


class _Slot(ctypes.Structure):
    _fields_ = [("key", _Bytes), ("cap_hash", _Hash)]


_P, _SIZE, _U64 = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64
_VISIT = ctypes.CFUNCTYPE(ctypes.c_int, _P, ctypes.POINTER(_Entry))

_HASHES = ctypes.POINTER(_Hash)
_FUNCTIONS = {  # name: (result, arguments)
    "error_name": (ctypes.c_char_p, [ctypes.c_int]), "error_text": (ctypes.c_char_p, [ctypes.c_int]),
    "version": (ctypes.c_char_p, []),
    "hash_parse": (ctypes.c_int, [ctypes.c_char_p, _HASHES]),
    "new": (ctypes.c_int, [ctypes.POINTER(_Options), ctypes.POINTER(_P)]), "free": (None, [_P]),
    "connect": (ctypes.c_int, [_P, ctypes.c_char_p]), "message": (ctypes.c_char_p, [_P]),
    "has": (ctypes.c_int, [_P, _HASHES, _SIZE, ctypes.POINTER(ctypes.c_uint8)]),
    "keep": (ctypes.c_int, [_P, _HASHES, _SIZE, ctypes.c_uint32, ctypes.POINTER(_Kept)]),
    "stat": (ctypes.c_int, [_P, _HASHES, ctypes.POINTER(_Stat)]),
    "get": (ctypes.c_int, [_P, _HASHES, ctypes.POINTER(_P)]),
    "closure": (ctypes.c_int, [_P, _HASHES, ctypes.c_uint, _VISIT, _P]),
    "put_data": (ctypes.c_int, [_P, ctypes.POINTER(_Source), _U64, ctypes.c_uint, ctypes.POINTER(_Put)]),
    "publish": (ctypes.c_int, [_P, ctypes.POINTER(_Source), ctypes.c_uint, ctypes.POINTER(_Publish)]),
    "source_memory": (_Source, [ctypes.POINTER(_Bytes)]),
    "cap_from_body": (ctypes.c_int, [_Bytes, _HASHES, ctypes.POINTER(_P)]), "cap_free": (None, [_P]),
    "cap_kind": (ctypes.c_int, [_P]), "cap_hash": (_HASHES, [_P]), "cap_body": (_Bytes, [_P]),
    "data_size": (_U64, [_P]), "data_read": (ctypes.c_int, [_P, _U64, _P, _SIZE]),
    "image_code": (ctypes.c_bool, [_P, ctypes.POINTER(_U64), ctypes.POINTER(_Bytes)]),
    "image_counts": (_Counts, [_P]), "image_endpoint": (_Endpoint, [_P, _SIZE]),
    "image_mapping": (_Mapping, [_P, _SIZE]), "image_mapping_step": (_Bytes, [_P, _SIZE, _SIZE]),
    "image_slot": (_Slot, [_P, ctypes.c_int, _SIZE]),
}
for _name, (_result, _arguments) in _FUNCTIONS.items():
    _function = getattr(_lib, "capstore_" + _name)
    _function.restype, _function.argtypes = _result, _arguments

Stat = namedtuple("Stat", "kind body_len size page_count ref_count published_us content_hash")
Kept = namedtuple("Kept", "kind kept_s")
Put = namedtuple("Put", "cap_hash size body_len is_new kept_s")
Published = namedtuple("Published", "cap_hash content_hash body_len is_new data_new data_present kept_s")
ClosureEntry = namedtuple("ClosureEntry", "hash kind body_len")
Endpoint = namedtuple("Endpoint", "key entry_pc stack_top arg_cnode_slot arg_cnode_size initial_regs")
Mapping = namedtuple("Mapping", "start size path")
Slot = namedtuple("Slot", "key cap_hash")


def version():
    """The library's version."""
    return _lib.capstore_version().decode()


def _parse(text):
    hash_ = _Hash()
    value = _lib.capstore_hash_parse(text.encode(), ctypes.byref(hash_))
    if value != 0:
        raise Error(value, f"not a hash: expected 64 hex digits, got {text!r}")
    return hash_


def _hex(hash_):
    return bytes(hash_.bytes).hex()


def _parse_all(texts):
    return (_Hash * len(texts))(*[_parse(text) for text in texts])


class _Memory:
    """Bytes as a source, both alive as long as this is."""

    def __init__(self, data):
        self.data = data
        self.bytes = _Bytes(ctypes.cast(ctypes.c_char_p(data), ctypes.POINTER(ctypes.c_uint8)), len(data))
        self.source = _lib.capstore_source_memory(ctypes.byref(self.bytes))


class Cap:
    """A cap in memory, decoded and verified; it never changes."""

    def __init__(self, pointer):
        self._pointer = pointer

    @classmethod
    def from_body(cls, body, expected=None):
        """Of a served body; `expected` is the hash that it must have."""
        memory, pointer = _Memory(body), _P()
        wanted = ctypes.byref(_parse(expected)) if expected is not None else None
        value = _lib.capstore_cap_from_body(memory.bytes, wanted, ctypes.byref(pointer))
        if value != 0:
            raise Error(value)
        return cls(pointer)

    def __del__(self):
        if _lib is not None and self._pointer:
            _lib.capstore_cap_free(self._pointer)

    @property
    def kind(self):
        return KINDS[_lib.capstore_cap_kind(self._pointer)]

    @property
    def hash(self):
        return _hex(_lib.capstore_cap_hash(self._pointer).contents)

    @property
    def body(self):
        return _lib.capstore_cap_body(self._pointer).get()

    @property
    def size(self):
        """Logical bytes of a Data cap; may be near 2**64."""
        return _lib.capstore_data_size(self._pointer)

    def read(self, offset, length):
        """Logical bytes of a Data cap."""
        buffer = ctypes.create_string_buffer(length)
        value = _lib.capstore_data_read(self._pointer, offset, buffer, length)
        if value != 0:
            raise Error(value)
        return buffer.raw

    @property
    def code(self):
        """An Image's code."""
        address, code = _U64(), _Bytes()
        there = _lib.capstore_image_code(self._pointer, ctypes.byref(address), ctypes.byref(code))
        return code.get() if there else b""

    @property
    def endpoints(self):
        counts = _lib.capstore_image_counts(self._pointer)
        ends = [_lib.capstore_image_endpoint(self._pointer, i) for i in range(counts.endpoints)]
        return [Endpoint(e.key.get(), e.entry_pc, e.stack_top, e.arg_cnode_slot.get(), e.arg_cnode_size,
                         list(e.initial_regs)) for e in ends]

    @property
    def mappings(self):
        found = []
        for i in range(_lib.capstore_image_counts(self._pointer).mappings):
            mapping = _lib.capstore_image_mapping(self._pointer, i)
            path = [_lib.capstore_image_mapping_step(self._pointer, i, step).get() for step in range(mapping.steps)]
            found.append(Mapping(mapping.start, mapping.size, path))
        return found

    def slots(self, table):
        """Of "pinned" or "initial", in key order."""
        number = TABLES.index(table)
        counts = _lib.capstore_image_counts(self._pointer)
        slots = [_lib.capstore_image_slot(self._pointer, number, i) for i in range(counts.slots[number])]
        return [Slot(slot.key.get(), _hex(slot.cap_hash)) for slot in slots]


class Store:
    """A connection to a daemon; a context manager. Hashes are hex texts."""

    def __init__(self, address, timeout_ms=0, leases=False, keep_s=0):
        options = _Options(struct_size=ctypes.sizeof(_Options), timeout_ms=timeout_ms, leases=leases, keep_s=keep_s)
        self._pointer = _P()
        value = _lib.capstore_new(ctypes.byref(options), ctypes.byref(self._pointer))
        if value != 0:
            raise Error(value)
        self._check(_lib.capstore_connect(self._pointer, address.encode()))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if _lib is not None:
            self.close()

    def close(self):
        _lib.capstore_free(self._pointer)
        self._pointer = None

    def _check(self, value):
        if value != 0:
            raise Error(value, _lib.capstore_message(self._pointer).decode())

    def has(self, hashes):
        """For each "image", "data" or None."""
        kinds = (ctypes.c_uint8 * len(hashes))()
        self._check(_lib.capstore_has(self._pointer, _parse_all(hashes), len(hashes), kinds))
        return [KINDS.get(kind) for kind in kinds]

    def keep(self, hashes, keep_s):
        """Keeps what is there for so many seconds; 0 only asks. Needs leases=True."""
        kept = (_Kept * len(hashes))()
        self._check(_lib.capstore_keep(self._pointer, _parse_all(hashes), len(hashes), keep_s, kept))
        return [Kept(KINDS.get(k.kind), k.kept_s) for k in kept]

    def stat(self, hash_):
        stat = _Stat()
        self._check(_lib.capstore_stat(self._pointer, ctypes.byref(_parse(hash_)), ctypes.byref(stat)))
        return Stat(KINDS[stat.kind], stat.body_len, stat.size, stat.page_count, stat.ref_count, stat.published_us,
                    _hex(stat.content_hash))

    def get(self, hash_):
        """Fetches a cap and verifies it."""
        pointer = _P()
        self._check(_lib.capstore_get(self._pointer, ctypes.byref(_parse(hash_)), ctypes.byref(pointer)))
        return Cap(pointer)

    def closure(self, root):
        """The cap and everything that it needs, each once."""
        entries = []

        def visit(_, entry):
            entries.append(ClosureEntry(_hex(entry.contents.hash), KINDS[entry.contents.kind], entry.contents.body_len))
            return 0
        self._check(_lib.capstore_closure(self._pointer, ctypes.byref(_parse(root)), 0, _VISIT(visit), None))
        return entries

    def put_data(self, content, size=0):
        """Publishes raw bytes, followed by zeros up to `size`."""
        memory, put = _Memory(content), _Put()
        self._check(_lib.capstore_put_data(self._pointer, ctypes.byref(memory.source), size, 0, ctypes.byref(put)))
        return Put(_hex(put.cap_hash), put.size, put.body_len, put.is_new, put.kept_s)

    def publish(self, wire, dry_run=False):
        """Publishes a wire Image with its inline data."""
        memory, result, flags = _Memory(wire), _Publish(), 2 if dry_run else 0
        self._check(_lib.capstore_publish(self._pointer, ctypes.byref(memory.source), flags, ctypes.byref(result)))
        return Published(_hex(result.cap_hash), _hex(result.content_hash), result.body_len, result.is_new,
                         result.data_new, result.data_present, result.kept_s)
