"""Lets aiokafka read records whose header names are not UTF-8.

Its parser raises UnicodeDecodeError then, again with every fetch: one such record, which any C
client can write, would stop all partitions of the consumer for ever. Here the rest of that fetch
is read with such names escaped. Written for aiokafka 0.14, which the package pins.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any

from aiokafka.consumer import fetcher
from aiokafka.errors import CorruptRecordException
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiokafka import ConsumerRecord

LENGTH = struct.Struct(">qi")
MAGIC_OFFSET = 16
MAGIC = 2


class RememberedRecords:
    """A fetch's record batches that keep their bytes, to be read a second time."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        inner = MemoryRecords(data)
        self.has_next = inner.has_next
        self.next_batch = inner.next_batch
        self.size_in_bytes = inner.size_in_bytes


class LenientPartitionRecords(fetcher.PartitionRecords):  # type: ignore[misc]  # untyped
    """Reads on, leniently, where the ordinary way fails at a header's name."""

    next_fetch_offset: int

    def _unpack_records(self) -> Iterator[ConsumerRecord]:
        try:
            yield from super()._unpack_records()
        except UnicodeDecodeError:
            yield from self._unpack_leniently()

    def _unpack_leniently(self) -> Iterator[ConsumerRecord]:
        for batch in _batches(self._records.data):
            if batch.next_offset <= self.next_fetch_offset:
                continue
            if self._check_crcs and not batch.validate_crc():
                raise CorruptRecordException(f"Invalid CRC - {self._tp}")
            records = iter(batch) if not batch.is_control_batch else ()
            batch._buffer = _LenientBytes(batch._buffer)  # noqa: SLF001  after decompression
            for record in records:
                if record.offset >= self.next_fetch_offset:
                    self.next_fetch_offset = record.offset + 1
                    yield self._consumer_record(self._tp, record)
            self.next_fetch_offset = batch.next_offset


class _LenientBytes(bytearray):
    """Bytes whose parts are decoded without failing."""

    def __getitem__(self, place: Any) -> Any:  # noqa: ANN401  an index or a slice
        part = super().__getitem__(place)
        return _LenientBytes(part) if isinstance(place, slice) else part

    def decode(self, *_: Any) -> str:  # noqa: ANN401  the encoding is UTF-8
        return super().decode("utf-8", "backslashreplace")


def _batches(data: bytes) -> Iterator[_DefaultRecordBatchPy]:
    """Split a fetch into its whole batches of the present format; older ones have no headers."""
    start = 0
    while len(data) - start > MAGIC_OFFSET:
        _, length = LENGTH.unpack_from(data, start)
        end = start + LENGTH.size + length
        if end > len(data):
            return
        if data[start + MAGIC_OFFSET] == MAGIC:
            yield _DefaultRecordBatchPy(data[start:end])
        start = end


def install() -> None:
    """Replace aiokafka's reader in this process."""
    fetcher.MemoryRecords = RememberedRecords
    fetcher.PartitionRecords = LenientPartitionRecords
