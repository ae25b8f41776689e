"""Caps by hash from a capstore daemon, verified: libcapstore through ctypes. One file, no other dependency.

    import capstore
    with capstore.Store("unix:/run/capstore/capstore.sock") as store:
        cap = store.get("fbe59d0a...")      # its bytes have that hash, or capstore.Error
        print(cap.kind, len(cap.body))
        with store.open("fbe59d0a...") as reader:
            print(reader.read(0, 4096))     # only these pages are fetched, each proven

The library is libcapstore.so.0 as the system finds it, or what the environment's CAPSTORE_LIBRARY names. A Store
belongs to one thread at a time, with its readers. For scripts; a runtime uses the library itself.

There are no lazy maps here: a page that cannot be proven would end the interpreter with SIGBUS, and a function that is
to hear of it would wait for the interpreter's lock, which the thread that touches the page holds while it waits.
"""

import ctypes
import os
import weakref
from collections import namedtuple

PAGE_SIZE = 4096
KINDS = {1: "image", 2: "data"}
TABLES = ("pinned", "initial")

_lib = ctypes.CDLL(os.environ.get("CAPSTORE_LIBRARY", "libcapstore.so.0"))


class Error(Exception):
    """A failed call: .name is the error's word, as in C and on the wire; .message says more; .shortage is what a
    refused upload needed and what there was, or None."""

    def __init__(self, value, message="", shortage=None):
        self.value = value
        self.shortage = shortage
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
                ("hash_thread", ctypes.c_bool), ("leases", ctypes.c_bool), ("keep_s", ctypes.c_uint32),
                ("no_resume", ctypes.c_bool)]


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


class _Info(ctypes.Structure):
    _fields_ = [("protocol_version", ctypes.c_uint16), ("store_id", ctypes.c_uint8 * 16), ("agent", ctypes.c_char * 65),
                ("max_hashes", ctypes.c_uint32), ("max_upload", ctypes.c_uint64), ("max_structure", ctypes.c_uint64),
                ("max_data", ctypes.c_uint64), ("idle_ms", ctypes.c_uint32)]


class _Shortage(ctypes.Structure):
    _fields_ = [("need", ctypes.c_uint64), ("have", ctypes.c_uint64), ("limit", _Bytes)]


class _DataId(ctypes.Structure):
    _fields_ = [("cap_hash", _Hash), ("size", ctypes.c_uint64), ("body_len", ctypes.c_uint64)]


class _Range(ctypes.Structure):
    _fields_ = [("first", ctypes.c_uint64), ("pages", ctypes.c_uint64)]


class _Head(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int), ("size", ctypes.c_uint64), ("page_count", ctypes.c_uint64),
                ("image", ctypes.c_void_p)]


_HEAD = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(_Head))
_PAGES = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_size_t, ctypes.c_void_p)
_ZEROS = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64)


class _Sink(ctypes.Structure):
    _fields_ = [("head", _HEAD), ("pages", _PAGES), ("zeros", _ZEROS), ("ctx", ctypes.c_void_p)]


class _OpenOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_size_t), ("cache_directory", ctypes.c_char_p), ("max_memory", ctypes.c_uint64),
                ("readahead", ctypes.c_uint32)]


class _ReadCounts(ctypes.Structure):
    _fields_ = [("requests", ctypes.c_uint64), ("fetched_pages", ctypes.c_uint64), ("cached_pages", ctypes.c_uint64),
                ("dropped_pages", ctypes.c_uint64), ("cache_failed", ctypes.c_bool)]


_P, _SIZE, _U64 = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint64
_VISIT = ctypes.CFUNCTYPE(ctypes.c_int, _P, ctypes.POINTER(_Entry))
_WRITE = ctypes.CFUNCTYPE(ctypes.c_int, _P, _Bytes)

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
    "info": (ctypes.c_int, [_P, ctypes.POINTER(_Info)]),
    "shortage": (ctypes.c_bool, [_P, ctypes.POINTER(_Shortage)]),
    "put_cap": (ctypes.c_int, [_P, _HASHES, ctypes.c_int, ctypes.POINTER(_Source), ctypes.POINTER(_Put)]),
    "source_fd": (_Source, [ctypes.POINTER(ctypes.c_int), _U64]),
    "data_hash": (ctypes.c_int, [ctypes.POINTER(_Source), _U64, ctypes.POINTER(_DataId)]),
    "slice": (ctypes.c_int, [_P, _HASHES, ctypes.POINTER(_Range), _SIZE, ctypes.POINTER(_Sink), _WRITE, _P]),
    "slice_verifier_new": (ctypes.c_int, [_HASHES, ctypes.POINTER(_Range), _SIZE, ctypes.POINTER(_Sink),
                                          ctypes.POINTER(_P)]),
    "slice_verifier_take": (ctypes.c_int, [_P, _Bytes]), "slice_verifier_finish": (ctypes.c_int, [_P]),
    "slice_verifier_free": (None, [_P]),
    "open": (ctypes.c_int, [_P, _HASHES, ctypes.POINTER(_OpenOptions), ctypes.POINTER(_P)]),
    "reader_free": (None, [_P]), "reader_kind": (ctypes.c_int, [_P]), "reader_hash": (_HASHES, [_P]),
    "reader_size": (_U64, [_P]), "reader_image": (_P, [_P]), "reader_stats": (_ReadCounts, [_P]),
    "read": (ctypes.c_int, [_P, _U64, _P, _SIZE, ctypes.POINTER(_SIZE)]),
}
for _name, (_result, _arguments) in _FUNCTIONS.items():
    _function = getattr(_lib, "capstore_" + _name)
    _function.restype, _function.argtypes = _result, _arguments

