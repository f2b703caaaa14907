//! How much of what brokers send is unpacked at a time.
//!
//! librdkafka limits a fetch by its size on the wire, unpacks at once whatever came, and looks at
//! the size of a queue only before the next fetch. So a few batches of 55 KB that unpack to 50 MiB
//! each take more memory than the process has. Here each batch asks for room before it is unpacked,
//! and gives it back when its last record is done with. Where there is none, the batch counts as
//! one that cannot be read, and its lane reads it again. Nothing waits: the thread that unpacks
//! serves all partitions of its broker.
//!
//! `unpacking.c`, which the linker puts between librdkafka and its decompressors, calls what is
//! exported here. All consumers of the process share the room.
#![allow(unsafe_code)]

use std::cell::Cell;

use parking_lot::Mutex;

/// What one partition's part of a response may unpack to without asking for room, in bytes: the
/// sizes of fetches and queues are computed for about as much. Without this, partitions whose
/// ordinary queues fill the room together would have none for their next batch.
const ORDINARY_BYTES_MAX: usize = 1024 * 1024;

/// What waits in librdkafka's queues unpacked, and how much may.
#[derive(Debug)]
struct Room {
    held_bytes: usize,
    bytes_max: usize,
    refusals: u64,
    refused_bytes: usize,
}

static ROOM: Mutex<Room> = Mutex::new(Room::new(usize::MAX));

thread_local! {
    /// What this thread has unpacked of the partition that it reads, in bytes: no lane has it yet.
    static OF_PARTITION_BYTES: Cell<usize> = const { Cell::new(0) };
}

impl Room {
    const fn new(bytes_max: usize) -> Room {
        Room {
            held_bytes: 0,
            bytes_max,
            refusals: 0,
            refused_bytes: 0,
        }
    }

    /// Takes room for `bytes` more, if there is some. A batch larger than three quarters of all
    /// room needs only so much: it could wait for ever until nothing else is held.
    fn take(&mut self, bytes: usize, of_partition_bytes: usize) -> bool {
        let is_ordinary = of_partition_bytes.saturating_add(bytes) <= ORDINARY_BYTES_MAX;
        let may_unpack = is_ordinary || self.has(bytes);
        match may_unpack {
            true => self.held_bytes = self.held_bytes.saturating_add(bytes),
            false => {
                self.refusals += 1;
                self.refused_bytes = bytes;
            }
        }
        may_unpack
    }

    fn has(&self, bytes: usize) -> bool {
        let needed = bytes.min(self.bytes_max / 4 * 3);
        self.held_bytes.saturating_add(needed) <= self.bytes_max
    }

    fn give_back(&mut self, bytes: usize) {
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
    }
}

/// Bounds what all queues together hold unpacked, in bytes; until then there is no bound.
pub fn set_bytes_max(bytes_max: usize) {
    ROOM.lock().bytes_max = bytes_max;
}

/// Whether there is room now for a batch that unpacks to `bytes`.
pub fn has_room(bytes: usize) -> bool {
    ROOM.lock().has(bytes)
}

/// How many batches were refused so far for want of room.
pub fn refusals() -> u64 {
    ROOM.lock().refusals
}

/// What the batch unpacks to that was refused last, in bytes, if one was since there were so many
/// `refusals`.
pub fn refused_since(refusals: u64) -> Option<usize> {
    let room = ROOM.lock();
    (room.refusals > refusals).then_some(room.refused_bytes)
}

/// Another partition's part of a response is read.
// SAFETY: the name is nobody else's.
#[unsafe(no_mangle)]
extern "C" fn workflows_sink_partition_begins() {
    OF_PARTITION_BYTES.set(0);
}

/// Whether a batch may be unpacked that is said to unpack to `bytes`. If so, the room is taken.
// SAFETY: the name is nobody else's.
#[unsafe(no_mangle)]
extern "C" fn workflows_sink_may_unpack(bytes: usize) -> bool {
    ROOM.lock().take(bytes, OF_PARTITION_BYTES.get())
}

/// A batch that took room for `taken` bytes is unpacked and holds `bytes`; 0 if it failed.
// SAFETY: the name is nobody else's.
#[unsafe(no_mangle)]
extern "C" fn workflows_sink_unpacked(taken: usize, bytes: usize) {
    OF_PARTITION_BYTES.set(OF_PARTITION_BYTES.get().saturating_add(bytes));
    let mut room = ROOM.lock();
    room.give_back(taken);
    room.held_bytes = room.held_bytes.saturating_add(bytes);
}

/// A batch that held `bytes` is freed.
// SAFETY: the name is nobody else's.
#[unsafe(no_mangle)]
extern "C" fn workflows_sink_freed(bytes: usize) {
    ROOM.lock().give_back(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn what_is_held_stays_under_the_bound() {
        let mut room = Room::new(192 * MIB);
        let taken = (0..12).filter(|_| room.take(50 * MIB, 0)).count();
        assert_eq!((taken, room.held_bytes), (3, 150 * MIB));
        assert_eq!((room.refusals, room.refused_bytes), (9, 50 * MIB));
        room.give_back(50 * MIB);
        assert!(room.take(50 * MIB, 0));
    }

    #[test]
    fn an_ordinary_fetch_needs_no_room_but_only_one_of_a_partition() {
        let mut room = Room::new(10 * MIB);
        assert!(room.take(9 * MIB, 0));
        for _ in 0..20 {
            assert!(room.take(ORDINARY_BYTES_MAX, 0));
        }
        assert!(!room.take(1, ORDINARY_BYTES_MAX));
    }

    #[test]
    fn a_batch_larger_than_all_room_is_not_left_for_ever() {
        let mut room = Room::new(40 * MIB);
        assert!(room.take(10 * MIB, 0));
        assert!(room.take(90 * MIB, 0));
        room.give_back(90 * MIB);
        assert!(room.take(MIB, 0));
        assert!(!room.take(90 * MIB, 0));
    }
}