Stat = namedtuple("Stat", "kind body_len size page_count ref_count published_us content_hash")
Kept = namedtuple("Kept", "kind kept_s")
Put = namedtuple("Put", "cap_hash size body_len is_new kept_s")
Published = namedtuple("Published", "cap_hash content_hash body_len is_new data_new data_present kept_s")
ClosureEntry = namedtuple("ClosureEntry", "hash kind body_len")
Info = namedtuple("Info", "protocol_version store_id agent max_hashes max_upload max_structure max_data idle_ms")
Shortage = namedtuple("Shortage", "need have limit")
ReadCounts = namedtuple("ReadCounts", "requests fetched_pages cached_pages dropped_pages cache_failed")
Slice = namedtuple("Slice", "kind size pages zeros")
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


def data_hash(content, size=0):
    """The name of the Data cap that Store.put_data would publish; no daemon is needed."""
    memory, named = _Memory(content), _DataId()
    value = _lib.capstore_data_hash(ctypes.byref(memory.source), size, ctypes.byref(named))
    if value != 0:
        raise Error(value)
    return _hex(named.cap_hash)


def _ranges(pages):
    return (_Range * len(pages))(*[_Range(page.start, max(0, page.stop - page.start)) for page in pages])


def verify_slice(hash_, slice_, pages=None):
    """What a slice of a cap proves, wherever it comes from: Slice(kind, size, {page: bytes}, [range of zero pages]).
    `pages` are the ranges that it must have, as for Store.slice; None: whatever it states. No daemon is needed."""
    kind, size, found, zeros = [], [], {}, []

    def head(_, head):
        kind.append(KINDS[head.contents.kind])
        size.append(head.contents.size)
        return 0

    def take(_, first, count, at):
        for i in range(count):
            found[first + i] = ctypes.string_at(at + i * PAGE_SIZE, PAGE_SIZE)
        return 0

    def skip(_, first, count):
        zeros.append(range(first, first + count))
        return 0
    sink, memory, verifier = _Sink(_HEAD(head), _PAGES(take), _ZEROS(skip)), _Memory(slice_), _P()
    ranges = None if pages is None else _ranges(pages)
    value = _lib.capstore_slice_verifier_new(ctypes.byref(_parse(hash_)), ranges, len(pages or ()), ctypes.byref(sink),
                                             ctypes.byref(verifier))
    if value == 0:
        value = (_lib.capstore_slice_verifier_take(verifier, memory.bytes)
                 or _lib.capstore_slice_verifier_finish(verifier))
        _lib.capstore_slice_verifier_free(verifier)
    if value != 0:
        raise Error(value)
    return Slice(kind[0], size[0], found, zeros)


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


class _Closed:
    """What its context, or its end, closes."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if _lib is not None:
            self.close()


class Reader(_Closed):
    """A cap of which parts are fetched when they are read, each proven; a context manager. Made by Store.open."""

    def __init__(self, store, pointer):
        self._store, self._pointer = store, pointer

    def close(self):
        pointer, self._pointer = self._pointer, None
        _lib.capstore_reader_free(pointer)

    def _open(self):
        if self._pointer is None:
            raise ValueError("the reader is closed")
        return self._pointer

    @property
    def kind(self):
        return KINDS[_lib.capstore_reader_kind(self._open())]

    @property
    def hash(self):
        return _hex(_lib.capstore_reader_hash(self._open()).contents)

    @property
    def size(self):
        """Bytes of an Image's code, or of a Data cap; may be near 2**64."""
        return _lib.capstore_reader_size(self._open())

    @property
    def image(self):
        """An Image without its code, as a Cap with the endpoints, mappings and slots; None for a Data cap. The hash and
        the body of that are of what it is, without the code."""
        image = _lib.capstore_reader_image(self._open())
        return Cap.from_body(_lib.capstore_cap_body(image).get()) if image else None

    @property
    def counts(self):
        counts = _lib.capstore_reader_stats(self._open())
        return ReadCounts(*(getattr(counts, name) for name in ReadCounts._fields))

    def read(self, offset, length):
        """Bytes of the content, fewer at its end."""
        buffer, got = ctypes.create_string_buffer(length), _SIZE()
        self._store._check(_lib.capstore_read(self._open(), offset, buffer, length, ctypes.byref(got)))
        return ctypes.string_at(buffer, got.value)


class Store(_Closed):
    """A connection to a daemon; a context manager. Hashes are hex texts."""

    def __init__(self, address, timeout_ms=0, leases=False, keep_s=0, no_resume=False):
        options = _Options(struct_size=ctypes.sizeof(_Options), timeout_ms=timeout_ms, leases=leases, keep_s=keep_s,
                           no_resume=no_resume)
        self._pointer, self._readers = _P(), weakref.WeakSet()
        value = _lib.capstore_new(ctypes.byref(options), ctypes.byref(self._pointer))
        if value != 0:
            raise Error(value)
        self._check(_lib.capstore_connect(self._pointer, address.encode()))

    def close(self):
        """Closes its readers too."""
        for reader in list(self._readers):
            reader.close()
        _lib.capstore_free(self._pointer)
        self._pointer = None

    def _check(self, value):
        if value != 0:
            figures, shortage = _Shortage(), None
            if _lib.capstore_shortage(self._pointer, ctypes.byref(figures)):
                shortage = Shortage(figures.need, figures.have, figures.limit.get().decode())
            raise Error(value, _lib.capstore_message(self._pointer).decode(), shortage)

    def info(self):
        """What the daemon said in its hello."""
        info = _Info()
        self._check(_lib.capstore_info(self._pointer, ctypes.byref(info)))
        return Info(info.protocol_version, bytes(info.store_id).hex(), info.agent.decode(), info.max_hashes,
                    info.max_upload, info.max_structure, info.max_data, info.idle_ms)

    def open(self, hash_, cache_directory=None, max_memory=0, readahead=0):
        """A Reader: nothing but the head of the cap is fetched until it is read. What is in the cache directory need
        not be trusted."""
        options, pointer = _OpenOptions(ctypes.sizeof(_OpenOptions), None, max_memory, readahead), _P()
        if cache_directory is not None:
            options.cache_directory = os.fsencode(cache_directory)
        self._check(_lib.capstore_open(self._pointer, ctypes.byref(_parse(hash_)), ctypes.byref(options),
                                       ctypes.byref(pointer)))
        reader = Reader(self, pointer)
        self._readers.add(reader)
        return reader

    def slice(self, hash_, pages):
        """The slice of pages of a cap, verified: pages with what proves them, to be given on. `pages` are ranges."""
        got, ranges = bytearray(), _ranges(pages)

        def write(_, piece):
            got.extend(piece.get())
            return 0
        self._check(_lib.capstore_slice(self._pointer, ctypes.byref(_parse(hash_)), ranges, len(pages), None,
                                        _WRITE(write), None))
        return bytes(got)

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

    def put_file(self, file, size=0):
        """Publishes an open file from its beginning to its end now; its holes are not read."""
        fd, put = ctypes.c_int(file.fileno()), _Put()
        source = _lib.capstore_source_fd(ctypes.byref(fd), os.fstat(fd.value).st_size)
        self._check(_lib.capstore_put_data(self._pointer, ctypes.byref(source), size, 0, ctypes.byref(put)))
        return Put(_hex(put.cap_hash), put.size, put.body_len, put.is_new, put.kept_s)

    def put_cap(self, cap):
        """Publishes a cap as it is: how it goes from one store to another."""
        memory, put = _Memory(cap.body), _Put()
        self._check(_lib.capstore_put_cap(self._pointer, ctypes.byref(_parse(cap.hash)),
                                          _lib.capstore_cap_kind(cap._pointer), ctypes.byref(memory.source),
                                          ctypes.byref(put)))
        return Put(_hex(put.cap_hash), put.size, put.body_len, put.is_new, put.kept_s)

    def publish(self, wire, dry_run=False):
        """Publishes a wire Image with its inline data."""
        memory, result, flags = _Memory(wire), _Publish(), 2 if dry_run else 0
        self._check(_lib.capstore_publish(self._pointer, ctypes.byref(memory.source), flags, ctypes.byref(result)))
        return Published(_hex(result.cap_hash), _hex(result.content_hash), result.body_len, result.is_new,
                         result.data_new, result.data_present, result.kept_s)
